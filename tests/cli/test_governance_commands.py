"""Guard, perf, witness and du from the command line: what they print, and how they end."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from cli_cases import Command, Published
from resealing import reseal

from seg1b.catalogue.guard_evidence import EVIDENCE
from seg1b.store.store import Store


@pytest.fixture(scope="module")
def bundle(published: Published) -> Path:
    """The catalogue of the certified seed, with its 1A evidence."""
    return published.path / "seeds/7/catalogue"


def test_guard_passes_fails_and_blocks(
    command: Command, bundle: Path, published: Published, small: Path, tmp_path: Path
) -> None:
    """0 for PASS, 3 for FAIL; after a FAIL, certify refuses with 2 until somebody lifts it."""
    runs = tmp_path / "runs"
    passed = command("guard", bundle, "--authority", bundle, "--runs", runs, "--json")
    document = passed.json()
    assert (passed.exit_code, document["status"]) == (0, "PASS")
    assert all(document["checks"].values())
    assert {"metric", "value", "b_pass", "b_plus_pass"} <= set(document["metrics"][0])
    assert not runs.exists()
    authority = tmp_path / "authority.json"
    for row in document["metrics"]:
        if row["metric"] == "gini_outlets_per_merchant":
            row["value"] -= 0.05
    authority.write_text(json.dumps(document))
    failed = command("guard", bundle, "--authority", authority, "--runs", runs, "--json")
    assert (failed.exit_code, failed.json()["status"]) == (3, "FAIL")
    told = command("guard", bundle, "--authority", authority, "--runs", runs)
    assert "FAILS  concentration_not_materially_worse_than_authority" in told.stdout
    options = ("--runs", runs, "--config", small, "--seed", 7, "--executor", "serial", "--json")
    refused = command("certify", "--catalogue", bundle, *options)
    assert (refused.exit_code, refused.error()["code"]) == (2, "E_GUARD_FAIL")
    assert command("guard", bundle, "--lift", "--runs", runs, "--json").error()["code"] == "E_GUARD_APPROVAL"
    lifted = command(
        "guard", bundle, "--lift", "--approved-by", "A. Person", "--reason", "x", "--runs", runs, "--json"
    )
    assert lifted.json()["failed_verdicts"] == 1


def test_a_stripped_bundle_fails_and_certify_is_told(
    command: Command, bundle: Path, small: Path, tmp_path: Path
) -> None:
    """Readable, but without its evidence: 3, status FAIL, no check holds, and the verdict is kept."""
    runs = tmp_path / "runs"
    copy = Path(shutil.copytree(bundle, tmp_path / "copy", copy_function=shutil.copyfile))
    stripped = reseal(copy, dict.fromkeys(EVIDENCE))
    failed = command("guard", stripped, "--authority", bundle, "--runs", runs, "--json")
    document = failed.json()
    assert (failed.exit_code, document["status"], document["recorded"]) == (3, "FAIL", True)
    assert set(document["checks"].values()) == {False}
    assert len(list((runs / "guards").iterdir())) == 1
    told = command("guard", stripped, "--authority", bundle, "--runs", runs)
    assert "the 1A evidence is incomplete: the bundle has no s3_candidate_set" in told.stdout
    checked = command("catalogue", "check", stripped, "--runs", runs, "--config", small, "--json")
    assert (checked.exit_code, checked.json()["guard"]["verdict"]) == (3, "FAIL")


def test_an_error_of_the_guard_is_no_pass(command: Command, bundle: Path, tmp_path: Path) -> None:
    """Whoever reads the status finds FAIL, for a bundle that is not there, damaged, or claims what it is not."""
    runs = tmp_path / "runs"
    copy = Path(shutil.copytree(bundle, tmp_path / "copy", copy_function=shutil.copyfile))
    reseal(copy, {"s6_membership": lambda table: table.slice(1)}, restate=False)
    damaged = Path(shutil.copytree(copy, tmp_path / "damaged"))
    next(damaged.rglob("index.json")).write_text("{")
    for catalogue, code in (
        (tmp_path / "gone", "E_GUARD_NO_EVIDENCE"),
        (damaged, "E_INDEX_INVALID"),
        (copy, "E_EGRESS_HASH_MISMATCH"),
    ):
        outcome = command("guard", catalogue, "--authority", bundle, "--runs", runs, "--json")
        assert (outcome.exit_code, outcome.error()["code"]) == (2, code)
        assert outcome.json()["status"] == "FAIL"
    assert not runs.exists()


def test_a_pin_needs_a_name(command: Command, bundle: Path, tmp_path: Path) -> None:
    """As taking back a verdict does; the ledger keeps it."""
    runs = tmp_path / "runs"
    pin = ("guard", "--authority", bundle, "--pin", "--runs", runs, "--json")
    for nobody in ((), ("--approved-by", "  ")):
        refused = command(*pin, *nobody)
        assert (refused.exit_code, refused.error()["code"]) == (2, "E_GUARD_APPROVAL")
        assert "--approved-by" in refused.error()["next_step"]
    assert not runs.exists()
    assert command(*pin, "--approved-by", "A. Person").exit_code == 0
    entry = json.loads((runs / "ledger.jsonl").read_text().splitlines()[-1])
    assert (entry["kind"], entry["approved_by"]) == ("guard_authority_pinned", "A. Person")
    assert entry["at"]


@pytest.mark.parametrize(
    ("content", "code"),
    [("{", "E_GUARD_AUTHORITY"), ('{"metrics": []}', "E_GUARD_AUTHORITY"), (None, "E_GUARD_AUTHORITY")],
)
def test_a_bad_authority_changes_nothing(
    command: Command, bundle: Path, tmp_path: Path, content: str | None, code: str
) -> None:
    """Damaged, empty or missing: 2."""
    path = tmp_path / "authority.json"
    if content is not None:
        path.write_text(content)
    outcome = command("guard", bundle, "--authority", path, "--runs", tmp_path / "runs", "--json")
    assert (outcome.exit_code, outcome.error()["code"]) == (2, code)
    assert not (tmp_path / "runs").exists()


def test_witness_perf_and_du(command: Command, published: Published, small: Path, tmp_path: Path) -> None:
    """A run is made again, pinned, checked and closed; du adds up to what there is."""
    runs = tmp_path / "runs"
    shutil.copytree(published.runs, runs)
    run = published.document["seeds"][0]["run_id"]
    with Store.open(runs) as store:  # other tests certify in the common store, and find all there
        store.pointers.set("current_candidate", run)
    options = ("--runs", runs, "--config", small, "--json")
    alone = command("perf", "check", run, *options)
    assert (alone.exit_code, alone.json()["deterministic"]) in ((2, None), (3, None))
    if alone.exit_code == 2:  # nothing RED
        assert alone.error()["code"] == "E_PERF_NO_WITNESS"
        assert "seg1b witness" in alone.error()["next_step"]
    assert "witness    none" in command("perf", "check", run, *options[:-1]).stdout
    witness = command("witness", run[:8], *options)
    assert (witness.exit_code, witness.json()["same"]) == (0, True)
    assert command("perf", "baseline", "candidate", *options).exit_code == 0
    checked = command("perf", "check", witness.json()["witness_run_id"], *options)
    assert checked.exit_code in (0, 3)
    assert checked.json()["baseline_run_id"] == run
    closed = command("perf", "closure", run, *options, "--waive", "hotspots=a small run")
    assert closed.json()["deterministic"] is True
    assert Path(closed.json()["path"]).read_text().startswith("# Performance closure")
    assert command("perf", "check", "0" * 32, *options).error()["code"] == "E_STORE_UNKNOWN_ID"
    assert command("perf", "check", run, "--waive", "S4", *options).error()["code"] == "E_PERF_WAIVER"
    telemetry = runs / "runs" / run / "telemetry.json"
    times = json.loads(telemetry.read_text())
    times["executor"] = {"executor": "ray", "workers": 3, "cpus": 2.0}
    telemetry.unlink()
    telemetry.write_text(json.dumps(times))
    assert command("perf", "baseline", run, *options).exit_code == 0
    refused = command("perf", "check", witness.json()["witness_run_id"], *options)
    assert (refused.exit_code, refused.error()["code"]) == (2, "E_PERF_BASELINE_INPUTS")
    assert f"`seg1b witness {run[:12]} --executor ray --workers 2`" in refused.error()["next_step"]
    (left_out,) = command("perf", "closure", run, *options).json()["left_out"]
    assert left_out["run_id"] == witness.json()["witness_run_id"]
    told = " ".join(command("perf", "closure", run, *options[:-1]).stdout.split())
    assert f"left out {left_out['run_id'][:12]} it ran on serial x 1, the baseline on ray x 2" in told
    assert "of one execution, so whether they are stable cannot be seen" in told
    used = command("runs", "du", "--runs", runs, "--json").json()
    assert sum(row["held_bytes"] for row in used["states"]) == used["live_bytes"]
    assert "performance baseline" in {row["name"] for row in used["holders"]}
    beside = sum(pack["bytes"] for pack in used["certifications"]) + used["other_bytes"]
    assert used["kept_bytes"] == used["live_bytes"] + beside
    assert used["total_bytes"] == used["kept_bytes"] + used["collectable_bytes"] + used["temporary_bytes"]
    shown = command("runs", "du", "--runs", runs).stdout
    assert "who holds it" in shown


def test_du_says_how_far_the_cap_is_and_certify_refuses_beyond_it(
    command: Command, published: Published, small: Path, tmp_path: Path
) -> None:
    """Exit code 2, with the next step; before that nothing is removed."""
    runs, config = tmp_path / "runs", tmp_path / "config"
    shutil.copytree(published.runs, runs)
    shutil.copytree(small, config)
    options = ("--runs", runs, "--config", config)

    def capped(cap_bytes: int) -> dict[str, Any]:
        (config / "retention.yaml").write_text(f"keep_newest_runs: 3\nlive_bytes_max: {cap_bytes}\n")
        return dict(command("runs", "du", *options, "--json").json())

    kept = capped(10**9)["kept_bytes"]
    assert capped(10**9)["caps"] == {
        "keep_newest_runs": 3, "live_bytes_max": 10**9, "left_bytes": 10**9 - kept
    }  # fmt: skip
    text = " ".join(command("runs", "du", *options).stdout.split())
    assert "of at most 1.0 GB," in text
    assert "left; before a run it also keeps the 3 newest runs" in text
    assert capped(1000)["caps"]["left_bytes"] == 1000 - kept
    assert "too much: no run starts" in " ".join(command("runs", "du", *options).stdout.split())
    before = sorted(path for path in runs.rglob("*") if "logs" not in path.parts)
    refused = command("certify", *options, "--seed", 7, "--executor", "serial", "--json")
    assert (refused.exit_code, refused.error()["code"]) == (2, "E_STORE_CAP")
    assert "seg1b runs du" in refused.error()["next_step"]
    assert set(before) <= set(runs.rglob("*"))
