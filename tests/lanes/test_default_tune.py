"""The fast lane on the default workload: one knob of S6, one threshold, another seed's run as the reference."""

from __future__ import annotations

from pathlib import Path

import pytest
from lane_cases import Certified, linked

from seg1b.kernels import replay_assignment
from seg1b.lanes import waves, world_stage
from seg1b.lanes.certify import Certification
from seg1b.lanes.stored_run import load_run
from seg1b.lanes.tune import tune
from seg1b.lanes.tune_result import TuneResult
from seg1b.policy.load import default_policies
from seg1b.scoring import evidence
from seg1b.states import s2_weights
from seg1b.states.s9_draws import Redraw
from seg1b.store.store import Store
from seg1b.world.content import World
from seg1b.world.weights import TileWeights

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


def test_what_a_jitter_knob_does_not_concern_is_neither_read_nor_made_again(
    root: Path, real_world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second candidate maps the world, replays no plan and places nothing as the first engine did; a new plan is
    replayed. Pruning takes the image, which no run names, and the next candidate makes it again, to the last byte.
    """

    def sigma(value: float, knob: str = "s6.cluster_v3.core_sd_tile") -> TuneResult:
        with Store.open(root) as store:
            found = tune(store, default_policies(), real_world, seed=42, overrides={knob: value})
            waves.drop(store)
            return found

    def image() -> bytes:
        (path,) = root.glob("objects/s2m/*/image.bin")
        return path.read_bytes()

    sigma(0.16)
    first = image()
    with monkeypatch.context() as patch:
        for owner, name in (
            (s2_weights, "load_weights"), (world_stage, "landmarks"), (Redraw, "plan"),
            (replay_assignment, "replay_assignment"), (TileWeights, "pieces"), (evidence, "old_placement"),
        ):  # fmt: skip
            patch.setattr(owner, name, lambda *_, what=name: pytest.fail(f"{what} was called"))
        found = sigma(0.17)
        assert found.reran == ("S6", "S7", "S8", "S9")
        assert found.standing.status == "GREEN_B"
        with pytest.raises(pytest.fail.Exception, match="pieces was called"):
            sigma(7, "s4.two_stage.sites_per_area")
    with Store.open(root) as store:
        assert "s2m" in {item.state for item in store.retention.prune(dry_run=False).collectable}
    assert not list(root.glob("objects/s2m/*"))
    sigma(0.18)
    assert image() == first
