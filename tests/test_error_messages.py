"""Every error that a person meets says where and what to do next."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOR_PEOPLE = {"InputError", "StoreError", "StoreAccessError", "VetoError"}
"""`ContractError` and `VerificationError` are about seg1b itself: the log has their traceback."""
FILES = sorted(
    path
    for room in ("seg1b", "cluster")
    for path in (ROOT / room).rglob("*.py")
    if "kernels" not in path.parts  # pure functions on arrays know no file and no option
)


def lacking(source: str) -> Iterator[str]:
    """Constructions of errors for people without `where` or `next_step`."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in FOR_PEOPLE:
            said = {one.arg for one in node.keywords if not _may_be_empty(one.value)}
            missing = {"where", "next_step"} - said
            if missing:
                yield f"line {node.lineno}: {ast.unparse(node.args[0])} without {', '.join(sorted(missing))}"


def _may_be_empty(value: ast.expr) -> bool:
    choices = (value.body, value.orelse) if isinstance(value, ast.IfExp) else (value,)
    return any(isinstance(one, ast.Constant) and one.value == "" for one in choices)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_errors_say_where_and_what_next(path: Path) -> None:
    """Whatever they are about."""
    assert list(lacking(path.read_text())) == []


def test_an_error_that_does_not_would_be_found() -> None:
    """The look above is not blind."""
    for wrong in ("", ', next_step=""', ', next_step="" if x else y'):
        source = f'raise InputError("E_X", "bad", where="here"{wrong})'
        assert list(lacking(source)) == ["line 1: 'E_X' without next_step"]
