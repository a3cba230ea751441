"""In 80 columns nothing is cut, and no line is longer but for a path that stands alone."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from cli_cases import Command, Outcome, Published


class Screen:
    """Commands on a store with a lock and an open wave, as a terminal of 80 columns shows them."""

    def __init__(self, command: Command, runs: Path, config: Path) -> None:
        self._command, self.runs, self._config = command, runs, config

    def __call__(self, name: str, *arguments: object) -> Outcome:
        """Run one with `--runs`; every line has to fit."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("COLUMNS", "80")
            outcome = self._command(*name.split(), *arguments, "--runs", self.runs)
        for line in (outcome.stdout + outcome.stderr).splitlines():
            assert "…" not in line, line
            assert len(line) <= 80 or " " not in line.strip(), line
        return outcome

    def tune(self, *settings: str) -> Outcome:
        """Tune seed 7."""
        sets = [text for setting in settings for text in ("--set", setting)]
        return self("tune", "--config", self._config, "--seed", 7, *sets)


@pytest.fixture(scope="module")
def screen(
    command: Command, published: Published, small: Path, tmp_path_factory: pytest.TempPathFactory
) -> Screen:
    """P1 is locked with the certified run; one candidate of three knobs, one that is vetoed."""
    runs = tmp_path_factory.mktemp("screen") / "runs"
    shutil.copytree(published.runs, runs)
    return Screen(command, runs, small)


@pytest.fixture(scope="module")
def locked(screen: Screen, published: Published) -> str:
    """What `lock` printed."""
    run_id = published.document["seeds"][0]["run_id"]
    screen("baseline pin", run_id)
    return screen("lock", "P1", "--run", run_id).stdout


@pytest.fixture(scope="module")
def tuned(screen: Screen, locked: str) -> str:
    """What `tune` printed."""
    assert screen.tune("gates.market_slope.min=5").exit_code == 3
    return screen.tune("s6.component_weights.sparse_tail=0.01").stdout


def test_a_knob_stands_whole_in_a_line_of_its_own(tuned: str) -> None:
    """Below the state that it made run again; the names of a lock's rows are short enough for the table."""
    lines = tuned.splitlines()
    assert "    s6.cluster_v3.component_weights.secondary 0.3 -> 0.37125;" in lines
    assert any(line.startswith("lock country_gini ") for line in lines)
    assert any(line.startswith("lock country_coverage ") for line in lines)
    assert "wave-0001 has 2 of 2 candidates:" in tuned


@pytest.mark.usefixtures("tuned")
@pytest.mark.parametrize("name", ["wave show", "ledger", "status"])
def test_candidates_are_whole_wherever_they_are_listed(screen: Screen, name: str) -> None:
    """Every change in one line; continued lines are indented."""
    told = screen(name).stdout
    assert "s6.cluster_v3.component_weights.sparse_tail 0.2 -> 0.01" in told
    assert "market_slope" in told


@pytest.mark.usefixtures("tuned")
def test_ledger_entries_begin_with_their_time_and_only_they(screen: Screen) -> None:
    """What goes on below is indented."""
    lines = screen("ledger").stdout.splitlines()
    assert all(line[:2] in ("20", "  ") for line in lines)
    kinds = [line[22:].split()[0] for line in lines if line.startswith("20")]
    assert kinds[-4:] == ["baseline_pinned", "locked", "candidate", "candidate"]  # after the store's own


def test_a_lock_says_what_it_froze(locked: str) -> None:
    """A list of files goes on below itself."""
    lines = locked.splitlines()
    first = lines.index("frozen: policy/s1.tile_index.yaml, policy/s2.tile_weights.yaml,")
    assert lines[first + 1] == "        policy/s2.country_shares.yaml"


@pytest.mark.usefixtures("tuned")
def test_sizes_and_budgets(screen: Screen, published: Published) -> None:
    """Small outputs have bytes; the caps stand below their word; times have their clocks as titles."""
    used = screen("runs du", "--items").stdout
    assert "\nfree to go " in used
    assert "\ncaps: " in used
    screen("wave drop")
    pruned = screen("runs prune").stdout
    assert "0.0 MB" not in pruned
    assert " kB" in pruned
    run_id = published.document["seeds"][0]["run_id"]
    assert screen("perf baseline", run_id).exit_code == 0
    head = next(line for line in screen("perf check", run_id).stdout.splitlines() if "stage" in line)
    assert head.split() == ["stage", "wall_s", "target", "stretch", "cpu_s", "baseline", "change"]


@pytest.mark.usefixtures("tuned")
def test_errors_go_on_below_their_first_word(screen: Screen) -> None:
    """Message, where and next step."""
    told = screen.tune("s2.mix.area=0.02").stderr.splitlines()
    error = told[next(i for i, line in enumerate(told) if line.startswith("error")) :]
    assert len(error) > 3
    assert all(line[:7] in ("error  ", "where  ", "next   ", " " * 7) for line in error)


def test_a_pipe_gets_a_line_for_a_line(command: Command, screen: Screen, tuned: str) -> None:
    """Without a width nothing is broken, so that entries can be searched by line."""
    lines = command("ledger", "--runs", screen.runs, "--kind", "candidate").stdout.splitlines()
    assert len(lines) == 2
    assert "better: " in lines[1]
