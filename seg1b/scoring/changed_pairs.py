"""A change of outlets per country, made to a catalogue's merchants: what its intervals would then be can be computed.

In proportion: merchants grow and shrink, and only a country that had no outlets gets new merchants, of the catalogue's
usual size. Evenly: every merchant loses an outlet in turn, so that the small ones close and the large ones, which widen
intervals, remain; and what is added is new merchants. Whoever makes the change is free to do it otherwise; these are
the ways of which verdicts speak.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Integers = npt.NDArray[np.int64]

_NEW_MERCHANTS_MIN = 5
"""So that none of them has more than a fifth of a country with that many outlets."""


def changed_pairs(
    merchant_id: npt.NDArray[np.uint64],
    country: npt.NDArray[np.int16],
    sites: npt.NDArray[np.integer[Any]],
    change: Integers,
    *,
    evenly: bool = False,
) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.int16], Integers]:
    """Pairs (merchant, country, outlets), one row per pair, after adding `change` int64[C] outlets per country.

    In proportion, by largest remainders with ties to the earlier row, or `evenly`, the larger rows first. Rows without
    outlets are left out; new merchants have the smallest unused numbers. `change` takes away no more outlets than there
    are.
    """
    held = np.asarray(sites, np.int64).copy()
    counts = np.zeros(len(change), np.int64)
    np.add.at(counts, country, held)
    usual = max(1, round(int(held.sum()) / max(1, len(held))))
    new_country: list[int] = []
    new_sites: list[int] = []
    for place in np.flatnonzero(change).tolist():
        more, rows = int(change[place]), np.flatnonzero(country == place)
        if counts[place] and not evenly:
            held[rows] = _apportioned(held[rows].tolist(), int(counts[place]) + more)
        elif more < 0:
            held[rows] = _evenly_less(held[rows], -more)
        else:
            size = max(1, min(usual, more // _NEW_MERCHANTS_MIN))
            parts = [size] * (more // size) + ([more % size] if more % size else [])
            new_sites += parts
            new_country += [place] * len(parts)
    kept = np.flatnonzero(held)
    return (
        np.concatenate((merchant_id[kept], _unused(merchant_id, len(new_sites)))),
        np.concatenate((country[kept], np.array(new_country, np.int16))),
        np.concatenate((held[kept], np.array(new_sites, np.int64))),
    )


def _apportioned(weights: list[int], total: int) -> list[int]:
    """`total` in proportion to integer weights, by largest remainders."""
    mass = sum(weights)
    parts = [weight * total // mass for weight in weights]
    order = sorted(range(len(weights)), key=lambda row: -(weights[row] * total % mass))
    for row in order[: total - sum(parts)]:
        parts[row] += 1
    return parts


def _evenly_less(sizes: Integers, less: int) -> Integers:
    """Sizes after taking away `less` in all, one from each in turn for as long as it has any, the larger first."""
    low, high = 0, int(sizes.max())
    while low < high:  # the most whole rounds that take no more than that
        rounds = (low + high + 1) // 2
        low, high = (rounds, high) if int(np.minimum(sizes, rounds).sum()) <= less else (low, rounds - 1)
    left = sizes - np.minimum(sizes, low)
    order = np.argsort(-sizes, kind="stable")
    left[order[: less - int((sizes - left).sum())]] -= 1
    return left


def _unused(merchant_id: npt.NDArray[np.uint64], wanted: int) -> npt.NDArray[np.uint64]:
    """The smallest `wanted` merchant numbers from 1 that are not taken."""
    taken = np.unique(merchant_id)
    numbers = np.arange(1, len(taken) + wanted + 1, dtype=np.uint64)
    return numbers[~np.isin(numbers, taken)][:wanted]
