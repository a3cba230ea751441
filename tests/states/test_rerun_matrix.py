"""The rerun matrix follows from the state keys, and it is the plan's."""

from __future__ import annotations

import dataclasses
import math
import typing
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from seg1b.errors import InputError, Seg1bError
from seg1b.policy.load import POLICY_FILES, Policies, default_policies, knobs, set_values
from seg1b.states import plan
from seg1b.states.plan import STATES, WORLD_STATES, keys_for, world_externals

WORLD, CATALOGUE = "a" * 64, "b" * 64
EXTERNALS = {"world": WORLD, "catalogue": CATALOGUE, "attribution": "d" * 64}
ALL = tuple(state.name for state in STATES)
TAIL = {"S4": ("S4", "S5", "S6", "S7", "S8", "S9")}
FROM = {
    "s1": {"S1", "S2w", "S2s", "CAT", "S3", *TAIL["S4"]},
    "s2w": {"S2w", "S2s", "CAT", "S3", *TAIL["S4"]},
    "s2s": {"S2s", "CAT", "S3", *TAIL["S4"]},
    "synthesis": {"CAT", "S9"},  # S9's bundle states the hash of all generation policies
    "s3": {"S3", *TAIL["S4"]},
    "s4": set(TAIL["S4"]),
    "s5": set(TAIL["S4"]) - {"S4"},
    "s6": {"S6", "S7", "S8", "S9"},
    "gates": {"S9"},
    "guard": set(),
    "certification": set(),
    "retention": set(),
    "budgets": set(),
    "lanes": set(),
}
"""States that get a new key when a knob of a file changes while world, catalogue and seed stay."""

DEFAULTS = default_policies()
KNOBS = knobs(DEFAULTS)


def changed(one: Mapping[str, str], two: Mapping[str, str]) -> set[str]:
    """States whose keys differ."""
    assert list(one) == list(two)
    return {name for name in one if one[name] != two[name]}


def keys(policies: Policies = DEFAULTS, seed: int = 42, **externals: str) -> dict[str, str]:
    """All keys."""
    return keys_for(policies, {**EXTERNALS, **externals}, seed)


def literal_options(path: str) -> tuple[Any, ...]:
    """The values that a knob's type enumerates, if it does."""
    prefix, *steps = path.split(".")
    model: Any = next(file.model for file in POLICY_FILES if file.prefix == prefix)
    for step in steps[:-1]:
        fields = getattr(model, "model_fields", None)
        if fields is None or step not in fields:
            return ()
        model = fields[step].annotation
        if typing.get_origin(model) is dict:
            model = typing.get_args(model)[1]
    fields = getattr(model, "model_fields", None)
    if fields is None or steps[-1] not in fields:
        return ()
    annotation = fields[steps[-1]].annotation
    return typing.get_args(annotation) if typing.get_origin(annotation) is typing.Literal else ()


def candidates(value: Any) -> Iterator[Any]:
    """Values near one that may be valid in its place."""
    if isinstance(value, bool):
        yield not value
    elif isinstance(value, int):
        yield from (value + 1, value - 1, 60, value * 2, 7)
    elif isinstance(value, float):
        yield from (value * 0.99, value * 1.01, value + 0.001, value - 0.001)
    elif isinstance(value, str):
        yield value + "X"
    elif value is None:
        yield from (1000.0, 1000, 0.0, "c" * 64)
    elif isinstance(value, tuple) and not value:
        yield ("FR",)
    elif isinstance(value, tuple):
        yield (*value[:-1], value[-1] + 1) if isinstance(value[-1], int) else value[:-1]
        yield value[:-1]


def perturbations(path: str) -> list[dict[str, Any]]:
    """Valid overrides that change this knob: one, or one per other option of an enumeration.

    Shares that must sum to 1 change together with a sibling.
    """
    value, found = KNOBS[path], []
    options = literal_options(path)
    if options:
        return [{path: option} for option in options if option != value]
    parent = path.rpartition(".")[0]
    siblings = [
        name
        for name, other in KNOBS.items()
        if name != path and name.rpartition(".")[0] == parent and isinstance(other, float)
    ]
    if isinstance(value, dict):
        raise AssertionError(f"{path} is no leaf")
    for candidate in candidates(value):
        if isinstance(candidate, float) and not math.isfinite(candidate):
            continue
        trials: list[dict[str, Any]] = [{path: candidate}]
        if isinstance(value, float) and isinstance(candidate, float):
            trials += [{path: candidate, name: KNOBS[name] - (candidate - value)} for name in siblings]
        for trial in trials:
            try:
                policies = set_values(DEFAULTS, trial)
            except InputError:
                continue
            if knobs(policies)[path] != value:
                found.append(trial)
                return found
    return found


PINNED = {
    "s1.predicate",
    "gates.bootstrap.method",
    *(path for path in KNOBS if path.startswith("gates.hard_gates.") and path.endswith(".op")),
}
"""Knobs with one valid value: what a gate compares with is part of the metric."""


@pytest.mark.parametrize("path", [path for path in KNOBS if path not in PINNED])
def test_a_knob_changes_the_keys_of_its_state_and_what_follows(path: str) -> None:
    """Every field of every policy file, one at a time, each to another valid value or to each other mode."""
    trials = perturbations(path)
    assert trials, f"no other valid value of {path} was found"
    for trial in trials:
        assert changed(keys(), keys(set_values(DEFAULTS, trial))) == FROM[path.split(".")[0]], trial


