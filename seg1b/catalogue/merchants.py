"""What a merchant is before it has a country: size, dispersion, openness, and how it spreads over borders.

Sizes: a quota of single-outlet merchants, a quota of large ones (truncated Pareto mean), the rest around one
mean; all but the singles are negative binomial, conditional on the minimum size. No lognormal meets the size
bands together; the price is a hole just above one outlet, which the data card discloses.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from seg1b.catalogue.draws import MERCHANT_STRIDE, Draws, rank
from seg1b.catalogue.elementary import exp_each, log_each, normal_quantile_each, power, power_each
from seg1b.kernels.jit import njit
from seg1b.kernels.philox import block, multiply_high
from seg1b.policy.models import CrossBorderPolicy, MerchantSizes, SynthesisPolicy

Words = npt.NDArray[np.uint64]
Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

_NEGLIGIBLE = 1e-18
_BALL = 1000  # the urn counts in thousandths of a ball, so that alpha may have three decimals


@dataclass(frozen=True)
class MerchantPlan:
    """One entry per merchant, ascending merchant_id 1..M.

    size int64: outlets in all countries. dispersion f64: phi of its negative binomial. candidates int64:
    foreign candidate countries (C). members int64 <= C: foreign countries it belongs to (R), where outlets
    may or may not follow. foreign int64 < size: outlets abroad, in at most R countries.
    """

    merchant_id: Words
    size: Integers
    dispersion: Floats
    candidates: Integers
    members: Integers
    foreign: Integers


def plan_merchants(draws: Draws, policy: SynthesisPolicy, foreign_countries: int) -> MerchantPlan:
    """Draw all merchants; `foreign_countries` is the number of countries a merchant can have besides its
    home.
    """
    merchant_id = np.arange(1, policy.merchants + 1, dtype=np.uint64)
    size, dispersion = _sizes(draws, merchant_id, policy.sizes)
    rule = policy.cross_border
    openness_rank = _openness_rank(draws, merchant_id, size, rule)
    m = merchant_id.size
    candidates = rule.candidates_base + rule.candidates_span * (2 * openness_rank + 1) // (2 * m)
    candidates = np.minimum(candidates, foreign_countries)
    belongs = (size > 1) & (draws.strata("catalogue/membership", merchant_id) < rule.membership_share)
    wanted = np.floor(rule.membership_rate * candidates + draws.strata("catalogue/member_count", merchant_id))
    members = (
        np.where(belongs, np.clip(wanted.astype(np.int64), 1, candidates), 0)
        if foreign_countries
        else 0 * size
    )
    foreign = _foreign_outlets(draws, merchant_id, size, openness_rank, members > 0, rule)
    return MerchantPlan(merchant_id, size, dispersion, candidates, members, foreign)


def _sizes(draws: Draws, merchant_id: Words, policy: MerchantSizes) -> tuple[Integers, Floats]:
    m = merchant_id.size
    normal = normal_quantile_each(draws.uniforms("catalogue/dispersion", merchant_id))
    dispersion = policy.dispersion * exp_each(policy.dispersion_sigma * normal)
    stratum = np.floor(draws.strata("catalogue/size_class", merchant_id) * m).astype(np.int64)
    single = stratum < math.floor(policy.single_share * m + 0.5)
    large = stratum >= m - math.floor(policy.large_share * m + 0.5)
    mean = np.full(m, float(policy.negative_binomial_mean))
    mean[large] = _truncated_pareto(draws.strata("catalogue/large_size", merchant_id[large]), policy)
    u = draws.uniforms("catalogue/size", merchant_id)
    size = np.where(single, 1, _negative_binomial_each(u, mean, dispersion, policy.minimum))
    return size, dispersion


def _truncated_pareto(u: Floats, policy: MerchantSizes) -> Floats:
    """Inverse distribution function of the Pareto law on [lower, upper] with exponent alpha."""
    lower, upper, alpha = policy.pareto.lower, policy.pareto.upper, policy.pareto.alpha
    beyond = power(lower / upper, alpha)
    return lower * power_each(1.0 - u * (1.0 - beyond), -1.0 / alpha)


@njit
def negative_binomial_quantile(u: float, mean: float, dispersion: float, minimum: int) -> int:
    """Quantile of the negative binomial (mean, size `dispersion`) given that it is at least `minimum`.

    From the recursion P(k+1) / P(k) = (k + phi) / (k + 1) * mean / (mean + phi), started at the mode so that
    neither the start nor the normalisation needs a power or a gamma function.
    """
    ratio = mean / (mean + dispersion)
    mode = math.floor(mean * (dispersion - 1.0) / dispersion)
    start = max(minimum, int(mode))
    last = start
    weight = 1.0
    while weight > _NEGLIGIBLE:
        weight *= (last + dispersion) / (last + 1.0) * ratio
        last += 1
    weights = np.empty(last - minimum + 1)
    weights[start - minimum] = 1.0
    for k in range(start, last):
        weights[k + 1 - minimum] = weights[k - minimum] * ((k + dispersion) / (k + 1.0) * ratio)
    for k in range(start, minimum, -1):
        weights[k - 1 - minimum] = weights[k - minimum] / ((k - 1 + dispersion) / k * ratio)
    total = 0.0
    for i in range(weights.shape[0]):
        total += weights[i]
    target = u * total
    reached = 0.0
    for i in range(weights.shape[0]):
        reached += weights[i]
        if reached >= target:
            return minimum + i
    return last


@njit
def _negative_binomial_each(u: Floats, mean: Floats, dispersion: Floats, minimum: int) -> Integers:
    out = np.empty(u.shape[0], np.int64)
    for i in range(u.shape[0]):
        out[i] = negative_binomial_quantile(u[i], mean[i], dispersion[i], minimum)
    return out


def _openness_rank(draws: Draws, merchant_id: Words, size: Integers, rule: CrossBorderPolicy) -> Integers:
    """Rank of `z + slope * ln(size)` with z standard normal: bigger merchants tend to be more open."""
    normal = normal_quantile_each(draws.uniforms("catalogue/openness", merchant_id))
    return rank(normal + rule.openness_size_slope * log_each(size.astype(np.float64)))


def _foreign_outlets(
    draws: Draws,
    merchant_id: Words,
    size: Integers,
    openness_rank: Integers,
    belongs: npt.NDArray[np.bool_],
    rule: CrossBorderPolicy,
) -> Integers:
    """Outlets abroad: the foreign share rises linearly with openness from its start; home keeps at least
    one.
    """
    openness = (openness_rank + 0.5) / merchant_id.size
    ramp = np.maximum(0.0, openness - rule.foreign_openness_start) / rule.foreign_openness_width
    wanted = np.floor(size * (rule.foreign_share_max * ramp) + draws.strata("catalogue/foreign", merchant_id))
    return np.where(belongs, np.minimum(wanted.astype(np.int64), size - 1), 0)


def split_foreign(draws: Draws, plan: MerchantPlan, alpha: float) -> Integers:
    """int64[sum of members]: outlets of each member slot, merchants in order; Dirichlet-multinomial with
    `alpha`.

    Polya's urn draws that law in integers: each outlet takes a slot in proportion to alpha plus what the slot
    has.
    """
    label = "catalogue/foreign_split"
    stream = draws.stream(label)
    start = np.cumsum(plan.members) - plan.members
    slots = np.zeros(int(plan.members.sum()), np.int64)
    alpha_balls = max(1, round(alpha * _BALL))
    _polya_urn(
        plan.merchant_id, plan.foreign, plan.members, start, alpha_balls,
        np.uint64(stream.counter_hi), np.uint64(stream.key), slots,
    )  # fmt: skip
    draws.record(label, int(plan.foreign.sum()))
    return slots


@njit
def _polya_urn(
    merchant_id: Words,
    foreign: Integers,
    members: Integers,
    start: Integers,
    alpha_balls: int,
    counter_hi: np.uint64,
    key: np.uint64,
    slots: Integers,
) -> None:
    for m in range(merchant_id.shape[0]):
        counter = merchant_id[m] * np.uint64(MERCHANT_STRIDE)
        for outlet in range(foreign[m]):
            x0, _ = block(counter + np.uint64(outlet), counter_hi, key)
            balls = np.uint64(alpha_balls * members[m] + _BALL * outlet)
            drawn = np.int64(multiply_high(x0, balls))
            slot = start[m]
            drawn -= alpha_balls + _BALL * slots[slot]
            while drawn >= 0:
                slot += 1
                drawn -= alpha_balls + _BALL * slots[slot]
            slots[slot] += 1
