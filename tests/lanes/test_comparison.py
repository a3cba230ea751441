"""Better, worse, same, veto: what a person is told of each gate."""

from __future__ import annotations

import pytest

from seg1b.lanes.comparison import compare, lost_gates, reruns
from seg1b.policy.load import default_policies, policy_digests, set_values
from seg1b.scoring.gates import GateReport, GateRow, counter_row, gate_row
from seg1b.scoring.results import CounterValue
from seg1b.scoring.values import Metric, known, unknown
from seg1b.states.plan import keys_for, world_externals

GINI = default_policies().gates.hard_gates["country_gini"]
COVERAGE = default_policies().gates.hard_gates["eligible_country_nonzero_share"]
NOTHING = unknown("there are no sites")


def gate(metric: Metric, *, upper: bool = True) -> GateReport:
    """A report of one hard gate: at most .68, or at least .85."""
    row: GateRow = gate_row(
        "country_gini" if upper else "eligible_country_nonzero_share", metric, GINI if upper else COVERAGE
    )
    return GateReport((row,), ())


def counter(metric: Metric, low: float | None, high: float | None) -> GateReport:
    """A report of one counter-metric."""
    return GateReport((), (counter_row(CounterValue("x", "placement", metric), low, high),))


@pytest.mark.parametrize(
    ("before", "after", "upper", "verdict"),
    [
        (known(0.6), known(0.5), True, "better"),
        (known(0.5), known(0.6), True, "worse"),
        (known(0.5), known(0.5), True, "same"),
        (known(0.6), known(0.7), True, "veto"),
        (known(0.7), known(0.75), True, "worse"),
        (known(0.75), known(0.7), True, "better"),
        (known(0.9), known(0.95), False, "better"),
        (known(0.95), known(0.9), False, "worse"),
        (known(0.9), known(0.8), False, "veto"),
        (known(0.5), NOTHING, True, "veto"),
        (NOTHING, known(0.5), True, "same"),
        (NOTHING, NOTHING, True, "same"),
    ],
)
def test_the_verdict_of_a_gate(before: Metric, after: Metric, upper: bool, verdict: str) -> None:
    """Only what held can be lost; a metric that vanishes is lost."""
    (change,) = compare(gate(before, upper=upper), gate(after, upper=upper))
    assert change.verdict == verdict
    assert (change.before, change.after) == (before.value, after.value)
    assert lost_gates(gate(before, upper=upper), gate(after, upper=upper)) == (
        (change.name,) if change.lost else ()
    )


@pytest.mark.parametrize(
    ("b_plus", "verdict", "reach"), [(0.6, "same", "B+"), (0.54, "worse", "B"), (0.5, "worse", "B")]
)
def test_a_grade_lost_to_a_stricter_threshold_is_worse(b_plus: float, verdict: str, reach: str) -> None:
    """The number is the same and so is its margin to B; what it reaches is not. Back again is better."""
    value = known(0.55)
    stricter = GINI.model_copy(update={"b_plus": b_plus})
    there = GateReport((gate_row("country_gini", value, stricter),), ())
    (change,) = compare(gate(value), there)
    assert (change.verdict, change.reach_before, change.reach) == (verdict, "B+", reach)
    (back,) = compare(there, gate(value))
    assert (back.verdict, back.reach_before, back.reach) == (
        "better" if verdict == "worse" else "same",
        reach,
        "B+",
    )


def milder(value: float, **thresholds: float) -> GateReport:
    """The Gini judged by other thresholds."""
    return GateReport((gate_row("country_gini", known(value), GINI.model_copy(update=thresholds)),), ())


def test_a_milder_threshold_excuses_nothing() -> None:
    """What held is lost though the candidate's own gate holds; a milder gate alone loses nothing, nor does one that
    the reference did not meet either.
    """
    (change,) = compare(gate(known(0.6)), milder(0.7, b=0.9, b_plus=0.85))
    assert (change.verdict, change.reach, change.held_to) == ("veto", "B+", GINI.b)
    assert lost_gates(gate(known(0.6)), milder(0.7, b=0.9)) == ("country_gini",)
    (same,) = compare(gate(known(0.6)), milder(0.6, b=0.9, b_plus=0.85))
    assert (same.verdict, same.held_to) == ("same", None)
    assert lost_gates(gate(known(0.7)), milder(0.71, b=0.9)) == ()
    for value in (0.3, 0.6):
        (band,) = compare(counter(known(0.5), 0.4, 0.55), counter(known(value), 0.1, 0.9))
        assert (band.verdict, band.held_to) == ("veto", 0.4 if value < 0.5 else 0.55)


