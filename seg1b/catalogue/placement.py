"""Blocks into countries: which country each merchant's home block and foreign blocks get.

A block is the outlets of one merchant in one country. Blocks are placed largest first; each draws a country
in proportion to the quota that is left there, among the countries where it fits, where it stays below the
largest share a merchant may hold, and where its merchant is not yet. Foreign blocks prefer the home's region.
A block that finds no place swaps with single-outlet merchants: no block is ever lost.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from seg1b.catalogue.draws import Draws
from seg1b.catalogue.merchants import MerchantPlan
from seg1b.kernels.jit import njit
from seg1b.kernels.philox import multiply_high
from seg1b.policy.models import CountryQuotas

Words = npt.NDArray[np.uint64]
Integers = npt.NDArray[np.int64]
Booleans = npt.NDArray[np.bool_]

WEIGHT_SCALE = 1000
"""Affinity weights count in thousandths."""


@dataclass(frozen=True)
class Blocks:
    """merchant int64[B] (position in the plan), size int64[B] >= 1, slot int64[B]: 0 is home, then the
    members.
    """

    merchant: Integers
    size: Integers
    slot: Integers

    @property
    def is_home(self) -> Booleans:
        """bool[B]."""
        home: Booleans = self.slot == 0
        return home


@dataclass(frozen=True)
class Incident:
    """A block that needed help: `swapped`, `share_exceeded` (largest merchant share), `quota_exceeded`."""

    merchant: int
    country: int
    n_sites: int
    kind: str


@dataclass(frozen=True)
class Placement:
    """country int64[B] of every block, and the incidents."""

    country: Integers
    incidents: tuple[Incident, ...]


def merchant_blocks(plan: MerchantPlan, foreign_slots: Integers) -> Blocks:
    """Home blocks of all merchants, then the member slots that got outlets."""
    m = plan.merchant_id.size
    merchant = np.repeat(np.arange(m), plan.members)
    first = np.cumsum(plan.members) - plan.members
    slot = np.arange(foreign_slots.size) - np.repeat(first, plan.members) + 1
    used = foreign_slots > 0
    return Blocks(
        merchant=np.concatenate([np.arange(m), merchant[used]]),
        size=np.concatenate([plan.size - plan.foreign, foreign_slots[used]]),
        slot=np.concatenate([np.zeros(m, np.int64), slot[used]]),
    )


def largest_block(quota: Integers, policy: CountryQuotas) -> Integers:
    """int64[C]: most outlets one merchant may have: the largest merchant share of the quota, at least one."""
    share = Fraction(repr(policy.largest_merchant_share))
    allowed = np.array([int(q * share) for q in quota.tolist()], dtype=np.int64)
    return np.where(quota <= policy.small_quota_limit, 1, np.maximum(allowed, 1))


def place_blocks(
    draws: Draws, plan: MerchantPlan, blocks: Blocks, quota: Integers, region: Integers, policy: CountryQuotas
) -> Placement:
    """Give every block a country. quota int64[C] sums to the blocks' sizes; region int64[C] numbers the
    regions.
    """
    x0, x1 = draws.words("catalogue/country", plan.merchant_id[blocks.merchant], blocks.slot)
    order = np.lexsort((x0, -blocks.size))
    remaining = quota.copy()
    allowed = largest_block(quota, policy)
    merchants = plan.merchant_id.size
    country, home = np.full(order.size, -1, np.int64), np.full(merchants, -1, np.int64)
    taken = np.full((merchants, 1 + int(plan.members.max(initial=0))), -1, np.int64)
    _draw_countries(
        order, blocks.merchant, blocks.size, blocks.is_home, x1, remaining, allowed, region,
        round(policy.same_region_weight * WEIGHT_SCALE), int(allowed.max()),
        country, home, np.zeros(merchants, np.int64), taken,
    )  # fmt: skip
    over = np.flatnonzero(blocks.size > allowed[country])
    incidents = [
        Incident(int(blocks.merchant[b]), int(country[b]), int(blocks.size[b]), "share_exceeded")
        for b in over.tolist()
        if country[b] >= 0
    ]
    homeless = order[country[order] < 0].tolist()
    incidents += [_find_room(b, blocks, country, remaining, allowed, quota) for b in homeless]
    return Placement(country, tuple(incidents))


@njit
def _draw_countries(
    order: Integers,
    merchant: Integers,
    size: Integers,
    is_home: Booleans,
    word: Words,
    remaining: Integers,
    allowed: Integers,
    region: Integers,
    same_region_weight: int,
    largest_allowed: int,
    chosen: Integers,
    home: Integers,
    count: Integers,
    taken: Integers,
) -> None:
    """Fill `chosen` with the country of each block, leave -1 where none fits. Mutates `remaining`.

    Per merchant, -1, 0 and -1 on entry: `home` country, and `count` of the countries in its row of `taken`.
    """
    countries = remaining.shape[0]
    weight = np.empty(countries, np.int64)
    for b in order:
        m = merchant[b]
        exempt = size[b] > largest_allowed
        prefers = home[m] >= 0 and not is_home[b]
        for c in range(countries):
            fits = remaining[c] >= size[b] and (exempt or size[b] <= allowed[c])
            weight[c] = remaining[c] * WEIGHT_SCALE if fits else 0
            if fits and prefers and region[c] == region[home[m]]:
                weight[c] = remaining[c] * same_region_weight
        for i in range(count[m]):
            weight[taken[m, i]] = 0
        if exempt:
            _keep_largest(weight)
        total = 0
        for c in range(countries):
            total += weight[c]
        if total == 0:
            continue
        drawn = np.int64(multiply_high(word[b], np.uint64(total)))
        c = 0
        drawn -= weight[0]
        while drawn >= 0:
            c += 1
            drawn -= weight[c]
        chosen[b] = c
        remaining[c] -= size[b]
        taken[m, count[m]] = c
        count[m] += 1
        if is_home[b]:
            home[m] = c


@njit
def _keep_largest(weight: Integers) -> None:
    """A chain too large for every country's cap goes where it weighs least: to the largest quota left."""
    largest = 0
    for c in range(weight.shape[0]):
        if weight[c] > weight[largest]:
            weight[largest] = 0
            largest = c
        elif c > 0:
            weight[c] = 0


