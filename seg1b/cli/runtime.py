"""What every command shares: where its words go, its log file, and how an error ends it.

Results go to stdout, everything else to stderr; with `--json` stdout carries one JSON document and nothing more, for
errors too. Exit codes: 0 done (grade reached), 1 internal or a damaged store, 2 usage, bad input or a store that cannot
be used as it stands, 3 below `--require` or vetoed, 4 verification failed, 130 interrupted. Heavy imports happen inside
commands, so that `--help` answers at once.
"""

from __future__ import annotations

import json
import logging
import math
import os
import sys
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import typer

from seg1b.cli.layout import listed, wrapped
from seg1b.errors import InputError, Seg1bError

if TYPE_CHECKING:
    from rich.console import Console

    from seg1b.policy.load import Policies

INTERNAL, BELOW, LIES, INTERRUPTED = 1, 3, 4, 130
_LOGGERS = ("seg1b", "cluster", "py.warnings")
_FORMAT = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"


@dataclass
class Session:
    """One command on its way: `json` says whether stdout is for a machine.

    `beside_error`: what the JSON document of an error says besides, for whoever looks for a verdict there.
    """

    command: str
    json: bool
    started: float = field(default_factory=time.perf_counter)
    log_path: Path | None = None
    resumable: bool = False
    beside_error: Mapping[str, Any] = field(default_factory=dict)
    _records: list[logging.LogRecord] = field(default_factory=list)
    _handlers: list[logging.Handler] = field(default_factory=list)
    _out: Console | None = None
    _err: Console | None = None

    @property
    def out(self) -> Console:
        """Console of stdout."""
        if self._out is None:
            self._out = _console(stderr=False)
        return self._out

    @property
    def err(self) -> Console:
        """Console of stderr."""
        if self._err is None:
            self._err = _console(stderr=True)
        return self._err

    def note(self, topic: str, text: str) -> None:
        """Say on stderr, and in the log, what was chosen and why."""
        logging.getLogger("seg1b.cli").info("%s: %s", topic, text)
        if self._err is None and not _may_be_terminal(sys.stderr):
            with _saying(stderr=True):  # what a console would write, which is slow to load
                sys.stderr.write(f"{topic:<9} {text}\n")
            return
        _put(self.err, f"{topic:<9} {text}", 10, "bold", len(topic))

    def emit(self, document: Any) -> None:
        """The JSON result."""
        text = json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False, default=str)
        with _saying(stderr=False):
            sys.stdout.write(text + "\n")
            sys.stdout.flush()

    def line(self, text: str = "", style: str = "", indent: int | None = None) -> None:
        """A line of the readable result; what does not fit goes on below, at `indent`."""
        own = len(text) - len(text.lstrip())
        _put(self.out, text, own + 2 if indent is None else indent, style)

    def item(self, text: str) -> None:
        """An item of a list in the readable result."""
        _put(self.out, f"  - {text}", 4)

    def listed(self, head: str, parts: Sequence[str]) -> None:
        """`head  part; part`; what does not fit stands in lines of its own, below the head."""
        indent = len(head) - len(head.lstrip()) + 4
        _put(self.out, listed(head, parts, _width(self.out), indent), indent)

    def show(self, renderable: Any) -> None:
        """A table or panel of the readable result."""
        self.out.print(renderable)

    # -- the log

    def start_log(self) -> None:
        """Keep records until it is known where they go; warnings also go to the terminal."""
        logging.captureWarnings(True)
        keeper = _Keeper(self._records)
        self._attach(keeper)
        self._attach(_Terminal(self))

    def open_log(self, runs: Path) -> None:
        """From now on log to `<runs>/logs/<time>-<command>-<pid>.log`; a store that cannot be written has no log."""
        name = f"{time.strftime('%Y%m%dT%H%M%S')}-{self.command.replace(' ', '-')}-{os.getpid()}.log"
        try:
            (runs / "logs").mkdir(exist_ok=True)
            handler = logging.FileHandler(runs / "logs" / name, encoding="utf-8")
        except OSError as error:
            logging.getLogger("seg1b.cli").warning("no log file: %s", error)
            return
        self.log_path = runs / "logs" / name
        handler.setFormatter(logging.Formatter(_FORMAT))
        for record in self._records:
            handler.handle(record)
        self._attach(handler)

    def close(self) -> None:
        """Let go of the log."""
        for handler in self._handlers:
            for name in _LOGGERS:
                logging.getLogger(name).removeHandler(handler)
            handler.close()
        self._handlers.clear()
        logging.captureWarnings(False)

    def _attach(self, handler: logging.Handler) -> None:
        self._handlers.append(handler)
        for name in _LOGGERS:
            logger = logging.getLogger(name)
            logger.addHandler(handler)
            if name != "py.warnings":
                logger.setLevel(logging.INFO)
                logger.propagate = False

    # -- errors

    def fail(self, error: Seg1bError) -> None:
        """Say what is wrong, with which input, where, and what to do next."""
        logging.getLogger("seg1b.cli").info("failed: %s", error)
        facts = {
            "code": error.code,
            "message": error.message,
            "where": error.where,
            "next_step": error.next_step,
            "exit_code": error.exit_code,
        }
        self._say(facts)

    def crash(self, error: BaseException) -> None:
        """An error that nobody foresaw: the traceback goes to the log, its path to the terminal."""
        text = "".join(traceback.format_exception(error))
        if self.log_path is None:
            import tempfile

            name = f"seg1b-{time.strftime('%Y%m%dT%H%M%S')}-{os.getpid()}.log"
            self.log_path = Path(tempfile.gettempdir()) / name
        with suppress(OSError), self.log_path.open("a", encoding="utf-8") as log:
            log.write(text)
        self._say(
            {
                "code": "E_INTERNAL",
                "message": f"{type(error).__name__}: {error}",
                "where": str(self.log_path),
                "next_step": "this is a defect of seg1b; report it with the log file named above",
                "exit_code": INTERNAL,
            }
        )

    def tell_machine(self, facts: Mapping[str, Any]) -> bool:
        """An error as the JSON document; False if nobody asked for one, or stdout does not take it."""
        if self.json:
            with suppress(InputError):
                self.emit({**self.beside_error, "error": dict(facts)})
                return True
        return False

    def _say(self, facts: Mapping[str, Any]) -> None:
        if self.tell_machine(facts):
            return
        _put(self.err, f"error  {facts['code']}  {facts['message']}", 7, "bold red", 5)
        for title, key in (("where", "where"), ("next", "next_step")):
            if facts[key]:
                _put(self.err, f"{title:<6} {facts[key]}", 7, "bold", len(title))


