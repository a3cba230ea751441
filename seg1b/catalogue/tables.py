"""The 1A datasets as Arrow tables: what a bundle's Parquet files hold (engine-contracts 3.2, 7.1, 7.2, 13.1).

Row-per-outlet tables are made in slices of pairs, so that a catalogue of any size can be written in bounded
memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from seg1b.catalogue.outlets import OutletCatalogue
from seg1b.store.digest import arrow_of

if TYPE_CHECKING:
    from seg1b.catalogue.synthesise import Synthesis

OUTLET_CATALOGUE: Final = "outlet_catalogue"
SITE_SEQUENCE: Final = "s3_site_sequence"
ROWS_PER_SLICE: Final = 1_000_000


def _schema(**types: pa.DataType) -> pa.Schema:
    return pa.schema([pa.field(name, kind, nullable=False) for name, kind in types.items()])


SCHEMAS: Final[dict[str, pa.Schema]] = {
    OUTLET_CATALOGUE: _schema(
        manifest_fingerprint=pa.string(),
        merchant_id=pa.uint64(),
        site_id=pa.string(),
        home_country_iso=pa.string(),
        legal_country_iso=pa.string(),
        single_vs_multi_flag=pa.bool_(),
        raw_nb_outlet_draw=pa.int32(),
        final_country_outlet_count=pa.int32(),
        site_order=pa.int32(),
        global_seed=pa.uint64(),
    ),
    "s3_candidate_set": _schema(
        merchant_id=pa.uint64(),
        country_iso=pa.string(),
        candidate_rank=pa.int32(),
        is_home=pa.bool_(),
        reason_codes=pa.list_(pa.string()),
        filter_tags=pa.list_(pa.string()),
        parameter_hash=pa.string(),
        produced_by_fingerprint=pa.string(),
    ),
    "s6_membership": _schema(merchant_id=pa.uint64(), country_iso=pa.string(), parameter_hash=pa.string()),
    "nb_dispersion": _schema(merchant_id=pa.uint64(), dispersion_k=pa.float64(), parameter_hash=pa.string()),
    "s3_integerised_counts": _schema(
        merchant_id=pa.uint64(), country_iso=pa.string(), count=pa.int32(), method=pa.string()
    ),
    SITE_SEQUENCE: _schema(
        merchant_id=pa.uint64(), country_iso=pa.string(), site_order=pa.int32(), site_id=pa.string()
    ),
    "sparse_flag": _schema(
        country_iso=pa.string(),
        quota=pa.int64(),
        sites=pa.int64(),
        threshold=pa.int32(),
        is_sparse=pa.bool_(),
    ),
    "merchant_abort_log": _schema(
        merchant_id=pa.uint64(),
        country_iso=pa.string(),
        n_sites=pa.int32(),
        reason=pa.string(),
        aborted=pa.bool_(),
    ),
    "hurdle_stationarity_tests": _schema(
        window=pa.int32(),
        merchant_id_min=pa.uint64(),
        merchant_id_max=pa.uint64(),
        merchants=pa.int64(),
        single_site_merchants=pa.int64(),
        expected_single_site_merchants=pa.float64(),
        chi_square_term=pa.float64(),
        note=pa.string(),
    ),
}
"""Dataset id -> Arrow schema. A dataset not named here does not belong into a bundle."""

PAIR_SCHEMA: Final = _schema(
    merchant_id=pa.uint64(),
    legal_country_iso=pa.string(),
    home_country_iso=pa.string(),
    n_sites=pa.int32(),
    raw_nb_outlet_draw=pa.int32(),
)
"""What a row-per-outlet table means: the pairs, ascending by (merchant_id, legal_country_iso)."""

REQUIRED_OUTPUTS: Final = (
    "s3_integerised_counts",
    SITE_SEQUENCE,
    "sparse_flag",
    "merchant_abort_log",
    "hurdle_stationarity_tests",
)
STATIONARITY_WINDOWS: Final = 10
STATIONARITY_NOTE: Final = (
    "The share of single-outlet merchants is a stratified quota of the synthesis, not a fitted hurdle: there "
    "are no coefficients to test. The rows test that the quota is spread evenly over merchant_id "
    "(chi-square, windows - 1 degrees of freedom)."
)


@dataclass(frozen=True)
class Lineage:
    """Identity of a 1A bundle: seed u64, parameter_hash and manifest_fingerprint hex64."""

    seed: int
    parameter_hash: str
    manifest_fingerprint: str

    def partition(self, dataset: str) -> str:
        """Relative folder of a dataset, POSIX, under the bundle's root."""
        tokens = {
            "outlet_catalogue": f"seed={self.seed}/manifest_fingerprint={self.manifest_fingerprint}",
            "s6_membership": f"seed={self.seed}/parameter_hash={self.parameter_hash}",
        }
        token = tokens.get(dataset, f"parameter_hash={self.parameter_hash}")
        return f"data/layer1/1A/{dataset}/{token}"


