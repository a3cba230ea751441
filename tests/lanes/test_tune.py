"""The fast lane runs what a knob concerns, says what it did to every gate, and never certifies."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import pytest
from faulty_filesystem import UnsyncedFileSystem
from lane_cases import one_seed

from seg1b.errors import InputError
from seg1b.lanes.tune import TuneResult, compare, tune
from seg1b.store.store import Store
from seg1b.world.content import World

pytestmark = pytest.mark.usefixtures("quick")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One store for all: the reference is made once."""
    return tmp_path_factory.mktemp("tune") / "runs"


def run(root: Path, world: World, overrides: dict[str, Any]) -> TuneResult:
    """Tune seed 42."""
    with Store.open(root, fs=UnsyncedFileSystem()) as store:
        return tune(store, one_seed(), world, seed=42, overrides=overrides)


def test_a_jitter_knob_runs_from_s6_on_and_moves_no_country(root: Path, real_world: World) -> None:
    """Country metrics are the same to the last bit; distances are not; nothing is certified."""
    found = run(root, real_world, {"s6.cluster_v3.core_sd_tile": 0.3})
    assert found.reran == ("S6", "S7", "S8", "S9")
    assert set(found.reused) >= {"S1", "S3", "S4", "S5", "CAT", "S0c"}
    verdicts = {change.name: change.verdict for change in found.gates}
    assert verdicts["country_gini"] == verdicts["top1_share"] == "same"
    assert verdicts["nn_p99_p50_ratio"] in ("better", "worse")
    row = next(change for change in found.gates if change.name == "nn_p99_p50_ratio")
    assert row.before is not None
    assert row.after is not None
    assert (row.verdict == "better") == (row.after < row.before)
    assert found.before.status == found.after.status
    assert not found.vetoed
    assert not (root / "certifications").exists()
    assert not list((root / "pointers").glob("*"))


def test_the_run_leaves_a_receipt_with_what_was_changed(root: Path, real_world: World) -> None:
    """The lane, the knobs, the keys."""
    found = run(root, real_world, {"s6.cluster_v3.core_sd_tile": 0.3})
    with Store.open(root) as store:
        receipt = store.receipts.load(found.run_id)
    assert receipt.lineage == {"lane": "tune", "overrides": {"s6.cluster_v3.core_sd_tile": "0.3"}}
    assert set(receipt.keys) >= {"s6", "s9"}


def test_an_allocation_knob_runs_from_s4_on(root: Path, real_world: World) -> None:
    """And changes where sites stand, but not how many."""
    found = run(root, real_world, {"s4.two_stage.sites_per_area": 4})
    assert found.reran == ("S4", "S5", "S6", "S7", "S8", "S9")
    assert next(c for c in found.gates if c.name == "country_gini").verdict == "same"


def test_a_stricter_gate_runs_s9_alone_and_is_a_veto_when_it_is_lost(root: Path, real_world: World) -> None:
    """The metric stays; what held does not hold any more."""
    found = run(
        root, real_world, {"gates.hard_gates.top1_share.b": 0.01, "gates.hard_gates.top1_share.b_plus": 0.01}
    )
    assert found.reran == ("S9",)
    lost = {change.name for change in found.gates if change.verdict == "veto"}
    assert lost == {"top1_share", "bootstrap_upper.top1_share"}
    assert found.vetoed
    row = next(change for change in found.gates if change.name == "top1_share")
    assert row.before == row.after


def test_a_lost_counter_metric_is_a_veto_too(root: Path, real_world: World) -> None:
    """By its own name."""
    found = run(root, real_world, {"gates.counter_metrics.market_slope.min": 5.0})
    assert {change.name for change in found.gates if change.verdict == "veto"} == {"market_slope"}


def test_nothing_changed_is_the_same_everywhere(root: Path, real_world: World) -> None:
    """The reference against itself."""
    found = run(root, real_world, {"s6.cluster_v3.core_sd_tile": 0.15})
    assert found.reran == ()
    assert {change.verdict for change in found.gates} == {"same"}
    assert found.before.report == found.after.report


def test_a_gate_that_was_not_judged_before_is_no_veto(root: Path, real_world: World) -> None:
    """Only what held can be lost."""
    found = run(root, real_world, {"s6.cluster_v3.core_sd_tile": 0.15})
    before = dataclasses.replace(found.before, report=dataclasses.replace(found.before.report, gates=()))
    changes = compare(before, found.after)
    assert all(change.verdict == "same" for change in changes)
    assert all(change.before is None for change in changes if change.op != "in")


@pytest.mark.parametrize(
    ("overrides", "code"),
    [({"s6.core_sd": 0.2}, "E_POLICY_UNKNOWN_KNOB"), ({"s6.cluster_v3.core_sd_tile": 9.0}, "E_POLICY")],
)
def test_a_bad_knob_is_refused_before_anything_runs(
    tmp_path: Path, real_world: World, overrides: dict[str, Any], code: str
) -> None:
    """No object, no receipt."""
    with pytest.raises(InputError, match=code):
        run(tmp_path / "runs", real_world, overrides)
    assert not list((tmp_path / "runs").glob("objects/*/*"))
    shutil.rmtree(tmp_path / "runs")
