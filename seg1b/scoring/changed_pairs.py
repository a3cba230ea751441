"""A change of outlets per country, made to a catalogue's merchants: what its intervals would then be can be computed.

Merchants grow and shrink in proportion. A country that had no outlets gets new merchants of the catalogue's usual
size. Whoever makes the change is free to do it otherwise; this is the way of which verdicts speak.
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
) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.int16], Integers]:
    """Pairs (merchant, country, outlets), one row per pair, after adding `change` int64[C] outlets per country.

    The outlets of a country are apportioned to its merchants by largest remainders, ties to the earlier row. Rows
    without outlets are left out; new merchants have the smallest unused numbers. `change` takes away no more outlets
    than there are.
    """
    held = np.asarray(sites, np.int64).copy()
    counts = np.zeros(len(change), np.int64)
    np.add.at(counts, country, held)
    usual = max(1, round(int(held.sum()) / max(1, len(held))))
    new_country: list[int] = []
    new_sites: list[int] = []
    for place in np.flatnonzero(change).tolist():
        wanted = int(counts[place] + change[place])
        if counts[place]:
            rows = np.flatnonzero(country == place)
            held[rows] = _apportioned(held[rows].tolist(), wanted)
        else:
            size = max(1, min(usual, wanted // _NEW_MERCHANTS_MIN))
            parts = [size] * (wanted // size) + ([wanted % size] if wanted % size else [])
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


def _unused(merchant_id: npt.NDArray[np.uint64], wanted: int) -> npt.NDArray[np.uint64]:
    """The smallest `wanted` merchant numbers from 1 that are not taken."""
    taken = np.unique(merchant_id)
    numbers = np.arange(1, len(taken) + wanted + 1, dtype=np.uint64)
    return numbers[~np.isin(numbers, taken)][:wanted]
