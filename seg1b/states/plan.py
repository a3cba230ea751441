"""The ten states, what each reads, and the keys that follow.

A state's key is a digest of its name and code revision, its own policy block, the keys of its input states, the
external inputs it reads and the seed if it uses one. Nothing else decides whether a state has to run again: the
rerun matrix of the build plan is derived from this table and tested against the plan's.

S0 and S2 have two halves each. S0w seals the world, S0c one catalogue; S2w are the tile weights, S2s the country
shares. CAT is the synthesis of a catalogue, which S0c then reads like anyone's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from pydantic import BaseModel

from seg1b.policy.load import Policies, digest, parameter_hash
from seg1b.store.digest import sha256_bytes
from seg1b.store.state_keys import state_key

PolicyBlock = Callable[[Policies], BaseModel]


@dataclass(frozen=True)
class State:
    """One state: `inputs` are states, `externals` names of external digests, `policy` its own policy block.

    `revision` must grow whenever the code changes what the state puts out; a golden digest pins it.
    """

    name: str
    title: str
    revision: int
    inputs: tuple[str, ...] = ()
    externals: tuple[str, ...] = ()
    policy: PolicyBlock | None = None
    seeded: bool = False

    @property
    def store_name(self) -> str:
        """Its folder below `objects/`."""
        return self.name.lower()


@dataclass(frozen=True)
class SeedIdentity:
    """What names a seed's outputs: the seed, the keys of all its states, and its manifest fingerprint."""

    seed: int
    keys: dict[str, str]
    manifest_fingerprint: str


PARAMETERS = "parameter_hash"
"""S9's bundle states the hash of all generation policies, of which a user's catalogue leaves one without a state."""

ATTRIBUTION = "attribution"
"""S8's files carry the sentences that the world's sources ask for, which the world's digest does not cover."""

STATES: tuple[State, ...] = (
    State("S0w", "seal the world", 2, externals=("world",)),
    State("S1", "tile index", 2, inputs=("S0w",), policy=lambda p: p.tile_index),
    State("S2w", "tile weights", 1, inputs=("S1",), policy=lambda p: p.tile_weights),
    State("S2s", "country shares", 2, inputs=("S2w",), policy=lambda p: p.country_shares),
    State("CAT", "catalogue synthesis", 1, inputs=("S2s",), policy=lambda p: p.synthesis, seeded=True),
    State("S0c", "seal the catalogue", 3, externals=("catalogue",)),
    State("S3", "requirements", 2, inputs=("S0c", "S2w", "S2s"), policy=lambda p: p.requirements),
    State("S4", "allocation plan", 1, inputs=("S2w", "S3"), policy=lambda p: p.allocation, seeded=True),
    State("S5", "site to tile", 1, inputs=("S4",), policy=lambda p: p.assignment, seeded=True),
    State("S6", "jitter", 1, inputs=("S1", "S2w", "S5"), policy=lambda p: p.jitter, seeded=True),
    State("S7", "synthesis", 1, inputs=("S0c", "S5", "S6"), seeded=True),
    State("S8", "egress", 1, inputs=("S7",), externals=(ATTRIBUTION,), seeded=True),
    State(
        "S9",
        "validation",
        6,
        inputs=("S3", "S4", "S5", "S6", "S7", "S8"),
        externals=(PARAMETERS,),
        policy=lambda p: p.gates,
        seeded=True,
    ),
)

BY_NAME: Mapping[str, State] = {state.name: state for state in STATES}
WORLD_STATES = ("S0w", "S1", "S2w", "S2s")
SHARDED_STATES = ("S4", "S5", "S6", "S8")
WORLD_IMAGE, _WORLD_IMAGE_REVISION = "s2m", 1
"""The folder of world images, and a revision that must grow when what they hold changes; a golden digest pins it."""


def world_externals(world_digest: str, attribution: str) -> dict[str, str]:
    """What states read of a world from outside, as `keys_for` takes it."""
    return {"world": world_digest, ATTRIBUTION: sha256_bytes(attribution.encode())}


def keys_for(
    policies: Policies, externals: Mapping[str, str], seed: int | None, states: tuple[str, ...] | None = None
) -> dict[str, str]:
    """Keys (hex64) of `states` (default: all) by name, in the order of the chain.

    `externals`: digest by name; a state whose externals or inputs are not known is left out, so the world's keys
    can be had before there is a catalogue.
    """
    keys: dict[str, str] = {}
    wanted = [state for state in STATES if states is None or state.name in states]
    if any(PARAMETERS in state.externals for state in wanted):
        externals = {**externals, PARAMETERS: parameter_hash(policies)}
    for state in wanted:
        if any(name not in keys for name in state.inputs) or any(n not in externals for n in state.externals):
            continue
        if state.seeded and seed is None:
            continue
        keys[state.name] = state_key(
            state.store_name,
            state.revision,
            None if state.policy is None else digest(state.policy(policies)),
            inputs={name: keys[name] for name in state.inputs},
            external={name: externals[name] for name in state.externals},
            seed=seed if state.seeded else None,
        )
    return keys


def world_image_key(keys: Mapping[str, str]) -> str:
    """Key (hex64) of the image (`states.world_image`) of the world whose states have these keys."""
    inputs = {name: keys[name] for name in ("S1", "S2w")}
    return state_key(WORLD_IMAGE, _WORLD_IMAGE_REVISION, None, inputs=inputs)
