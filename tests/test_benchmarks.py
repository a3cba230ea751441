"""The benchmarks measure what they say: workloads of the asked shape, every state, and no hanging."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))
import bench_common
from bench_chain import by_state
from bench_common import MAX_SITES_PER_PAIR, apportion, catalogue_of, child, growth, pair_sizes

SCRIPTS = Path(__file__).parents[1] / "scripts"
STATES = [f"S{number}" for number in range(10)]


# -- workloads -----------------------------------------------------------------------------------------------------


@given(st.integers(1, 300), st.floats(0.0, 1.0))
def test_sizes_of_pairs_are_exact_and_allowed(pairs: int, fill: float) -> None:
    """From one site a pair to the most that all can have; largest first."""
    sites = pairs + int(fill * pairs * (MAX_SITES_PER_PAIR - 1))
    sizes = pair_sizes(sites, pairs)
    assert len(sizes) == pairs
    assert int(sizes.sum()) == sites
    assert sizes.min() >= 1
    assert sizes.max() <= MAX_SITES_PER_PAIR
    assert (np.diff(sizes) <= 0).all()


def test_sizes_that_cannot_be_are_refused() -> None:
    """Too few sites for the pairs, or too many."""
    for sites, pairs in ((2, 3), (2 * MAX_SITES_PER_PAIR + 1, 2)):
        with pytest.raises(ValueError, match="do not go into"):
            pair_sizes(sites, pairs)


@given(st.lists(st.integers(1, 10**6), min_size=1, max_size=40), st.integers(0, 10**9))
def test_apportionment_keeps_sum_and_bounds(weight: list[int], extra: int) -> None:
    """At least one each; what does not fit is refused."""
    w, n = np.array(weight, np.int64), len(weight)
    least, most = np.ones(n, np.int64), w + 1
    total = n + extra % (int(most.sum()) - n + 1)
    found = apportion(total, w, least, most)
    assert int(found.sum()) == total
    assert ((least <= found) & (found <= most)).all()
    with pytest.raises(ValueError, match="is not between"):
        apportion(int(most.sum()) + 1, w, least, most)


@pytest.mark.parametrize(
    ("sites", "pairs"),
    [(2_000, 300), (50, 50), (3, 2), (10**8, 40_000), (10**8, 12_000), (102_340, 12_204)],
)
def test_a_workload_has_exactly_the_asked_sites_and_pairs(sites: int, pairs: int) -> None:
    """Also where pairs are as large as they may be; shares decide where; a merchant has one home."""
    world, shares = two_hundred_countries()
    made = catalogue_of(sites, pairs, world, shares)
    assert (made.site_count, made.pair_count) == (sites, pairs)
    assert int(made.n_sites.max()) <= MAX_SITES_PER_PAIR
    eligible = world.countries.eligible
    assert not made.sites_per_country()[~eligible].any()
    assert made.sites_per_country()[int(np.argmax(shares.share_ppm))] == made.sites_per_country().max()


def test_a_workload_that_cannot_be_is_refused() -> None:
    """Forty pairs hold thirty million sites, but not where the shares want them."""
    with pytest.raises(ValueError, match="40 is not between"):
        catalogue_of(30_000_000, 40, *two_hundred_countries())


def two_hundred_countries() -> tuple[SimpleNamespace, SimpleNamespace]:
    """As much of a world as has to be there, nine in ten eligible, and heavy-tailed shares."""
    rng = np.random.default_rng(1)
    iso = tuple(f"{chr(65 + i // 26)}{chr(65 + i % 26)}" for i in range(240))
    eligible = np.arange(240) % 10 != 9
    ppm = np.where(eligible, (rng.pareto(1.1, 240) * 1000).astype(np.int64) + 1, 0)
    world = SimpleNamespace(countries=SimpleNamespace(iso=iso, eligible=eligible))
    return world, SimpleNamespace(share_ppm=ppm)


# -- figures -------------------------------------------------------------------------------------------------------


def test_growth_exponents_between_sizes_and_over_all() -> None:
    """Linear, then quadratic; equal sizes and zeros have none."""
    runs = [
        {"sites": n, "wall_s": w, "cpu_s": c}
        for n, w, c in ((10, 1.0, 2.0), (1000, 1e4, 2.0), (100, 10.0, 0.0))
    ]
    assert growth(runs) == [
        {"from_sites": 10, "to_sites": 100, "wall_s": 1.0, "cpu_s": None},
        {"from_sites": 100, "to_sites": 1000, "wall_s": 3.0, "cpu_s": None},
        {"from_sites": 10, "to_sites": 1000, "wall_s": 2.0, "cpu_s": 0.0},
    ]
    assert growth(runs[:1]) == []
    assert growth([runs[0], runs[0]])[0]["wall_s"] is None


def test_states_are_summed_from_their_halves_and_parts_stand_apart() -> None:
    """S0 of the world and the catalogue; S9's replay is a part of S9; every state has its row."""
    one = {"wall_s": 1.0, "cpu_s": 2.0}
    times = dict.fromkeys(("S0w", "CAT", "S0c", "S0c.seal", "S9", "S9.replay", "model"), one)
    found = by_state(times, {"S0w": 1, "S0c": 2, "S9": 4})
    assert list(found) == STATES
    assert found["S0"] == {"wall_s": 3.0, "cpu_s": 6.0, "bytes_out": 3,
                           "parts": dict.fromkeys(("CAT", "S0c", "S0c.seal", "S0w"), one)}  # fmt: skip
    assert found["S9"] == {"wall_s": 1.0, "cpu_s": 2.0, "bytes_out": 4, "parts": {"S9.replay": one}}
    assert found["S5"] == {"wall_s": 0, "cpu_s": 0, "bytes_out": 0, "parts": {}}


