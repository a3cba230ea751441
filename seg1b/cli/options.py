"""Options that several commands share."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class Require(StrEnum):
    """What `--require` takes."""

    B_PLUS = "B+"
    B = "B"
    NONE = "none"


class ExecutorName(StrEnum):
    """What `--executor` takes."""

    AUTO = "auto"
    SERIAL = "serial"
    THREADS = "threads"
    RAY = "ray"


Runs = Annotated[Path, typer.Option("--runs", metavar="DIR", help="The run store.")]
Config = Annotated[
    Path | None,
    typer.Option(
        "--config", metavar="DIR", help="Folder of policies. Default: ./config, else the packaged ones."
    ),
]
WorldDirectory = Annotated[
    Path | None, typer.Option("--world", metavar="DIR", help="A user's own world. Default: the embedded one.")
]
Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout, for errors too.")]
RequireGrade = Annotated[Require, typer.Option("--require", help="Exit with 3 below this grade.")]

LARGEST_SEED = 2**64 - 1

RANK = {"below_B": 0, "none": 0, "B": 1, "B+": 2}


def reaches(grade: str, required: Require) -> bool:
    """Whether a grade is at least the one required."""
    return RANK[grade] >= RANK[required.value]
