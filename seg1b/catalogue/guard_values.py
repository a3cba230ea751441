"""The values of the 1A guard metrics, computed from the bundle's tables and joined by merchant
(engine-contracts 13.1).

A value of None comes with a reason that begins with `not_computable`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from seg1b.catalogue.tables import OUTLET_CATALOGUE, REQUIRED_OUTPUTS
from seg1b.kernels.inequality import gini, top_share

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Merchants = npt.NDArray[np.uint64]

EVIDENCE_DATASETS: Final = ("s3_candidate_set", "s6_membership", "nb_dispersion")


def metric_values(tables: Mapping[str, pa.Table]) -> dict[str, float | None]:
    """Metric -> value, None where the evidence is missing, empty or constant. `outlet_catalogue` must be
    there.
    """
    values: dict[str, float | None] = {}
    outlets = _Outlets.of(tables[OUTLET_CATALOGUE])
    values |= _outlet_metrics(outlets)
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
class _Outlets:
    """Per merchant, ascending: outlets, outlets abroad, legal countries; and whether the rows' identity is in
    order.
    """

    merchant_id: Merchants
    outlets: Integers
    abroad: Integers
    legal_countries: Integers
    sound: bool

    @staticmethod
    def of(table: pa.Table) -> _Outlets:
        """Count the rows of an `outlet_catalogue`, one an outlet."""
        merchant_id, merchant = np.unique(table.column("merchant_id").to_numpy(), return_inverse=True)
        legal, home = table.column("legal_country_iso"), table.column("home_country_iso")
        abroad = pc.not_equal(legal, home).to_numpy().astype(np.int64)
        countries = legal.combine_chunks().dictionary_encode()
        country = countries.indices.to_numpy().astype(np.int64)
        order = table.column("site_order").to_numpy().astype(np.int64)
        pair, pair_of_row = np.unique(
            merchant * (len(countries.dictionary) + 1) + country, return_inverse=True
        )
        merchants = merchant_id.size
        return _Outlets(
            merchant_id=merchant_id,
            outlets=np.bincount(merchant, minlength=merchants),
            abroad=np.bincount(merchant, weights=abroad, minlength=merchants).astype(np.int64),
            legal_countries=np.bincount(pair // (len(countries.dictionary) + 1), minlength=merchants),
            sound=_identity_is_sound(pair_of_row, order, table.column("site_id")),
        )


def _identity_is_sound(pair: Integers, site_order: Integers, site_id: pa.ChunkedArray) -> bool:
    """No duplicate key, site_order 1..n in every pair, site_id the zero-filled order."""
    rows = np.lexsort((site_order, pair))
    sorted_pair = pair[rows]
    first = np.searchsorted(sorted_pair, sorted_pair)
    contiguous = bool(np.array_equal(site_order[rows], np.arange(rows.size) - first + 1))
    expected = pc.utf8_lpad(pa.array(site_order).cast(pa.string()), width=6, padding="0")
    return contiguous and bool(pc.all(pc.equal(site_id.combine_chunks(), expected)).as_py())


def _outlet_metrics(outlets: _Outlets) -> dict[str, float | None]:
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


def realised_ratio_median(tables: Mapping[str, pa.Table]) -> float | None:
    """Median of realised / candidate foreign countries over merchants with more than one legal country."""
    if "s3_candidate_set" not in tables:
        return None
    outlets = _Outlets.of(tables[OUTLET_CATALOGUE])
    candidates = _foreign_candidates(tables, outlets.merchant_id)
    spread = (outlets.legal_countries > 1) & (candidates > 0)
    if not spread.any():
        return None
    return float(np.median((outlets.legal_countries[spread] - 1) / candidates[spread]))


def _dispersion_metrics(dispersion: Floats) -> dict[str, float | None]:
    ascending = np.sort(dispersion)
    if ascending.size == 0 or not np.isfinite(ascending).all() or ascending[0] <= 0.0:
        return {"phi_cv": None, "phi_p95_p05_ratio": None}
    mean = math.fsum(ascending.tolist()) / ascending.size
    variance = math.fsum(((ascending - mean) ** 2).tolist()) / ascending.size
    high, low = (_nearest_rank(ascending, percent) for percent in (95, 5))
    return {"phi_cv": math.sqrt(variance) / mean, "phi_p95_p05_ratio": high / low}


def _nearest_rank(ascending: Floats, percent: int) -> float:
    """Element number ceil(percent % of n), counted from 1."""
    return float(ascending[-(-percent * ascending.size // 100) - 1])


def spearman(a: Integers, b: Integers) -> float | None:
    """Rank correlation with mid-ranks, exact up to one square root and one division; None when one side is
    constant.
    """
    x, y = _doubled_mid_ranks(a), _doubled_mid_ranks(b)
    n = len(x)
    sum_x, sum_y = sum(x), sum(y)
    covariance = n * sum(i * j for i, j in zip(x, y, strict=True)) - sum_x * sum_y
    variance_x = n * sum(i * i for i in x) - sum_x**2
    variance_y = n * sum(j * j for j in y) - sum_y**2
    if variance_x == 0 or variance_y == 0:
        return None
    return covariance / math.sqrt(variance_x * variance_y)


def _doubled_mid_ranks(values: Integers) -> list[int]:
    """Twice the mean rank of each value among ties: whole numbers."""
    ascending = np.sort(values)
    below = np.searchsorted(ascending, values, side="left")
    up_to = np.searchsorted(ascending, values, side="right")
    ranks: list[int] = (below + up_to + 1).tolist()
    return ranks