def test_a_process_that_dies_is_told_and_not_waited_for() -> None:
    """As when memory runs out."""
    with pytest.raises(SystemExit, match="the process of abort died before it had a result"):
        child(os.abort)
    assert child(os.getpid) != os.getpid()


def test_bytes_and_memory_of_this_process_are_known() -> None:
    """At least what it has just written."""
    _, before = bench_common.bytes_moved()
    Path(os.devnull).write_bytes(bytes(100_000))
    if Path("/proc/self/io").exists():
        assert bench_common.bytes_moved()[1] - before >= 100_000
    assert bench_common.peak_rss_mb() > 20


# -- the scripts ---------------------------------------------------------------------------------------------------


def script(name: str, *arguments: str) -> dict[str, object]:
    """What a script prints with `--json`."""
    paths = [str(SCRIPTS.parent), os.environ.get("PYTHONPATH", "")]
    done = subprocess.run(
        [sys.executable, str(SCRIPTS / name), *arguments, "--json"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, object] = json.loads(done.stdout)
    return found


def test_the_chain_and_its_states_are_measured(tmp_path: Path) -> None:
    """The interface of `bench_chain.py --json`, at ten minutes of arc; then S4 alone on what it kept."""
    common = ("--sites", "2000", "--pairs", "300", "--resolution", "600", "--keep", str(tmp_path))
    chain = script("bench_chain.py", *common)
    assert set(chain) >= {"sites", "pairs", "wall_s", "cpu_s", "peak_rss_mb", "states"}
    assert (chain["sites"], chain["pairs"]) == (2000, 300)
    states = chain["states"]
    assert isinstance(states, dict)
    assert list(states) == STATES
    for row in states.values():
        assert row["wall_s"] > 0
        assert row["cpu_s"] > 0
        assert row["bytes_out"] > 0
    alone = script("bench_states.py", *common, "--states", "S4")
    assert isinstance(alone["states"], dict)
    assert list(alone["states"]) == ["S4"]
    assert alone["states"]["S4"]["bytes_out"] == states["S4"]["bytes_out"]