def _texts(values: Sequence[str], index: npt.NDArray[Any]) -> pa.Array:
    """`values[index]` as a string array, by dictionary."""
    return pa.DictionaryArray.from_arrays(
        arrow_of(index.astype(np.int32)), pa.array(values, pa.string())
    ).cast(pa.string())


def _constant(value: Any, kind: pa.DataType, rows: int) -> pa.Array:
    return pa.repeat(pa.scalar(value, kind), rows)


def _table(dataset: str, columns: dict[str, Any]) -> pa.Table:
    return pa.table(columns, schema=SCHEMAS[dataset])


def pair_tables(catalogue: OutletCatalogue, rows: int = ROWS_PER_SLICE) -> Iterator[pa.Table]:
    """The pairs of a catalogue as `PAIR_SCHEMA` has them, at most `rows` a table."""
    for first in range(0, catalogue.pair_count, rows):
        part = slice(first, first + rows)
        yield pa.table(
            {
                "merchant_id": arrow_of(catalogue.merchant_id[part]),
                "legal_country_iso": _texts(catalogue.iso, catalogue.country[part]),
                "home_country_iso": _texts(catalogue.iso, catalogue.home_country[part]),
                "n_sites": arrow_of(catalogue.n_sites[part]),
                "raw_nb_outlet_draw": arrow_of(catalogue.raw_outlet_draw[part]),
            },
            schema=PAIR_SCHEMA,
        )


def slices(catalogue: OutletCatalogue, rows: int = ROWS_PER_SLICE) -> Iterator[slice]:
    """Ranges of whole pairs of at most `rows` outlets each (one pair may be larger)."""
    end = np.cumsum(catalogue.n_sites, dtype=np.int64)
    first = 0
    while first < catalogue.pair_count:
        before = end[first - 1] if first else 0
        last = max(first + 1, int(np.searchsorted(end, before + rows, side="right")))
        yield slice(first, last)
        first = last


