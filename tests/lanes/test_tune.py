"""The fast lane runs what a knob concerns, says what it did to every gate, and never certifies."""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from lane_cases import one_seed
from tune_cases import AMBER, LOSING, candidate, contents, opened, tried

from seg1b.errors import InputError
from seg1b.lanes import baseline, seed_tasks
from seg1b.lanes.certify import Certification
from seg1b.lanes.comparison import compare
from seg1b.lanes.perf_times import timings_of
from seg1b.lanes.stored_run import load_run, named_run
from seg1b.policy.load import default_policies, gates_hash, parameter_hash, parse_value, set_values
from seg1b.states.plan import WORLD_STATES
from seg1b.store.store import Store
from seg1b.world.content import World

pytestmark = pytest.mark.usefixtures("quick")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One store for all: the reference is made once."""
    return tmp_path_factory.mktemp("tune") / "runs"


def test_a_jitter_knob_runs_from_s6_on_and_moves_no_country(root: Path, real_world: World) -> None:
    """Country metrics are the same to the last bit; distances are not; nothing is certified, no pointer moves."""
    found = tried(root, real_world, {"s6.cluster_v3.core_sd_tile": 0.3})
    assert found.reran == ("S6", "S7", "S8", "S9")
    assert set(found.reused) >= {"S1", "S3", "S4", "S5", "CAT", "S0c"}
    verdicts = {change.name: change.verdict for change in found.gates}
    assert verdicts["country_gini"] == verdicts["top1_share"] == "same"
    assert verdicts["nn_p99_p50_ratio"] in ("better", "worse")
    row = next(change for change in found.gates if change.name == "nn_p99_p50_ratio")
    assert row.before is not None
    assert row.after is not None
    assert (row.verdict == "better") == (row.after < row.before)
    assert found.standing_before.status == found.standing.status
    assert not found.vetoed
    assert not (root / "certifications").exists()
    assert not list((root / "pointers").glob("*"))


def test_it_says_which_key_changed_because_of_what(root: Path, real_world: World) -> None:
    """A state's own knobs, then the inputs whose keys changed."""
    found = tried(root, real_world, {"s6.cluster_v3.core_sd_tile": 0.3})
    because = {reason.state: reason.because for reason in found.reasons}
    assert because["S6"] == ("s6.cluster_v3.core_sd_tile 0.15 -> 0.3",)
    assert because["S7"] == ("its input S6",)
    assert because["S9"] == ("its input S6", "its input S7", "its input S8")
    assert all(reason.key_before != reason.key_after for reason in found.reasons)


def test_a_short_form_and_rescaled_weights(root: Path, real_world: World) -> None:
    """The weight of the block that is switched on; the others keep their ratio, and all sum to 1."""
    found = tried(root, real_world, {"s6.component_weights.sparse_tail": 0.04})
    changes = {c.knob.rpartition(".")[2]: (c.before, c.after, c.asked) for c in found.settings.changes}
    assert changes == {
        "core": (0.5, 0.6, False), "secondary": (0.3, 0.36, False), "sparse_tail": (0.2, 0.04, True)
    }  # fmt: skip
    assert {c.knob.rpartition(".")[0] for c in found.settings.changes} == {"s6.cluster_v3.component_weights"}


def test_the_run_leaves_a_receipt_with_what_was_changed(root: Path, real_world: World) -> None:
    """The lane, the knobs, the keys, the reference; and all knobs, from which the policies come back."""
    overrides = {"s6.cluster_v3.core_sd_tile": 0.3}
    found = tried(root, real_world, overrides)
    with Store.open(root) as store:
        run = load_run(store, found.run_id)
    assert run.receipt.lineage["lane"] == "tune"
    assert run.receipt.lineage["overrides"] == overrides
    assert run.receipt.lineage["against"] == {
        "name": "policies",
        "run_id": None,
        "s9": found.against.keys["S9"],
    }
    assert set(run.keys) >= {"S6", "S9"}
    assert run.policies() == set_values(one_seed(), overrides)