class _Keeper(logging.Handler):
    """Keeps records in a list until a log file is open."""

    def __init__(self, records: list[logging.LogRecord]) -> None:
        super().__init__()
        self._records = records

    def emit(self, record: logging.LogRecord) -> None:
        """Keep it, within bounds."""
        if len(self._records) < 1000:
            self._records.append(record)


class _Terminal(logging.Handler):
    """Says warnings on stderr, as other words are said there."""

    def __init__(self, session: Session) -> None:
        super().__init__(logging.WARNING)
        self._session = session

    def emit(self, record: logging.LogRecord) -> None:
        """Say it; with the traceback, if there is one."""
        text = f"{record.levelname}: {record.getMessage()}"
        if record.exc_info:
            text += "\n" + "".join(traceback.format_exception(*record.exc_info)).rstrip()
        with suppress(OSError):  # where nobody reads on, the command may still have work to do
            _put(self._session.err, text, 4)


def _may_be_terminal(stream: TextIO) -> bool:
    """Whether a console on this stream could take it for a terminal: it is one, or the environment says so."""
    return stream.isatty() or any(name in os.environ for name in ("COLUMNS", "FORCE_COLOR", "TTY_COMPATIBLE"))


def _console(*, stderr: bool) -> Console:
    from rich.console import Console

    class Plain(Console):
        """Leaves it to the command what it means that its words cannot be written, or that nobody reads on."""

        def print(self, *objects: Any, **options: Any) -> None:
            with _saying(stderr=self.stderr):
                super().print(*objects, **options)

        def on_broken_pipe(self) -> None:
            raise  # the BrokenPipeError that is being handled

    return Plain(stderr=stderr, highlight=False)


