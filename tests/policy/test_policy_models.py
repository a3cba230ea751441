"""The shipped policy files, their models, and what each cross-field check refuses."""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from seg1b.errors import InputError
from seg1b.policy.base import exact_fraction
from seg1b.policy.gates import CORE_METRICS, COUNTER_METRICS
from seg1b.policy.load import POLICY_FILES, default_policies, knobs, parse_value, set_values


def test_the_hard_gates_are_those_of_the_plan() -> None:
    """Names, order, operators and thresholds, written out once more by hand."""
    gates = default_policies().gates
    found = {name: (gate.op, gate.b, gate.b_plus) for name, gate in gates.hard_gates.items()}
    assert found == {
        "country_gini": ("<=", 0.68, 0.60),
        "top10_share": ("<=", 0.50, 0.42),
        "top5_share": ("<=", 0.33, 0.27),
        "top1_share": ("<=", 0.10, 0.08),
        "eligible_country_nonzero_share": (">=", 0.85, 0.92),
        "southern_hemisphere_share": (">=", 0.12, 0.18),
        "nn_p99_p50_ratio": ("<=", 9.434384, 7.665437),
    }
    assert (gates.cv.b, gates.cv.b_plus) == (0.30, 0.20)
    assert (gates.bootstrap.replicates, gates.bootstrap.confidence) == (2000, 0.95)
    assert gates.bootstrap.metrics == ("country_gini", "top10_share", "top5_share", "top1_share")


def test_the_neighbour_gates_are_20_and_35_per_cent_below_the_baseline() -> None:
    """Exactly, as decimals."""
    gates = default_policies().gates
    baseline = exact_fraction(gates.baseline.metrics["nn_p99_p50_ratio"])
    gate = gates.hard_gates["nn_p99_p50_ratio"]
    assert exact_fraction(gate.b) == baseline * Fraction(4, 5)
    assert exact_fraction(gate.b_plus) == baseline * Fraction(13, 20)


def test_the_baseline_fails_every_b_gate() -> None:
    """The published baseline is what the gates were made against."""
    gates = default_policies().gates
    for name in CORE_METRICS:
        gate, value = gates.hard_gates[name], gates.baseline.metrics[name]
        assert value > gate.b if gate.op == "<=" else value < gate.b


def test_the_counter_metrics_are_those_of_the_plan() -> None:
    """Every counter-metric has its band, the floors and the sentinel their numbers."""
    gates = default_policies().gates
    assert {name: (band.min, band.max) for name, band in gates.counter_metrics.items()} == {
        "population_pit_mean": (0.47, 0.53),
        "population_pit_ks": (None, 0.05),
        "unpopulated_tile_share": (None, 0.02),
        "near_city_share_difference": (-0.03, 0.03),
        "population_correlation_1deg": (0.85, None),
        "nn_p50_km": (0.05, 1.5),
        "nn_p90_km": (None, 5.0),
        "nn_isolated_10km_share": (None, 0.05),
        "duplicate_point_share": (None, 0.01),
        "market_slope": (0.40, None),
        "country_gini_lower_bound": (0.45, None),
        "prior_kl": (None, 0.06),
        "largest_merchant_share": (None, 0.25),
    }
    assert set(COUNTER_METRICS) == set(gates.counter_metrics)
    assert gates.region_floors == {
        "Africa": 0.07, "Asia": 0.17, "Europe": 0.15,
        "North America": 0.02, "South America": 0.08, "Oceania": 0.04,
    }  # fmt: skip
    sentinel = gates.collapse_sentinel
    assert (sentinel.anisotropy_max, sentinel.linearity_max, sentinel.distinct_share_min) == (12, 0.98, 0.15)
    assert (sentinel.countries, sentinel.sites_min, sentinel.sample_sites_max) == (10, 50, 20_000)


def test_certification_seeds() -> None:
    """Four seeds, in the plan's order."""
    certification = default_policies().certification
    assert certification.seeds == (42, 7, 101, 202)
    assert certification.reproducibility_witness_seed == 42


@pytest.mark.parametrize("attribute", [file.attribute for file in POLICY_FILES])
def test_every_field_is_described_required_and_frozen(attribute: str) -> None:
    """No default is hidden in code, and nobody changes a loaded policy."""

    def walk(model: type[BaseModel]) -> None:
        for name, field in model.model_fields.items():
            assert field.description, f"{model.__name__}.{name}"
            assert field.is_required(), f"{model.__name__}.{name}"
            if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
                walk(field.annotation)

    policy = getattr(default_policies(), attribute)
    walk(type(policy))
    with pytest.raises(ValidationError, match="frozen"):
        setattr(policy, next(iter(type(policy).model_fields)), None)


