"""`seg1b config show|write` and `seg1b version`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from seg1b.cli.options import Config, Json, Runs
from seg1b.cli.runtime import describe_sources, running

SHOW_HELP = """Every knob with its value and where it came from.

A policy file is looked for in `--config`, else in `./config`, else among the packaged defaults; a file that the
folder lacks comes from the defaults. The knobs' names are those of `seg1b tune --set`.

Examples:

    seg1b config show

    seg1b config show --config ./mine --json

Exit codes: 0 shown · 2 a policy file cannot be read or is not valid.
"""

WRITE_HELP = """Write a complete folder of policies: the ones in force, or those that a run was made with.

This is how a candidate that you keep becomes what you work on: name the folder with `--config`, or call it `config`.
Every file is written, without the packaged comments. A folder that holds policies is not overwritten.

Examples:

    seg1b config write config --run candidate

    seg1b config write mine --run 8c41f0 --runs /data/runs

Exit codes: 0 written · 2 no such run, or the folder holds policies already: nothing has changed.
"""

VERSION_HELP = """The version of seg1b and of what it computes with.

Examples:

    seg1b version

    seg1b version --json

Exit codes: 0 shown.
"""


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(help="The governed policies.", no_args_is_help=True)
    group.callback()(lambda: None)
    group.command("show", help=SHOW_HELP)(show)
    group.command("write", help=WRITE_HELP)(write)
    app.add_typer(group, name="config")
    app.command("version", help=VERSION_HELP)(version)


def show(config: Config = None, as_json: Json = False) -> None:
    """See SHOW_HELP."""
    with running("config show", as_json=as_json) as session:
        from seg1b.policy.load import POLICY_FILES, gates_hash, knobs, load_policies, parameter_hash

        policies = load_policies(config)
        session.note("policies", describe_sources(policies))
        values = knobs(policies)
        found: dict[str, dict[str, Any]] = {}
        for file in POLICY_FILES:
            source = policies.sources[file.path]
            for name in [name for name in values if name.startswith(f"{file.prefix}.")]:
                found[name] = {"value": values[name], "origin": source.origin, "path": source.path}
        if as_json:
            session.emit({
                "parameter_hash": parameter_hash(policies),
                "gates_hash": gates_hash(policies),
                "files": {
                    path: {"origin": source.origin, "path": source.path} for path, source in policies.sources.items()
                },
                "knobs": found,
            })  # fmt: skip
            return
        for file in POLICY_FILES:
            session.line(f"{file.path}  from {policies.sources[file.path]}", style="bold")
            names = [name for name in found if name.startswith(f"{file.prefix}.")]
            width = max(map(len, names))
            for name in names:
                session.line(f"  {name:<{width}}  {_shown(found[name]['value'])}")
        session.line(f"parameter_hash {parameter_hash(policies)}\ngates_hash     {gates_hash(policies)}")


def _shown(value: Any) -> str:
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(str, value)) + "]"
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def write(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The folder to write.", show_default=False)],
    run: Annotated[
        str | None, typer.Option("--run", metavar="RUN", help="last_good, baseline, candidate or a run.")
    ] = None,
    runs: Runs = Path("runs"),
    config: Config = None,
    as_json: Json = False,
) -> None:
    """See WRITE_HELP."""
    with running("config write", as_json=as_json) as session:
        from seg1b.policy.load import load_policies
        from seg1b.policy.write import write_policies

        if run is None:
            policies = load_policies(config)
        else:
            from seg1b.lanes.stored_run import load_run
            from seg1b.store.store import Store

            with Store.open(runs, create=False) as store:
                policies = load_run(store, run).policies()
        paths = write_policies(policies, folder)
        if as_json:
            session.emit({"folder": str(folder), "files": [str(path) for path in paths]})
        else:
            session.line(f"wrote {len(paths)} policy files into {folder}/")


def version(as_json: Json = False) -> None:
    """See VERSION_HELP."""
    with running("version", as_json=as_json) as session:
        import importlib.metadata
        import platform

        import seg1b

        found = {"seg1b": seg1b.__version__, "python": platform.python_version()}
        for name in ("numpy", "numba", "pyarrow", "polars", "scipy", "ray"):
            try:
                found[name] = importlib.metadata.version(name)
            except importlib.metadata.PackageNotFoundError:
                found[name] = "not installed"
        if as_json:
            session.emit(found)
        else:
            for name, number in found.items():
                session.line(f"{name:<8} {number}")
