"""The values of the 1A guard metrics, computed from outlets and evidence by merchant (engine-contracts 13.1).

A value of None comes with a reason that begins with `not_computable`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import chain
from typing import Final

import numpy as np
import numpy.typing as npt

from seg1b.catalogue.guard_evidence import Evidence
from seg1b.catalogue.rows import OutletRuns
from seg1b.kernels.inequality import exact_dot, gini, top_share

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Merchants = npt.NDArray[np.uint64]

_SLICE: Final = 1 << 16


def metric_values(outlets: MerchantOutlets, evidence: Evidence) -> dict[str, float | None]:
    """Metric -> value, None where the evidence is missing, unsound, empty or constant."""
    values = _outlet_metrics(outlets)
    candidates, members = evidence.candidates, evidence.members
    if candidates is not None:
        values["candidate_count_median"] = float(np.median(candidates))
        if members is not None:
            values["candidate_membership_correlation"] = spearman(candidates, members)
            ratio = np.where(candidates > 0, members / np.maximum(candidates, 1), members)
            values["realization_ratio_median"] = float(np.median(ratio))
    if evidence.dispersion is not None:
        values |= _dispersion_metrics(evidence.dispersion)
    values["required_outputs_present"] = evidence.outputs
    return values


@dataclass(frozen=True)
class MerchantOutlets:
    """Per merchant, ascending: outlets, outlets abroad, legal countries; and whether the rows' identity is in
    order.
    """

    merchant_id: Merchants
    outlets: Integers
    abroad: Integers
    legal_countries: Integers
    sound: bool

    @staticmethod
    def of(runs: OutletRuns) -> MerchantOutlets:
        """Add up the runs of an `outlet_catalogue`, in whatever order they stand; at least one.

        Identity is in order if no pair occurs twice, site_order counts 1..n in every pair, and site_id is the
        zero-filled order.
        """
        order = np.lexsort((runs.country, runs.merchant_id))
        merchant_id, country, n_rows = runs.merchant_id[order], runs.country[order], runs.n_rows[order]
        first_of_merchant = np.r_[True, merchant_id[1:] != merchant_id[:-1]]
        first_of_pair = first_of_merchant | np.r_[True, country[1:] != country[:-1]]
        start = np.flatnonzero(first_of_merchant)
        return MerchantOutlets(
            merchant_id=merchant_id[start],
            outlets=np.add.reduceat(n_rows, start),
            abroad=np.add.reduceat(np.where(country != runs.home_country[order], n_rows, 0), start),
            legal_countries=np.add.reduceat(first_of_pair.astype(np.int64), start),
            sound=bool(first_of_pair.all()) and runs.numbering is None and runs.naming is None,
        )


def _outlet_metrics(outlets: MerchantOutlets) -> dict[str, float | None]:
    n, abroad = outlets.outlets, outlets.abroad
    by_size = np.lexsort((outlets.merchant_id, n))
    deciles = np.array_split(by_size, 10)
    top, bottom = deciles[9], np.concatenate(deciles[:3])
    gradient = None
    if top.size and bottom.size:
        gradient = 100.0 * (
            int(abroad[top].sum()) / int(n[top].sum()) - int(abroad[bottom].sum()) / int(n[bottom].sum())
        )
    return {
        "single_site_share": int((n == 1).sum()) / n.size,
        "median_outlets_per_merchant": float(np.median(n)),
        "top10_outlet_share": top_share(n, 10),
        "gini_outlets_per_merchant": gini(n),
        "home_legal_mismatch_rate": int(abroad.sum()) / int(n.sum()),
        "size_gradient_pp_top_minus_bottom": gradient,
        "multi_country_legal_spread": int((outlets.legal_countries > 1).sum()) / n.size,
        "identity_semantics_no_unexplained_duplicate_anomalies": float(outlets.sound),
    }


def realised_ratio_median(outlets: MerchantOutlets, evidence: Evidence) -> float | None:
    """Median of realised / candidate foreign countries over merchants with more than one legal country."""
    candidates = evidence.candidates
    if candidates is None:
        return None
    spread = (outlets.legal_countries > 1) & (candidates > 0)
    if not spread.any():
        return None
    return float(np.median((outlets.legal_countries[spread] - 1) / candidates[spread]))


def _dispersion_metrics(dispersion: Floats) -> dict[str, float | None]:
    ascending = np.sort(dispersion)
    if ascending.size == 0:
        return {"phi_cv": None, "phi_p95_p05_ratio": None}
    mean = _sum(ascending) / ascending.size
    variance = _sum((ascending - mean) ** 2) / ascending.size
    high, low = (_nearest_rank(ascending, percent) for percent in (95, 5))
    return {"phi_cv": math.sqrt(variance) / mean, "phi_p95_p05_ratio": high / low}


def _sum(values: Floats) -> float:
    """Correctly rounded sum, a slice of Python numbers at a time."""
    pieces = (values[first : first + _SLICE].tolist() for first in range(0, values.size, _SLICE))
    return math.fsum(chain.from_iterable(pieces))


def _nearest_rank(ascending: Floats, percent: int) -> float:
    """Element number ceil(percent % of n), counted from 1."""
    return float(ascending[-(-percent * ascending.size // 100) - 1])


def spearman(a: Integers, b: Integers) -> float | None:
    """Rank correlation with mid-ranks, exact up to one square root and one division; None when one side is
    constant.
    """
    x, y = _doubled_mid_ranks(a), _doubled_mid_ranks(b)
    n = x.size
    sum_x, sum_y = int(x.sum()), int(y.sum())
    covariance = n * exact_dot(x, y) - sum_x * sum_y
    variance_x = n * exact_dot(x, x) - sum_x**2
    variance_y = n * exact_dot(y, y) - sum_y**2
    if variance_x == 0 or variance_y == 0:
        return None
    return covariance / math.sqrt(variance_x * variance_y)


def _doubled_mid_ranks(values: Integers) -> Integers:
    """Twice the mean rank of each value among ties: whole numbers."""
    ascending = np.sort(values)
    below = np.searchsorted(ascending, values, side="left")
    up_to = np.searchsorted(ascending, values, side="right")
    return below + up_to + 1