@pytest.mark.parametrize(
    ("value", "exact"), [(0.1, (1, 10)), (1e-9, (1, 10**9)), (0.45, (9, 20)), (3.0, (3, 1))]
)
def test_decimals_mean_what_was_written(value: float, exact: tuple[int, int]) -> None:
    """Not the nearest binary fraction."""
    assert exact_fraction(value) == Fraction(*exact)


_DIVERSIFICATION = "s4.largest_remainder_v1.support_diversification"
BAD: list[tuple[dict[str, Any], str, str]] = [
    ({"s1.resolution_arcsec": 7}, "E_POLICY_VALUE", "does not divide 3600"),
    ({"s1.resolution_arcsec": 30.0}, "E_POLICY_VALUE", "integer"),
    ({"s1.resolution_arcsec": "30"}, "E_POLICY_VALUE", "integer"),
    ({"s1.resolution_arcsec": True}, "E_POLICY_VALUE", "integer"),
    ({"s2w.mix.area": 0.1}, "E_POLICY_MIX_SUM", "uniform 0.0 + area 0.1 + population 1.0 = 1.1"),
    ({"s2w.mix.area": -0.1, "s2w.mix.population": 1.1}, "E_POLICY_VALUE", "greater than or equal to 0"),
    ({"s2w.surface.rural_share_min": 0.9}, "E_POLICY_CAPS_ORDER", "rural_share_min (0.9)"),
    ({"s2w.dp": 16}, "E_POLICY_VALUE", "less than or equal to 15"),
    ({"s2s.limits.top1_max": 0.3}, "E_POLICY_CAPS_ORDER", "top1_max (0.3) must be at most top5_max (0.23)"),
    ({"s2s.limits.top5_max": 0.4}, "E_POLICY_CAPS_ORDER", "top5_max (0.4) must be at most top10_max"),
    ({"s2s.region_floor_margin": 2.0}, "E_POLICY_FLOOR_SUM", "times the margin 2.0 sum to 1.06"),
    ({"s2s.region_floor": {"Africa": 0.1}}, "E_POLICY_MISSING_KEY", "no floor for Asia"),
    ({"synthesis.sizes.pareto.upper": 24}, "E_POLICY_CAPS_ORDER", "lower (25) must be at most upper (24)"),
    ({"synthesis.sizes.large_share": 0.64}, "E_POLICY_MIX_SUM", "exceed 1"),
    ({"synthesis.cross_border.foreign_openness_width": 0.1}, "E_POLICY_VALUE", "must reach 1"),
    ({"s3.denylist_country_iso": ["no"]}, "E_POLICY_VALUE", "two upper-case letters"),
    ({"s3.denylist_country_iso": [False]}, "E_POLICY_VALUE", "quote a country code"),
    ({"s3.denylist_country_iso": ["NO", "NO"]}, "E_POLICY_VALUE", "listed more than once: NO"),
    ({"s3.denylist_country_iso": "NO"}, "E_POLICY_VALUE", "tuple"),
    ({"s4.guard.soft": 0.5}, "E_POLICY_CAPS_ORDER", "soft (0.5) must be at most hard (0.45)"),
    ({"s4.two_stage.dispersed_ppm": 1_000_001}, "E_POLICY_VALUE", "less than or equal to 1000000"),
    ({"s4.mode": "two_stage_psp"}, "E_POLICY_VALUE", "did you mean 'two_stage_pps'"),
    ({f"{_DIVERSIFICATION}.candidate_window_max": 3}, "E_POLICY_CAPS_ORDER", "candidate_window_max (3)"),
    ({"s6.cluster_v3.component_weights.core": 0.6}, "E_POLICY_MIX_SUM", "= 1.1"),
    ({"s6.cluster_v3.component_weights": {"core": 1.0}}, "E_POLICY_MISSING_KEY", "sparse_tail"),
    ({"s6.cluster_v3.core_sd_tile": 0.04}, "E_POLICY_VALUE", "greater than or equal to 0.05"),
    ({"s6.cluster_v3.anchor_margin": 0.5}, "E_POLICY_VALUE", "less than 0.5"),
    ({"s6.cluster_v3.anchor_population_thresholds": [1, 3, 3]}, "E_POLICY_THRESHOLD_ORDER", "must be below"),
    ({"s6.cluster_v3.anchor_population_thresholds": [1, 3]}, "E_POLICY_VALUE", "entry 3 is missing"),
    ({"s6.max_attempts": 257}, "E_POLICY_VALUE", "less than or equal to 256"),
    ({"s6.v1_manifest_fingerprint": "AB"}, "E_POLICY_VALUE", "pattern"),
    ({"s6.cluster_v3.core_sd_tile": float("nan")}, "E_POLICY_VALUE", "finite"),
    ({"gates.hard_gates.country_gini.b_plus": 0.7}, "E_POLICY_GATE_ORDER", "milder"),
    ({"gates.hard_gates.southern_hemisphere_share.b_plus": 0.1}, "E_POLICY_GATE_ORDER", "milder"),
    ({"gates.hard_gates.country_gini.op": "<"}, "E_POLICY_VALUE", "did you mean '<='"),
    ({"gates.hard_gates": {}}, "E_POLICY_MISSING_KEY", "country_gini, top10_share"),
    ({"gates.counter_metrics": {}}, "E_POLICY_MISSING_KEY", "population_pit_mean"),
    ({"gates.counter_metrics.prior_kl.max": None}, "E_POLICY_VALUE", "can never fail"),
    ({"gates.counter_metrics.nn_p50_km.min": 2.0}, "E_POLICY_GATE_ORDER", "min (2.0) must be at most max"),
    ({"gates.cv.b_plus": 0.4}, "E_POLICY_GATE_ORDER", "b_plus (0.4)"),
    ({"certification.seeds": [7, 101]}, "E_POLICY_VALUE", "must be one of the seeds (7, 101)"),
    ({"certification.seeds": [42, 42]}, "E_POLICY_VALUE", "more than once"),
    ({"certification.seeds": []}, "E_POLICY_VALUE", "at least 1"),
    ({"certification.seeds": [42, 2**64]}, "E_POLICY_VALUE", "less than"),
]  # fmt: skip


