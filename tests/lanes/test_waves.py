"""Two candidates a wave; one is kept or all are dropped; the ledger remembers everything."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from tune_cases import AMBER, LOSING, candidate, contents, opened, tried

from seg1b.errors import InputError, VetoError
from seg1b.lanes import perf, waves
from seg1b.lanes.recovery import attempts_of
from seg1b.lanes.status import status
from seg1b.lanes.stored_run import load_run
from seg1b.world.content import World

pytestmark = pytest.mark.usefixtures("quick")
MILD = {"gates.hard_gates.top1_share.b": 0.295}
"""A gate moves and nothing is lost."""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One store for all: the reference is made once."""
    return tmp_path_factory.mktemp("waves") / "runs"


def test_a_third_candidate_is_refused_until_the_wave_is_closed(root: Path, real_world: World) -> None:
    """The refusal names both, changes nothing, and is over when the wave is dropped."""
    one = candidate(root, real_world, MILD)
    two = candidate(root, real_world, AMBER)
    assert two.wave is not None
    assert [c["run_id"] for c in two.wave["candidates"]] == [one.run_id, two.run_id]
    before = contents(root)
    with pytest.raises(InputError, match="E_WAVE_FULL") as caught:
        candidate(root, real_world, {"gates.hard_gates.top1_share.b": 0.296})
    assert one.run_id[:12] in caught.value.message
    assert two.run_id[:12] in caught.value.message
    assert caught.value.where == str(root / "waves" / f"{two.wave['wave_id']}.json")
    assert contents(root) == before
    with opened(root) as store:
        waves.drop(store)
    third = tried(root, real_world, {"gates.hard_gates.top1_share.b": 0.296})
    assert third.wave is not None
    assert third.wave["wave_id"] != two.wave["wave_id"]


def test_the_kinds_of_the_ledger_are_those_that_lanes_write() -> None:
    """`seg1b ledger --kind` knows every one, and no other."""
    package, written = Path(waves.__file__).parents[1], set()
    for path in (*package.glob("lanes/*.py"), *package.glob("store/*.py")):
        written |= set(re.findall(r'(?:\bnote\(\s*(?:store,\s*)?|"event": )"(\w+)"', path.read_text()))
    assert written == set(waves.KINDS)
    assert len(waves.KINDS) == len(written)


def test_the_same_candidate_again_counts_once(root: Path, real_world: World) -> None:
    """Also in a full wave: it is found, not tried a third time."""
    one, two = candidate(root, real_world, MILD), candidate(root, real_world, AMBER)
    before = contents(root)
    again = tried(root, real_world, MILD)
    assert again.run_id == one.run_id != two.run_id
    assert again.gates == one.gates
    assert contents(root).keys() == before.keys()


def test_keeping_moves_the_candidate_and_lets_the_other_go(root: Path, real_world: World) -> None:
    """Pruning spares both while the wave is open; afterwards only the one that was kept."""
    one = candidate(root, real_world, {"s6.cluster_v3.core_sd_tile": 0.3})
    two = candidate(root, real_world, {"s6.cluster_v3.core_sd_tile": 0.31})
    with opened(root) as store:
        keys = [load_run(store, run.run_id).keys["S8"] for run in (one, two)]
        reference = one.against.keys["S8"]
        store.retention.prune(dry_run=False)
        assert all(store.has("s8", key) for key in (*keys, reference))
        with pytest.raises(InputError, match="E_WAVE_CANDIDATE"):
            waves.keep(store)
        with pytest.raises(InputError, match="E_WAVE_CANDIDATE"):
            waves.keep(store, "0123456789")
        closed = waves.keep(store, two.run_id[:8])
        assert closed["kept"] == two.run_id
        assert store.pointers.get("current_candidate") == two.run_id
        store.retention.prune(dry_run=False)
        assert [store.has("s8", key) for key in (*keys, reference)] == [False, True, False]
        kinds = [entry["kind"] for entry in store.ledger.entries() if entry["kind"] != "pruned"][-3:]
        assert kinds == ["candidate", "candidate", "wave_closed"]
        with pytest.raises(InputError, match="E_WAVE_NONE"):
            waves.keep(store)
        with pytest.raises(InputError, match="E_WAVE_NONE"):
            waves.drop(store)


