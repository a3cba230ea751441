"""How the sites of a seed are cut into shards: whole countries, packed to even loads.

The cut depends on the counts alone, never on who runs it or how many workers there are, so that a resumed run meets
the parts that an interrupted one left. (The rows do not depend on the cut at all.)
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SMALLEST_SITES, LARGEST_SITES = 40_000, 2_000_000
SHARDS = 50


@dataclass(frozen=True)
class Shard:
    """Some countries of one seed, ascending, and how many sites they have together."""

    name: str
    countries: tuple[int, ...]
    sites: int


def plan_shards(sites_per_country: NDArray[np.int64], shard_sites: int | None = None) -> list[Shard]:
    """Pack countries into shards of about `shard_sites`, longest processing time first (Graham, 1969).

    `sites_per_country`: (C,). Countries without sites are in no shard; a country is never split. By default there are
    about SHARDS shards, of SMALLEST_SITES (starting one costs something) to LARGEST_SITES (a crash costs one).
    """
    served = np.flatnonzero(sites_per_country)
    if not len(served):
        return []
    total = int(sites_per_country.sum())
    shard_sites = shard_sites or min(max(total // SHARDS, SMALLEST_SITES), LARGEST_SITES)
    count = min(-(-total // shard_sites), len(served))
    bins: list[tuple[int, int]] = [(0, number) for number in range(count)]
    packed: list[list[int]] = [[] for _ in bins]
    for country in sorted(served.tolist(), key=lambda c: (-int(sites_per_country[c]), c)):
        load, number = heapq.heappop(bins)
        packed[number].append(country)
        heapq.heappush(bins, (load + int(sites_per_country[country]), number))
    filled = [tuple(sorted(countries)) for countries in packed if countries]
    return [
        Shard(f"part-{number:05d}", countries, int(sites_per_country[list(countries)].sum()))
        for number, countries in enumerate(sorted(filled))
    ]
