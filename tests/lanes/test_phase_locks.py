"""A locked phase stays as it was accepted, until somebody reopens it with evidence."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from lane_cases import one_seed
from tune_cases import LOSING, candidate, contents, kept, opened, tried

from seg1b.errors import InputError, VetoError
from seg1b.lanes import baseline, phase_locks, waves
from seg1b.lanes.certify import certify
from seg1b.lanes.integrate import integrate
from seg1b.lanes.lock_phase import lock_phase
from seg1b.lanes.phase_locks import LOCKABLE, PHASES, phase_named, reopen
from seg1b.lanes.seed_tasks import witness_digests
from seg1b.lanes.status import status
from seg1b.policy.load import set_values
from seg1b.store.store import Store
from seg1b.world.content import World

pytestmark = pytest.mark.usefixtures("quick")
WIDER = {"s6.cluster_v3.core_sd_tile": 0.3}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One store for all."""
    return tmp_path_factory.mktemp("locks") / "runs"


@pytest.fixture
def locked_p3(root: Path, real_world: World, tmp_path: Path) -> str:
    """The run that P3 is locked with."""
    run_id = kept(root, real_world, WIDER)
    with opened(root) as store:
        if "P3" in phase_locks.locked(store):
            reopen(store, phase_named("P3"), run_id, "the fixture")
        lock_phase(store, phase_named("P3"), run_id, real_world)
    return run_id


def test_a_lock_records_policies_metrics_and_a_witness(root: Path, real_world: World, locked_p3: str) -> None:
    """The witness was made a second time, and agrees with what S9 proved."""
    with opened(root) as store:
        record = phase_locks.locked(store)["P3"]
        digests = store.read_json("s9", store.receipts.load(locked_p3).keys["s9"], "validation/MANIFEST.json")
    assert record["run_id"] == locked_p3
    assert list(record["policy_digests"]) == ["policy/s6.jitter.yaml"]
    assert record["knobs"]["s6.cluster_v3.core_sd_tile"] == 0.3
    assert all(knob.startswith("s6.") for knob in record["knobs"])
    assert set(record["metrics"]) >= {"country_gini", "nn_p99_p50_ratio"}
    assert record["witness"]["site_locations"] == digests["inputs"]["site_locations"]
    assert len(record["witness"]) == 4


def test_other_policies_for_a_locked_phase_are_refused(root: Path, real_world: World, locked_p3: str) -> None:
    """By tune and by certify, with the record in the message; nothing changes. Other phases' knobs are free."""
    before = contents(root)
    with pytest.raises(InputError, match="E_PHASE_LOCKED") as caught:
        candidate(root, real_world, {"s6.cluster_v3.core_sd_tile": 0.31})
    assert locked_p3[:12] in caught.value.message
    assert "s6.cluster_v3.core_sd_tile is 0.31, locked at 0.3" in caught.value.message
    with opened(root) as store, pytest.raises(InputError, match="E_PHASE_LOCKED"):
        certify(store, one_seed(), real_world)
    assert contents(root) == before
    policies = set_values(one_seed(), WIDER)
    found = tried(root, real_world, {"s4.two_stage.sites_per_area": 4}, policies=policies)
    assert found.changed[0] == "S4"


def test_what_is_worse_than_the_lock_is_a_veto(root: Path, real_world: World, locked_p3: str) -> None:
    """The no-regression rows stand among the gates, with the lock's metric as their limit."""
    policies = set_values(one_seed(), WIDER)
    found = tried(root, real_world, {"s4.two_stage.sites_per_area": 4}, policies=policies)
    rows = {
        c.name.removeprefix("no_regression."): c for c in found.gates if c.name.startswith("no_regression.")
    }
    assert len(rows) == 7
    nearest = rows["nn_p99_p50_ratio"]
    assert nearest.before is not None
    assert nearest.after is not None
    assert (nearest.verdict == "veto") == (nearest.after > nearest.before + 1e-9)
    assert rows["country_gini"].verdict == "same"
    back = tried(root, real_world, {"s4.two_stage.sites_per_area": 16}, policies=policies)
    ratios = {one.after.metrics["nn_p99_p50_ratio"] for one in (found, back)}
    assert len({*ratios, nearest.before}) == 3
    assert found.vetoed or back.vetoed or max(r for r in ratios if r) <= nearest.before


