"""The fast lane on the default workload: one knob of S6, one threshold, another seed's run as the reference."""

from __future__ import annotations

from pathlib import Path

import pytest
from lane_cases import Certified, linked

from seg1b.lanes import waves
from seg1b.lanes.certify import Certification
from seg1b.lanes.stored_run import load_run
from seg1b.lanes.tune import tune
from seg1b.policy.load import default_policies
from seg1b.store.store import Store
from seg1b.world.content import World

pytestmark = pytest.mark.end_to_end


@pytest.fixture(scope="module")
def root(default_certification: Certified, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The store of the default certification."""
    return linked(default_certification.root, tmp_path_factory.mktemp("default_tune") / "runs")


def test_one_weight_less_tail_keeps_b_plus(root: Path, real_world: World) -> None:
    """Against the last good run, which is read; 128,000 sites move inside their tiles, the neighbour tail shrinks."""
    with Store.open(root) as store:
        found = tune(
            store, default_policies(), real_world, seed=42, overrides={"s6.component_weights.sparse_tail": 0.01},
            against="last_good",
        )  # fmt: skip
        waves.drop(store)
        assert found.against.run_id == store.pointers.get("last_good")
    assert found.reran == ("S6", "S7", "S8", "S9")
    assert found.found == ()
    statuses = (found.standing_before.status, found.standing.status)
    assert (statuses, found.vetoed) == (("GREEN_B", "GREEN_B"), False)
    verdicts = {change.name: change.verdict for change in found.gates}
    assert verdicts["nn_p99_p50_ratio"] == "better"
    assert verdicts["country_gini"] == verdicts["prior_kl"] == "same"


def test_a_threshold_runs_nothing_and_another_seed_finds_its_own_run(
    root: Path, real_world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last good run is of seed 42; seed 7 was certified with it."""
    monkeypatch.setattr(Certification, "run", lambda _: pytest.fail("a threshold ran the chain"))
    with Store.open(root) as store:
        found = tune(
            store,
            default_policies(),
            real_world,
            seed=7,
            overrides={"gates.top1_share.b": 0.09},
            against="last_good",
        )
        waves.drop(store)
        assert found.against.run_id is not None
        assert load_run(store, found.against.run_id).seed == 7
    assert found.reran == ("S9",)
    assert {change.verdict for change in found.gates} == {"same"}


def test_resampling_measures_again_but_replays_nothing(
    root: Path, real_world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the published coordinates and the stored world: only the intervals move, and what they rest on is equal."""
    monkeypatch.setattr(Certification, "run", lambda _: pytest.fail("resampling ran the chain"))
    with Store.open(root) as store:
        found = tune(
            store, default_policies(), real_world, seed=101, overrides={"gates.bootstrap.replicates": 500},
            against="last_good",
        )  # fmt: skip
        waves.drop(store)
    assert found.reran == ("S9",)
    moved = {change.name.split(".")[0] for change in found.gates if change.before != change.after}
    assert moved == {"bootstrap_upper"}
    for part in ("core", "counter_metrics", "collapse_sentinel"):
        assert found.after.facts[part] == found.before.facts[part]
