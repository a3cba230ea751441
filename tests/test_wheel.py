"""The wheel, installed into an empty folder, works in an empty working directory without network."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel and unpack it into an otherwise empty folder."""
    pytest.importorskip("hatchling")
    pytest.importorskip("build")
    built, target = tmp_path_factory.mktemp("wheel"), tmp_path_factory.mktemp("installed")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(built), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True, timeout=120)
    (wheel,) = built.glob("seg1b-*.whl")
    install = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-index", "--quiet", "--target"]
    subprocess.run([*install, str(target), str(wheel)], check=True, capture_output=True, timeout=120)
    return target


def run(installed: Path, folder: Path, *arguments: str) -> Any:
    """The installed command in `folder`, with the installed package first on the path."""
    environment = {**os.environ, "PYTHONPATH": str(installed), "PIP_NO_INDEX": "1"}
    done = subprocess.run(
        [sys.executable, str(installed / "bin" / "seg1b"), *arguments, "--json"],
        cwd=folder, env=environment, check=True, capture_output=True, timeout=60,
    )  # fmt: skip
    return json.loads(done.stdout)


def test_the_defaults_travel_inside_the_package(installed: Path, tmp_path: Path) -> None:
    """Every policy file comes from the wheel, none from this repository."""
    facts = run(installed, tmp_path, "config", "show")
    assert {entry["origin"] for entry in facts["files"].values()} == {"defaults"}
    assert all(
        Path(entry["path"]).is_relative_to(installed / "seg1b" / "_config")
        for entry in facts["files"].values()
    )
    assert not list(tmp_path.iterdir())


def test_the_world_travels_inside_the_package(installed: Path, tmp_path: Path) -> None:
    """With its attribution."""
    facts = run(installed, tmp_path, "world", "info")
    assert facts["counts"]["countries"] == 250
    assert facts["attribution"]


def test_the_wheel_is_typed_small_and_carries_cluster(installed: Path) -> None:
    """`py.typed` tells type checkers that the annotations count."""
    assert (installed / "seg1b" / "py.typed").is_file()
    assert (installed / "cluster" / "executor.py").is_file()
    size_bytes = sum(path.stat().st_size for path in (installed / "seg1b").rglob("*") if path.is_file())
    assert size_bytes < 20_000_000
