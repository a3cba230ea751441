"""The 1A guard: metrics by hand, bands, grade, negative controls, comparison with an authority."""

from __future__ import annotations

import dataclasses

import numpy as np
import pyarrow as pa
import pytest
from catalogue_cases import collapse, small_synthesis
from scipy.stats import spearmanr

from seg1b.catalogue.guard import BANDS, Band, GuardReport, as_json, decide, guard_metrics
from seg1b.catalogue.guard_values import spearman
from seg1b.catalogue.synthesise import Synthesis
from seg1b.catalogue.tables import (
    REQUIRED_OUTPUTS,
    Lineage,
    evidence_tables,
    outlet_rows,
    site_sequence_rows,
)
from seg1b.errors import InputError

LINEAGE = Lineage(42, "0" * 64, "1" * 64)


def datasets(synthesis: Synthesis | None = None) -> dict[str, pa.Table]:
    """All datasets of a synthesis, as a bundle would return them."""
    synthesis = synthesis or small_synthesis()
    whole = slice(0, synthesis.catalogue.pair_count)
    return {
        **evidence_tables(synthesis, LINEAGE),
        "outlet_catalogue": outlet_rows(synthesis.catalogue, whole, LINEAGE),
        "s3_site_sequence": site_sequence_rows(synthesis.catalogue, whole),
    }


def by_hand() -> dict[str, pa.Table]:
    """Two merchants: 1 has one outlet in DE; 2 has three, two of them at home in FR, one in NA."""
    empty = pa.table({"x": pa.array([], pa.int64())})
    return {
        "outlet_catalogue": pa.table(
            {
                "merchant_id": pa.array([1, 2, 2, 2], pa.uint64()),
                "home_country_iso": ["DE", "FR", "FR", "FR"],
                "legal_country_iso": ["DE", "FR", "FR", "NA"],
                "site_order": pa.array([1, 1, 2, 1], pa.int32()),
                "site_id": ["000001", "000001", "000002", "000001"],
                "raw_nb_outlet_draw": pa.array([1, 3, 3, 3], pa.int32()),
                "final_country_outlet_count": pa.array([1, 2, 2, 1], pa.int32()),
            }
        ),
        "s3_candidate_set": pa.table(
            {
                "merchant_id": pa.array([1, 1, 2, 2, 2, 2, 2], pa.uint64()),
                "is_home": [True, False, True, False, False, False, False],
            }
        ),
        "s6_membership": pa.table({"merchant_id": pa.array([2, 2], pa.uint64())}),
        "nb_dispersion": pa.table(
            {"merchant_id": pa.array([1, 2], pa.uint64()), "dispersion_k": [8.0, 12.0]}
        ),
        **dict.fromkeys(REQUIRED_OUTPUTS, empty),
    }


def graded(tables: dict[str, pa.Table]) -> GuardReport:
    """The guard's report on datasets in memory."""
    return guard_metrics(
        collapse(*(tables[name] for name in ("outlet_catalogue",) if name in tables)), tables
    )


def values(report: GuardReport) -> dict[str, float | None]:
    """Metric -> value."""
    return {name: metric.value for name, metric in report.metrics.items()}


def test_every_metric_by_hand() -> None:
    """Four outlets, two merchants: each of the fourteen numbers can be checked with a pencil."""
    report = graded(by_hand())
    assert values(report) == {
        "single_site_share": 0.5,
        "median_outlets_per_merchant": 2.0,
        "top10_outlet_share": 0.75,
        "gini_outlets_per_merchant": 0.25,
        "home_legal_mismatch_rate": 0.25,
        "size_gradient_pp_top_minus_bottom": None,
        "multi_country_legal_spread": 0.5,
        "candidate_count_median": 2.5,
        "candidate_membership_correlation": 1.0,
        "realization_ratio_median": 0.25,
        "phi_cv": 0.2,
        "phi_p95_p05_ratio": 1.5,
        "identity_semantics_no_unexplained_duplicate_anomalies": 1.0,
        "required_outputs_present": 1.0,
    }
    assert report.realised_ratio_median == 0.25


def test_what_cannot_be_computed_is_named_and_fails() -> None:
    """Two merchants have no tenth decile: no value, a reason, and neither band."""
    metric = graded(by_hand()).metrics["size_gradient_pp_top_minus_bottom"]
    assert metric.value is None
    assert (metric.reason or "").startswith("not_computable")
    assert not metric.b_pass
    assert not metric.b_plus_pass


def test_bands_are_inclusive_and_refuse_nan() -> None:
    """Both ends belong to the band; NaN and a missing value lie outside."""
    band = Band(0.25, 0.45)
    assert [band.holds(v) for v in (0.25, 0.45, 0.2499, 0.4501, float("nan"), None)] == [True, True] + [
        False
    ] * 4


def test_bands_that_are_not_nested_are_named() -> None:
    """D-74: three B+ bands reach outside B; a value there passes B+ without B."""
    loose = {name for name, (b, b_plus) in BANDS.items() if not b.contains(b_plus)}
    assert loose == {"single_site_share", "phi_cv", "phi_p95_p05_ratio"}
    report = graded(by_hand())
    assert report.b_plus_without_b == ("single_site_share",)
    assert as_json(report)["metrics"]["phi_cv"]["bands_nested"] is False


