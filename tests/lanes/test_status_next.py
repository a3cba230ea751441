"""What `status` says to do next, once P1 to P3 are locked."""

from __future__ import annotations

from typing import Any

from seg1b.lanes.status import next_step

CANDIDATE, OLD = "c" * 32, "d" * 32


def found(certification: dict[str, Any] | None = None, p5: str = "open", **p4: Any) -> dict[str, Any]:
    """What `status` has found; `p4`: of its phase's entry."""
    phases = [{"phase": name, "title": name, "status": "locked"} for name in ("P0", "P1", "P2", "P3")]
    phases += [{"phase": "P4", "status": "open", **p4}, {"phase": "P5", "status": p5}]
    pointer = {"run_id": CANDIDATE}
    pointers = dict.fromkeys(("baseline_authority", "current_candidate", "last_good"), pointer)
    return {
        "phases": phases,
        "pointers": pointers,
        "certification": certification,
        "wave": None,
        "runs": 3,
    }


def test_an_integrated_run_that_is_not_the_candidate_is_old() -> None:
    """It says nothing of the candidate, and P4 could not be locked with it."""
    integrated: dict[str, Any] = {"integrated": "GREEN_B", "artifact": "a" * 64, "blockers": []}
    assert "`seg1b integrate`" in next_step(found(**integrated, integrated_run_id=OLD))
    now = next_step(found(**integrated, integrated_run_id=CANDIDATE))
    assert f"seg1b lock P4 --run {CANDIDATE[:12]}" in now


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