def _site_orders(n_sites: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
    end = np.cumsum(n_sites, dtype=np.int64)
    return (np.arange(end[-1]) - np.repeat(end - n_sites, n_sites) + 1).astype(np.int32)


def _site_ids(site_order: npt.NDArray[np.int32]) -> pa.Array:
    return _texts([f"{i:06d}" for i in range(1, int(site_order.max()) + 1)], site_order - 1)


def outlet_rows(catalogue: OutletCatalogue, part: slice, lineage: Lineage) -> pa.Table:
    """Row-per-outlet table (7.1) of a range of pairs, sorted by (merchant_id, legal_country_iso,
    site_order).
    """
    n_sites = catalogue.n_sites[part]
    order = _site_orders(n_sites)
    draw = np.repeat(catalogue.raw_outlet_draw[part], n_sites)
    return _table(
        OUTLET_CATALOGUE,
        {
            "manifest_fingerprint": _constant(lineage.manifest_fingerprint, pa.string(), order.size),
            "merchant_id": np.repeat(catalogue.merchant_id[part], n_sites),
            "site_id": _site_ids(order),
            "home_country_iso": _texts(catalogue.iso, np.repeat(catalogue.home_country[part], n_sites)),
            "legal_country_iso": _texts(catalogue.iso, np.repeat(catalogue.country[part], n_sites)),
            "single_vs_multi_flag": draw > 1,
            "raw_nb_outlet_draw": draw,
            "final_country_outlet_count": np.repeat(n_sites, n_sites),
            "site_order": order,
            "global_seed": _constant(lineage.seed, pa.uint64(), order.size),
        },
    )


def site_sequence_rows(catalogue: OutletCatalogue, part: slice) -> pa.Table:
    """Site numbers of a range of pairs."""
    n_sites = catalogue.n_sites[part]
    order = _site_orders(n_sites)
    return _table(
        SITE_SEQUENCE,
        {
            "merchant_id": np.repeat(catalogue.merchant_id[part], n_sites),
            "country_iso": _texts(catalogue.iso, np.repeat(catalogue.country[part], n_sites)),
            "site_order": order,
            "site_id": _site_ids(order),
        },
    )


def evidence_tables(synthesis: Synthesis, lineage: Lineage) -> dict[str, pa.Table]:
    """Every dataset of a synthesis but the two row-per-outlet ones."""
    return {
        "s3_candidate_set": _candidate_set(synthesis, lineage),
        "s6_membership": _membership(synthesis, lineage),
        "nb_dispersion": _dispersion(synthesis, lineage),
        "s3_integerised_counts": _integerised_counts(synthesis),
        "sparse_flag": _sparse_flag(synthesis),
        "merchant_abort_log": _abort_log(synthesis),
        "hurdle_stationarity_tests": _stationarity(synthesis),
    }


def _candidate_set(synthesis: Synthesis, lineage: Lineage) -> pa.Table:
    rows = synthesis.candidates
    code = np.where(rows.rank == 0, 0, np.where(rows.same_region, 1, 2))
    offsets = pa.array(np.arange(code.size + 1, dtype=np.int32))
    reasons = _texts(("HOME", "SAME_MACRO_REGION", "OTHER_MACRO_REGION"), code)
    no_tags = pa.ListArray.from_arrays(pa.array(np.zeros(code.size + 1, np.int32)), pa.array([], pa.string()))
    return _table(
        "s3_candidate_set",
        {
            "merchant_id": rows.merchant_id,
            "country_iso": _texts(synthesis.catalogue.iso, rows.country),
            "candidate_rank": rows.rank,
            "is_home": rows.rank == 0,
            "reason_codes": pa.ListArray.from_arrays(offsets, reasons),
            "filter_tags": no_tags,
            "parameter_hash": _constant(lineage.parameter_hash, pa.string(), code.size),
            "produced_by_fingerprint": _constant(lineage.manifest_fingerprint, pa.string(), code.size),
        },
    )


def _membership(synthesis: Synthesis, lineage: Lineage) -> pa.Table:
    rows = synthesis.candidates
    merchant_id, country = rows.merchant_id[rows.is_member], rows.country[rows.is_member]
    order = np.lexsort((country, merchant_id))
    return _table(
        "s6_membership",
        {
            "merchant_id": merchant_id[order],
            "country_iso": _texts(synthesis.catalogue.iso, country[order]),
            "parameter_hash": _constant(lineage.parameter_hash, pa.string(), order.size),
        },
    )


def _dispersion(synthesis: Synthesis, lineage: Lineage) -> pa.Table:
    plan = synthesis.plan
    parameter_hash = _constant(lineage.parameter_hash, pa.string(), plan.merchant_id.size)
    columns = {
        "merchant_id": plan.merchant_id,
        "dispersion_k": plan.dispersion,
        "parameter_hash": parameter_hash,
    }
    return _table("nb_dispersion", columns)


def _integerised_counts(synthesis: Synthesis) -> pa.Table:
    """Home and member countries with their integer counts; a member may have got none."""
    rows = synthesis.candidates
    kept = np.flatnonzero((rows.rank == 0) | rows.is_member)
    kept = kept[np.lexsort((rows.country[kept], rows.merchant_id[kept]))]
    method = (rows.rank[kept] > 0).astype(np.int32)
    return _table(
        "s3_integerised_counts",
        {
            "merchant_id": rows.merchant_id[kept],
            "country_iso": _texts(synthesis.catalogue.iso, rows.country[kept]),
            "count": synthesis.member_sites[kept],
            "method": _texts(("home_remainder", "dirichlet_multinomial"), method),
        },
    )


def _sparse_flag(synthesis: Synthesis) -> pa.Table:
    """Countries with so small a quota that a merchant may have one outlet there at most."""
    limit = synthesis.policy.countries.small_quota_limit
    served = np.flatnonzero(synthesis.quota > 0)
    quota = synthesis.quota[served]
    return _table(
        "sparse_flag",
        {
            "country_iso": _texts(synthesis.catalogue.iso, served),
            "quota": quota,
            "sites": synthesis.catalogue.sites_per_country()[served],
            "threshold": np.full(served.size, limit, np.int32),
            "is_sparse": quota <= limit,
        },
    )


def _abort_log(synthesis: Synthesis) -> pa.Table:
    """Blocks that needed help. None is ever aborted; an empty table says that none needed help either."""
    incidents = sorted(synthesis.incidents, key=lambda i: (i.merchant, i.country))
    merchant = np.array([i.merchant for i in incidents], np.int64)
    return _table(
        "merchant_abort_log",
        {
            "merchant_id": synthesis.plan.merchant_id[merchant],
            "country_iso": _texts(
                synthesis.catalogue.iso, np.array([i.country for i in incidents], np.int64)
            ),
            "n_sites": np.array([i.n_sites for i in incidents], np.int32),
            "reason": pa.array([i.kind for i in incidents], pa.string()),
            "aborted": np.zeros(merchant.size, np.bool_),
        },
    )


def _stationarity(synthesis: Synthesis) -> pa.Table:
    plan = synthesis.plan
    windows = [w for w in np.array_split(np.arange(plan.size.size), STATIONARITY_WINDOWS) if w.size]
    single = plan.size == 1
    share = int(single.sum()) / single.size
    merchants = np.array([w.size for w in windows], np.int64)
    singles = np.array([int(single[w].sum()) for w in windows], np.int64)
    expected = merchants * share
    variance = expected * (1.0 - share)
    term = np.divide((singles - expected) ** 2, variance, out=np.zeros(merchants.size), where=variance > 0.0)
    return _table(
        "hurdle_stationarity_tests",
        {
            "window": np.arange(1, merchants.size + 1, dtype=np.int32),
            "merchant_id_min": plan.merchant_id[[w[0] for w in windows]],
            "merchant_id_max": plan.merchant_id[[w[-1] for w in windows]],
            "merchants": merchants,
            "single_site_merchants": singles,
            "expected_single_site_merchants": expected,
            "chi_square_term": term,
            "note": _constant(STATIONARITY_NOTE, pa.string(), merchants.size),
        },
    )
