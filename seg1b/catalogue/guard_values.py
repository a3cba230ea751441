"""The values of the 1A guard metrics, computed from the bundle's tables and joined by merchant
(engine-contracts 13.1).

A value of None comes with a reason that begins with `not_computable`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from seg1b.catalogue.rows import OutletRuns
from seg1b.catalogue.tables import REQUIRED_OUTPUTS
from seg1b.kernels.inequality import exact_dot, gini, top_share

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Merchants = npt.NDArray[np.uint64]

GUARD_COLUMNS: Final[Mapping[str, Sequence[str]]] = {
    "s3_candidate_set": ("merchant_id", "is_home"),
    "s6_membership": ("merchant_id",),
    "nb_dispersion": ("dispersion_k",),
}
"""The evidence, and what of it is read."""

_SLICE: Final = 1 << 16


def metric_values(outlets: MerchantOutlets, tables: Mapping[str, pa.Table]) -> dict[str, float | None]:
    """Metric -> value, None where the evidence is missing, empty or constant.

    `tables`: every other dataset of the bundle; of evidence `GUARD_COLUMNS` are read, of the rest only that they are
    there.
    """
    values = _outlet_metrics(outlets)
    if "s3_candidate_set" in tables:
        candidates = _foreign_candidates(tables, outlets.merchant_id)
        values["candidate_count_median"] = float(np.median(candidates))
        if "s6_membership" in tables:
            members = _count_by_merchant(tables["s6_membership"].column("merchant_id"), outlets.merchant_id)
            values["candidate_membership_correlation"] = spearman(candidates, members)
            ratio = np.where(candidates > 0, members / np.maximum(candidates, 1), members)
            values["realization_ratio_median"] = float(np.median(ratio))
    if "nb_dispersion" in tables:
        values |= _dispersion_metrics(tables["nb_dispersion"].column("dispersion_k").to_numpy())
    values["required_outputs_present"] = float(all(name in tables for name in REQUIRED_OUTPUTS))
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


def _count_by_merchant(column: pa.ChunkedArray, merchant_id: Merchants) -> Integers:
    """int64[M]: rows of each merchant; rows of unknown merchants do not count."""
    rows = column.to_numpy()
    at = np.minimum(np.searchsorted(merchant_id, rows), merchant_id.size - 1)
    return np.bincount(at[merchant_id[at] == rows], minlength=merchant_id.size)


def _foreign_candidates(tables: Mapping[str, pa.Table], merchant_id: Merchants) -> Integers:
    table = tables["s3_candidate_set"]
    foreign = table.filter(pc.invert(table.column("is_home")))
    return _count_by_merchant(foreign.column("merchant_id"), merchant_id)


def realised_ratio_median(outlets: MerchantOutlets, tables: Mapping[str, pa.Table]) -> float | None:
    """Median of realised / candidate foreign countries over merchants with more than one legal country."""
    if "s3_candidate_set" not in tables:
        return None
    candidates = _foreign_candidates(tables, outlets.merchant_id)
    spread = (outlets.legal_countries > 1) & (candidates > 0)
    if not spread.any():
        return None
    return float(np.median((outlets.legal_countries[spread] - 1) / candidates[spread]))


def _dispersion_metrics(dispersion: Floats) -> dict[str, float | None]:
    ascending = np.sort(dispersion)
    if ascending.size == 0 or not np.isfinite(ascending).all() or ascending[0] <= 0.0:
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
