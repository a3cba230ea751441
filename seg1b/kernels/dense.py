"""Weights of a dense raster, derived and never stored: one small value per tile is all there is.

A country's tiles lie span after span in one array of persons. The mass of a tile follows from its persons and its row
(`mass_of`). Largest remainder gives tile number k, of mass m out of M, `floor(m*K / M)` of the total K, and one more if
its remainder `m*K mod M` is above the country's cut, or is the cut and k comes before `tied_until`. So two integers a
country and exact arithmetic say what every tile weighs; `seg1b.kernels.apportionment` gives the same for runs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from seg1b.errors import ContractError
from seg1b.kernels.apportionment import MASS_SUM_MAX, TOTAL_MAX
from seg1b.kernels.jit import inline, njit
from seg1b.kernels.philox import multiply_divide
from seg1b.kernels.surface import MICRO

Integers = npt.NDArray[np.int64]

MIX_SCALE: Final = float(1 << 55)
"""A mixed mass, a share of the country, counts in this many parts."""

_DIGIT_BITS: Final = 16
_FEW: Final = 1 << 16


class MassRule(NamedTuple):
    """How the persons of a country's tiles become masses, all as float64.

    Where `people_alone` is 1 the mass is micro-persons; otherwise it is uniform_per_tile + area_share * a +
    population_share * p in 2^-55, a the tile's share of `area_cm2`, p that of `people_micro` (of the area, if 0).
    """

    people_alone: float
    uniform_per_tile: float
    area_share: float
    population_share: float
    area_cm2: float
    people_micro: float


class Cut(NamedTuple):
    """What a country's weights follow from beside the masses: K, M, the remainder of the cut, the ties before it."""

    total: int
    mass_sum: int
    residue: int
    tied_until: int


class CountryTiles(NamedTuple):
    """One country's part of `DenseTiles`, with its `MassRule` as float64[6]: what a kernel goes through."""

    row: npt.NDArray[np.int32]
    col0: npt.NDArray[np.int32]
    col1: npt.NDArray[np.int32]
    first: Integers
    persons: npt.NDArray[Any]
    area_cm2: Integers
    rule: npt.NDArray[np.float64]


@dataclass(frozen=True)
class DenseTiles:
    """The tiles of C countries: spans [col0, col1) of rows, country c owns spans start[c] to start[c + 1].

    Tile col0[s] + i of span s is number `before[s] + i` of `persons`, any numeric type (T,), and `before` (S + 1) ends
    with T; `area_cm2` int64[rows] is the area of a tile of each row, `columns` the tiles of a row.
    """

    start: Integers
    row: npt.NDArray[np.int32]
    col0: npt.NDArray[np.int32]
    col1: npt.NDArray[np.int32]
    before: Integers
    persons: npt.NDArray[Any]
    area_cm2: Integers
    columns: int

    def of(self, country: int, rule: npt.NDArray[np.float64]) -> CountryTiles:
        """One country's tiles and their rule."""
        part = slice(int(self.start[country]), int(self.start[country + 1]))
        spans = self.row[part], self.col0[part], self.col1[part], self.before[part]
        return CountryTiles(*spans, self.persons, self.area_cm2, rule)

    def tiles_before(self) -> Integers:
        """Number of tiles before each country, int64[C + 1]: the work, for threads to share."""
        return self.before[self.start]


# One tile


@inline
def micro_persons(persons: Any) -> Any:
    """Micro-persons of a stored number of persons, to the nearest."""
    return np.int64(np.rint(np.float64(persons) * MICRO))


@inline
def mass_of(persons: Any, area_cm2: Any, rule: Any) -> Any:
    """Integer mass of a tile by its country's `MassRule`."""
    micro = micro_persons(persons)
    if rule[0] == 1.0:
        return micro
    area = np.float64(area_cm2) / rule[4]
    share = np.float64(micro) / rule[5] if rule[5] > 0.0 else area
    return np.int64(np.floor((rule[1] + rule[2] * area + rule[3] * share) * MIX_SCALE))


@inline
def weight_of(persons: Any, area_cm2: Any, number: Any, rule: Any, cut: Any) -> Any:
    """Weight of tile `number` by its country's `MassRule` and `Cut`."""
    quotient, residue = multiply_divide(mass_of(persons, area_cm2, rule), cut[0], cut[1])
    return quotient + (residue > cut[2] or (residue == cut[2] and number < cut[3]))


# Sums and the cut of a country


@njit
def people_of_spans(col0: Any, col1: Any, first: Any, persons: Any, out: Any) -> None:
    """Micro-persons of each span."""
    for s in range(len(col0)):
        people = np.int64(0)
        for k in range(first[s], first[s] + col1[s] - col0[s]):
            people += micro_persons(persons[k])
        out[s] = people


@njit
def _mass_sum(own: Any) -> Any:
    """Sum of a country's masses; -1 beyond 2^60."""
    total = np.int64(0)
    for s in range(len(own.row)):
        area = own.area_cm2[own.row[s]]
        for k in range(own.first[s], own.first[s] + own.col1[s] - own.col0[s]):
            total += mass_of(own.persons[k], area, own.rule)
        if not 0 <= total <= MASS_SUM_MAX:
            return np.int64(-1)
    return total


@njit
def _tally(own: Any, total: Any, mass_sum: Any, prefix: Any, above: Any, shift: Any, histogram: Any) -> Any:
    """Count the remainders whose bits from `above` up are `prefix` by those from `shift` up; the sum of quotients."""
    floors = np.int64(0)
    digits = np.int64(len(histogram) - 1)
    for s in range(len(own.row)):
        area = own.area_cm2[own.row[s]]
        for k in range(own.first[s], own.first[s] + own.col1[s] - own.col0[s]):
            quotient, residue = multiply_divide(mass_of(own.persons[k], area, own.rule), total, mass_sum)
            floors += quotient
            if residue >> above == prefix:
                histogram[(residue >> shift) & digits] += 1
    return floors


