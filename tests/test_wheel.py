"""The wheel, installed into an empty folder, works in an empty working directory without network.

Its dependencies are those of the development environment. Nothing here is skipped: `build` is in the `test` extra.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel and install it into an otherwise empty folder."""
    built, target = tmp_path_factory.mktemp("wheel"), tmp_path_factory.mktemp("installed")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(built), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True, timeout=120)
    (wheel,) = built.glob("seg1b-*.whl")
    install = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-index", "--quiet", "--target"]
    subprocess.run([*install, str(target), str(wheel)], check=True, capture_output=True, timeout=120)
    share_compiled(target)
    return target


def share_compiled(target: Path) -> None:
    """Give installed modules the machine code that numba made of the same source here: compiling again takes a minute.

    numba knows a source by its time and size. A module whose bytes differ gets nothing.
    """
    for source in (ROOT / "seg1b" / "kernels").glob("*.py"):
        installed = target / source.relative_to(ROOT)
        assert installed.read_bytes() == source.read_bytes()
        os.utime(installed, ns=(source.stat().st_atime_ns, source.stat().st_mtime_ns))
        (installed.parent / "__pycache__").mkdir(exist_ok=True)
        for compiled in (source.parent / "__pycache__").glob(f"{source.stem}.*.nb?"):
            shutil.copy(compiled, installed.parent / "__pycache__")


def outcome(installed: Path, folder: Path, *arguments: object) -> str:
    """What the installed command prints in `folder`, with the installed package first on the path."""
    environment = {**os.environ, "PYTHONPATH": str(installed), "PIP_NO_INDEX": "1"}
    command = [sys.executable, str(installed / "bin" / "seg1b"), *map(str, arguments)]
    done = subprocess.run(
        command, cwd=folder, env=environment, check=False, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def run(installed: Path, folder: Path, *arguments: str) -> Any:
    """What it prints as JSON."""
    return json.loads(outcome(installed, folder, *arguments, "--json"))


def test_it_is_the_wheel_that_runs(installed: Path, tmp_path: Path) -> None:
    """Not this repository, wherever the development environment has it from."""
    code = "import cluster, seg1b, seg1b.kernels.philox as p; print(cluster.__file__, seg1b.__file__, p.__file__)"
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=environment,
        check=True,
        capture_output=True,
        text=True,
    )
    assert all(Path(name).is_relative_to(installed) for name in done.stdout.split())
    assert "certify" in outcome(installed, tmp_path, "--help")


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


def test_the_wheel_certifies_and_verifies(installed: Path, tmp_path: Path) -> None:
    """Three countries of the packaged world in an empty folder, and a copy of the certification checked elsewhere."""
    here, elsewhere = tmp_path / "here", tmp_path / "elsewhere"
    here.mkdir()
    elsewhere.mkdir()
    rows = [f"{merchant},{iso},{1 + merchant % 5}" for merchant in range(1, 31) for iso in ("BR", "FJ", "NA")]
    (here / "mine.csv").write_text("\n".join(("merchant_id,country,n_sites", *rows)))
    options = ("--catalogue", "mine.csv", "--executor", "serial", "--seed", "42", "--require", "none")
    certificate = run(installed, here, "certify", *options)
    assert [certificate[name] for name in ("gates_are_the_packaged_ones", "world_is_the_packaged_one")] == [
        True
    ] * 2
    assert all(check["passed"] for entry in certificate["seeds"] for check in entry["checks"])
    (pack,) = (here / "runs/certifications").iterdir()
    shutil.copytree(pack, elsewhere / "copy")
    shutil.rmtree(here)
    report = run(installed, elsewhere, "verify", "copy")
    assert (report["ok"], report["partially"], report["findings"]) == (True, False, [])
    assert report["cert_id"] == certificate["cert_id"] == pack.name


def test_the_wheel_is_typed_small_and_carries_cluster(installed: Path) -> None:
    """`py.typed` tells type checkers that the annotations count."""
    assert (installed / "seg1b" / "py.typed").is_file()
    assert (installed / "cluster" / "executor.py").is_file()
    files = [path for path in (installed / "seg1b").rglob("*") if path.is_file()]
    size_bytes = sum(path.stat().st_size for path in files if "__pycache__" not in path.parts)
    assert size_bytes < 20_000_000