@contextmanager
def _saying(*, stderr: bool) -> Iterator[None]:
    """Write words. If stdout does not take them (a full disk), InputError E_OUTPUT_WRITE; stderr's are lost then."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        if not stderr:
            raise InputError(
                "E_OUTPUT_WRITE", f"the result cannot be written: {error.strerror or error}",
                where="standard output", next_step="make room, or send the output elsewhere",
            ) from error  # fmt: skip


def _width(console: Console) -> float:
    """Columns that lines have to fit: a terminal's, or those asked for with COLUMNS; no limit for a file or a pipe."""
    return console.width if console.is_terminal or "COLUMNS" in os.environ else math.inf


def _put(console: Console, text: str, indent: int, style: str = "", styled: int | None = None) -> None:
    """Print words that fit the console, what goes on below at `indent`; `styled`: so many characters have the style."""
    from rich.text import Text

    shown = Text(wrapped(text, _width(console), indent))
    shown.stylize(style, 0, styled)
    console.print(shown, soft_wrap=True)


@contextmanager
def running(command: str, *, as_json: bool, resumable: bool = False) -> Iterator[Session]:
    """Run a command's body; every way to end becomes an exit code."""
    session = Session(command, as_json, resumable=resumable)
    session.start_log()
    try:
        with _ended_by_errors(session):
            yield session
    except BrokenPipeError:
        with suppress(OSError):  # the reader went away (`| head`): nothing more to say to it
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(0) from None
    finally:
        session.close()


@contextmanager
def _ended_by_errors(session: Session) -> Iterator[None]:
    try:
        yield
    except (typer.Exit, BrokenPipeError):
        raise
    except KeyboardInterrupt:
        logging.getLogger("seg1b.cli").info("interrupted")
        finished = " What is finished is kept: the next run resumes where this one stopped."
        again = finished if session.resumable else ""
        session.err.print()
        _put(session.err, f"Interrupted.{again}", 0)
        facts = {"code": "E_INTERRUPTED", "message": f"interrupted.{again}", "where": "",
                 "next_step": "run the same command again", "exit_code": INTERRUPTED}  # fmt: skip
        session.tell_machine(facts)
        raise typer.Exit(INTERRUPTED) from None
    except Seg1bError as error:
        session.fail(error)
        raise typer.Exit(error.exit_code) from None
    except Exception as error:  # noqa: BLE001 (the last resort: logged with its traceback, never swallowed)
        session.crash(error)
        raise typer.Exit(INTERNAL) from None


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Write what a user asked for at `path`; where that cannot be, InputError E_OUTPUT_WRITE."""
    try:
        yield
    except Seg1bError:
        raise
    except OSError as error:
        raise InputError(
            "E_OUTPUT_WRITE", f"the output cannot be written: {error.strerror or error}",
            where=str(error.filename or path), next_step="name a place that you may write to and that has room",
        ) from error  # fmt: skip


def load_policies(session: Session, config: Path | None) -> Policies:
    """The policies, saying where they come from."""
    from seg1b.policy.load import load_policies as load

    policies = load(config)
    session.note("policies", describe_sources(policies))
    return policies


def describe_sources(policies: Policies) -> str:
    """One line: which folder, and how many files the packaged defaults fill in."""
    own = [source for source in policies.sources.values() if source.origin != "defaults"]
    if not own:
        return "the packaged defaults"
    folder = Path(own[0].path).parent
    folder = folder.parent if folder.name == "policy" else folder
    how = (
        "found in the working directory" if own[0].origin == "working_directory" else "as asked with --config"
    )
    rest = len(policies.sources) - len(own)
    return f"{folder}/ ({how})" + (
        f"; {rest} of {len(policies.sources)} files from the defaults" if rest else ""
    )
