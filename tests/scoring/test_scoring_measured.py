"""What is kept of a seed's measurement judges as the measurement itself does."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seg1b.errors import InputError
from seg1b.kernels.bca import Interval
from seg1b.policy.gates import CORE_METRICS, COUNTER_METRICS, GatesPolicy
from seg1b.policy.load import default_policies, knobs, set_values
from seg1b.scoring.gates import STRUCTURAL_CHECKS
from seg1b.scoring.measured import Measured, measuring_digest, report_from_facts
from seg1b.scoring.results import CoreScore, CounterValue, SentinelRow
from seg1b.scoring.values import Metric, known, unknown

GATES = default_policies().gates
REGIONS = ("Africa", "Asia", "Europe", "North America", "Oceania", "South America")
metrics = st.one_of(st.floats(0, 20).map(known), st.just(unknown("there are no sites")))
shares = st.floats(0, 1)
intervals = st.one_of(
    st.none(), st.builds(Interval, shares, shares, st.just("bca"), shares, shares),
    st.builds(Interval, shares, shares, st.just("percentile")),
)  # fmt: skip


@st.composite
def measurements(draw: st.DrawFn) -> Measured:
    """Any seed's numbers, computable or not."""
    values: dict[str, Metric] = {name: draw(metrics) for name in CORE_METRICS}
    core = CoreScore(
        values, draw(st.integers(0, 10**7)), 3, 4, draw(metrics), draw(metrics),
        {"q50": draw(st.one_of(st.none(), shares)), "q99": None},
        {name: draw(metrics) for name in REGIONS},
    )  # fmt: skip
    counters = tuple(
        CounterValue(name, draw(st.sampled_from([None, "placement"])), draw(metrics))
        for name in COUNTER_METRICS
    )
    names = (*CORE_METRICS, *(f"region_share.{region}" for region in REGIONS))
    sentinel = (SentinelRow("FR", 100, 100, draw(st.sampled_from(["ok", "collapsed"])), 2.5, 0.7, 0.9, 0.9),)
    violations = {name: draw(st.one_of(st.none(), st.integers(0, 3))) for name in STRUCTURAL_CHECKS}
    return Measured(42, 1, core, counters, {name: draw(intervals) for name in names}, sentinel, violations)


@given(measurements())
def test_it_comes_back_from_json_to_the_last_bit(measured: Measured) -> None:
    """And its verdicts with it."""
    assert measured.finite()
    again = Measured.from_json(json.loads(json.dumps(measured.to_json())))
    assert again == measured
    judged = again.judged(GATES)
    assert judged.facts() == measured.judged(GATES).facts()
    assert report_from_facts(json.loads(json.dumps(judged.facts()))) == judged.report


def test_an_interval_without_an_end_is_not_kept() -> None:
    """JSON has no infinity, and a guess would be another verdict."""
    core = CoreScore({}, 0, 0, 0, unknown("x"), unknown("x"), {}, {})
    measured = Measured(42, 1, core, (), {"a": Interval(0.0, math.inf, "bca")}, (), {})
    assert not measured.finite()


def flipped() -> list[Any]:
    """Every knob of the gates that can be changed alone, with a value that its file accepts."""
    found = []
    for knob, value in knobs(default_policies()).items():
        if not knob.startswith("gates."):
            continue
        number = isinstance(value, float | int)
        for other in (
            [value * 0.99, value * 1.01, value + 1, value + 50] if number else [1.0, ["country_gini"]]
        ):
            try:
                gates = set_values(default_policies(), {knob: other}).gates
            except InputError:
                continue
            if gates != GATES:
                found.append(pytest.param(knob, gates, id=knob))
                break
    return found


def test_most_knobs_can_be_flipped() -> None:
    """All but operators and regions, which the file allows one value of, or none beside the others."""
    assert len(flipped()) >= 60


@pytest.mark.parametrize(("knob", "gates"), flipped())
def test_a_knob_of_the_gates_decides_numbers_or_verdicts(knob: str, gates: GatesPolicy) -> None:
    """Resampling, definitions and the sentinel are measured with; every other knob only judges."""
    measures = knob.split(".")[1] in ("bootstrap", "counter_metric_parameters", "collapse_sentinel")
    judges = knob in ("gates.bootstrap.metrics", "gates.counter_metric_parameters.nn_p50_scaling_sites")
    assert (measuring_digest(gates) != measuring_digest(GATES)) == (measures and not judges)
