"""What `status` says to do next, once P1 to P3 are locked."""

from __future__ import annotations

from typing import Any

from seg1b.lanes.status import next_step

CANDIDATE, OLD = "c" * 32, "d" * 32


def found(certification: dict[str, Any] | None = None, p5: str = "open", **p4: Any) -> dict[str, Any]:
    """What `status` has found; `p4`: of its phase's entry."""
    phases = [{"phase": name, "title": name, "status": "locked"} for name in ("P0", "P1", "P2", "P3")]
    phases += [{"phase": "P4", "status": "open", **p4}, {"phase": "P5", "status": p5}]
    pointer = {"run_id": CANDIDATE, "contradicts": []}
    pointers = dict.fromkeys(("baseline_authority", "current_candidate", "last_good"), pointer)
    return {
        "phases": phases,
        "pointers": pointers,
        "certification": certification,
        "wave": None,
        "performance": {"open": {}},
        "runs": 3,
    }


def test_an_integrated_run_that_is_not_the_candidate_is_old() -> None:
    """It says nothing of the candidate, and P4 could not be locked with it."""
    integrated: dict[str, Any] = {"integrated": "GREEN_B", "artifact": "a" * 64, "blockers": []}
    assert "`seg1b integrate`" in next_step(found(**integrated, integrated_run_id=OLD))
    now = next_step(found(**integrated, integrated_run_id=CANDIDATE))
    assert f"seg1b lock P4 --run {CANDIDATE[:12]}" in now


def test_a_candidate_that_contradicts_a_lock_cannot_be_integrated() -> None:
    """So nobody is told to; a run that has what was locked can."""
    told = found()
    told["pointers"]["current_candidate"] = {"run_id": CANDIDATE, "contradicts": ["P2", "P3"]}
    said = next_step(told)
    assert "has not the policies of P2 and P3 as locked" in said
    assert "`seg1b integrate RUN`" in said


def test_a_certificate_of_other_policies_is_none() -> None:
    """P5 is locked with what P4 was locked with, once that is certified."""
    p4: dict[str, Any] = {"status": "locked", "run_id": CANDIDATE, "parameter_hash": "1" * 64}
    other = {"grade": "B+", "cert_id": "e" * 64, "parameter_hash": "2" * 64}
    for certification in (None, other, {**other, "parameter_hash": "1" * 64, "grade": "below_B"}):
        said = next_step(found(certification, **p4))
        assert f"config write DIR --run {CANDIDATE[:12]}" in said
        assert "certify --config DIR" in said
    own = {**other, "parameter_hash": "1" * 64}
    assert f"seg1b lock P5 --run {CANDIDATE[:12]}" in next_step(found(own, **p4))
    assert "seg1b verify eeeeeeeeeeee" in next_step(found(own, p5="locked", **p4))


def test_the_best_candidate_is_named_or_none() -> None:
    """Not the last one; and where nothing may be kept, that is said."""
    wave = {
        "wave_id": "wave-0001",
        "best": CANDIDATE,
        "candidates": [
            {"run_id": CANDIDATE, "status_after": "GREEN_B"},
            {"run_id": OLD, "status_after": "AMBER_NEAR_BPLUS"},
        ],
    }
    said = next_step({**found(), "wave": wave})
    assert f"wave keep {CANDIDATE[:12]}` keeps the best candidate (GREEN_B)" in said
    assert "no candidate of wave-0001 may be kept" in next_step({**found(), "wave": {**wave, "best": None}})


def test_a_finding_of_performance_comes_before_any_advice_to_tune() -> None:
    """What `tune` would refuse is not advised; what it does not forbid still is."""
    red = {"open": {"S4": {"why": "RED", "run_id": OLD, "budgets": ""}}}
    told = {**found(), "performance": red}
    told["phases"] = [{**phase, "status": "open", "title": ""} for phase in told["phases"]]
    said = next_step(told)
    assert said.startswith("S4 is RED, so tuning is refused")
    assert "seg1b perf check RUN" in said
    amber: dict[str, Any] = {
        "integrated": "AMBER_NEAR_BPLUS",
        "artifact": "a" * 64,
        "blockers": [],
        "integrated_run_id": CANDIDATE,
    }
    assert next_step({**found(**amber), "performance": red}) == said
    assert "tune --recover" in next_step(found(**amber))
    assert f"lock P4 --run {CANDIDATE[:12]}" in next_step(found(**amber, recovery_spent=True))
    assert "seg1b integrate" in next_step(found(**amber, stands_otherwise_now=True))
    green = {**amber, "integrated": "GREEN_B"}
    assert "seg1b lock P4" in next_step({**found(**green), "performance": red})