def test_a_vetoed_candidate_cannot_be_kept(root: Path, real_world: World) -> None:
    """The wave stays open; the message says what was lost."""
    found = candidate(root, real_world, LOSING)
    assert found.vetoed
    with opened(root) as store:
        pointer = store.pointers.get("current_candidate")
        with pytest.raises(VetoError, match=r"E_WAVE_VETOED.*top1_share"):
            waves.keep(store)
        assert store.pointers.get("current_candidate") == pointer
        assert waves.open_wave(store) is not None
        waves.drop(store)


def test_the_ledger_says_the_effect_on_every_gate_that_moved(root: Path, real_world: World) -> None:
    """Before, after, verdict; and what was set."""
    found = tried(root, real_world, {"s6.component_weights.sparse_tail": 0.04})
    with opened(root) as store:
        entry = [e for e in store.ledger.entries() if e["kind"] == "candidate"][-1]
    moved = {c.name: [c.before, c.after, c.verdict] for c in found.gates if c.verdict != "same"}
    assert moved
    assert entry["gates"] == moved
    assert entry["run_id"] == found.run_id
    assert "sparse_tail 0.2 -> 0.04" in entry["settings"]
    assert "holds" not in entry


def test_a_state_that_is_red_forbids_candidates_unless_it_is_waived(root: Path, real_world: World) -> None:
    """The reason goes to the ledger, which is read whichever lane wrote it."""
    with opened(root) as store:
        found_red = {"S4": {"why": perf.RED, "run_id": "ab" * 16, "budgets": "cd" * 32}}
        store.performance.write(perf.CHECK, {"run_id": "ab" * 16, "open": found_red})
    before = contents(root)
    with pytest.raises(InputError, match=r"E_PERF_RED: S4"):
        candidate(root, real_world, MILD)
    assert contents(root) == before
    found = tried(root, real_world, MILD, waive_perf="the disk is borrowed")
    assert found.changed == ("S9",)
    with opened(root) as store:
        store.performance.remove(perf.CHECK)
        waived = [entry for entry in waves.history(store) if entry["kind"] == "perf_waived_for_tune"]
        assert attempts_of(store) == 0
    assert [(bool(entry["at"]), entry["reason"]) for entry in waived] == [(True, "the disk is borrowed")]


def test_status_names_the_best_candidate_and_none_that_is_vetoed(root: Path, real_world: World) -> None:
    """The nearest to B+, whichever came last; a wave of vetoed candidates is only to be dropped."""
    better, worse = candidate(root, real_world, MILD), candidate(root, real_world, AMBER)
    assert better.standing.rank < worse.standing.rank
    with opened(root) as store:
        told = status(store)
        assert told["wave"]["best"] == better.run_id
        assert f"seg1b wave keep {better.run_id[:12]}" in told["next"]
        waves.drop(store)
    candidate(root, real_world, LOSING)
    with opened(root) as store:
        told = status(store)
        assert (told["wave"]["best"], told["wave"]["candidates"][0]["vetoed"]) == (None, True)
        assert "seg1b wave keep" not in told["next"]
        waves.drop(store)


def test_a_refused_tuning_leaves_no_waiver_in_the_ledger(root: Path, real_world: World) -> None:
    """The waiver counts once nothing else refuses."""
    with opened(root) as store:
        finding = {"S4": {"why": perf.RED, "run_id": "ab" * 16, "budgets": "cd" * 32}}
        store.performance.write(perf.CHECK, {"run_id": "ab" * 16, "open": finding})
    before = contents(root)
    with pytest.raises(InputError, match="E_RECOVERY_STATUS"):
        candidate(root, real_world, MILD, waive_perf="in a hurry", recover=True)
    assert contents(root) == before
    with opened(root) as store:
        assert status(store)["performance"]["open"] == finding
        store.performance.remove(perf.CHECK)
