"""A published run is made again from its identity: the same digests, or a name for what differs."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from lane_cases import Certified, copied, linked

from seg1b.errors import InputError
from seg1b.lanes import perf
from seg1b.lanes.stored_run import witnesses_of
from seg1b.lanes.witness import witness
from seg1b.policy.load import default_policies, set_values
from seg1b.states.plan import BY_NAME
from seg1b.store.store import Store
from seg1b.world.content import World


@pytest.fixture
def run_id(small: Certified) -> str:
    """The run of seed 7: the seed that certify itself does not make twice."""
    return str(next(entry["run_id"] for entry in small.result.certificate["seeds"] if entry["seed"] == 7))


def test_a_run_made_again_is_the_same(
    small: Certified, run_id: str, tmp_path: Path, real_world: World
) -> None:
    """Every state's tables and documents; the witness has times of a run that reused nothing of its seed."""
    root = linked(small.root, tmp_path / "runs")
    with Store.open(root) as store:
        before = set((root / "objects").glob("*/*"))
        found = witness(store, small.policies, real_world, run_id)
        assert found.same
        assert (found.of, found.seed) == (run_id, 7)
        assert set((root / "objects").glob("*/*")) == before
        receipt = store.receipts.load(found.run_id)
        assert dict(receipt.keys) == dict(store.receipts.load(run_id).keys)
        assert receipt.lineage["same"] is True
        assert [name for name, _ in witnesses_of(store, run_id)] == [found.run_id]
        check = perf.check(store, small.policies, found.run_id)
        made = {row.stage for row in check.stages if row.seconds is not None}
        assert made >= {"CAT", "S0c", "S3", "S4", "S5", "S6", "S7", "S8", "S9", "S4.allocate", "S9.replay"}
        assert not [item for item in store.retention.plan().live if item.kind == "lease"]


def test_a_changed_output_is_found_by_name(
    small: Certified, run_id: str, tmp_path: Path, real_world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Code that puts out something else under its old revision: what keys cannot see."""
    root = linked(small.root, tmp_path / "runs")
    monkeypatch.setattr("seg1b.lanes.seed_tasks._joined_diagnostics", lambda *_: b"[]")
    with Store.open(root) as store:
        found = witness(store, small.policies, real_world, run_id)
        assert not found.same
        assert [(one.state, one.name) for one in found.differences] == [("S4", "diagnostics.json")]
        assert store.receipts.load(found.run_id).lineage["differences"] == ["S4 diagnostics.json"]
        closing = witnesses_of(store, run_id)
        assert [lineage["same"] for _, lineage in closing] == [False]


def test_other_policies_or_code_cannot_witness(
    small: Certified, run_id: str, tmp_path: Path, real_world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Named: the file, or the state whose code is newer; nothing is published."""
    root = linked(small.root, tmp_path / "runs")
    with Store.open(root) as store:
        before = store.receipts.run_ids()
        with pytest.raises(InputError, match="E_WITNESS_IDENTITY") as error:
            witness(store, default_policies(), real_world, run_id)
        assert "policy/catalogue.synthesis.yaml" in error.value.message
        changed = set_values(small.policies, {"s6.max_attempts": 65})
        with pytest.raises(InputError) as error:
            witness(store, changed, real_world, run_id)
        assert "policy/s6.jitter.yaml; so S6, S7, S8, S9 would differ" in error.value.message
        newer = tuple(dataclasses.replace(s, revision=99) if s.name == "S8" else s for s in BY_NAME.values())
        monkeypatch.setattr("seg1b.states.plan.STATES", newer)
        monkeypatch.setattr("seg1b.lanes.witness.STATES", newer)
        with pytest.raises(InputError, match="the code of S8"):
            witness(store, small.policies, real_world, run_id)
        assert store.receipts.run_ids() == before


def test_a_pruned_run_cannot_be_witnessed(
    small: Certified, run_id: str, tmp_path: Path, real_world: World
) -> None:
    """By the states that are gone."""
    root = copied(small.root, tmp_path / "runs")
    with Store.open(root) as store:
        key = store.receipts.load(run_id).keys["s4"]
        store.layout.object("s4", key).rename(tmp_path / "gone")
    with Store.open(root) as store, pytest.raises(InputError, match=r"E_WITNESS_PRUNED.*S4"):
        witness(store, small.policies, real_world, run_id)