def test_times_are_telemetry_of_what_ran(root: Path, real_world: World) -> None:
    """Times per state where the chain ran; for a threshold there are none but the whole."""
    placed = tried(root, real_world, {"s6.cluster_v3.core_sd_tile": 0.32})
    judged = tried(root, real_world, {"gates.cv.b_plus": 0.11})
    with Store.open(root) as store:
        told = [store.receipts.telemetry(run.run_id) for run in (placed, judged)]
    assert set(told[0]["seeds"]["42"]["states"]) >= {"S6", "S8", "S9"}
    assert told[1]["seeds"] == {}
    with Store.open(root) as store:
        made = timings_of(store, placed.run_id).made
        assert [state for state in made if state not in WORLD_STATES] == ["S6", "S7", "S8", "S9"]
        with pytest.raises(InputError, match="E_PERF_TELEMETRY"):
            timings_of(store, judged.run_id)
    assert all(0 < one["wall_s"] <= run.wall_s for one, run in zip(told, (placed, judged), strict=True))


def test_an_allocation_knob_runs_from_s4_on(root: Path, real_world: World) -> None:
    """And changes where sites stand, but not how many."""
    found = tried(root, real_world, {"s4.two_stage.sites_per_area": 4})
    assert found.reran == ("S4", "S5", "S6", "S7", "S8", "S9")
    assert next(c for c in found.gates if c.name == "country_gini").verdict == "same"


def test_a_stricter_gate_runs_s9_alone_and_is_a_veto_when_it_is_lost(root: Path, real_world: World) -> None:
    """The metric stays; what held does not hold any more."""
    found = tried(root, real_world, LOSING)
    assert found.reran == ("S9",)
    assert found.lost == ("top1_share", "bootstrap_upper.top1_share")
    assert found.vetoed
    row = next(change for change in found.gates if change.name == "top1_share")
    assert row.before == row.after
    assert row.margin is not None
    assert row.margin < 0 < row.b


def test_a_lost_counter_metric_is_a_veto_too(root: Path, real_world: World) -> None:
    """By its own name."""
    found = tried(root, real_world, {"gates.counter_metrics.market_slope.min": 5.0})
    assert {change.name for change in found.gates if change.verdict == "veto"} == {"market_slope"}


THRESHOLDS: list[dict[str, Any]] = [
    AMBER, {"gates.region_floors.Asia": 0.55}, {"gates.bootstrap.metrics": ["country_gini"]},
    {"gates.counter_metric_parameters.nn_p50_scaling_sites": 100}, {"gates.cv.b_plus": 0.1},
]  # fmt: skip
DEFINITIONS: list[dict[str, Any]] = [
    {"gates.bootstrap.replicates": 150}, {"gates.counter_metric_parameters.isolated_distance_km": 2.0},
    {"gates.counter_metric_parameters.near_city_radius_km": 20.0}, {"gates.collapse_sentinel.countries": 3},
]  # fmt: skip


