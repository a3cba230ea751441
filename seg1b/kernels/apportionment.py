"""Largest-remainder (Hamilton) apportionment of a total over masses, exact on integers.

Every unit of mass m out of a sum M gets `floor(m*K / M)` of the total K; the units left over go to the
largest remainders `m*K mod M`, ties to the smaller index. The sum is K exactly.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from seg1b.errors import ContractError
from seg1b.kernels.jit import njit
from seg1b.kernels.philox import multiply_divide

MASS_SUM_MAX = 1 << 60
TOTAL_MAX = 1 << 50

_DIGIT_BITS = 12
_DIGITS = 1 << _DIGIT_BITS
_NEGATIVE, _TOO_LARGE = -1, -2


@dataclass(frozen=True)
class QuantisedRuns:
    """Integer weights of runs of tiles, in the order of the runs that came in.

    `length` int32[R] tiles and `weight` int64[R] per tile; sum(length * weight) is the total. R is the
    number of runs that came in, or one more when the last unit of the largest remainders fell inside a
    run: run `split_run` then is followed by its own tail (else `split_run` is -1). `zero_mass_fallback`
    says that all masses were zero and the total was spread evenly.
    """

    length: npt.NDArray[np.int32]
    weight: npt.NDArray[np.int64]
    split_run: int
    zero_mass_fallback: bool

    def tile0(self, tile0: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """First tile ids of these runs, from the int64 first tile ids of the runs that came in."""
        if self.split_run < 0:
            return tile0
        tail = tile0[self.split_run] + self.length[self.split_run]
        return np.insert(tile0, self.split_run + 1, tail)


def quantise_runs(
    length: npt.NDArray[np.int32], mass: npt.NDArray[np.int64], total_weight: int
) -> QuantisedRuns:
    """Apportion `total_weight` over tiles given as row-major runs: `length` tiles of `mass` each.

    Equal to the exact method on the expanded tiles, in O(runs). Holds for sum(length * mass) <= 2^60 and
    total_weight <= 2^50. Raises ContractError E103 (no tiles), E105 (negative or too large mass, bad total).
    """
    if len(length) != len(mass):
        raise ContractError("E105", f"{len(length)} run lengths but {len(mass)} masses")
    if len(length) == 0 or int(length.min()) < 1:
        raise ContractError("E103", "a country needs at least one tile, and every run at least one")
    if not 1 <= total_weight <= TOTAL_MAX:
        raise ContractError("E105", f"total weight {total_weight} is outside [1, 2^50]")
    length = np.ascontiguousarray(length, dtype=np.int32)
    mass = np.ascontiguousarray(mass, dtype=np.int64)
    mass_sum = int(sum_of_runs(length, mass))
    if mass_sum == _NEGATIVE:
        raise ContractError("E105", "a mass is negative", next_step="clamp or reject it before quantising")
    if mass_sum == _TOO_LARGE:
        raise ContractError(
            "E105", "the masses sum to more than 2^60", next_step="use a coarser unit of mass"
        )
    fallback = mass_sum == 0
    if fallback:
        mass = np.ones_like(mass)
        mass_sum = int(sum_of_runs(length, mass))
    weight, split_run, head = _apportion_runs(length, mass, mass_sum, total_weight)
    if split_run < 0:
        return QuantisedRuns(length, weight, -1, fallback)
    run = int(split_run)
    length_out = np.insert(length, run + 1, length[run] - head)
    length_out[run] = head
    weight_out = np.insert(weight, run + 1, weight[run] - 1)
    return QuantisedRuns(length_out, weight_out, run, fallback)


def apportion(mass: npt.NDArray[np.int64], total: int) -> npt.NDArray[np.int64]:
    """Apportion `total` over the integer masses int64[N] >= 0, one per element. All-zero masses share evenly.

    Machine integers where the sum of the masses is at most 2^60 and the total at most 2^50, Python
    integers beyond. Raises ContractError E103 for an empty list and E105 for a negative mass or total.
    """
    if len(mass) == 0 or int(np.min(mass)) < 0 or total < 0:
        code = "E103" if len(mass) == 0 else "E105"
        raise ContractError(code, "apportionment needs at least one mass, none negative, and a total >= 0")
    if total == 0:
        return np.zeros(len(mass), dtype=np.int64)
    if total <= TOTAL_MAX and int(sum_of_runs(np.ones(len(mass), dtype=np.int32), mass)) >= 0:
        runs = quantise_runs(np.ones(len(mass), dtype=np.int32), mass, total)
        return runs.weight
    masses = [int(m) for m in mass]
    if not any(masses):
        masses = [1] * len(masses)
    mass_sum = sum(masses)
    shares = [divmod(m * total, mass_sum) for m in masses]
    weight = [quotient for quotient, _ in shares]
    by_remainder = sorted(range(len(masses)), key=lambda i: (-shares[i][1], i))
    for i in by_remainder[: total - sum(weight)]:
        weight[i] += 1
    return np.array(weight, dtype=np.int64)


@njit
def sum_of_runs(length: Any, mass: Any) -> Any:
    """Sum of length * mass; -1 if a mass is negative, -2 if the sum is beyond 2^60. Never wraps."""
    limit = np.int64(1) << np.int64(60)
    total = np.int64(0)
    for i in range(len(length)):
        if mass[i] < 0:
            return np.int64(_NEGATIVE)
        if mass[i] > 0 and (mass[i] > limit or length[i] > limit // mass[i]):
            return np.int64(_TOO_LARGE)
        total += np.int64(length[i]) * mass[i]
        if total > limit:
            return np.int64(_TOO_LARGE)
    return total


@njit
def _apportion_runs(length: Any, mass: Any, mass_sum: Any, total: Any) -> Any:
    """(weight per run, run in which the tie cut falls or -1, tiles of that run before the cut).

    The weight of the cut run is that of its head; its tail has one less.
    """
    count = len(length)
    weight = np.empty(count, np.int64)
    residue = np.empty(count, np.int64)
    shortfall = np.int64(total)
    for i in range(count):
        weight[i], residue[i] = multiply_divide(mass[i], total, mass_sum)
        shortfall -= weight[i] * length[i]
    if shortfall == 0:
        return weight, np.int64(-1), np.int64(0)
    cut, slots = _select_residue(length, residue, shortfall)
    split_run, head = np.int64(-1), np.int64(0)
    for i in range(count):
        if residue[i] > cut:
            weight[i] += 1
        elif residue[i] == cut and slots > 0:
            weight[i] += 1
            if slots < length[i]:
                split_run, head = np.int64(i), slots
            slots -= min(slots, np.int64(length[i]))
    return weight, split_run, head


@njit
def _select_residue(length: Any, residue: Any, shortfall: Any) -> Any:
    """The residue of the shortfall-th largest tile, and how many tiles of exactly that residue get a unit.

    Weighted radix selection from the top digit down: each pass looks only at runs that share the digits
    found so far.
    """
    largest = np.int64(0)
    for i in range(len(residue)):
        largest = max(largest, residue[i])
    bits = np.int64(0)
    while (largest >> bits) > 0:
        bits += _DIGIT_BITS
    prefix = np.int64(0)
    slots = np.int64(shortfall)
    histogram = np.empty(_DIGITS, np.int64)
    while bits > 0:
        histogram[:] = 0
        shift = bits - _DIGIT_BITS
        for i in range(len(residue)):
            if (residue[i] >> bits) == prefix:
                histogram[(residue[i] >> shift) & (_DIGITS - 1)] += length[i]
        digit = np.int64(_DIGITS - 1)
        while histogram[digit] < slots:
            slots -= histogram[digit]
            digit -= 1
        prefix = (prefix << _DIGIT_BITS) | digit
        bits = shift
    return prefix, slots


# v1: binary64 quotas


def blend_masses_v1(
    uniform: float,
    area: float,
    population: float,
    area_mass: npt.NDArray[np.float64],
    population_mass: npt.NDArray[np.float64],
) -> npt.NDArray[np.float64]:
    """v1 mass of a country's n tiles, float64[n]: `uniform/n + area*a/sum(a) + population*p/sum(p)`.

    `uniform`, `area` and `population` are the components' shares; a and p are `area_mass` and `population_mass`,
    float64[n]. A component whose sum is 0 counts as uniform.
    """
    even = np.full(len(area_mass), 1.0 / len(area_mass))
    total = uniform * even
    for share, component in ((area, area_mass), (population, population_mass)):
        component_sum = float(neumaier_sum(component))
        total = total + share * (component / component_sum if component_sum > 0 else even)
    return total


def quantise_v1(
    mass: npt.NDArray[np.float64], total_weight: int, mass_sum: float | None = None
) -> tuple[npt.NDArray[np.int64], bool]:
    """v1 weights int64[N] of a country's tiles in tile_id order, and whether the zero-mass fallback acted.

    `q = m*K/M`, `z = floor(q)`, `r = q - z` in binary64, as the first engine did: not the exact method. M is
    `mass_sum` if given, else the compensated serial sum. Raises ContractError E103, E105.
    """
    if len(mass) == 0:
        raise ContractError("E103", "a country needs at least one tile")
    if not bool(np.isfinite(mass).all()) or float(mass.min()) < 0:
        raise ContractError("E105", "masses must be finite and not negative")
    fallback = not bool(mass.any())
    if fallback:
        mass, mass_sum = np.ones(len(mass)), None
    total = float(neumaier_sum(mass)) if mass_sum is None else mass_sum
    quota = mass * float(total_weight) / total
    floor = np.floor(quota)
    weight = floor.astype(np.int64)
    shortfall = total_weight - int(weight.sum())
    if not 0 <= shortfall <= len(mass):
        raise ContractError("E105", f"binary64 quotas leave {shortfall} units for {len(mass)} tiles")
    weight[np.argsort(floor - quota, kind="stable")[:shortfall]] += 1
    return weight, fallback


@njit
def neumaier_sum(values: Any) -> Any:
    """Sum of float64[N] in serial order with Neumaier's compensation."""
    total = 0.0
    compensation = 0.0
    for i in range(len(values)):
        x = values[i]
        t = total + x
        if abs(total) >= abs(x):
            compensation += (total - t) + x
        else:
            compensation += (x - t) + total
        total = t
    return total + compensation
