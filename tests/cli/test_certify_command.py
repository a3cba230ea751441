"""`seg1b certify`: the certificate as JSON, progress apart from it, a log per run, and exit codes 0, 1, 3, 130."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from cli_cases import Command, Published

from seg1b.cli.app import run
from seg1b.policy.load import POLICY_FILES


def test_stdout_is_the_certificate_and_nothing_else(published: Published) -> None:
    """What outside checks rely on is there, and the path of the folder besides."""
    document = published.document
    assert document["grade"] == "below_B"
    assert {"cert_id", "identity", "world", "cv", "pooled", "path", "found"} <= set(document)
    (seed,) = document["seeds"]
    assert seed["seed"] == 7
    assert {
        "status",
        "run_id",
        "site_locations",
        "logical_digest",
        "metrics",
        "gates",
        "counter_metrics",
    } <= set(seed)
    assert (published.path / seed["site_locations"]).is_dir()
    assert not document["found"]


def test_a_missing_grade_ends_with_3_and_says_so(published: Published) -> None:
    """One seed cannot earn a grade, and the default is `--require B`."""
    assert published.outcome.exit_code == 3
    assert "below --require B" in published.outcome.stderr


def test_progress_names_policies_world_executor_and_stages(published: Published) -> None:
    """Plain lines where stderr is no terminal."""
    told = published.outcome.stderr
    defaults = f"{len(POLICY_FILES) - 1} of {len(POLICY_FILES)} files from the defaults"
    for words in ("as asked with --config", defaults, "serial (as asked)"):
        assert words in told
    for step in ("world 1/1", "prepare seed 7 1/1", "validate seed 7 2/2", "publish 1/1"):
        assert step in told


def test_a_run_has_a_log_of_its_own(published: Published) -> None:
    """It holds what was said before the store was open, too."""
    (log,) = (published.runs / "logs").glob("*-certify-*.log")
    text = log.read_text()
    assert "policies: " in text
    assert "finish/7 finished" in text


def test_the_same_again_is_found_again_and_0_without_requirement(
    command: Command, published: Published, small: Path
) -> None:
    """`--require none` accepts every grade; the readable result has the tables."""
    options = ("--config", small, "--seed", 7, "--executor", "serial", "--require", "none")
    outcome = command("certify", "--runs", published.runs, *options)
    assert outcome.exit_code == 0
    assert "country_gini" in outcome.stdout
    assert "population_pit_mean" in outcome.stdout
    assert "an identical certification was there already" in outcome.stdout
    folder = published.path.resolve()
    lines = [line.split() for line in outcome.stdout.splitlines()]
    assert [Path(words[1]).resolve() for words in lines if words[:1] == ["folder"]] == [folder]
    assert [words for words in lines if words[:3] == ["check", "seg1b", "verify"]]
    assert published.document["cert_id"][:12] in outcome.stdout


def _replace_lane(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr("seg1b.lanes.certify.certify", fail)


def test_an_interrupt_ends_with_130_and_says_that_the_next_run_resumes(
    command: Command, published: Published, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C loses nothing that is finished."""
    _replace_lane(monkeypatch, KeyboardInterrupt())
    outcome = command("certify", "--runs", published.runs, "--executor", "serial")
    assert outcome.exit_code == 130
    assert "the next run resumes" in " ".join(outcome.stderr.split())
    as_json = command("certify", "--runs", published.runs, "--executor", "serial", "--json")
    assert as_json.error()["code"] == "E_INTERRUPTED"


def test_an_unforeseen_error_ends_with_1_and_its_traceback_is_in_the_log(
    command: Command, published: Published, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The terminal gets the path of the log, not the traceback."""
    _replace_lane(monkeypatch, ZeroDivisionError("a defect"))
    outcome = command("certify", "--runs", published.runs, "--executor", "serial", "--json")
    assert outcome.exit_code == 1
    error = outcome.error()
    assert error["code"] == "E_INTERNAL"
    assert "Traceback" in Path(error["where"]).read_text()
    assert Path(error["where"]).parent == published.runs / "logs"
    assert "Traceback" not in outcome.stdout + outcome.stderr


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--executor", "serial", "--workers", "3"], "E_EXECUTOR"),
        (["--executor", "serial", "--address", "auto"], "E_EXECUTOR"),
        (["--seed", "7", "--seed", "7"], "E_SEED"),
        (["--seed", "-1"], "E_SEED"),
        (["--world", "nowhere"], "W101"),
        (["--catalogue", "nowhere.csv"], "E_CATALOGUE_FILE_MISSING"),
    ],
)
def test_options_that_make_no_sense_end_with_2(
    command: Command, tmp_path: Path, arguments: list[str], code: str
) -> None:
    """And no store is made for them."""
    outcome = command("certify", "--runs", tmp_path / "runs", "--executor", "serial", *arguments, "--json")
    assert (outcome.exit_code, outcome.error()["code"]) == (2, code)
    assert not (tmp_path / "runs").exists()


def test_a_newer_store_is_refused_with_a_sentence(command: Command, tmp_path: Path) -> None:
    """Its format is checked before anything else."""
    (tmp_path / "FORMAT").write_text('{"format": 99}')
    outcome = command("certify", "--runs", tmp_path, "--executor", "serial")
    assert outcome.exit_code == 2
    assert "E_STORE_FORMAT" in outcome.stderr
    assert "upgrade seg1b" in outcome.stderr


def test_usage_errors_are_json_if_asked(capsys: pytest.CaptureFixture[str]) -> None:
    """Also those that the option parser finds before any command runs."""
    assert run(["certify", "--bogus", "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["error"]["code"] == "E_USAGE"
    assert run(["certify", "--bogus"]) == 2
    assert "--bogus" in capsys.readouterr().err


def test_auto_says_what_it_chose_and_why() -> None:
    """Without starting anything."""
    from seg1b.api import choose_executor

    executor, why = choose_executor("auto", workers=2)
    assert (executor.name, why) == ("ray", "auto: seeds and shards in parallel on 2 CPUs")
    executor.close()
    assert choose_executor("serial")[1] == "as asked"