def test_evidence_is_joined_by_merchant() -> None:
    """Negative control: giving merchants each other's candidates or memberships destroys the correlation."""
    tables = datasets()
    report = graded(tables)
    honest = report.metrics["candidate_membership_correlation"].value or 0.0
    assert honest > 0.45
    generator = np.random.default_rng(0)
    for name in ("s3_candidate_set", "s6_membership"):
        table = tables[name]
        relabel = np.r_[0, generator.permutation(300) + 1].astype(np.uint64)
        shuffled = table.set_column(
            table.schema.get_field_index("merchant_id"),
            "merchant_id",
            pa.array(relabel[table.column("merchant_id").to_numpy()]),
        )
        changed = graded({**tables, name: shuffled}).metrics["candidate_membership_correlation"].value or 0.0
        assert abs(changed) < 0.3


def test_a_row_without_evidence_for_a_merchant_counts_as_none() -> None:
    """Dropping memberships lowers both realisation ratio and correlation."""
    tables = datasets()
    none = tables["s6_membership"].slice(0, 0)
    report = graded({**tables, "s6_membership": none})
    assert report.metrics["realization_ratio_median"].value == 0.0
    assert report.metrics["candidate_membership_correlation"].value is None


@pytest.mark.parametrize("column", ["site_order", "site_id", "merchant_id"])
def test_identity_anomalies_are_seen(column: str) -> None:
    """A repeated key, a wrong site_id, a merchant whose outlets were given to another."""
    tables = by_hand()
    table = tables["outlet_catalogue"]
    wrong = {"site_order": [1, 1, 1, 1], "site_id": ["000009"] * 4, "merchant_id": [2, 2, 2, 2]}[column]
    field = table.schema.field(column)
    at = table.schema.get_field_index(column)
    changed = table.set_column(at, field, pa.array(wrong, field.type))
    if column == "merchant_id":
        changed = pa.concat_tables([changed, changed])
    report = graded({**tables, "outlet_catalogue": changed})
    assert report.metrics["identity_semantics_no_unexplained_duplicate_anomalies"].value == 0.0


def test_a_missing_required_output_is_a_hard_failure() -> None:
    """Without the abort log there is no B, however good the rest."""
    tables = datasets()
    del tables["merchant_abort_log"]
    report = graded(tables)
    assert not report.hard_gates["required_outputs_emitted"]
    assert report.grade == "below_B"


def test_equal_dispersions_are_a_hard_failure() -> None:
    """Negative control of heterogeneity: one phi for all."""
    tables = datasets()
    phi = pa.array(np.full(tables["nb_dispersion"].num_rows, 80.0))
    table = tables["nb_dispersion"].set_column(1, "dispersion_k", phi)
    report = graded({**tables, "nb_dispersion": table})
    assert report.metrics["phi_cv"].value == 0.0
    assert not report.hard_gates["dispersion_heterogeneity_restored"]
    assert report.grade == "below_B"


def test_an_absent_catalogue_is_refused() -> None:
    """No outlets, no guard."""
    with pytest.raises(InputError) as caught:
        graded({})
    assert caught.value.code == "E_GUARD_NO_CATALOGUE"


@pytest.mark.parametrize("seed", range(5))
def test_spearman_agrees_with_scipy(seed: int) -> None:
    """Many ties, and none."""
    generator = np.random.default_rng(seed)
    a = generator.integers(0, 5 if seed % 2 else 10**6, 200)
    b = a + generator.integers(-2, 3, 200)
    assert spearman(a, b) == pytest.approx(float(spearmanr(a, b).statistic), abs=1e-12)


def test_decision_against_an_authority() -> None:
    """Itself passes; a metric that left its B band, and a worse concentration, are named."""
    report = graded(datasets())
    assert decide(report, report).verdict == ("PASS" if report.eligible_b else "FAIL")
    name = "multi_country_legal_spread"
    worse_metric = dataclasses.replace(report.metrics[name], value=0.9, b_pass=False, b_plus_pass=False)
    worse = dataclasses.replace(report, metrics={**report.metrics, name: worse_metric}, b_share=0.5)
    decision = decide(worse, report)
    assert decision.verdict == "FAIL"
    assert decision.regressed_b_metrics == (name,)
    assert not decision.checks["B_pass_count_not_below_authority"]
    gini = report.metrics["gini_outlets_per_merchant"]
    dense = dataclasses.replace(gini, value=(gini.value or 0.0) + 0.02)
    concentrated = dataclasses.replace(report, metrics={**report.metrics, gini.name: dense})
    assert not decide(concentrated, report).checks["concentration_not_materially_worse_than_authority"]


def test_without_evidence_no_verdict_is_made() -> None:
    """A user's own catalogue: metrics that outlets give are shown, the decision is not_applicable."""
    report = graded({"outlet_catalogue": datasets()["outlet_catalogue"]})
    assert decide(report).verdict == "not_applicable"
    assert report.metrics["single_site_share"].value == pytest.approx(0.37)
    assert report.metrics["phi_cv"].value is None
