"""Knobs as a person types them: short forms of their paths, and shares of one mix that are rescaled together.

`s6.component_weights.sparse_tail` means the weight of the block that `s6.mode` switches on. Shares that must sum to 1
and are not named are scaled by one factor, so that their ratios stay.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from seg1b.errors import InputError
from seg1b.policy.base import exact_fraction
from seg1b.policy.load import POLICY_FILES, Policies, knobs
from seg1b.policy.validate import did_you_mean

MIXES = (
    re.compile(r"s2w\.mix"),
    re.compile(r"s6\.[a-z_0-9]+\.component_weights"),
)
"""Blocks whose members must sum to 1."""

_DECIMALS = 12
_PREFIXES = tuple(file.prefix for file in POLICY_FILES)


_V1_JITTER = ("mixture_v2", "uniform_v1")
FELT_IN: Mapping[str, tuple[str, tuple[Any, ...]]] = {
    "s4.two_stage": ("s4.mode", ("two_stage_pps",)),
    "s4.guard.soft": ("s4.mode", ("two_stage_pps", "largest_remainder_v1")),
    "s4.guard.hard": ("s4.mode", ("largest_remainder_v1",)),
    "s4.largest_remainder_v1": ("s4.mode", ("largest_remainder_v1",)),
    "s5.v1_manifest_fingerprint": ("s5.rng", ("v1",)),
    "s6.cluster_v3": ("s6.mode", ("cluster_v3",)),
    "s6.mixture_v2": ("s6.mode", ("mixture_v2",)),
    "s6.uniform_v1": ("s6.mode", ("uniform_v1",)),
    "s6.v1_manifest_fingerprint": ("s6.mode", _V1_JITTER),
}
"""Blocks and knobs that only some values of another knob let have an effect; a block's own `enabled` is one more."""


@dataclass(frozen=True)
class Switch:
    """A knob whose value `now` keeps another from having an effect; it would have one with a value of `wanted`."""

    knob: str
    now: Any
    wanted: tuple[Any, ...]


@dataclass(frozen=True)
class Setting:
    """One knob that changes: `asked` by name, or rescaled because a share beside it was.

    `switch`: why it has no effect; None if it may have one.
    """

    knob: str
    before: Any
    after: Any
    asked: bool
    switch: Switch | None = None

    @property
    def group(self) -> str:
        """The policy file's prefix: knobs of one file are one group."""
        return self.knob.split(".")[0]


@dataclass(frozen=True)
class Settings:
    """What an override comes to: every knob that changes."""

    changes: tuple[Setting, ...]

    @property
    def notes(self) -> tuple[str, ...]:
        """What was asked for and can have no effect."""
        return tuple(
            f"{one.knob} has no effect while {one.switch.knob} is {one.switch.now}"
            for one in self.changes
            if one.asked and one.switch is not None
        )

    @property
    def values(self) -> dict[str, Any]:
        """Value by full path, as `set_values` takes it."""
        return {change.knob: change.after for change in self.changes}

    @property
    def groups(self) -> tuple[str, ...]:
        """The policy files that are touched, in the order of the chain."""
        touched = {change.group for change in self.changes if change.before != change.after}
        return tuple(prefix for prefix in _PREFIXES if prefix in touched)


def settle(policies: Policies, overrides: Mapping[str, Any]) -> Settings:
    """Overrides as typed, with full paths and rescaled shares. Validates no value: `set_values` does that.

    Raises InputError E_POLICY_UNKNOWN_KNOB, E_POLICY_AMBIGUOUS_KNOB, E_OPTION_SET (one knob named twice) or
    E_POLICY_MIX_SUM (the named shares leave nothing, or nobody, for the rest).
    """
    known = knobs(policies)
    asked: dict[str, Any] = {}
    for typed, value in overrides.items():
        path = full_path(policies, typed, overrides)
        if path in asked:
            raise InputError(
                "E_OPTION_SET", f"{typed!r} and another name both mean {path}", where=typed,
                next_step="name each knob once",
            )  # fmt: skip
        asked[path] = 0.0 if isinstance(value, float) and value == 0.0 else value  # -0.0 is zero
    rescaled = _rescaled(known, asked)
    both = {**asked, **rescaled}
    order = [name for name in known if name in both] + [name for name in asked if name not in known]
    return Settings(
        tuple(
            Setting(name, known.get(name), both[name], name in asked, _switch(known, asked, name))
            for name in order
        )
    )


def full_path(policies: Policies, typed: str, overrides: Mapping[str, Any] | None = None) -> str:
    """The knob that a short form means: its parts in order, some left out, the last one given.

    The first part may be a file's prefix, the beginning of several (`s2`), or be left out. Among blocks of which one
    is switched on by `mode` (as it is, or as `overrides` set it), that one is meant.
    Raises InputError E_POLICY_UNKNOWN_KNOB or E_POLICY_AMBIGUOUS_KNOB.
    """
    known = knobs(policies)
    text = typed.strip()
    blocks = _blocks(known)
    if text in known or text in blocks:
        return text
    steps = text.split(".")
    matches = [name for name in known if _abbreviates(steps, name.split("."))]
    if len(matches) > 1:
        matches = _switched_on(policies, matches, overrides or {}) or matches
    if len(matches) == 1:
        return matches[0]
    if matches:
        raise InputError(
            "E_POLICY_AMBIGUOUS_KNOB", f"{text!r} may mean {_listed(matches)}", where=text,
            next_step="write more of the path",
        )  # fmt: skip
    raise _unknown(text, known, _switched_on(policies, list(known), overrides or {}))


