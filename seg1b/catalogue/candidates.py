"""Candidate countries of every merchant, and which of them it is a member of.

The home has rank 0. Foreign candidates are the countries where the merchant has outlets, further members that
got no outlet, and further candidates, drawn without replacement in proportion to certified share times
regional affinity. They are ranked by that weight, so a rank tells nothing about membership.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from seg1b.catalogue.draws import MERCHANT_STRIDE, Draws
from seg1b.catalogue.merchants import MerchantPlan
from seg1b.catalogue.placement import WEIGHT_SCALE, Blocks
from seg1b.kernels.jit import njit
from seg1b.kernels.philox import block, multiply_high

Words = npt.NDArray[np.uint64]
Integers = npt.NDArray[np.int64]
Booleans = npt.NDArray[np.bool_]

_MAX_REJECTIONS = 10_000


@dataclass(frozen=True)
class CandidateSet:
    """Rows in ascending (merchant_id, rank); rank 0 is the home, ranks are contiguous.

    merchant_id u64[K], country i16[K], rank i32[K], is_member bool[K] (foreign members only; the home is
    none), same_region bool[K] (as the home).
    """

    merchant_id: Words
    country: npt.NDArray[np.int16]
    rank: npt.NDArray[np.int32]
    is_member: Booleans
    same_region: Booleans


def candidate_sets(
    draws: Draws,
    plan: MerchantPlan,
    blocks: Blocks,
    block_country: Integers,
    share_ppm: Integers,
    region: Integers,
    same_region_weight: float,
) -> CandidateSet:
    """Complete each merchant's countries to its members and candidates, and rank them.

    share_ppm, region int64[C]. Requires `plan.candidates` to be less than the number of countries with a
    share.
    """
    label = "catalogue/candidates"
    stream = draws.stream(label)
    size = plan.candidates + 1
    end = np.cumsum(size)
    start = end - size
    country = np.full(int(end[-1]), -1, np.int64)
    order = np.lexsort((blocks.slot, blocks.merchant))
    merchant = blocks.merchant[order]
    position = np.arange(merchant.size) - np.searchsorted(merchant, merchant)
    country[start[merchant] + position] = block_country[order]
    realised = np.bincount(merchant, minlength=size.size)

    regional = _regional_weights(share_ppm, region, same_region_weight)
    used = _complete(
        plan.merchant_id, start, size, realised, regional, np.cumsum(regional, axis=1), region,
        np.uint64(stream.counter_hi), np.uint64(stream.key), country,
    )  # fmt: skip
    draws.record(label, int(used))
    return _ranked(plan, start, size, country, regional, region)


def _regional_weights(share_ppm: Integers, region: Integers, same_region_weight: float) -> Integers:
    """int64[R, C]: weight of each country for a merchant whose home lies in region r."""
    preferred = round(same_region_weight * WEIGHT_SCALE)
    same = region[None, :] == np.arange(region.max() + 1)[:, None]
    return np.where(same, preferred, WEIGHT_SCALE) * share_ppm[None, :]


@njit
def _complete(
    merchant_id: Words,
    start: Integers,
    size: Integers,
    realised: Integers,
    regional: Integers,
    cumulative: Integers,
    region: Integers,
    counter_hi: np.uint64,
    key: np.uint64,
    country: Integers,
) -> int:
    """Fill the empty places of every merchant's list (home first); returns the number of blocks drawn."""
    countries = regional.shape[1]
    blocks = 0
    for m in range(merchant_id.shape[0]):
        first = start[m]
        home_region = region[country[first]]
        total = np.uint64(cumulative[home_region, countries - 1])
        counter = merchant_id[m] * np.uint64(MERCHANT_STRIDE)
        filled = realised[m]
        rejections = 0
        while filled < size[m]:
            if rejections < _MAX_REJECTIONS:
                x0, _ = block(counter, counter_hi, key)
                counter += np.uint64(1)
                blocks += 1
                drawn = np.int64(multiply_high(x0, total))
                c = _first_above(cumulative[home_region], drawn)
            else:
                c = _heaviest_unlisted(regional[home_region], country[first : first + filled])
            if _holds(country[first : first + filled], c):
                rejections += 1
                continue
            country[first + filled] = c
            filled += 1
    return blocks


@njit
def _first_above(ascending: Integers, value: np.int64) -> int:
    """Position of the first of the ascending numbers that is greater than `value`: bisection."""
    low, high = 0, ascending.shape[0]
    while low < high:
        middle = (low + high) >> 1
        if ascending[middle] > value:
            high = middle
        else:
            low = middle + 1
    return low


@njit
def _holds(values: Integers, wanted: int) -> bool:
    i = 0
    while i < values.shape[0] and values[i] != wanted:
        i += 1
    return bool(i < values.shape[0])


@njit
def _heaviest_unlisted(weight: Integers, listed: Integers) -> int:
    best = -1
    for c in range(weight.shape[0]):
        if not _holds(listed, c) and (best < 0 or weight[c] > weight[best]):
            best = c
    return best


def _ranked(
    plan: MerchantPlan,
    start: Integers,
    size: Integers,
    country: Integers,
    regional: Integers,
    region: Integers,
) -> CandidateSet:
    merchant = np.repeat(np.arange(size.size), size)
    place = np.arange(country.size) - start[merchant]
    home_region = region[country[start]][merchant]
    weight = regional[home_region, country]
    order = np.lexsort((country, -weight, place > 0, merchant))
    return CandidateSet(
        merchant_id=plan.merchant_id[merchant],
        country=country[order].astype(np.int16),
        rank=place.astype(np.int32),
        is_member=((place > 0) & (place <= plan.members[merchant]))[order],
        same_region=(region[country] == home_region)[order],
    )