@njit
def _collect(
    own: Any, total: Any, mass_sum: Any, shift: Any, prefix: Any, residues: Any, numbers: Any
) -> None:
    """The remainders whose bits from `shift` up are `prefix`, and the numbers of their tiles, ascending."""
    found = np.int64(0)
    for s in range(len(own.row)):
        area = own.area_cm2[own.row[s]]
        for k in range(own.first[s], own.first[s] + own.col1[s] - own.col0[s]):
            _, residue = multiply_divide(mass_of(own.persons[k], area, own.rule), total, mass_sum)
            if residue >> shift == prefix:
                residues[found], numbers[found] = residue, k
                found += 1


@njit
def _tie_end(own: Any, total: Any, mass_sum: Any, tie: Any, slots: Any) -> Any:
    """Number after the `slots`-th tile whose remainder is `tie`."""
    left = np.int64(slots)
    for s in range(len(own.row)):
        area = own.area_cm2[own.row[s]]
        for k in range(own.first[s], own.first[s] + own.col1[s] - own.col0[s]):
            _, residue = multiply_divide(mass_of(own.persons[k], area, own.rule), total, mass_sum)
            left -= residue == tie
            if left == 0:
                return np.int64(k + 1)
    return np.int64(-1)


def cut_country(own: CountryTiles, total: int, mass_sum: int | None = None) -> Cut:
    """Apportion `total` over the tiles of a country by exact largest remainder; `mass_sum` where it is known.

    The remainder of the last tile that gets a unit is found digit by digit, from the top, until few tiles share its
    digits: passes over the tiles, and no memory that grows with them. Holds for masses of sum 2^60 and totals of 2^50.
    Raises ContractError E103 for no tiles, E105 for masses or a total out of range.
    """
    if not 1 <= total <= TOTAL_MAX:
        raise ContractError("E105", f"total weight {total} is outside [1, 2^50]")
    if len(own.row) == 0:
        raise ContractError("E103", "a country needs at least one tile")
    known = int(_mass_sum(own)) if mass_sum is None else mass_sum
    if not 0 < known <= MASS_SUM_MAX:
        raise ContractError("E105", "the masses sum to 0 or to more than 2^60")
    shift, prefix, slots, sharing = known.bit_length(), 0, -1, 0
    while shift > 0 and (slots < 0 or sharing > _FEW):
        above, shift = shift, max(0, shift - _DIGIT_BITS)
        histogram = np.zeros(1 << above - shift, np.int64)
        floors = int(_tally(own, total, known, prefix, above, shift, histogram))
        slots = total - floors if slots < 0 else slots
        if slots == 0:
            return Cut(total, known, known, 0)  # no remainder is that large
        ahead = np.cumsum(histogram[::-1])
        place = int(np.searchsorted(ahead, slots))
        digit = len(histogram) - 1 - place
        sharing = int(histogram[digit])
        slots -= int(ahead[place]) - sharing
        prefix = prefix << above - shift | digit
    if shift == 0:  # those that share all digits have the same remainder, and only their order counts
        return Cut(total, known, prefix, int(_tie_end(own, total, known, prefix, slots)))
    residues, numbers = np.empty(sharing, np.int64), np.empty(sharing, np.int64)
    _collect(own, total, known, shift, prefix, residues, numbers)
    last = np.lexsort((numbers, -residues))[slots - 1]
    return Cut(total, known, int(residues[last]), int(numbers[last]) + 1)


# Many tiles


@njit
def weights_of_spans(own: Any, cut: Any, columns: Any, tile: Any, weight: Any) -> None:
    """Tile id and weight of every tile of a country, int64[n] each."""
    done = np.int64(0)
    for s in range(len(own.row)):
        tile0 = np.int64(own.row[s]) * columns + own.col0[s]
        area = own.area_cm2[own.row[s]]
        for i in range(own.col1[s] - own.col0[s]):
            k = own.first[s] + i
            tile[done] = tile0 + i
            weight[done] = weight_of(own.persons[k], area, k, own.rule, cut)
            done += 1


@njit
def people_at(
    start: Any, row: Any, col0: Any, col1: Any, first: Any, persons: Any, country: Any, tile: Any, columns: Any,
    out: Any,
) -> None:  # fmt: skip
    """Micro-persons of each (country, tile), 0 where the country has no such tile. n queries."""
    for i in range(len(tile)):
        r = tile[i] // columns
        c = tile[i] - r * columns
        low, high = start[country[i]], start[country[i] + 1]
        while low < high:
            middle = (low + high) >> 1
            if row[middle] < r or (row[middle] == r and col0[middle] <= c):
                low = middle + 1
            else:
                high = middle
        low -= 1
        held = low >= start[country[i]] and row[low] == r and col0[low] <= c < col1[low]
        out[i] = micro_persons(persons[first[low] + c - col0[low]]) if held else np.int64(0)


@njit
def runs_of_spans(
    row: Any,
    col0: Any,
    col1: Any,
    first: Any,
    persons: Any,
    columns: Any,
    tile0: Any,
    length: Any,
    people: Any,
) -> Any:
    """The runs of equal micro-persons of some spans, as many at most as there are tiles; their number."""
    run = np.int64(-1)
    for s in range(len(row)):
        before = np.int64(-1)
        tile = np.int64(row[s]) * columns + col0[s]
        for i in range(col1[s] - col0[s]):
            micro = micro_persons(persons[first[s] + i])
            if micro != before:
                run += 1
                tile0[run], length[run], people[run] = tile + i, 0, micro
                before = micro
            length[run] += 1
    return run + 1