def test_reopening_needs_evidence_and_an_approver_and_is_remembered(
    root: Path, real_world: World, locked_p3: str, tmp_path: Path
) -> None:
    """The ledger keeps the lock as it was, the evidence's digest, and the name."""
    evidence = tmp_path / "scorecard.json"
    evidence.write_text("{}")
    with opened(root) as store:
        before = contents(root)
        for proof, who, code in (
            ("nothing", "Ada", "E_REOPEN_EVIDENCE"), (str(evidence), "  ", "E_REOPEN_APPROVAL"),
        ):  # fmt: skip
            with pytest.raises(InputError, match=code):
                reopen(store, phase_named("P3"), proof, who)
        with pytest.raises(InputError, match="E_PHASE_NOT_LOCKED"):
            reopen(store, phase_named("P2"), str(evidence), "Ada")
        assert contents(root) == before
        record = phase_locks.locked(store)["P3"]
        reopen(store, phase_named("p3"), str(evidence), "Ada")
        assert phase_locks.locked(store) == {}
        entry = store.ledger.entries()[-1]
    assert entry["kind"] == "reopened"
    assert entry["lock"] == record
    assert entry["approved_by"] == "Ada"
    assert entry["evidence"]["sha256"] == "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
    assert tried(root, real_world, {"s6.cluster_v3.core_sd_tile": 0.31}).changed[0] == "S6"


def integrated(store: Store, run_id: str, status: str) -> None:
    """P4's record, as an integrated run of this status leaves it."""
    record = {
        "phase": "P4",
        "status": status,
        "run_id": run_id,
        "artifact": "a" * 64,
        "blockers": ["a gate"],
        "at": "",
    }
    store.phases.write("P4", record)