def test_what_is_judged_no_more_is_lost() -> None:
    """If it held; by its old thresholds and without a value."""
    (gini,) = compare(gate(known(0.6)), GateReport((), ()))
    assert (gini.name, gini.before, gini.after, gini.verdict) == ("country_gini", 0.6, None, "veto")
    (band,) = compare(counter(known(0.5), 0.4, None), GateReport((), ()))
    assert (band.name, band.after, band.verdict) == ("x@placement", None, "veto")
    assert lost_gates(gate(known(0.7)), GateReport((), ())) == ()


def test_the_bound_of_the_neighbours_median_is_that_of_the_candidates_sites() -> None:
    """A hundred times the sites stand ten times as near; nobody else's bound is scaled."""

    def median(name: str, value: float, low: float) -> GateReport:
        return GateReport((), (counter_row(CounterValue(name, None, known(value)), low, None),))

    for name, lost in (("nn_p50_km", ()), ("nn_p90_km", ("nn_p90_km",))):
        before, after = median(name, 0.1, 0.05), median(name, 0.01, 0.005)
        assert lost_gates(before, after, neighbours_scale=0.1) == lost
        assert lost_gates(before, after) == (name,)


def test_a_grade_won_counts_more_than_the_margin() -> None:
    """A milder threshold makes a worse number pass; a gate that was not there before is the same."""
    milder = GINI.model_copy(update={"b": 0.8})
    (change,) = compare(gate(known(0.7)), GateReport((gate_row("country_gini", known(0.71), milder),), ()))
    assert (change.verdict, change.reach_before, change.reach) == ("better", "below_B", "B")
    (new,) = compare(GateReport((), ()), gate(known(0.5)))
    assert (new.verdict, new.reach_before, new.reach) == ("same", "", "B+")


@pytest.mark.parametrize(
    ("before", "after", "low", "high", "verdict", "op", "bound"),
    [
        (0.50, 0.52, 0.47, 0.53, "worse", "<=", 0.53),
        (0.52, 0.50, 0.47, 0.53, "better", "<=", 0.53),
        (0.50, 0.48, 0.47, 0.53, "worse", ">=", 0.47),
        (0.50, 0.54, 0.47, 0.53, "veto", "<=", 0.53),
        (0.30, 0.20, None, 0.25, "better", "<=", 0.25),
        (0.50, 0.45, 0.40, None, "worse", ">=", 0.40),
        (0.50, 0.35, 0.40, None, "veto", ">=", 0.40),
    ],
)
def test_a_counter_metric_is_judged_by_its_nearer_bound(
    before: float, after: float, low: float | None, high: float | None, verdict: str, op: str, bound: float
) -> None:
    """Its op and bound say in one comparison whether it holds."""
    (change,) = compare(counter(known(before), low, high), counter(known(after), low, high))
    assert (change.name, change.verdict, change.op, change.b, change.b_plus) == (
        "x@placement",
        verdict,
        op,
        bound,
        bound,
    )
    assert change.band == (low, high)
    assert change.margin is not None
    assert (change.margin >= 0) == (after <= bound if op == "<=" else after >= bound) == (verdict != "veto")


def test_a_rerun_names_the_knob_the_input_or_what_comes_from_outside() -> None:
    """S9 alone changes with a knob that only the parameter hash feels."""
    policies = default_policies()
    externals = {**world_externals("a" * 64, "told"), "catalogue": "b" * 64}

    def told(overrides: dict[str, float], catalogue: str = "b") -> dict[str, tuple[str, ...]]:
        changed = set_values(policies, overrides)
        after = keys_for(changed, {**externals, "catalogue": catalogue * 64}, 42)
        knob_changes = {name: (None, value) for name, value in overrides.items()}
        found = reruns(
            keys_for(policies, externals, 42), after, changed, policy_digests(policies), knob_changes
        )
        return {reason.state: reason.because for reason in found}

    assert told({}) == {}
    assert told({"gates.cv.b": 0.29}) == {"S9": ("gates.cv.b None -> 0.29",)}
    assert told({}, catalogue="c")["S0c"] == ("another catalogue",)
    assert told({}, catalogue="c")["S3"] == ("its input S0c",)
    assert told({"synthesis.merchants": 999})["S9"] == ("the hash of all policies, which its bundle states",)
