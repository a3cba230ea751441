"""The 1A guard: metrics by hand, bands, grade, negative controls, comparison with an authority."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from catalogue_cases import collapse, small_synthesis
from resealing import with_column
from scipy.stats import spearmanr

from seg1b.catalogue.guard import GuardMeasurement, GuardReport, as_json, grade, measure
from seg1b.catalogue.guard_authority import (
    CHECKS,
    TRUTHS,
    GuardAuthority,
    authority_from,
    authority_of,
    decide,
    read_authority,
)
from seg1b.catalogue.guard_evidence import EVIDENCE, GUARD_COLUMNS, Evidence, evidence_of
from seg1b.catalogue.guard_values import MerchantOutlets, metric_values, spearman
from seg1b.catalogue.site_sequence import follows
from seg1b.catalogue.synthesise import Synthesis
from seg1b.catalogue.tables import (
    REQUIRED_OUTPUTS,
    Lineage,
    evidence_tables,
    outlet_rows,
    site_sequence_rows,
)
from seg1b.errors import InputError
from seg1b.policy.gates import Band
from seg1b.policy.guard import GUARD_METRICS, holds
from seg1b.policy.load import default_policies, set_values
from seg1b.store.plain import plain

POLICY = default_policies().guard
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
    some = pa.table({"x": pa.array([1], pa.int64())})
    countries = ["DE", "US", "FR", "NA", "KE", "US", "BR"]
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
                "country_iso": countries,
                "is_home": [True, False, True, False, False, False, False],
            }
        ),
        "s6_membership": pa.table(
            {"merchant_id": pa.array([2, 2], pa.uint64()), "country_iso": ["KE", "NA"]}
        ),
        "nb_dispersion": pa.table(
            {"merchant_id": pa.array([1, 2], pa.uint64()), "dispersion_k": [8.0, 12.0]}
        ),
        **dict.fromkeys(REQUIRED_OUTPUTS, some),
        "merchant_abort_log": some.slice(0, 0),
        "s3_integerised_counts": pa.table(
            {
                "merchant_id": pa.array([1, 2, 2, 2], pa.uint64()),
                "country_iso": ["DE", "FR", "NA", "KE"],
                "count": pa.array([1, 2, 1, 0], pa.int32()),
            }
        ),
        "s3_site_sequence": pa.table(
            {
                "merchant_id": pa.array([1, 2, 2, 2], pa.uint64()),
                "country_iso": ["DE", "FR", "FR", "NA"],
                "site_order": pa.array([1, 1, 2, 1], pa.int32()),
                "site_id": ["000001", "000001", "000002", "000001"],
            }
        ),
    }


def graded(tables: dict[str, pa.Table]) -> GuardReport:
    """The guard's report on datasets in memory."""
    return grade(measured(tables), POLICY)