def _listed(names: Sequence[str], at_most: int = 4) -> str:
    more = f" or {len(names) - at_most} others" if len(names) > at_most else ""
    return " or ".join(names[:at_most]) + more


def _blocks(known: Iterable[str]) -> set[str]:
    found = set()
    for name in known:
        steps = name.split(".")
        found |= {".".join(steps[:length]) for length in range(2, len(steps))}
    return found


def _abbreviates(steps: Sequence[str], path: Sequence[str]) -> bool:
    """Whether `steps` are `path` with some parts left out, but the last and a prefix that was given."""
    if not all(steps) or steps[-1] != path[-1]:
        return False
    if steps[0] != path[0]:
        if steps[0] in _PREFIXES:
            return False
        if path[0].startswith(steps[0]) and any(prefix.startswith(steps[0]) for prefix in _PREFIXES):
            steps = [path[0], *steps[1:]]
    rest = iter(path)
    return all(step in rest for step in steps)


def _switched_on(policies: Policies, matches: Sequence[str], overrides: Mapping[str, Any]) -> list[str]:
    """Those of `matches` that no `mode` of their file switches off."""
    kept = []
    for name in matches:
        modes = _modes(policies, name.split(".")[0], overrides)
        if modes is None or name.split(".")[1] not in modes[1] or name.split(".")[1] == modes[0]:
            kept.append(name)
    return kept


def _modes(policies: Policies, prefix: str, overrides: Mapping[str, Any]) -> tuple[str, set[str]] | None:
    """The mode of a file, and the blocks that are named after a mode."""
    file = next(file for file in POLICY_FILES if file.prefix == prefix)
    tree = getattr(policies, file.attribute).model_dump()
    if "mode" not in tree:
        return None
    mode = str(overrides.get(f"{prefix}.mode", tree["mode"]))
    return mode, {
        name for name, value in tree.items() if isinstance(value, dict) and re.search(r"_v\d+$|pps$", name)
    }


def _switch(known: Mapping[str, Any], values: Mapping[str, Any], knob: str) -> Switch | None:
    """The switch that keeps `knob` from having an effect, once `values` are set; None if it has one."""
    block = knob.rpartition(".")[0]
    felt = {name: modes for name, modes in FELT_IN.items() if knob == name or knob.startswith(f"{name}.")}
    conditions = [*felt.values()]
    if f"{block}.enabled" in known and knob != f"{block}.enabled":
        conditions.append((f"{block}.enabled", (True,)))
    for name, wanted in conditions:
        now = values.get(name, known[name])
        if now not in wanted:
            return Switch(name, now, wanted)
    return None


def _rescaled(known: Mapping[str, Any], asked: Mapping[str, Any]) -> dict[str, float]:
    """The shares that change of every mix of which some, but not all, are asked for; by full path."""
    found: dict[str, float] = {}
    for block in dict.fromkeys(name.rpartition(".")[0] for name in asked):
        if not any(pattern.fullmatch(block) for pattern in MIXES):
            continue
        members = [name for name in known if name.rpartition(".")[0] == block]
        rest = [name for name in members if name not in asked]
        given = [asked[name] for name in members if name in asked]
        numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in given)
        if not rest or not numbers or any(not 0 <= value <= 1 for value in given):
            continue  # the model says what is wrong with a value
        left = 1 - sum((exact_fraction(float(value)) for value in given), Fraction(0))
        shares = {name: exact_fraction(known[name]) for name in rest}
        total = sum(shares.values(), Fraction(0))
        if left < 0 or (left > 0 and total == 0):
            what = "more than 1" if left < 0 else "less than 1, and the others are 0 and cannot be scaled"
            raise InputError(
                "E_POLICY_MIX_SUM", f"the shares given for {block} sum to {what}", where=block,
                next_step="set all of them: " + ", ".join(name.rpartition(".")[2] for name in members),
            )  # fmt: skip
        for name, share in shares.items():
            scaled = round(float(share * left / total), _DECIMALS) if total else 0.0
            if scaled != round(known[name], _DECIMALS):
                found[name] = scaled
    return found


def _unknown(text: str, known: Mapping[str, Any], active: Sequence[str]) -> InputError:
    """The error for a name that no knob abbreviates to, with the nearest one; `active`: knobs that have an effect."""
    prefix, _, rest = text.partition(".")
    in_file = [name for name in active if name.split(".")[0] == prefix] or active
    hint = did_you_mean(text, in_file) if rest else ""
    if not hint:
        last = did_you_mean(
            text.rpartition(".")[2], {name.rpartition(".")[2] for name in in_file}, cutoff=0.7
        )
        name = last.removeprefix("; did you mean ").strip("'?")
        nearest = [path for path in in_file if last and path.endswith(f".{name}")]
        hint = f"; did you mean {_listed(nearest, 2)}?" if nearest else ""
    if not hint:
        hint = did_you_mean(text, known) or ("" if prefix in _PREFIXES else did_you_mean(prefix, _PREFIXES))
    return InputError(
        "E_POLICY_UNKNOWN_KNOB", f"there is no knob {text!r}{hint}", where=text,
        next_step=f"a knob is PREFIX.KEY, with PREFIX one of {', '.join(_PREFIXES)}; `seg1b config show` lists them",
    )  # fmt: skip
