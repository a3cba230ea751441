"""What a tuning may set, and whether it changes anything: asked before a store is touched."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from seg1b.errors import InputError
from seg1b.policy.knobs import Setting, Settings, settle
from seg1b.policy.load import (
    POLICY_FILES,
    Policies,
    PolicyFile,
    canonical_json,
    default_policies,
    knobs,
    set_values,
)
from seg1b.states.plan import STATES

SYNTHESIS_PREFIXES = ("s2s", "synthesis")
"""Knobs that only a synthesised catalogue feels: country shares, and the synthesis itself."""


def settled(
    policies: Policies,
    overrides: Mapping[str, Any],
    *,
    catalogue: Path | None = None,
    compares_with_a_run: bool = False,
) -> tuple[Settings, Policies]:
    """What overrides come to, and the policies with them set. `catalogue`: the user's own.

    Raises InputError E_POLICY_*, E_TUNE_KNOB for a knob that no state of a seed depends on, E_TUNE_NO_EFFECT for knobs
    that change no outlet. Without any change policies may still be compared with a run.
    """
    settings = settle(policies, overrides)
    _require_tunable(policies, settings)
    _require_felt(settings, catalogue)
    changed = set_values(policies, settings.values)
    differing = [one for one in settings.changes if _differs(policies, changed, one.knob)]
    if all(one.switch is not None for one in differing) and (differing or not compares_with_a_run):
        raise _nothing_changes(settings, differing)
    return settings, changed


def own_values(policies: Policies) -> dict[str, Any]:
    """What differs from the packaged policies, of all that a seed depends on: with `--set` it makes the run again."""
    packaged, prefixes = knobs(default_policies()), tunable_prefixes(policies)
    return {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in knobs(policies).items()
        if name.split(".")[0] in prefixes and packaged.get(name) != value
    }


def _tunable(policies: Policies) -> tuple[PolicyFile, ...]:
    """The files that a state's key depends on."""
    models = {type(state.policy(policies)) for state in STATES if state.policy is not None}
    return tuple(file for file in POLICY_FILES if file.model in models)


def tunable_prefixes(policies: Policies) -> set[str]:
    """What the knobs begin with that a seed depends on."""
    return {file.prefix for file in _tunable(policies)}


def _require_tunable(policies: Policies, settings: Settings) -> None:
    known = tunable_prefixes(policies)
    for one in settings.changes:
        if one.group not in known:
            path = next(file.path for file in POLICY_FILES if file.prefix == one.group)
            raise InputError(
                "E_TUNE_KNOB",
                f"{one.knob} cannot be tuned: no state of a seed depends on {path}, and a candidate cannot set its own "
                "rules",
                where=f"--set {one.knob}",
                next_step=f"tune knobs of {', '.join(sorted(known))}; {path} is changed in a folder of policies "
                "(`seg1b config write DIR`, then --config DIR)",
            )


def _require_felt(settings: Settings, catalogue: Path | None) -> None:
    shaping = [one.knob for one in settings.changes if one.group in SYNTHESIS_PREFIXES]
    if catalogue is not None and shaping:
        raise InputError(
            "E_TUNE_NO_EFFECT",
            f"{', '.join(shaping)} shapes a synthesised catalogue; outlets per country of your own stay as they are",
            where=str(catalogue),
            next_step="tune without --catalogue, or change knobs of s2w, s4, s5 or s6",
        )


def _differs(policies: Policies, changed: Policies, path: str) -> bool:
    """Whether a knob, or any of a block, has another value, as the models read it."""
    before, after = knobs(policies), knobs(changed)
    names = [name for name in after if name == path or name.startswith(f"{path}.")]
    return any(canonical_json(before.get(name)) != canonical_json(after[name]) for name in names)


def _nothing_changes(settings: Settings, switched_off: list[Setting]) -> InputError:
    switches = {one.switch.knob: one.switch for one in switched_off if one.switch is not None}
    told = [note for note in settings.notes if any(note.startswith(one.knob) for one in switched_off)]
    told += [
        f"{one.knob} is {one.before} already"
        for one in settings.changes
        if one.asked and one not in switched_off
    ]
    would = " and ".join(
        f"`--set {name}={_written(switch.wanted[0])}`"
        + (f" (or {', '.join(map(_written, switch.wanted[1:]))})" if switch.wanted[1:] else "")
        for name, switch in switches.items()
    )
    return InputError(
        "E_TUNE_NO_EFFECT",
        f"this changes nothing, so nothing was run: {'; '.join(told) or 'no knob is named'}",
        where="--set",
        next_step=f"{would} besides lets it have an effect"
        if would
        else "set another value, or another knob",
    )


def _written(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