@pytest.mark.parametrize(("values", "code", "says"), BAD, ids=lambda item: str(item)[:60])
def test_a_bad_value_is_refused_with_code_place_and_reason(
    values: dict[str, Any], code: str, says: str
) -> None:
    """Each cross-field check and bound has a value that fails it."""
    with pytest.raises(InputError) as error:
        set_values(default_policies(), values)
    assert error.value.code == code
    assert says in error.value.message, error.value.message
    assert "yaml" in error.value.where
    assert error.value.next_step


def test_weights_may_change_together() -> None:
    """Two values that are wrong one at a time are right together; nothing else changes."""
    before = default_policies()
    names = ("s6.cluster_v3.component_weights.core", "s6.cluster_v3.component_weights.sparse_tail")
    after = set_values(before, dict(zip(names, (0.6, 0.1), strict=True)))
    changed = {name for name, value in knobs(after).items() if knobs(before)[name] != value}
    assert changed == set(names)
    assert after.sources["policy/s6.jitter.yaml"].overrides == names
    assert before.sources["policy/s6.jitter.yaml"].overrides == ()


@pytest.mark.parametrize(
    ("path", "hint"),
    [
        ("s6.component_weights.sparse_tail", "'s6.cluster_v3.component_weights.sparse_tail'"),
        ("s4.two_stage.sites_per_aera", "'s4.two_stage.sites_per_area'"),
        ("synthesys", "'synthesis'"),
        ("s6", ""),
        ("s6.", ""),
        ("s6.max_attempts.x", "'s6.max_attempts'"),
        ("", ""),
    ],
)
def test_an_unknown_knob_is_refused_with_a_suggestion(path: str, hint: str) -> None:
    """Also a whole file, which is no knob."""
    with pytest.raises(InputError, match="E_POLICY_UNKNOWN_KNOB") as error:
        set_values(default_policies(), {path: 1})
    assert hint in error.value.message


def test_knobs_can_be_set_to_what_they_are() -> None:
    """Every listed knob is settable, and setting it to its value changes nothing."""
    before = default_policies()
    known = knobs(before)
    assert len(known) > 150
    assert set_values(before, known) == before
    assert all(re.fullmatch(r"[a-z0-9]+(\.[A-Za-z0-9_ ]+)+", name) for name in known)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("NO", "NO"),
        ("[NO, NA]", ["NO", "NA"]),
        ("1e-9", 1e-9),
        ("8", 8),
        ("true", True),
        ("null", None),
        ("yes", "yes"),
    ],
)
def test_a_typed_value_follows_the_rules_of_the_files(text: str, value: object) -> None:
    """So `--set s3.denylist_country_iso=[NO]` means Norway."""
    found = parse_value(text)
    assert found == value
    assert type(found) is type(value)