@pytest.mark.parametrize("overrides", [*THRESHOLDS, *DEFINITIONS])
def test_gates_alone_replay_nothing_and_the_bundle_is_the_same_whichever_way(
    root: Path, real_world: World, overrides: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No task runs; and the files are byte for byte those that the whole of S9 makes under the same key.

    A threshold looks at no site either.
    """
    tried(root, real_world, {"s6.cluster_v3.core_sd_tile": 0.3})  # so the reference is there
    with monkeypatch.context() as patch:
        patch.setattr(Certification, "run", lambda _: pytest.fail("a gate ran the chain"))
        if overrides in THRESHOLDS:
            patch.setattr(seed_tasks, "read_tally", lambda *_: pytest.fail("a threshold measured sites"))
        quick = tried(root, real_world, overrides)
    assert quick.reran == ("S9",)
    if overrides in DEFINITIONS:
        assert quick.after.facts != quick.before.facts
    with opened(root) as store:
        key = load_run(store, quick.run_id).keys["S9"]
        manifest = store.manifest("s9", key)
        assert set(manifest.inputs) == {"s9m", "s9o", "s9p", "s9r"}
        folders = [store.layout.object(*each) for each in (("s9", key), *manifest.inputs.items())]
        before = files_in(folders)
        store.remove("s9", key)
        for state, rests_on in manifest.inputs.items():
            store.remove(state, rests_on)
    slow = tried(root, real_world, overrides)
    assert files_in(folders) == before
    assert {"gates.json", "evidence.json", "measured.json", "replay.json"} <= {path.name for path in before}
    assert slow.after.facts == quick.after.facts


def files_in(folders: Iterable[Path]) -> dict[Path, bytes]:
    """What every file of some folders holds."""
    return {path: path.read_bytes() for one in folders for path in sorted(one.rglob("*")) if path.is_file()}


def test_what_a_run_has_already_is_compared_and_is_no_candidate(root: Path, real_world: World) -> None:
    """The policies in force against the run that was made with them: no receipt, no wave."""
    first = tried(root, real_world, {"s6.cluster_v3.core_sd_tile": 0.3})
    same = set_values(one_seed(), {"s6.cluster_v3.core_sd_tile": 0.3})
    before = contents(root)
    found = candidate(
        root, real_world, {"s6.cluster_v3.core_sd_tile": 0.3}, policies=same, against=first.run_id
    )
    assert (found.changed, found.reran, found.found) == ((), (), ())
    assert {change.verdict for change in found.gates} == {"same"}
    assert found.before.report == found.after.report
    assert (found.wave, found.run_id) == (None, first.run_id)
    assert contents(root) == before


def test_what_was_found_is_not_said_to_have_run(root: Path, real_world: World) -> None:
    """The same knobs again, in the wave and after it: every state is found; the ledger says so as well."""
    overrides = {"s6.cluster_v3.core_sd_tile": 0.33}
    first = candidate(root, real_world, overrides)
    assert (first.reran, first.found) == (("S6", "S7", "S8", "S9"), ())
    again = tried(root, real_world, overrides)
    later = tried(root, real_world, overrides)
    for found in (again, later):
        assert (found.changed, found.reran) == (first.reran, ())
        assert found.found == first.reran
    assert (again.run_id == first.run_id, later.run_id == first.run_id) == (True, False)
    with opened(root) as store:
        entries = [entry for entry in store.ledger.entries() if entry["kind"] == "candidate"][-2:]
    assert [(entry["reran"], entry["found"]) for entry in entries] == [
        (list(first.reran), []),
        ([], list(first.reran)),
    ]


def test_a_gate_that_was_not_judged_before_is_no_veto(root: Path, real_world: World) -> None:
    """Only what held can be lost."""
    after = tried(root, real_world, LOSING).after.report
    changes = compare(dataclasses.replace(after, gates=(), counters=()), after)
    assert {change.verdict for change in changes} == {"same"}
    assert all(change.before is None for change in changes)


def test_against_a_run_compares_with_what_was_published_of_it(root: Path, real_world: World) -> None:
    """Neither run nor policies of the reference are made again; states that it shares are reused."""
    first = tried(root, real_world, {"s6.cluster_v3.core_sd_tile": 0.3})
    second = tried(root, real_world, {"s4.two_stage.sites_per_area": 4}, against=first.run_id[:8])
    assert second.against.run_id == first.run_id
    assert second.before.facts == first.after.facts
    because = {reason.state: reason.because for reason in second.reasons}
    assert because["S4"] == ("s4.two_stage.sites_per_area 8 -> 4",)
    assert because["S6"] == ("s6.cluster_v3.core_sd_tile 0.3 -> 0.15", "its input S5")


@pytest.mark.parametrize(
    ("overrides", "options", "code"),
    [
        ({"s6.core_sd": 0.2}, {}, "E_POLICY_UNKNOWN_KNOB"),
        ({"s6.cluster_v3.core_sd_tile": 9.0}, {}, "E_POLICY"),
        ({"s6.component_weights.core": 0.9, "sparse_tail": 0.2}, {}, "E_POLICY_MIX_SUM"),
        ({"s6.core_sd_tile": 0.3}, {"against": "12345678"}, "E_STORE_UNKNOWN_ID"),
        ({"s6.core_sd_tile": 0.3}, {"against": "last_good"}, "E_POINTER_UNSET"),
        ({"s6.core_sd_tile": 0.3}, {"recover": True}, "E_RECOVERY_STATUS"),
    ],
)
def test_a_bad_request_is_refused_before_anything_runs(
    tmp_path: Path, real_world: World, overrides: dict[str, Any], options: dict[str, Any], code: str
) -> None:
    """No object, no receipt, no wave, no ledger."""
    with opened(tmp_path / "runs"):
        before = contents(tmp_path / "runs")
    with pytest.raises(InputError, match=code):
        candidate(tmp_path / "runs", real_world, overrides, **options)
    assert contents(tmp_path / "runs") == before
    shutil.rmtree(tmp_path / "runs")


def test_a_reference_that_was_pruned_is_refused(root: Path, real_world: World) -> None:
    """It names what is gone; nothing changes."""
    found = tried(root, real_world, {"s6.cluster_v3.core_sd_tile": 0.31})
    with opened(root) as store:
        store.remove("s8", load_run(store, found.run_id).keys["S8"])
    before = contents(root)
    with pytest.raises(InputError, match=r"E_RUN_PRUNED.*S8"):
        candidate(root, real_world, {"s4.two_stage.sites_per_area": 4}, against=found.run_id)
    assert contents(root) == before


def test_a_reference_of_another_seed_or_world_is_refused(root: Path, real_world: World) -> None:
    """Numbers of two worlds say nothing about a knob."""
    found = tried(root, real_world, {"s6.cluster_v3.core_sd_tile": 0.3})
    before = contents(root)
    with opened(root) as store:
        receipt = store.receipts.load(found.run_id)
    for name, value, code in (
        ("world_digest", "0" * 64, "E_REFERENCE_WORLD"),
        ("seed", 7, "E_REFERENCE_SEED"),
    ):
        path = root / "runs" / found.run_id / "receipt.json"
        text = path.read_bytes()
        path.chmod(0o644)
        path.write_text(json.dumps({**receipt.to_json(), "identity": {**receipt.identity, name: value}}))
        with pytest.raises(InputError, match=code):
            candidate(root, real_world, {"s4.two_stage.sites_per_area": 4}, against=found.run_id)
        path.write_bytes(text)
    assert contents(root) == before


def test_two_drivers_do_not_tune_one_store(root: Path, real_world: World) -> None:
    """The second is told who the first is; when that one dies the store is free."""
    script = (
        "import sys, time; from seg1b.store.store import Store\n"
        "with Store.open(sys.argv[1]) as store, store.sole_driver('tune'):\n"
        "    print('ready', flush=True); time.sleep(60)\n"
    )
    other = subprocess.Popen([sys.executable, "-c", script, str(root)], stdout=subprocess.PIPE, text=True)
    try:
        assert other.stdout is not None
        assert other.stdout.readline() == "ready\n"
        before = contents(root)
        with pytest.raises(InputError, match=f"E_STORE_DRIVEN: process {other.pid} .*tune"):
            candidate(root, real_world, {"s6.cluster_v3.core_sd_tile": 0.3})
        assert contents(root) == before
    finally:
        other.kill()
        other.wait()
    assert tried(root, real_world, {"s6.cluster_v3.core_sd_tile": 0.3}).changed[0] == "S6"


def test_a_run_that_was_pruned_is_named_with_when_why_and_how_to_make_it_again(
    root: Path, real_world: World
) -> None:
    """Wherever a run is named; what is told makes the same keys from the packaged policies."""
    found = tried(root, real_world, {"s6.cluster_v3.core_sd_tile": 0.34})
    with opened(root) as store:
        receipt = store.receipts.load(found.run_id)
        store.retention.prune(dry_run=False)
        with pytest.raises(InputError, match=r"E_RUN_PRUNED") as error:
            load_run(store, found.run_id[:8])
        assert f"run {found.run_id[:12]} was pruned at 20" in error.value.message
        assert "was closed without it" in error.value.message
        assert "s6.cluster_v3.core_sd_tile 0.15 -> 0.34" in error.value.message
        for act in (load_run, named_run, baseline.promote):
            with pytest.raises(InputError, match="E_RUN_PRUNED"):
                act(store, found.run_id)
        with pytest.raises(InputError, match="E_STORE_UNKNOWN_ID"):
            load_run(store, "0" * 32)
        with pytest.raises(InputError, match="E_STORE_UNKNOWN_ID"):
            load_run(store, found.run_id[:3])
    with pytest.raises(InputError, match="E_RUN_PRUNED"):
        candidate(root, real_world, {"s4.two_stage.sites_per_area": 4}, against=found.run_id)
    command = error.value.next_step.split("`")[1].split()
    assert command[:4] == ["seg1b", "tune", "--seed", "42"]
    typed = dict(text.split("=", 1) for flag, text in zip(command[4::2], command[5::2], strict=True) if flag)
    again = set_values(default_policies(), {name: parse_value(value) for name, value in typed.items()})
    assert parameter_hash(again) == receipt.identity["parameter_hash"]
    assert gates_hash(again) == receipt.identity["gates_hash"]
