"""Rooms import only downward, and Ray lives in `cluster` alone."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def imported_modules(path: Path) -> set[str]:
    """Top-level names of everything that a file imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            found.add(node.module.split(".")[0])
    return found


def lint_imports(config: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run import-linter."""
    code = "import sys; from importlinter.cli import lint_imports_command; sys.exit(lint_imports_command())"
    return subprocess.run(
        [sys.executable, "-c", code, "--config", str(config), "--no-cache"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )


def test_every_layer_contract_is_kept() -> None:
    """import-linter finds no broken contract, and all contracts are there."""
    done = lint_imports(ROOT / "pyproject.toml", ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"Contracts: (\d+) kept, 0 broken", done.stdout), done.stdout
    for name in (
        "rooms import only downward", "only cluster knows Ray", "commands work through lanes",
        "cluster knows lanes, states and store", "lanes do no numeric work", "reports decide nothing",
        "no state but S9 scores",
    ):  # fmt: skip
        assert f"{name} KEPT" in done.stdout


def test_an_upward_import_would_be_found(tmp_path: Path) -> None:
    """The same kind of contract breaks on a package whose kernels import a state: the check above can fail."""
    for name, text in {"kernels": "import house.states\n", "states": ""}.items():
        (tmp_path / "house" / name).mkdir(parents=True)
        (tmp_path / "house" / name / "__init__.py").write_text(text)
    (tmp_path / "house" / "__init__.py").write_text("")
    config = tmp_path / "pyproject.toml"
    config.write_text(
        '[tool.importlinter]\nroot_package = "house"\n[[tool.importlinter.contracts]]\nname = "down"\n'
        'type = "layers"\nlayers = ["house.states", "house.kernels"]\n'
    )
    done = lint_imports(config, tmp_path)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "down BROKEN" in done.stdout


FOUNDATIONS = {"errors", "cpus", "forks", "later", "__version__"}
"""Files that belong to no room and import none: what is wrong, how many CPUs, work that copies of the process share,
values that come later."""

MAY_IMPORT = {
    "cli": {"api", "lanes", "cluster", "report", "catalogue", "policy", "store", "world"},
    "cluster": {"lanes", "states", "store"},
    "lanes": {"states", "scoring", "report", "catalogue", "store", "policy", "world"},
    "report": {"scoring", "world", "store"},
    "scoring": {"kernels", "world", "policy", "store"},
    "states": {"kernels", "world", "catalogue", "policy", "store"},
    "catalogue": {"kernels", "world", "policy", "store"},
    "world": {"kernels"},
    "policy": {"kernels"},
    "store": {"kernels"},
    "kernels": set(),
}
"""The architecture card's arrows. Beyond it, lanes pass worlds on, and the command line opens what it shows."""
S9_SCORES = {("s9_validation", "scoring"), ("s9_findings", "scoring"), ("seed_tables", "scoring")}


def rooms_imported(path: Path) -> set[str]:
    """Rooms whose modules a file imports, wherever in it; `if TYPE_CHECKING` counts too."""
    found = set()
    for node in ast.walk(ast.parse(path.read_bytes())):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        for name in names:
            first, _, rest = name.partition(".")
            if first == "cluster" or (first == "seg1b" and rest):
                found.add("cluster" if first == "cluster" else rest.split(".")[0])
    return found


@pytest.mark.parametrize("room", sorted(MAY_IMPORT))
def test_every_room_imports_only_what_the_card_lets_it(room: str) -> None:
    """File by file, without import-linter: its contracts and this table must both be loosened to hide an arrow."""
    folder = ROOT / "cluster" if room == "cluster" else ROOT / "seg1b" / room
    files = sorted(folder.rglob("*.py"))
    assert files
    strange = {
        (path.stem, other)
        for path in files
        for other in rooms_imported(path) - MAY_IMPORT[room] - {room} - FOUNDATIONS
    }
    assert strange - (S9_SCORES if room == "states" else set()) == set()


def test_every_room_is_in_the_layer_contract() -> None:
    """A new room that nobody put into the contract would be unchecked."""
    text = (ROOT / "pyproject.toml").read_text()
    rooms = {path.parent.name for path in (ROOT / "seg1b").glob("*/__init__.py")}
    assert {room for room in rooms if f"seg1b.{room}" not in text} == set()
    assert rooms | {"cluster"} == set(MAY_IMPORT)


@pytest.mark.parametrize("path", sorted((ROOT / "seg1b").rglob("*.py")), ids=lambda p: p.stem)
def test_no_file_of_the_package_imports_ray(path: Path) -> None:
    """Also not inside a function or under TYPE_CHECKING."""
    assert "ray" not in imported_modules(path)


def test_the_scan_for_ray_can_find_it() -> None:
    """The executor of the cluster does import it."""
    assert any("ray" in imported_modules(path) for path in (ROOT / "cluster").glob("*.py"))
