"""The `seg1b` command: one typer app, a file per group of commands.

A command's file is imported when the command, or help, is asked for, and what a command computes with when it runs:
nothing here imports numpy or any other room.
"""

from __future__ import annotations

import atexit
import errno
import gc
import importlib
import json
import os
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn, TextIO

import typer

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
"""Small matrices only: threads of BLAS spin for each other, and a projection takes 20 times as long."""
os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
"""The models of policies use none, and looking for them reads the metadata of every installed package."""

EPILOG = (
    "Exit codes: 0 done, grade reached · 1 internal, or a damaged store · 2 usage, bad input, or a store that is "
    "read-only, full or in use · 3 below the required grade, or vetoed · 4 verification failed · 130 interrupted."
)
COMMANDS = {
    "certify_command": ("certify",),
    "verify_command": ("verify",),
    "witness_command": ("witness",),
    "screen_command": ("screen",),
    "tune_command": ("tune",),
    "wave_commands": ("wave", "ledger"),
    "baseline_commands": ("baseline", "promote", "last-good"),
    "plan_commands": ("status", "integrate", "lock", "reopen"),
    "catalogue_commands": ("catalogue",),
    "guard_command": ("guard",),
    "perf_commands": ("perf",),
    "world_commands": ("world",),
    "runs_commands": ("runs",),
    "check_commands": ("controls",),
    "report_commands": ("report", "map"),
    "config_commands": ("config", "version"),
}
"""File -> the commands and groups that it registers, in the order in which help lists them."""

_OBJECTS_BETWEEN_COLLECTIONS = 100_000
"""A command is a short process: looking for garbage among what it imports took a fifteenth of its time."""


def application(command: str | None = None) -> typer.Typer:
    """The app: with the one command or group that is asked for, or, if it is not known, with all."""
    app = typer.Typer(
        name="seg1b",
        help="Certified synthetic merchant outlet locations on the real Earth.",
        epilog=EPILOG,
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode="markdown",
        pretty_exceptions_enable=False,
    )
    app.callback()(lambda: None)  # of a single command typer would make the app itself
    files = [file for file, names in COMMANDS.items() if command in names] or list(COMMANDS)
    for file in files:
        importlib.import_module(f"seg1b.cli.{file}").register(app)
    return app


def main() -> None:
    """Entry point of the console script; ends the process with the command's exit code."""
    gc.set_threshold(_OBJECTS_BETWEEN_COLLECTIONS)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # whoever started it has closed it
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115 - until the end
    try:
        code = run(sys.argv[1:])
        sys.stdout.flush()  # nobody else does, as `_end` ends it
    except KeyboardInterrupt:  # before there was a command that could say more
        sys.stderr.write("\nInterrupted.\n")
        code = 130
    except OSError as error:  # help or a usage error that is not taken: a command tells its own errors
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EPIPE):
            raise
        _send_nowhere(sys.stdout)
        code = 0
        if error.errno != errno.EPIPE:  # a reader that went away (`| head`) needs no more
            sys.stderr.write(
                f"error  E_OUTPUT_WRITE  standard output cannot be written: {error.strerror}\n"
                "next   make room, or send the output elsewhere\n"
            )
            code = 2
    _end(code)


def _end(code: int) -> NoReturn:
    """End the process. Without threads there is nothing to wait for, and to take Python apart, object by object, would
    take longer than some commands do.
    """
    try:
        sys.stderr.flush()
    except OSError:  # a full disk: words that cannot be told change no exit code
        _send_nowhere(sys.stderr)
    if threading.active_count() > 1:
        sys.exit(code)
    atexit._run_exitfuncs()
    os._exit(code)


def _send_nowhere(stream: TextIO) -> None:
    """What a stream has kept, and what comes, is lost: its other end takes nothing."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def run(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code. With `--json`, a usage error is a JSON document as well."""
    app = application(arguments[0] if arguments else None)
    if "--json" not in arguments:
        return _standalone(app, arguments)
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


def _standalone(app: typer.Typer, arguments: Sequence[str]) -> int:
    try:
        app(list(arguments), prog_name="seg1b")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(bool(end.code))
    return 0


if __name__ == "__main__":
    main()
