"""How the tests of the command line run it, and what they get back."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from seg1b.cli.app import application


@dataclass(frozen=True)
class Outcome:
    """What a command printed and how it ended."""

    exit_code: int
    stdout: str
    stderr: str

    def json(self) -> Any:
        """Stdout as one JSON document."""
        return json.loads(self.stdout)

    def error(self) -> dict[str, Any]:
        """The error document."""
        return dict(self.json()["error"])


Command = Callable[..., Outcome]
EVERY_COMMAND = application()


def run_command(*arguments: object) -> Outcome:
    """Run `seg1b` with these arguments, in this process."""
    result = CliRunner().invoke(EVERY_COMMAND, [str(argument) for argument in arguments], prog_name="seg1b")
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return Outcome(result.exit_code, result.stdout, result.stderr)


@dataclass(frozen=True)
class Published:
    """A store with one certification, and what `certify --json` printed."""

    runs: Path
    outcome: Outcome

    @property
    def document(self) -> dict[str, Any]:
        """The certificate with its path."""
        return dict(self.outcome.json())

    @property
    def path(self) -> Path:
        """The certification's folder."""
        return Path(self.document["path"])
