"""What every command owes: help with examples and exit codes, and with `--json` one document, whatever happens."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from cli_cases import EVERY_COMMAND, Command, Published

from seg1b.cli.app import run
from seg1b.lanes.controls import ControlRow
from seg1b.world.bundle import load_world


def _walk(command: Any, path: tuple[str, ...] = ()) -> Iterator[str]:
    if not hasattr(command, "commands"):
        yield " ".join(path)
        return
    for name, part in command.commands.items():
        yield from _walk(part, (*path, name))


NAMES = tuple(_walk(typer.main.get_command(EVERY_COMMAND)))


def test_the_walk_finds_commands_and_groups() -> None:
    """So that the tests below look at something."""
    assert {"certify", "wave show", "runs remove", "version"} <= set(NAMES)
    assert len(NAMES) > 30


@pytest.mark.parametrize("name", NAMES)
def test_help_has_examples_and_exit_codes(command: Command, name: str) -> None:
    """And offers `--json`."""
    told = " ".join(command(*name.split(), "--help").stdout.split())
    for words in ("Examples", f"seg1b {name}", "Exit codes: 0", "--json"):
        assert words in told


@pytest.mark.parametrize("name", NAMES)
def test_a_usage_error_is_one_document(capsys: pytest.CaptureFixture[str], name: str) -> None:
    """Found before the command runs."""
    assert run([*name.split(), "--no-such-option", "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["error"]["exit_code"] == 2


FAILING: dict[str, tuple[object, ...]] = {
    "certify": ("--executor", "serial", "--seed", -1),
    "verify": ("abcdef12",),
    "witness": ("abcdef12",),
    "screen": ("none.csv",),
    "tune": ("--set", "s6.nothing=1"),
    "wave show": (), "wave keep": (), "wave drop": (), "ledger": (),
    "baseline pin": ("abcdef12",), "baseline show": (), "promote": (), "last-good": (),
    "status": (), "integrate": (), "lock": ("P9", "--run", "abcdef12"),
    "reopen": ("P1", "--evidence", "x", "--approved-by", "A"),
    "catalogue synth": ("--seed", 7, "--out", __file__),
    "catalogue check": ("none.csv",),
    "guard": ("none",),
    "perf baseline": ("abcdef12",), "perf check": ("abcdef12",), "perf closure": ("abcdef12",),
    "world info": ("--world", "none"), "world build": ("--out", "none"),
    "runs list": (), "runs show": ("abcdef12",), "runs du": (), "runs prune": (), "runs remove": ("abcdef12",),
    "controls": ("--world", "none"),
    "report": ("abcdef12",), "map": ("abcdef12", "FR", "--out", "none/map.png"),
    "config show": ("--config", "none"), "config write": ("folder", "--run", "abcdef12"),
}  # fmt: skip
"""An error of each; all but these take `--runs`, which names no store."""
WITHOUT_RUNS = {"world info", "world build", "controls", "config show", "screen"}
CANNOT_FAIL = {"version"}


@pytest.mark.parametrize("name", sorted(set(NAMES) - CANNOT_FAIL))
def test_an_error_is_one_document_with_all_that_it_should_say(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Code, message, where, next step and exit code; nothing is made."""
    monkeypatch.chdir(tmp_path)
    runs = () if name in WITHOUT_RUNS else ("--runs", "no-store")
    outcome = command(*name.split(), *FAILING[name], *runs, "--json")
    error = outcome.error()
    assert outcome.exit_code == error["exit_code"] == 2, error
    assert all(error[key] for key in ("code", "message", "where", "next_step")), error
    assert list(tmp_path.iterdir()) == []


def test_success_is_one_document(
    command: Command, published: Published, small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every command once, one after the other, on one store."""
    runs, bundle = tmp_path / "runs", published.path / "seeds/7/catalogue"
    shutil.copytree(published.runs, runs)
    run_id, cert_id = published.document["seeds"][0]["run_id"], published.document["cert_id"]
    monkeypatch.setattr("seg1b.world.custom.build_user_world", lambda *_, **__: load_world())
    row = ControlRow("uniform_scatter", "anywhere", ("prior_kl",), ("prior_kl",), True)
    monkeypatch.setattr("seg1b.lanes.controls.run_controls", lambda *_, **__: (row,))
    monkeypatch.chdir(tmp_path)
    seed, store, config = ("--seed", 7), ("--runs", runs), ("--config", small)
    steps: list[tuple[str, tuple[object, ...]]] = [
        ("certify", (*store, *config, *seed, "--executor", "serial", "--require", "none")),
        ("witness", (run_id, *store, *config)),
        ("screen", (bundle, *store)),
        ("tune", (*store, *config, *seed, "--set", "gates.market_slope.min=0.3")),
        ("wave show", store), ("wave keep", store),
        ("baseline pin", (run_id, *store)), ("baseline show", store),
        ("promote", (run_id, *store)), ("last-good", store),
        ("integrate", (run_id, *store)),
        ("lock", ("P3", "--run", run_id, *store)),
        ("status", store),
        ("reopen", ("P3", "--evidence", run_id, "--approved-by", "A. Person", *store)),
        ("tune", (*store, *config, *seed, "--set", "gates.market_slope.min=0.31")),
        ("wave drop", store), ("ledger", store),
        ("catalogue synth", (*seed, *config, "--out", tmp_path / "bundle")),
        ("catalogue check", (bundle, "--require", "none", *store)),
        ("guard", (bundle, "--authority", bundle, *store)),
        ("perf baseline", (run_id, *store)), ("perf check", (run_id, *store)), ("perf closure", (run_id, *store)),
        ("world info", ()), ("world build", ("--out", tmp_path / "world")),
        ("runs list", store), ("runs show", (run_id, *store)), ("runs du", store), ("runs prune", store),
        ("controls", ()),
        ("report", (cert_id, *store)), ("map", (cert_id, "WORLD", "--out", tmp_path / "map.png", *store)),
        ("config show", ()), ("config write", (tmp_path / "mine",)),
        ("version", ()),
    ]  # fmt: skip
    for name, arguments in steps:
        outcome = command(*name.split(), *arguments, "--json")
        assert "error" not in outcome.json(), (name, outcome.stdout)
        assert outcome.exit_code in (0, 3), name
    elsewhere = {"verify", "runs remove"}  # of which one takes long, the other another store
    assert {name for name, _ in steps} == set(NAMES) - elsewhere