def test_the_knobs_left_out_have_no_other_valid_value() -> None:
    """The test above covers all others, and there are many."""
    assert len(KNOBS) > 150
    for path in PINNED:
        for other in ("<=", ">=", "X", "corner", "percentile"):
            if other != KNOBS[path]:
                with pytest.raises(InputError):
                    set_values(DEFAULTS, {path: other})


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"s2w.dp": 11}, "S2w"),
        ({"s3.denylist_country_iso": ("FR",)}, "S3"),
        ({"s4.two_stage.sites_per_area": 9}, "S4"),
        ({"s6.max_attempts": 65}, "S6"),
        ({"gates.cv.b": 0.29}, "S9"),
        ({"s1.resolution_arcsec": 60}, "S1"),
    ],
    ids=["S2: S2..S9", "S3: S3..S9", "S4: S4..S9", "S6: S6..S9", "gates only: S9", "S1: S1..S9"],
)
def test_the_rows_of_the_plan(row: dict[str, Any], expected: str) -> None:
    """From the changed state on without a gap, and nothing before it. Catalogue synthesis and seals apart."""
    order = ["S1", "S2w", "S2s", "S3", "S4", "S5", "S6", "S7", "S8", "S9"]
    again = changed(keys(), keys(set_values(DEFAULTS, row))) - {"CAT"}
    after = [name for name in order if name in again]
    skipped = {"S2s"} if expected == "S1" else set()
    assert after == [name for name in order[order.index(expected) :] if name not in skipped - again]


def test_a_reopened_catalogue_runs_from_its_seal_and_leaves_the_world() -> None:
    """S0c and S3 to S9; S1 and S2 are verified and reused."""
    assert changed(keys(), keys(catalogue="c" * 64)) == {"S0c", "S3", *TAIL["S4"]}


def test_another_world_changes_everything_but_the_catalogues_seal() -> None:
    """The catalogue's own digest stays in this call; a synthesised one has another after CAT."""
    assert changed(keys(), keys(world="c" * 64)) == set(ALL) - {"S0c"}


def test_another_attribution_changes_the_egress_that_carries_it() -> None:
    """The same polygons and people with other sentences: no draw moves, S8 says the new ones."""
    assert changed(keys(), keys(attribution="c" * 64)) == {"S8", "S9"}
    assert world_externals(WORLD, "Made by hand.") != world_externals(WORLD, "Made by foot.")
    assert set(world_externals(WORLD, "")) == set(EXTERNALS) - {"catalogue"}


def test_the_seed_changes_only_states_that_draw() -> None:
    """World, requirements and seals are shared by all seeds; a catalogue is drawn."""
    assert changed(keys(), keys(seed=7)) == {"CAT", *TAIL["S4"]}
    assert len({keys(seed=seed)["S4"] for seed in (0, 1, 42, 2**64 - 1)}) == 4


@pytest.mark.parametrize("state", ALL)
def test_a_new_code_revision_reaches_everything_that_reads_the_state(
    state: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Downstream by the table's own inputs; CAT feeds S0c through the catalogue's digest only."""
    revised = tuple(dataclasses.replace(s, revision=s.revision + 1) if s.name == state else s for s in STATES)
    before = keys()
    monkeypatch.setattr(plan, "STATES", revised)
    reached = {state}
    for other in STATES:
        if reached & set(other.inputs):
            reached.add(other.name)
    assert changed(before, keys()) == reached


def test_no_two_states_share_a_key() -> None:
    """The name is part of it."""
    assert len(set(keys().values())) == len(ALL)


def test_the_chain_is_listed_before_it_is_used_and_ends_in_one_state() -> None:
    """Inputs come earlier in the table, each is a state, and only S9 (and CAT) feed nobody."""
    seen: set[str] = set()
    for state in STATES:
        assert set(state.inputs) <= seen
        seen.add(state.name)
    fed = {name for state in STATES for name in state.inputs}
    assert set(ALL) - fed == {"CAT", "S9"}


def test_keys_that_cannot_be_known_yet_are_left_out() -> None:
    """Without a catalogue: the world and the synthesis. Without a seed: what does not draw."""
    assert set(keys_for(DEFAULTS, {"world": WORLD}, None)) == set(WORLD_STATES)
    assert set(keys_for(DEFAULTS, {"world": WORLD}, 42)) == {*WORLD_STATES, "CAT"}
    assert set(keys_for(DEFAULTS, EXTERNALS, None)) == {*WORLD_STATES, "S0c", "S3"}
    assert tuple(keys_for(DEFAULTS, EXTERNALS, 42)) == ALL
    assert keys_for(DEFAULTS, {"world": WORLD}, None, WORLD_STATES) == {
        name: key for name, key in keys().items() if name in WORLD_STATES
    }


def test_every_generation_policy_feeds_a_state() -> None:
    """A policy file that fed no key could change data without anybody noticing."""
    blocks = {id(state.policy(DEFAULTS)) for state in STATES if state.policy is not None}
    for file in POLICY_FILES:
        assert (id(getattr(DEFAULTS, file.attribute)) in blocks) == (
            file.attribute not in ("guard", "certification", "retention", "budgets", "lanes")
        )


@pytest.mark.parametrize("seed", [-1, 2**64])
def test_a_seed_that_is_no_u64_is_refused(seed: int) -> None:
    """By name."""
    with pytest.raises(Seg1bError, match="E_STATE_KEY"):
        keys(seed=seed)
