"""What the benchmarks share: catalogues of any size, fresh processes, and what a process has used."""

from __future__ import annotations

import itertools
import math
import multiprocessing
import resource
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

Returned = TypeVar("Returned")
IntArray = npt.NDArray[np.int64]

FIRST_ENGINE_SITES, FIRST_ENGINE_PAIRS = 102_340, 12_204
"""The workload that the first engine was measured with."""

MAX_SITES_PER_PAIR = 999_999
"""A site's number has six digits."""


# -- catalogues ----------------------------------------------------------------------------------------------------


def default_pairs(sites: int) -> int:
    """Pairs for so many sites, at the first engine's sites per pair."""
    return max(1, round(sites * FIRST_ENGINE_PAIRS / FIRST_ENGINE_SITES))


def pair_sizes(sites: int, pairs: int) -> IntArray:
    """Sizes of `pairs` pairs that sum to `sites`, largest first, falling off like rank ** -0.8.

    Each is at least 1 and at most MAX_SITES_PER_PAIR. Raises ValueError if there are no such sizes.
    """
    if not pairs <= sites <= pairs * MAX_SITES_PER_PAIR:
        raise ValueError(
            f"{sites:,} sites do not go into {pairs:,} pairs of 1 to {MAX_SITES_PER_PAIR:,} each"
        )
    shape = np.arange(1, pairs + 1, dtype=np.float64) ** -0.8
    sizes: IntArray = 1 + np.floor(shape / shape.sum() * (sites - pairs)).astype(np.int64)
    sizes = np.minimum(sizes, MAX_SITES_PER_PAIR)
    lacking = sites - int(sizes.sum())
    while lacking:  # the largest are full first; the others share what is left
        open_pairs = np.flatnonzero(sizes < MAX_SITES_PER_PAIR)
        more = np.full(len(open_pairs), lacking // len(open_pairs), np.int64)
        more[: lacking % len(open_pairs)] += 1
        more = np.minimum(more, MAX_SITES_PER_PAIR - sizes[open_pairs])
        sizes[open_pairs] += more
        lacking -= int(more.sum())
    sizes[::-1].sort()
    return sizes


def apportion(total: int, weight: IntArray, least: IntArray, most: IntArray) -> IntArray:
    """Whole numbers that sum to `total`, about in proportion to `weight`, within bounds; (n,) each.

    Raises ValueError if the bounds leave no such numbers.
    """
    if not int(least.sum()) <= total <= int(most.sum()):
        raise ValueError(f"{total:,} is not between {int(least.sum()):,} and {int(most.sum()):,}")
    found: IntArray = np.clip(total * weight // weight.sum(), least, most)
    lacking = total - int(found.sum())
    for i in np.argsort(-weight, kind="stable").tolist():  # the rounding's rest goes to the heaviest
        change = int(np.clip(lacking, least[i] - found[i], most[i] - found[i]))
        found[i] += change
        lacking -= change
    return found


def catalogue_of(sites: int, pairs: int, world: Any, shares: Any) -> Any:
    """A catalogue with exactly so many sites and pairs, countries in proportion to the governed shares.

    `world`: a model of the Earth; `shares`: its country shares. Fewer pairs than countries serve the largest alone.
    Raises ValueError for more sites than the pairs can have, or fewer.
    """
    from seg1b.catalogue.outlets import from_pairs

    ppm = np.where(np.asarray(world.countries.eligible), np.asarray(shares.share_ppm), 0).astype(np.int64)
    served = np.sort(np.argsort(-ppm, kind="stable")[: min(pairs, int((ppm > 0).sum()))])
    one = np.ones(len(served), np.int64)
    quota = apportion(sites, ppm[served], one, np.full(len(served), sites, np.int64))
    counts = apportion(pairs, quota, -(-quota // MAX_SITES_PER_PAIR), quota)
    columns = (
        np.concatenate([np.arange(1, count + 1, dtype=np.uint64) for count in counts.tolist()]),
        np.repeat(served, counts).astype(np.int16),
        np.concatenate(
            [pair_sizes(n, p) for n, p in zip(quota.tolist(), counts.tolist(), strict=True)]
        ).astype(np.int32),
    )
    home = columns[1].copy()
    order = np.lexsort((columns[1], columns[0]))
    ids = columns[0][order]
    first = np.r_[True, ids[1:] != ids[:-1]]
    home[order] = columns[1][order][first][np.cumsum(first) - 1]
    return from_pairs(world.countries.iso, *columns, home)


def write_catalogue(root: Path, sites: int, pairs: int, world: Any, shares: Any) -> None:
    """The 1A bundle of `catalogue_of`."""
    from seg1b.catalogue.bundle import write_user_catalogue

    write_user_catalogue(root, catalogue_of(sites, pairs, world, shares))


# -- processes -----------------------------------------------------------------------------------------------------


def child(function: Callable[..., Returned], *arguments: Any) -> Returned:
    """Call a function in a fresh process and return its result.

    Raises SystemExit with a message if the process dies without one.
    """
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        try:
            return pool.submit(function, *arguments).result()
        except BrokenProcessPool as error:
            raise SystemExit(
                f"the process of {function.__name__} died before it had a result; "
                "the usual reason is that it ran out of memory"
            ) from error


def cpu_s() -> float:
    """User and system seconds of this process, all its threads."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def peak_rss_mb() -> float:
    """Highest resident set of this process; `ru_maxrss` would count the parent's before exec too."""
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) / 1024


def bytes_moved() -> tuple[int, int]:
    """Bytes that this process has read and written so far (Linux; elsewhere zeros). Mapped files are not counted."""
    try:
        fields = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    except OSError:
        return 0, 0
    return int(fields["rchar"]), int(fields["wchar"])


def folder_bytes(folder: Path) -> int:
    """Bytes of all files below a folder; 0 if there is none."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


# -- figures -------------------------------------------------------------------------------------------------------


def rounded(times: Mapping[str, float]) -> dict[str, float]:
    """To the millisecond."""
    return {name: round(value, 3) for name, value in times.items()}


def growth(runs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Growth exponents of wall and CPU time between sizes: log of their ratio over log of the sizes' ratio.

    Between each size and the next larger one, then (of three sizes or more) from the smallest to the largest.
    """
    ascending = sorted(runs, key=lambda run: int(run["sites"]))
    steps = list(itertools.pairwise(ascending))
    if len(ascending) > 2:
        steps.append((ascending[0], ascending[-1]))
    found = []
    for small, large in steps:
        entry: dict[str, Any] = {"from_sites": small["sites"], "to_sites": large["sites"]}
        for name in ("wall_s", "cpu_s"):
            ratio = large["sites"] / small["sites"]
            known = ratio > 1 and small[name] > 0 and large[name] > 0
            entry[name] = round(math.log(large[name] / small[name]) / math.log(ratio), 3) if known else None
        found.append(entry)
    return found


def growth_line(step: Mapping[str, Any]) -> str:
    """One growth exponent for people."""
    return (
        f"{step['from_sites']:,} to {step['to_sites']:,} sites: "
        f"wall grows like sites^{step['wall_s']}, CPU like sites^{step['cpu_s']}"
    )
