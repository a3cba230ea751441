"""One small certification for all tests of the command line."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from cli_cases import Command, Published, run_command

from seg1b.policy.load import defaults_directory


@pytest.fixture(name="command", scope="session")
def _command() -> Command:
    return run_command


@pytest.fixture(autouse=True, scope="session")
def _no_width_asked_for() -> Iterator[None]:
    """A width in the environment would break the lines that tests look for."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("COLUMNS", raising=False)
        yield


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Policies of a small synthesis: valid, but far from any grade."""
    folder = tmp_path_factory.mktemp("small") / "config"
    (folder / "policy").mkdir(parents=True)
    name = "policy/catalogue.synthesis.yaml"
    text = (defaults_directory() / name).read_text()
    assert "merchants: 10000" in text
    (folder / name).write_text(text.replace("merchants: 10000", "merchants: 600"))
    return folder


@pytest.fixture(scope="session")
def published(tmp_path_factory: pytest.TempPathFactory, small: Path) -> Published:
    """One seed of the small synthesis, certified serially."""
    runs = tmp_path_factory.mktemp("store") / "runs"
    options = ("--config", small, "--seed", 7, "--executor", "serial", "--json")
    return Published(runs, run_command("certify", "--runs", runs, *options))


@pytest.fixture
def copied(published: Published, tmp_path: Path) -> Path:
    """A copy of the certification elsewhere."""
    return Path(shutil.copytree(published.path, tmp_path / "copy"))
