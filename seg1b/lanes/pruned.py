"""What the ledger still knows of a run that is not in the store any more."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from seg1b.errors import InputError
from seg1b.store.store import Store

OWN_VALUES = "own_values"
"""Entry of a receipt's lineage: what its policies had otherwise than the packaged ones; the ledger keeps it."""

_PREFIX_DIGITS = 6


def resolve_run(store: Store, text: str, names: Sequence[str] = ()) -> str:
    """A run id from a run or a unique prefix of it. `names`: what the caller takes besides, for the suggestion.

    Raises InputError E_STORE_UNKNOWN_ID, or E_RUN_PRUNED for one that the ledger knows: when and why it went, and how
    to make it again.
    """
    try:
        return store.receipts.resolve(text, names)
    except InputError as unknown:
        known = _remembered(store)
        found = [run_id for run_id in known if run_id.startswith(text) and len(text) >= _PREFIX_DIGITS]
        if len(found) != 1 or found[0] in store.receipts.run_ids():
            raise
        raise _pruned(store, found[0], known[found[0]]) from unknown


def _remembered(store: Store) -> dict[str, dict[str, Any]]:
    """By run id, what entries of the ledger say of it, the later ones first where they differ."""
    known: dict[str, dict[str, Any]] = {}
    waves: dict[str, dict[str, Any]] = {}
    for entry in store.ledger.entries():
        kind = entry.get("kind")
        if kind == "pruned":
            for run in entry["runs"]:
                known.setdefault(run["run_id"], {}).update({**run, "pruned": entry["at"]})
        elif kind == "wave_closed":
            waves[entry["wave"]] = entry
        elif isinstance(entry.get("run_id"), str):
            told = ("seed", "settings", "wave")
            known.setdefault(entry["run_id"], {}).update(
                {name: entry[name] for name in told if name in entry}
            )
    for run_id, facts in known.items():
        closed = waves.get(facts.get("wave", ""))
        if closed is not None and closed["kept"] != run_id:
            facts["closed"] = closed["at"]
    return known


def _pruned(store: Store, run_id: str, facts: Mapping[str, Any]) -> InputError:
    when = f" at {facts['pruned']}" if "pruned" in facts else ""
    why = "no pointer, lock, open wave, certification or running command held it"
    if "closed" in facts:
        why += f" ({facts['wave']} was closed without it at {facts['closed']})"
    what = [f"seed {facts['seed']}"] if "seed" in facts else []
    what += [f"a {facts['lane']} run"] if "lane" in facts else []
    what += [facts["settings"]] if "settings" in facts else []
    said = f"; it was {', '.join(what)}" if what else ""
    return InputError(
        "E_RUN_PRUNED",
        f"run {run_id[:12]} was pruned{when}: {why}{said}",
        where=str(store.layout.ledger),
        next_step=_again(facts) + "choose another run of `seg1b runs list`",
    )


def _again(facts: Mapping[str, Any]) -> str:
    """How to make the run again, as far as the ledger knows."""
    if "seed" not in facts or OWN_VALUES not in facts:
        return "make it again with the policies that it had, or "
    own = facts[OWN_VALUES]
    catalogue = " --catalogue FILE" if facts.get("catalogue_origin") == "user" else ""
    if not own:
        return f"`seg1b certify --seed {facts['seed']}{catalogue}` with the packaged policies makes it again, or "
    sets = "".join(f" --set {name}={_typed(value)}" for name, value in own.items())
    return (
        f"`seg1b tune --seed {facts['seed']}{catalogue}{sets}` from the packaged policies makes the same outputs "
        "again, or "
    )


def _typed(value: Any) -> str:
    """A value as `--set` reads it."""
    text = value if isinstance(value, str) else json.dumps(value)
    return text if text.isascii() and not set(text) & set(" \"'[]{}$*") else f"'{text}'"
