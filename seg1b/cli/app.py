"""The `seg1b` command: one typer app, a file per group of commands.

Nothing here imports numpy or any other room: every command does so when it runs.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from typing import Any

import typer

from seg1b.cli import (
    baseline_commands,
    catalogue_commands,
    certify_command,
    check_commands,
    config_commands,
    guard_command,
    perf_commands,
    plan_commands,
    report_commands,
    runs_commands,
    screen_command,
    tune_command,
    verify_command,
    wave_commands,
    witness_command,
    world_commands,
)

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
"""Small matrices only: threads of BLAS spin for each other, and a projection takes 20 times as long."""

EPILOG = (
    "Exit codes: 0 done, grade reached · 1 internal · 2 usage or bad input · 3 below the required grade · "
    "4 verification failed · 130 interrupted."
)

app = typer.Typer(
    name="seg1b",
    help="Certified synthetic merchant outlet locations on the real Earth.",
    epilog=EPILOG,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)

for module in (
    certify_command,
    verify_command,
    witness_command,
    screen_command,
    tune_command,
    wave_commands,
    baseline_commands,
    plan_commands,
    catalogue_commands,
    guard_command,
    perf_commands,
    world_commands,
    runs_commands,
    check_commands,
    report_commands,
    config_commands,
):
    module.register(app)


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of the console script; ends the process with the command's exit code."""
    sys.exit(run(sys.argv[1:] if arguments is None else arguments))


def run(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code. With `--json`, a usage error is a JSON document as well."""
    if "--json" not in arguments:
        return _standalone(arguments)
    try:
        code: Any = app(list(arguments), prog_name="seg1b", standalone_mode=False)
    except Exception as error:
        if not hasattr(error, "format_message"):
            raise
        facts = {
            "code": "E_USAGE",
            "message": error.format_message(),
            "where": "seg1b " + " ".join(arguments),
            "next_step": "`seg1b COMMAND --help` lists options with examples",
            "exit_code": 2,
        }
        sys.stdout.write(json.dumps({"error": facts}, indent=2) + "\n")
        return 2
    return int(code or 0)


def _standalone(arguments: Sequence[str]) -> int:
    try:
        app(list(arguments), prog_name="seg1b")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(bool(end.code))
    return 0


if __name__ == "__main__":
    main()