def test_p4_closes_with_the_run_that_was_judged_as_a_whole(
    root: Path, real_world: World, locked_p3: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not without, not with another's judgement, not if it is RED; and that is said before it is made again."""
    monkeypatch.setattr("seg1b.lanes.lock_phase.witness", lambda *_: pytest.fail("made again for nothing"))
    with opened(root) as store:
        if store.phases.find("P4") is not None:
            store.phases.remove("P4")
        for status, of in ((None, ""), ("GREEN_B", "f" * 32), ("RED_REOPEN_REQUIRED", locked_p3)):
            if status is not None:
                integrated(store, of, status)
            with pytest.raises(InputError, match="E_LOCK_NOT_INTEGRATED") as caught:
                lock_phase(store, phase_named("P4"), locked_p3, real_world)
            assert "seg1b integrate" in caught.value.next_step
        assert "P4" not in phase_locks.locked(store)


def test_p5_closes_with_a_run_that_was_certified(
    root: Path, real_world: World, locked_p3: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With its own world, policies and gates, at B or better."""
    with opened(root) as store:
        identity = dict(store.receipts.load(locked_p3).identity)
        wrong = [
            [],
            [{"identity": identity, "grade": "below_B"}],
            [{"identity": {**identity, "parameter_hash": "0" * 64}, "grade": "B+"}],
            [{"identity": {**identity, "gates_hash": "0" * 64}, "grade": "B+"}],
        ]
        for documents in wrong:
            monkeypatch.setattr(phase_locks, "_certificates", lambda _, found=documents: found)
            with pytest.raises(InputError, match="E_LOCK_NOT_CERTIFIED") as caught:
                lock_phase(store, phase_named("P5"), locked_p3, real_world)
            assert "seg1b certify" in caught.value.next_step
        right = [*wrong[1], {"identity": identity, "grade": "B"}]
        monkeypatch.setattr(phase_locks, "_certificates", lambda _: right)
        lock_phase(store, phase_named("P5"), locked_p3, real_world)
        reopen(store, phase_named("P5"), locked_p3, "Ada")


def test_a_lock_that_covers_another_comes_off_first(root: Path, real_world: World, locked_p3: str) -> None:
    """P4 freezes every generation policy; it cannot be locked twice, or with a run that contradicts P3."""
    with opened(root) as store:
        with pytest.raises(InputError, match=r"E_PHASE_LOCKED.*already"):
            lock_phase(store, phase_named("P3"), locked_p3, real_world)
        integrated(store, locked_p3, "AMBER_NEAR_BPLUS")
        lock_phase(store, phase_named("P4"), locked_p3, real_world)
        with pytest.raises(InputError, match=r"E_PHASE_COVERED.*P4"):
            reopen(store, phase_named("P3"), locked_p3, "Ada")
        with pytest.raises(InputError, match=r"E_PHASE_LOCKED.*P4.*sites_per_area"):
            phase_locks.require_unlocked(
                store, set_values(one_seed(), {**WIDER, "s4.two_stage.sites_per_area": 4})
            )
        phase_locks.require_unlocked(store, set_values(one_seed(), {**WIDER, "gates.cv.b_plus": 0.1}))
        reopen(store, phase_named("P4"), locked_p3, "Ada")
        reopen(store, phase_named("P3"), locked_p3, "Ada")


def test_a_run_that_comes_out_otherwise_cannot_lock(
    root: Path, real_world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No lock is written; the ledger says which tables differ."""
    run_id = kept(root, real_world, WIDER)

    def changed(*arguments: Any) -> dict[str, str]:
        """As if the code had changed without a new revision."""
        return {**witness_digests(*arguments), "site_locations": "0" * 64}

    monkeypatch.setattr("seg1b.lanes.lock_phase.witness_digests", changed)
    with opened(root) as store:
        with pytest.raises(VetoError, match=r"E_LOCK_WITNESS.*site_locations"):
            lock_phase(store, phase_named("P2"), run_id, real_world)
        assert "P2" not in phase_locks.locked(store)
        assert store.ledger.entries()[-1]["tables"] == ["site_locations"]


def test_a_certified_run_that_is_worse_than_the_lock_does_not_become_the_last_good(
    root: Path, real_world: World, locked_p3: str
) -> None:
    """The reason is the metric; equal to the lock is no regression."""
    with opened(root) as store:
        record = phase_locks.locked(store)["P3"]
        metrics = {**record["metrics"], "nn_p99_p50_ratio": record["metrics"]["nn_p99_p50_ratio"] * 0.9}
        store.phase_locks.write("P3", {**record, "metrics": metrics})
        reasons = baseline.certified(store, locked_p3, {})
        assert [reason.split(":")[0] for reason in reasons] == ["no_regression.nn_p99_p50_ratio"]
        assert store.pointers.get("last_good") is None
        store.phase_locks.write("P3", record)
        assert baseline.certified(store, locked_p3, {"grade": "B"}) == ()
        assert store.pointers.read("last_good") == {"grade": "B", "run_id": locked_p3}
        store.pointers.remove("last_good")


@pytest.mark.parametrize("name", ["P0", "P6", "S4", ""])
def test_a_phase_that_cannot_be_locked(name: str) -> None:
    """The message lists those that can."""
    with pytest.raises(InputError, match=r"E_PHASE_UNKNOWN.*(?s:.)*P1 "):
        phase_named(name)


def test_each_phase_freezes_at_least_what_its_states_are_made_by() -> None:
    """P1 to P3 their own files, P4 all that generate, P5 the gates too."""
    frozen = {phase.name: set(phase.prefixes) for phase in PHASES}
    assert frozen["P1"] == {"s1", "s2w", "s2s"}
    assert frozen["P2"] == {"s4"}
    assert frozen["P3"] == {"s6"}
    assert frozen["P1"] | frozen["P2"] | frozen["P3"] < frozen["P4"] < frozen["P5"]
    assert frozen["P5"] - frozen["P4"] == {"gates", "certification"}
    assert LOCKABLE == ("P1", "P2", "P3", "P4", "P5")


@pytest.fixture
def raised_bar(root: Path, locked_p3: str) -> Iterator[str]:
    """P3's lock asks for a better neighbour tail than its own run has; the run."""
    with opened(root) as store:
        record = phase_locks.locked(store)["P3"]
        metrics = {**record["metrics"], "nn_p99_p50_ratio": record["metrics"]["nn_p99_p50_ratio"] * 0.9}
        store.phase_locks.write("P3", {**record, "metrics": metrics})
    yield locked_p3
    with opened(root) as store:
        store.phase_locks.write("P3", record)


LOST = "no_regression.nn_p99_p50_ratio"


def test_a_regression_against_a_lock_is_a_veto_wherever_one_asks(
    root: Path, real_world: World, raised_bar: str
) -> None:
    """Tuning, keeping, promoting, locking, integrating, last good and status: one run, one status."""
    policies = set_values(one_seed(), WIDER)
    found = candidate(root, real_world, {"gates.hard_gates.top1_share.b": 0.295}, policies=policies)
    assert found.vetoed
    assert found.lost == found.standing.lost_to_locks == (LOST,)  # its reference has lost it as well
    assert next(change for change in found.gates if change.name == LOST).verdict == "veto"
    assert found.standing.status == "RED_REOPEN_REQUIRED"
    with opened(root) as store:
        with pytest.raises(VetoError, match=f"E_WAVE_VETOED.*{LOST}"):
            waves.keep(store, found.run_id)
        assert status(store)["wave"]["best"] is None
        waves.drop(store)
        with pytest.raises(VetoError, match=f"E_PROMOTE_VETO.*{LOST}.* is not <= "):
            baseline.promote(store, raised_bar)
        with pytest.raises(VetoError, match=f"E_LOCK_VETO.*{LOST}"):
            lock_phase(store, phase_named("P2"), raised_bar, real_world)
        told = integrate(store, policies, raised_bar)
        assert (told["status"], told["blockers"][0]["name"]) == ("RED_REOPEN_REQUIRED", LOST)
        assert (told["reopen"][0]["phase"], told["reopen"][0]["action"]) == ("P3", "reopen")
        store.pointers.set("last_good", raised_bar)
        assert baseline.last_good(store)["status"] == "RED_REOPEN_REQUIRED"
        assert status(store)["pointers"]["last_good"]["status"] == "RED_REOPEN_REQUIRED"
        store.pointers.remove("last_good")


def test_a_candidate_that_the_locks_forbid_by_now_cannot_be_kept(
    root: Path, real_world: World, locked_p3: str
) -> None:
    """It was fine when it was tried."""
    policies = set_values(one_seed(), WIDER)
    found = candidate(root, real_world, {"gates.hard_gates.top1_share.b": 0.294}, policies=policies)
    assert not found.vetoed
    with opened(root) as store:
        record = phase_locks.locked(store)["P3"]
        metrics = {**record["metrics"], "country_gini": record["metrics"]["country_gini"] - 0.01}
        store.phase_locks.write("P3", {**record, "metrics": metrics})
        with pytest.raises(VetoError, match=r"E_WAVE_VETOED.*no_regression\.country_gini"):
            waves.keep(store)
        store.phase_locks.write("P3", record)
        waves.keep(store)


def test_a_candidate_that_contradicts_a_lock_cannot_be_kept(
    root: Path, real_world: World, locked_p3: str
) -> None:
    """Locked after it was tried: it is refused as everywhere, and `status` says so of whatever points to it."""
    with opened(root) as store:
        reopen(store, phase_named("P3"), locked_p3, "Ada")
    found = candidate(root, real_world, {"s6.cluster_v3.core_sd_tile": 0.32})
    with opened(root) as store:
        lock_phase(store, phase_named("P3"), locked_p3, real_world)
        shown = status(store)["wave"]
        assert shown["best"] is None
        assert shown["candidates"][0]["lost"] == ["the lock of P3"]
        with pytest.raises(InputError, match=r"E_PHASE_LOCKED.*P3.*core_sd_tile"):
            waves.keep(store)
        before = store.pointers.get("current_candidate")
        store.pointers.set("current_candidate", found.run_id)
        pointer = status(store)["pointers"]["current_candidate"]
        assert (pointer["contradicts"], pointer["status"]) == (["P3"], "RED_REOPEN_REQUIRED")
        assert not pointer["gates_are_the_packaged_ones"]
        store.pointers.set("current_candidate", str(before))
        waves.drop(store)


def test_a_run_brings_no_tolerance_of_its_own(root: Path, real_world: World, locked_p3: str) -> None:
    """What a lock allows to be worse is what it was locked with."""
    policies = set_values(one_seed(), WIDER)
    with opened(root) as store:
        record = phase_locks.locked(store)["P3"]
        assert record["no_regression_tolerance"] == policies.gates.no_regression_tolerance
        metrics = {**record["metrics"], "country_gini": record["metrics"]["country_gini"] - 5e-4}
        store.phase_locks.write("P3", {**record, "metrics": metrics})
    found = tried(root, real_world, {"gates.no_regression_tolerance": 1e-3}, policies=policies)
    assert found.standing.lost_to_locks == ("no_regression.country_gini",)
    with opened(root) as store:
        store.phase_locks.write("P3", record)


def test_what_is_judged_while_p4_is_locked_leaves_its_record(
    root: Path, real_world: World, locked_p3: str
) -> None:
    """The scorecard is published, and can be evidence; P4 stays what it was locked with."""
    policies = set_values(one_seed(), WIDER)
    other = tried(root, real_world, LOSING, policies=policies).run_id
    with opened(root) as store:
        integrated(store, locked_p3, "GREEN_B")
        lock_phase(store, phase_named("P4"), locked_p3, real_world)
        told = integrate(store, policies, other)
        assert told["status"] == "RED_REOPEN_REQUIRED"
        assert store.ledger.entries()[-1]["run_id"] == other
        phase = status(store)["phases"][4]
        assert (phase["run_id"], phase["integrated"], phase["integrated_run_id"]) == (
            locked_p3,
            "GREEN_B",
            locked_p3,
        )
        reopen(store, phase_named("P4"), told["artifact"], "Ada")
        assert status(store)["phases"][4]["run_id"] == locked_p3


def test_locks_of_another_world_hold_nobody_to_anything(
    root: Path, real_world: World, locked_p3: str
) -> None:
    """They are an error, and no comparison."""
    with opened(root) as store:
        record = phase_locks.locked(store)["P3"]
        store.phase_locks.write("P3", {**record, "world_digest": "0" * 64})
        with pytest.raises(InputError, match=r"E_LOCK_WORLD.*P3"):
            baseline.promote(store, locked_p3)
        with pytest.raises(InputError, match=r"E_LOCK_WORLD.*P3"):
            integrate(store, one_seed(), locked_p3)
        store.phase_locks.write("P3", record)


def test_a_reopened_p4_is_no_green_one(root: Path, real_world: World, locked_p3: str) -> None:
    """`status` says so, and it is locked again only with a run that was judged since."""
    with opened(root) as store:
        integrated(store, locked_p3, "GREEN_B")
        lock_phase(store, phase_named("P4"), locked_p3, real_world)
        reopen(store, phase_named("P4"), locked_p3, "Ada")
        told = {phase["phase"]: phase for phase in status(store)["phases"]}
        assert told["P4"]["status"] == "reopened"
        assert "integrated" not in told["P4"]
        with pytest.raises(InputError, match=r"E_LOCK_NOT_INTEGRATED.*was not judged"):
            lock_phase(store, phase_named("P4"), locked_p3, real_world)
