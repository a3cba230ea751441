"""The loop on the command line: tune, wave, baseline, promote, integrate, lock, reopen, status, ledger."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from cli_cases import Command, Outcome

from seg1b.policy.load import POLICY_FILES

PLAN = ("tune", "wave", "ledger", "baseline", "promote", "last-good", "status", "integrate", "lock", "reopen")


class Loop:
    """Commands on one store with the small policies."""

    def __init__(self, command: Command, runs: Path, config: Path) -> None:
        self._command, self.runs, self._config = command, runs, config

    def __call__(self, *arguments: object) -> Outcome:
        """Run one with `--runs`."""
        return self._command(*arguments, "--runs", self.runs)

    def tune(self, *settings: str, extra: tuple[object, ...] = ()) -> Outcome:
        """Tune with `--json`."""
        sets = [text for setting in settings for text in ("--set", setting)]
        return self("tune", "--seed", 42, "--config", self._config, *sets, *extra, "--json")


@pytest.fixture(scope="module")
def loop(command: Command, small: Path, tmp_path_factory: pytest.TempPathFactory) -> Loop:
    """One store for all; the tests follow one another."""
    return Loop(command, tmp_path_factory.mktemp("plan") / "runs", small)


@pytest.fixture(scope="module")
def kept(loop: Loop) -> dict[str, Any]:
    """A candidate that was kept: what `tune --json` said of it."""
    outcome = loop.tune("s6.component_weights.sparse_tail=0.01")
    found: dict[str, Any] = outcome.json()
    assert outcome.exit_code == (3 if found["vetoed"] else 0)
    assert not found["vetoed"]
    assert loop("wave", "keep", found["run_id"][:8]).exit_code == 0
    return found


def test_tune_prints_what_outside_checks_rely_on(kept: dict[str, Any]) -> None:
    """The named fields, every gate, and no NaN."""
    assert {"run_id", "reran", "reused", "gates", "wall_s"} <= set(kept)
    assert kept["reran"] == ["S6", "S7", "S8", "S9"]
    assert {"name", "before", "after", "b", "b_plus", "verdict"} <= set(kept["gates"][0])
    names = [row["name"] for row in kept["gates"]]
    assert len(names) == len(set(names)) == 36
    assert {row["verdict"] for row in kept["gates"]} <= {"better", "worse", "same"}
    for row in kept["gates"]:
        assert row["op"] in ("<=", ">=")
        assert row["b"] is not None
        holds = row["after"] <= row["b"] if row["op"] == "<=" else row["after"] >= row["b"]
        assert holds == (row["margin"] >= 0)
    weights = {c["knob"].rpartition(".")[2]: c["after"] for c in kept["settings"]}
    assert weights == {"core": 0.61875, "secondary": 0.37125, "sparse_tail": 0.01}


def test_the_readable_form_says_the_same(loop: Loop, kept: dict[str, Any]) -> None:
    """What ran and why, every gate, and what to do; within 80 columns."""
    outcome = loop("tune", "--config", loop._config, "--set", "s6.component_weights.sparse_tail=0.01")
    assert outcome.exit_code == 0
    assert "sparse_tail 0.2 -> 0.01" in outcome.stdout
    assert "rescaled" in outcome.stderr
    table = [line for line in outcome.stdout.splitlines() if "country_gini" in line and "prior" not in line]
    assert table
    assert max(map(len, table)) <= 80
    assert "…" not in "".join(table)
    assert "seg1b wave keep" in outcome.stdout
    assert loop("wave", "drop").exit_code == 0


def test_a_tuning_that_moves_no_gate_says_so_in_a_line(loop: Loop, kept: dict[str, Any]) -> None:
    """And whether anything ran; `--json` has every gate all the same."""
    outcome = loop("tune", "--config", loop._config, "--set", "gates.cv.b_plus=0.15")
    assert "no gate moved: all 36 are what they were" in outcome.stdout
    assert "country_gini" not in outcome.stdout
    assert "ran    S9" in outcome.stdout
    again = loop.tune("gates.cv.b_plus=0.15").json()
    assert (len(again["gates"]), again["changed"], again["reran"], again["found"]) == (36, ["S9"], [], ["S9"])
    text = loop("tune", "--config", loop._config, "--set", "gates.cv.b_plus=0.15").stdout
    assert "ran    nothing" in text
    assert "found  S9: made before" in text
    assert loop("wave", "drop").exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("--set", "s6.core_sd_tile=0.2", "--against", "last_good"), "E_STORE_MISSING"),
        (("--set", "s6.core_sd_tile=0.2", "--recover"), "E_STORE_MISSING"),
        (("--set", "s6.mixture_v2.selection_blend=0.4"), "E_TUNE_NO_EFFECT"),
        (("--set", "s6.core_sd_tile=0.15"), "E_TUNE_NO_EFFECT"),
        (("--set", "certification.seeds=[42]"), "E_TUNE_KNOB"),
        (("--set", "s6.core_sd_tile=9"), "E_POLICY_VALUE"),
    ],
)
def test_a_refused_tuning_makes_no_store(
    command: Command, tmp_path: Path, arguments: tuple[str, ...], code: str
) -> None:
    """No folder, no log."""
    outcome = command("tune", *arguments, "--runs", tmp_path / "new" / "runs", "--json")
    assert (outcome.exit_code, outcome.error()["code"]) == (2, code)
    assert list(tmp_path.iterdir()) == []


def test_a_third_candidate_exits_with_two(loop: Loop, kept: dict[str, Any]) -> None:
    """With the error as JSON; `wave show` has the two; a vetoed one is exit 3 and cannot be kept."""
    lost = loop.tune("gates.counter_metrics.market_slope.min=5")
    assert lost.exit_code == 3
    assert lost.json()["lost"] == ["market_slope"]
    assert loop.tune("gates.counter_metrics.market_slope.min=0.1").exit_code == 0
    third = loop.tune("gates.counter_metrics.market_slope.min=0.2")
    assert (third.exit_code, third.error()["code"]) == (2, "E_WAVE_FULL")
    wave = loop("wave", "show", "--json").json()
    assert [one["vetoed"] for one in wave["candidates"]] == [True, False]
    refused = loop("wave", "keep", wave["candidates"][0]["run_id"], "--json")
    assert (refused.exit_code, refused.error()["code"]) == (3, "E_WAVE_VETOED")
    assert loop("wave", "drop", "--json").json()["status"] == "abandoned"
    assert loop("wave", "drop").exit_code == 2


def test_baseline_promotion_lock_and_back(loop: Loop, kept: dict[str, Any], tmp_path: Path) -> None:
    """The whole way of a candidate; `status` always knows the next step."""
    run = kept["run_id"]
    assert "seg1b baseline pin" in loop("status", "--json").json()["next"]
    assert loop("last-good").exit_code == 2
    assert loop("baseline", "show").exit_code == 2
    pinned = loop("baseline", "pin", run[:10], "--json").json()
    assert {"scorecard.json", "country_share.csv", "nn_quantiles.json"} <= set(pinned["files"])
    assert all((Path(pinned["folder"]) / name).is_file() for name in pinned["files"])
    assert loop("promote", "--json").json()["run_id"] == run
    assert loop("last-good", "--json").json()["run_id"] == run
    text = " ".join(loop("integrate").stdout.split())
    assert "gates of its own" not in text
    assert re.search(
        r" is (not [<>]=|below|above) [-.\de]*\d\. [A-Z]", text
    )  # the reason ends where advice begins
    assert not re.search(r" is (not [<>]=|below|above) [-.\de]*\d [A-Z]", text)
    integrated = loop("integrate", "--json")
    told = integrated.json()
    assert integrated.exit_code == (3 if told["status"] == "RED_REOPEN_REQUIRED" else 0)
    locked = loop("lock", "P3", "--run", run[:8], "--json")
    assert locked.exit_code == 0, locked.stdout
    assert locked.json()["knobs"]["s6.cluster_v3.component_weights.sparse_tail"] == 0.01
    refused = loop.tune("s6.component_weights.sparse_tail=0.02")
    assert (refused.exit_code, refused.error()["code"]) == (2, "E_PHASE_LOCKED")
    assert run[:12] in refused.error()["message"]
    written = loop("config", "write", tmp_path / "mine", "--run", "candidate", "--json")
    assert len(written.json()["files"]) == len(POLICY_FILES)
    mine = loop("tune", "--config", tmp_path / "mine", "--set", "gates.market_slope.min=0.3", "--json").json()
    assert "judged by gates of its own" in loop("integrate", mine["run_id"][:8]).stdout
    assert (mine["reran"], loop("wave", "drop").exit_code) == (["S9"], 0)
    assert loop("config", "write", tmp_path / "mine", "--run", "candidate").exit_code == 2
    evidence = tmp_path / "scorecard.json"
    evidence.write_text(json.dumps(told))
    assert loop("reopen", "P3", "--evidence", tmp_path / "no", "--approved-by", "Ada").exit_code == 2
    assert loop("reopen", "P3", "--evidence", evidence, "--approved-by", "Ada").exit_code == 0
    phases = {phase["phase"]: phase for phase in loop("status", "--json").json()["phases"]}
    assert (phases["P0"]["status"], phases["P3"]["status"]) == ("closed", "reopened")
    kinds = [entry["kind"] for entry in loop("ledger", "--json").json()["entries"]]
    assert {
        "candidate",
        "wave_closed",
        "baseline_pinned",
        "promoted",
        "integrated",
        "locked",
        "reopened",
    } <= set(kinds)
    text = loop("ledger").stdout
    assert "approved by Ada" in text
    assert "reopened" in loop("status").stdout


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("--set", "s6.component_weights.sparse_tial=0.1"), "E_POLICY_UNKNOWN_KNOB"),
        (("--set", "s6.component_weights.sparse_tail=1.5"), "E_POLICY_VALUE"),
        (("--set", "s6.core_sd_tile=0.2", "--against", "abcdef12"), "E_STORE_UNKNOWN_ID"),
        (("--set", "s6.core_sd_tile=0.2", "--recover"), "E_RECOVERY_STATUS"),
        (("--set", "s4.sites_per_area"), "E_OPTION_SET"),
        (("--set", "s4.sites_per_area=5", "--set", "s4.sites_per_area=6"), "E_OPTION_SET"),
        (("--set", "s6.core_sd_tile=0.2", "--waive-perf", " "), "E_PERF_WAIVER"),
    ],
)
def test_bad_input_exits_with_two_and_changes_nothing(
    loop: Loop, kept: dict[str, Any], arguments: tuple[str, ...], code: str
) -> None:
    """The ledger, the pointers and the waves are as they were."""

    def durable() -> dict[str, bytes]:
        names = ("ledger.jsonl", "pointers", "waves", "runs", "locks", "phases")
        paths = [path for name in names for path in [loop.runs / name, *(loop.runs / name).rglob("*")]]
        return {str(path): path.read_bytes() for path in paths if path.is_file()}

    loop("integrate", kept["run_id"])
    before = durable()
    outcome = loop.tune(extra=arguments)
    assert (outcome.exit_code, outcome.error()["code"]) == (2, code)
    assert outcome.error()["where"]
    assert outcome.error()["next_step"]
    assert durable() == before


def test_errors_hint_at_the_mistake_that_was_made(loop: Loop, kept: dict[str, Any]) -> None:
    """A knob set twice needs one value; a name that is nearly one is suggested; a kind that is none is refused."""
    twice = loop.tune("s4.sites_per_area=5", "s4.sites_per_area=6").error()
    assert "s4.sites_per_area is set twice" in twice["message"]
    assert "one value" in twice["next_step"]
    slip = loop.tune("s6.core_sd_tile=0.2", extra=("--against", "baselin")).error()
    assert "did you mean baseline?" in slip["message"]
    assert "last_good" in slip["next_step"]
    kind = loop("ledger", "--kind", "candidat", "--json")
    assert (kind.exit_code, kind.error()["code"]) == (2, "E_LEDGER_KIND")
    assert "did you mean candidate?" in kind.error()["message"]
    assert "wave_closed" in kind.error()["next_step"]
    assert loop("ledger", "--kind", "perf_closure").exit_code == 0


def test_one_candidate_is_one(loop: Loop, kept: dict[str, Any]) -> None:
    """Neither `its 1 candidates` nor `1 of its candidates`."""
    outcome = loop("tune", "--config", loop._config, "--set", "gates.market_slope.min=0.31")
    assert "has 1 of 2 candidates" in outcome.stdout
    assert "1 candidate may be pruned" in loop("wave", "drop").stdout


def test_a_catalogue_without_its_bundle_is_refused(loop: Loop, kept: dict[str, Any], tmp_path: Path) -> None:
    """A folder that holds no 1A bundle."""
    (tmp_path / "catalogue").mkdir()
    outcome = loop.tune("s6.core_sd_tile=0.2", extra=("--catalogue", tmp_path / "catalogue"))
    assert outcome.exit_code == 2
    assert outcome.error()["where"]


@pytest.mark.parametrize("name", PLAN[1:])
def test_without_a_store_every_command_says_so(command: Command, tmp_path: Path, name: str) -> None:
    """And makes none."""
    arguments: dict[str, tuple[str, ...]] = {
        "wave": ("show",), "baseline": ("show",), "lock": ("P1", "--run", "abcdef"),
        "reopen": ("P1", "--evidence", "x", "--approved-by", "y"),
    }  # fmt: skip
    outcome = command(name, *arguments.get(name, ()), "--runs", tmp_path / "none", "--json")
    assert (outcome.exit_code, outcome.error()["code"]) == (2, "E_STORE_MISSING")
    assert not (tmp_path / "none").exists()