def _find_room(
    b: int, blocks: Blocks, country: Integers, remaining: Integers, allowed: Integers, quota: Integers
) -> Incident:
    """Place block b by moving single-outlet merchants out of its way; mutates `country` and `remaining`.

    Together the free places are as many as the outlets still to place, so whoever moves out finds a place
    elsewhere. If no country can be cleared, the cap on a merchant's share gives way, and last the quota.
    """
    size = int(blocks.size[b])
    merchant = int(blocks.merchant[b])
    open_to = quota > 0
    open_to[country[(blocks.merchant == merchant) & (country >= 0)]] = False
    blocks_of_merchant = np.bincount(blocks.merchant)
    movable = (blocks.size == 1) & (blocks_of_merchant[blocks.merchant] == 1) & (country >= 0)
    singles = np.bincount(country[movable], minlength=quota.size)
    can_clear = open_to & (remaining + singles >= size)
    for kind, choice in (("swapped", can_clear & (allowed >= size)), ("share_exceeded", can_clear)):
        if choice.any():
            c = int(np.argmax(np.where(choice, remaining, np.iinfo(np.int64).min)))
            country[b] = c
            remaining[c] -= size
            _move_out(max(0, -int(remaining[c])), c, np.flatnonzero(movable), country, remaining)
            return Incident(merchant, c, size, kind)
    c = int(np.argmax(np.where(open_to, quota, -1)))
    country[b] = c
    remaining[c] -= size
    return Incident(merchant, c, size, "quota_exceeded")


def _move_out(count: int, origin: int, movable: Integers, country: Integers, remaining: Integers) -> None:
    """Move `count` single-outlet merchants from `origin` to wherever most places are free."""
    for b in movable[country[movable] == origin][:count].tolist():
        target = int(np.argmax(remaining))
        country[b] = target
        remaining[target] -= 1
        remaining[origin] += 1