def measured(tables: dict[str, pa.Table]) -> GuardMeasurement:
    """The guard's values on datasets in memory."""
    runs = collapse(*(tables[name] for name in ("outlet_catalogue",) if name in tables))
    sequence = tables.get("s3_site_sequence")
    return measure(
        runs,
        {name: tables[name].select(columns) for name, columns in GUARD_COLUMNS.items() if name in tables},
        {name: table.num_rows for name, table in tables.items()},
        sequence_follows=sequence is not None and follows(runs, sequence.to_batches()),
        plain=set(tables) == {"outlet_catalogue"},
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
    band = Band(min=0.25, max=0.45)
    assert [holds(band, v) for v in (0.25, 0.45, 0.2499, 0.4501, float("nan"), None)] == [True, True] + [
        False
    ] * 4


def test_bands_that_are_not_nested_are_named() -> None:
    """D-74: three B+ bands reach outside B; a value there passes B+ without B."""
    loose = {name for name, bands in POLICY.bands.items() if not bands.nested}
    assert loose == {"single_site_share", "phi_cv", "phi_p95_p05_ratio"}
    report = graded(by_hand())
    assert report.b_plus_without_b == ("single_site_share",)
    assert as_json(report)["metrics"]["phi_cv"]["bands_nested"] is False


@pytest.mark.parametrize("name", ["candidates", "members"])
def test_evidence_is_joined_by_merchant(name: str) -> None:
    """Negative control: giving merchants each other's candidates or memberships destroys the correlation."""
    tables = datasets()
    runs = collapse(tables["outlet_catalogue"])
    rows = {dataset: table.num_rows for dataset, table in tables.items()}
    evidence, outlets = evidence_of(runs, tables, rows, sequence_follows=True), MerchantOutlets.of(runs)

    def correlation(found: Evidence) -> float:
        return metric_values(outlets, found)["candidate_membership_correlation"] or 0.0

    assert correlation(evidence) > 0.45
    shuffled: dict[str, Any] = {name: np.random.default_rng(0).permutation(getattr(evidence, name))}
    assert abs(correlation(dataclasses.replace(evidence, **shuffled))) < 0.3


def by_merchant(table: pa.Table, change: dict[int, int]) -> pa.Table:
    """A table in which some merchants have another number."""
    merchants = [change.get(m, m) for m in table.column("merchant_id").to_pylist()]
    return with_column(table, "merchant_id", merchants)


def twice(table: pa.Table) -> pa.Table:
    """Every row twice."""
    return pa.concat_tables([table, table])


def where(table: pa.Table, keep: Callable[[dict[str, Any]], bool]) -> pa.Table:
    """Some of the rows."""
    return table.filter(pa.array([keep(row) for row in table.to_pylist()], pa.bool_()))


def to_country(row: int, code: str) -> Callable[[pa.Table], pa.Table]:
    """Another country in one row."""

    def change(table: pa.Table) -> pa.Table:
        codes = table.column("country_iso").to_pylist()
        return with_column(table, "country_iso", [*codes[:row], code, *codes[row + 1 :]])

    return change


CANDIDATES = ("candidate_count_median", "candidate_membership_correlation", "realization_ratio_median")
MEMBERS, PHI, OUTPUTS = CANDIDATES[1:], ("phi_cv", "phi_p95_p05_ratio"), ("required_outputs_present",)


@pytest.mark.parametrize(
    ("dataset", "change", "lost", "why"),
    [
        ("s3_candidate_set", twice, CANDIDATES, "7 rows whose key another row has"),
        ("s3_candidate_set", lambda t: t.slice(0, 0), CANDIDATES, "lacks 1 of 1 merchants with more than one"),
        ("s3_candidate_set", lambda t: t.slice(0, 2), CANDIDATES, "lacks 1 of 1 merchants with more than one"),
        ("s3_candidate_set", lambda t: by_merchant(t, {1: 9}), CANDIDATES, "2 rows of merchants that are not"),
        ("s3_candidate_set", to_country(1, "usa"), CANDIDATES, "1 rows without a country code"),
        ("s3_candidate_set", to_country(0, "BR"), CANDIDATES, "are not the homes"),
        ("s3_candidate_set", lambda t: t.slice(1), CANDIDATES, "are not the homes"),
        ("s3_candidate_set", lambda t: where(t, lambda r: r["country_iso"] != "NA"), CANDIDATES,
         "lacks 1 of 1 foreign pairs"),
        ("s6_membership", twice, MEMBERS, "2 rows whose key another row has"),
        ("s6_membership", lambda t: t.slice(0, 0), MEMBERS, "lacks 1 of 1 foreign pairs"),
        ("s6_membership", lambda t: by_merchant(t, {2: 3}), MEMBERS, "2 rows of merchants that are not"),
        ("s6_membership", to_country(0, "AU"), MEMBERS, "1 of 2 rows of s6_membership are no foreign candidates"),
        ("s6_membership", to_country(0, "FR"), MEMBERS, "1 of 2 rows of s6_membership are no foreign candidates"),
        ("nb_dispersion", twice, PHI, "2 rows whose key another row has"),
        ("nb_dispersion", lambda t: t.slice(0, 1), PHI, "lacks 1 of 1 merchants with more than one"),
        ("nb_dispersion", lambda t: t.slice(0, 0), PHI, "lacks 1 of 1 merchants with more than one"),
        ("nb_dispersion", lambda t: by_merchant(t, {1: 9}), PHI, "1 rows of merchants that are not"),
        ("nb_dispersion", lambda t: with_column(t, "dispersion_k", [8.0, np.nan]), PHI, "no positive numbers"),
        ("nb_dispersion", lambda t: with_column(t, "dispersion_k", [8.0, -1.0]), PHI, "no positive numbers"),
        ("nb_dispersion", lambda t: with_column(t, "dispersion_k", [8.0, None]), PHI, "has missing values"),
        ("s3_integerised_counts", twice, OUTPUTS, "4 rows whose key another row has"),
        ("s3_integerised_counts", lambda t: t.slice(0, 0), OUTPUTS, "no rows in s3_integerised_counts"),
        ("s3_integerised_counts", lambda t: t.slice(1), OUTPUTS, "are not those of the catalogue's pairs"),
        ("s3_integerised_counts", lambda t: with_column(t, "count", [1, 1, 2, 0]), OUTPUTS, "are not those of"),
        ("s3_integerised_counts", lambda t: with_column(t, "count", [1, 2, 1, 1]), OUTPUTS, "are not those of"),
        ("s3_integerised_counts", lambda t: with_column(t, "count", [1, 2, 1, -1]), OUTPUTS, "negative counts"),
        ("s3_site_sequence", lambda t: t.slice(0, 0), OUTPUTS, "no rows in s3_site_sequence"),
        ("s3_site_sequence", lambda t: t.slice(0, 3), OUTPUTS, "does not number the catalogue's outlets"),
        ("s3_site_sequence", twice, OUTPUTS, "does not number the catalogue's outlets"),
        ("s3_site_sequence", to_country(1, "DE"), OUTPUTS, "does not number the catalogue's outlets"),
        ("s3_site_sequence", lambda t: by_merchant(t, {1: 2}), OUTPUTS, "does not number the catalogue's outlets"),
        ("s3_site_sequence", lambda t: with_column(t, "site_id", ["000001"] * 4), OUTPUTS, "does not number"),
        ("s3_site_sequence", lambda t: with_column(t, "site_order", [1] * 4), OUTPUTS, "does not number"),
        ("sparse_flag", lambda t: t.slice(0, 0), OUTPUTS, "no rows in sparse_flag"),
        ("hurdle_stationarity_tests", lambda t: t.slice(0, 0), OUTPUTS, "no rows in hurdle_stationarity_tests"),
    ],
)  # fmt: skip
def test_partial_evidence_is_none(
    dataset: str, change: Callable[[pa.Table], pa.Table], lost: tuple[str, ...], why: str
) -> None:
    """What it would give is not computable, for a reason in words, and the catalogue is below B."""
    tables = by_hand()
    whole = values(graded(tables))
    report = graded({**tables, dataset: change(tables[dataset])})
    assert {name for name, value in values(report).items() if value != whole[name]} == set(lost)
    assert all(report.metrics[name].value is None for name in lost)
    assert why in (report.metrics[lost[-1]].reason or "")
    assert why in (report.reason or "")
    assert report.grade == "below_B"


def test_dispersions_of_the_merchants_with_more_than_one_outlet_are_enough() -> None:
    """The engine draws no size for the others; all of them or none, and a foreign one never."""
    tables = datasets()
    table, outlets = tables["nb_dispersion"], tables["outlet_catalogue"].column("merchant_id").to_pylist()
    multi = where(table, lambda row: outlets.count(row["merchant_id"]) > 1)
    assert 0 < multi.num_rows < table.num_rows
    assert graded({**tables, "nb_dispersion": multi}).complete
    single = where(table, lambda row: outlets.count(row["merchant_id"]) == 1).slice(0, 1)
    report = graded({**tables, "nb_dispersion": pa.concat_tables([multi, single])})
    assert f"has 1 of {table.num_rows - multi.num_rows} merchants with one outlet" in (report.reason or "")


@pytest.mark.parametrize("dataset", EVIDENCE)
def test_missing_evidence_is_below_b(dataset: str) -> None:
    """However many metrics are left: no check holds, with or without an authority, and it freezes nothing."""
    tables = datasets()
    authority = authority_from(graded(tables), "whole")
    report = graded({name: table for name, table in tables.items() if name != dataset})
    assert (report.status, report.grade, report.complete) == ("graded", "below_B", False)
    assert f"the bundle has no {dataset}" in (report.reason or "")
    for against in (None, authority):
        decision = decide(report, POLICY, against)
        assert decision.verdict == "FAIL"
        assert not any(decision.checks.values())
    with pytest.raises(InputError, match="E_GUARD_AUTHORITY") as error:
        authority_from(report, "stripped")
    assert dataset in error.value.message


def test_a_stripped_bundle_fails() -> None:
    """Without any evidence it owes it all the same."""
    report = graded({name: table for name, table in datasets().items() if name not in EVIDENCE})
    assert (report.status, report.grade) == ("graded", "below_B")
    assert decide(report, POLICY).verdict == "FAIL"


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


@pytest.fixture(scope="module")
def honest() -> GuardReport:
    """A synthesis as it should be."""
    return graded(datasets())


def changed(report: GuardReport, name: str, value: float | None) -> GuardReport:
    """The report of a catalogue that differs in one value."""
    values = {n: metric.value for n, metric in report.metrics.items()} | {name: value}
    return grade(GuardMeasurement(values, "taken out", True, report.realised_ratio_median), POLICY)


def frozen(report: GuardReport) -> GuardAuthority:
    """The report as the authority."""
    return authority_from(report, "test")


def failed(candidate: GuardReport, authority: GuardAuthority) -> set[str]:
    """Names of the checks that do not hold."""
    decision = decide(candidate, POLICY, authority)
    assert tuple(decision.checks) == CHECKS
    lost = {name for name, held in decision.checks.items() if not held}
    assert decision.verdict == ("FAIL" if lost else "PASS")
    return lost


def test_a_catalogue_passes_against_itself(honest: GuardReport) -> None:
    """All five checks hold."""
    assert honest.eligible_b
    assert failed(honest, frozen(honest)) == set()


def test_each_rule_fails_for_its_own_reason(honest: GuardReport) -> None:
    """One value at a time, and the check that was made for it."""
    authority = frozen(honest)
    spread = changed(honest, "multi_country_legal_spread", 0.9)
    assert failed(spread, authority) == {CHECKS[2], CHECKS[3]}
    assert decide(spread, POLICY, authority).regressed_b_metrics == ("multi_country_legal_spread",)
    gini = honest.metrics["gini_outlets_per_merchant"].value or 0.0
    assert failed(changed(honest, "gini_outlets_per_merchant", gini + 0.02), authority) == {CHECKS[4]}
    global_sets = changed(honest, "candidate_count_median", 40.0)
    assert failed(global_sets, authority) == {CHECKS[0], CHECKS[1], CHECKS[2], CHECKS[3]}
    assert decide(global_sets, POLICY, authority).regressed_hard_gates == (
        "candidate_not_near_global_by_default",
    )
    weak = dataclasses.replace(authority, hard_gates=dict.fromkeys(authority.hard_gates, False))
    assert CHECKS[1] not in failed(global_sets, weak)


def test_the_count_may_not_fall_even_where_no_single_metric_regresses(honest: GuardReport) -> None:
    """The authority states which metrics held; a candidate that trades none of them still counts."""
    mild = changed(honest, "size_gradient_pp_top_minus_bottom", 1.0)
    flags = frozen(honest).b_pass
    other = dataclasses.replace(frozen(honest), b_pass={**flags, "size_gradient_pp_top_minus_bottom": False})
    assert failed(mild, other) == set()
    both = changed(mild, "candidate_membership_correlation", 0.1)
    assert failed(both, other) == {CHECKS[2], CHECKS[3]}


@pytest.mark.parametrize("step", [1, -1])
def test_the_tolerance_is_used(honest: GuardReport, step: int) -> None:
    """D-74: rounding at the edge of a band, or of the concentration limit, is none; more than that is a regression."""
    authority, slack = frozen(honest), POLICY.authority.tolerance_abs
    edge = POLICY.bands["home_legal_mismatch_rate"].b.max or 0.0
    outside = changed(honest, "home_legal_mismatch_rate", edge + slack * (1 + step * 0.5))
    assert outside.metrics["home_legal_mismatch_rate"].b_pass == (step == -1)
    assert (failed(outside, authority) == set()) == (step == -1)
    top = (honest.metrics["top10_outlet_share"].value or 0.0) + POLICY.authority.concentration_max_regression
    worse = changed(honest, "top10_outlet_share", top + slack * (1 + step * 0.5))
    assert (failed(worse, authority) == set()) == (step == -1)


@pytest.mark.parametrize("step", [1, -1])
def test_the_tolerance_is_used_for_grade_and_hard_gates(honest: GuardReport, step: int) -> None:
    """All of them: the four gates, both bands, and what an authority without flags says of itself."""
    slack, gates = POLICY.authority.tolerance_abs * (1 + step * 0.5), POLICY.hard_gates
    edges = {
        "single_site_share": gates.single_site_share_min - slack,
        "candidate_count_median": gates.candidate_count_median_max + slack,
        "phi_cv": gates.phi_cv_min - slack,
        "phi_p95_p05_ratio": gates.phi_p95_p05_ratio_min - slack,
        "required_outputs_present": 1.0 - slack,
    }
    for name, value in edges.items():
        found = changed(honest, name, value)
        assert all(found.hard_gates.values()) == (step == -1), name
        assert (found.grade != "below_B") == (step == -1), name
    b_plus = POLICY.bands["median_outlets_per_merchant"].b_plus.max or 0.0
    metric = changed(honest, "median_outlets_per_merchant", b_plus + slack).metrics
    assert metric["median_outlets_per_merchant"].b_plus_pass == (step == -1)
    edge = (POLICY.bands["gini_outlets_per_merchant"].b.max or 0.0) + slack
    document = {"metrics": {n: m.value for n, m in honest.metrics.items()}}
    document["metrics"]["gini_outlets_per_merchant"] = edge
    assert authority_of(document, POLICY, "x").b_pass["gini_outlets_per_merchant"] == (step == -1)


@pytest.mark.parametrize("name", GUARD_METRICS)
def test_a_value_that_is_missing_never_helps(honest: GuardReport, name: str) -> None:
    """Fail-closed: without the value the metric regresses."""
    lost = changed(honest, name, None)
    assert lost.metrics[name].reason == "not_computable: taken out"
    expected = (
        CHECKS[2] if honest.metrics[name].b_pass else CHECKS[4]
    )  # top10 of so few merchants is below its band
    assert expected in failed(lost, frozen(honest))


def test_a_measurement_survives_its_file(honest: GuardReport) -> None:
    """What S0c keeps is enough to judge again, by other bands too."""
    before = measured(datasets())
    again = GuardMeasurement.from_json(plain(before))
    assert again == before
    strict = set_values(default_policies(), {"guard.bands.phi_cv.b.max": 0.06}).guard
    assert grade(again, POLICY) == honest
    assert not grade(again, strict).metrics["phi_cv"].b_pass


# -- authority files -------------------------------------------------------------------------------------------


def engine_file(report: GuardReport) -> dict[str, Any]:
    """As the engine's certification lays it out."""
    return {
        "grade_decision": "B",
        "hard_gates": dict(report.hard_gates),
        "target_band_checks": [
            {
                "metric": name,
                "value": metric.value,
                "B_pass": metric.b_pass,
                "B_plus_pass": metric.b_plus_pass,
            }
            for name, metric in report.metrics.items()
        ],
        "surface_metrics": {"p1_representative": {"top10_outlet_share": 0.39}},
    }


def test_an_authority_survives_its_own_file(honest: GuardReport) -> None:
    """Written to the store and read again: the same digest, the same verdicts."""
    authority = frozen(honest)
    again = authority_of(authority.to_json(), POLICY, "x")
    assert again == authority
    assert again.digest == authority.digest


def test_the_engines_file_and_its_artifact_are_read(honest: GuardReport) -> None:
    """Concentration from the representative run where there is one; an artifact stands for what it judged."""
    document = engine_file(honest)
    found = authority_of(document, POLICY, "x")
    assert found.concentration["top10_outlet_share"] == 0.39
    assert (
        found.concentration["gini_outlets_per_merchant"] == honest.metrics["gini_outlets_per_merchant"].value
    )
    assert found.b_pass == {name: metric.b_pass for name, metric in honest.metrics.items()}
    assert authority_of({"candidate": document, "hard_gates": {}}, POLICY, "x") == found
    as_map = {
        **document,
        "metrics": {n: m.value for n, m in honest.metrics.items()},
        "target_band_checks": None,
    }
    del as_map["hard_gates"]
    assert authority_of(as_map, POLICY, "x").hard_gates == honest.hard_gates


def _without_metric(document: dict[str, Any]) -> None:
    document["target_band_checks"] = [r for r in document["target_band_checks"] if r["metric"] != "phi_cv"]


def _without_gate(document: dict[str, Any]) -> None:
    del document["hard_gates"]["required_outputs_emitted"]


def _without_gini(document: dict[str, Any]) -> None:
    for row in document["target_band_checks"]:
        if row["metric"] == "gini_outlets_per_merchant":
            row["value"] = None


def _word(document: dict[str, Any]) -> None:
    document["target_band_checks"][0]["value"] = "high"


def _nothing(document: dict[str, Any]) -> None:
    document.clear()


def _row(name: str, **fields: Any) -> Callable[[dict[str, Any]], None]:
    """Other fields in the row of a metric."""

    def spoil(document: dict[str, Any]) -> None:
        next(row for row in document["target_band_checks"] if row["metric"] == name).update(fields)

    return spoil


def _also(**fields: Any) -> Callable[[dict[str, Any]], None]:
    """Other fields in the document."""
    return lambda document: document.update(fields)


def _again(name: str) -> Callable[[dict[str, Any]], None]:
    """A second row of a metric, before the first."""

    def spoil(document: dict[str, Any]) -> None:
        row = next(row for row in document["target_band_checks"] if row["metric"] == name)
        document["target_band_checks"].insert(0, {**row, "value": 1.0})

    return spoil


def _as_artifact(document: dict[str, Any]) -> None:
    """A guard artifact that says FAIL of what it judged."""
    document["candidate"] = dict(document)
    document["status"] = "FAIL"


@pytest.mark.parametrize(
    ("spoil", "said"),
    [(_without_metric, "phi_cv"), (_without_gate, "required_outputs_emitted"), (_without_gini, "gini"),
     (_word, "'high'"), (_nothing, "lists no metric"),
     (_also(status="FAIL"), "status says 'FAIL'"), (_also(status="failed"), "status says"),
     (_also(grade="below_B"), "grade says 'below_B'"), (_also(grade_decision="below B"), "grade_decision says"),
     (_also(status=False), "status is no text"), (_as_artifact, "status says 'FAIL'"),
     (_row("gini_outlets_per_merchant", value=True), "gini_outlets_per_merchant is no number: True"),
     (_row("gini_outlets_per_merchant", value=50.0), "gini_outlets_per_merchant cannot be 50.0"),
     (_row("top10_outlet_share", value=-0.1), "top10_outlet_share cannot be -0.1: it is between 0 and 1"),
     (_row("candidate_membership_correlation", value=1.5), "candidate_membership_correlation cannot be 1.5"),
     (_row("phi_p95_p05_ratio", value=0.5), "phi_p95_p05_ratio cannot be 0.5: it is at least 1"),
     (_row("phi_cv", value=10**400), "phi_cv cannot be"),
     (_row("required_outputs_present", value=0.5), "required_outputs_present cannot be 0.5: it is true or false"),
     (_also(surface_metrics={"p1_representative": {"gini_outlets_per_merchant": 50.0}}),
      "p1_representative.gini_outlets_per_merchant cannot be 50.0"),
     (_also(surface_metrics={"p1_representative": {"top10_outlet_share": True}}), "no number: True"),
     (_again("gini_outlets_per_merchant"), "target_band_checks has more than one row of gini_outlets_per_merchant"),
     (_also(metrics={"gini_outlets_per_merchant": 0.9}), "target_band_checks, gini_outlets_per_merchant: value is"),
     (_row("phi_cv", VALUE=0.19), "phi_cv: value is 0.19 here"),
     (_row("phi_cv", b=False), "phi_cv says both"), (_row("phi_cv", pass_b="yes"), "pass_b of phi_cv is no truth")],
)  # fmt: skip
def test_an_authority_that_is_incomplete_failed_or_ambiguous_is_refused(
    honest: GuardReport, spoil: Callable[[dict[str, Any]], None], said: str
) -> None:
    """By the name of what is wrong: a rule without its reference, or with a loose one, would hold by default."""
    document = engine_file(honest)
    spoil(document)
    with pytest.raises(InputError, match="E_GUARD_AUTHORITY") as error:
        authority_of(document, POLICY, "a.json")
    assert said in error.value.message
    assert error.value.where == "a.json"


def test_truths_are_written_either_way(honest: GuardReport) -> None:
    """The two metrics that are true or false, as the engine writes them and as we do."""
    document = engine_file(honest)
    before = authority_of(document, POLICY, "x")
    for name in TRUTHS:
        _row(name, value=True)(document)
    assert authority_of(document, POLICY, "x") == before


def test_tables_may_repeat_each_other(honest: GuardReport) -> None:
    """The engine writes every metric into several."""
    document = engine_file(honest)
    before = authority_of(document, POLICY, "x")
    document["metrics"] = {name: metric.value for name, metric in honest.metrics.items()}
    assert authority_of(document, POLICY, "x") == before


def test_a_catalogue_below_b_freezes_nothing(honest: GuardReport) -> None:
    """Taken from a bundle, as from a file."""
    with pytest.raises(InputError, match="E_GUARD_AUTHORITY: this catalogue is below B"):
        authority_from(changed(honest, "candidate_count_median", 40.0), "x")


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"null", b"\xff", b'"PASS"', b'{"metrics": [], "grade": "B", "grade": "B"}', None],
)
def test_a_damaged_authority_is_refused(tmp_path: Path, content: bytes | None) -> None:
    """Empty, cut off, not an object, not text, not there."""
    path = tmp_path / "authority.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match="E_GUARD_AUTHORITY") as error:
        read_authority(path, POLICY)
    assert str(path) in error.value.where


def test_without_evidence_no_verdict_is_made() -> None:
    """A user's own catalogue: metrics that outlets give are shown, the decision is not_applicable."""
    report = graded({"outlet_catalogue": datasets()["outlet_catalogue"]})
    assert report.status == "not_applicable"
    assert decide(report, POLICY).verdict == "not_applicable"
    assert report.metrics["single_site_share"].value == pytest.approx(0.37)
    assert report.metrics["phi_cv"].value is None
    with pytest.raises(InputError, match="E_GUARD_AUTHORITY"):
        authority_from(report, "plain")
