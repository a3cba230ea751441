"""Digests that name a run: which inputs, which policies, which gates."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from seg1b.policy.load import Policies, default_policies, gates_hash, parameter_hash, policy_digests
from seg1b.states.plan import STATES, WORLD_STATES, keys_for, world_externals
from seg1b.store.digest import canonical_json, sha256_bytes
from seg1b.world.bundle import load_world
from seg1b.world.content import World, attributions


@dataclass(frozen=True)
class SeedFacts:
    """The external inputs of one seed: its catalogue and what follows from it."""

    seed: int
    catalogue_digest: str
    manifest_fingerprint: str


def manifest_fingerprint(world_digest: str, catalogue_digest: str) -> str:
    """Digest (hex64) of the external inputs of a seed."""
    facts = {"scheme": "seg1b/manifest/1", "world": world_digest, "catalogue": catalogue_digest}
    return sha256_bytes(canonical_json(facts))


def run_identity(
    policies: Policies, world_digest: str, seeds: Sequence[SeedFacts], origin: str
) -> dict[str, Any]:
    """Everything that decides the result of a certification, as plain data: its certificate and receipts state it.

    `origin`: `synthesised` (each seed its own catalogue) or `user` (one for all).
    """
    return {
        "manifest_fingerprint": sha256_bytes(
            canonical_json({str(facts.seed): facts.manifest_fingerprint for facts in seeds})
        ),
        "parameter_hash": parameter_hash(policies),
        "gates_hash": gates_hash(policies),
        "policy_digests": policy_digests(policies),
        "world_digest": world_digest,
        "catalogue_origin": origin,
        "catalogue_digests": {str(facts.seed): facts.catalogue_digest for facts in seeds},
        "seeds": [facts.seed for facts in seeds],
        "state_revisions": {state.name: state.revision for state in STATES},
    }


def world_keys(policies: Policies, world: World) -> dict[str, str]:
    """Keys of the world states."""
    return keys_for(policies, externals_of(world), None, WORLD_STATES)


def externals_of(world: World) -> dict[str, str]:
    """What states read of a world from outside, by digest."""
    return world_externals(world.digest, attribution_of(world))


def attribution_of(world: World) -> str:
    """What the world's sources ask to be said."""
    return " ".join(attributions(world.provenance))


def seed_hashes(policies: Policies, world_digest: str, facts: SeedFacts) -> dict[str, str]:
    """The digests that a seed's validation bundle states."""
    return {
        "parameter_hash": parameter_hash(policies),
        "gates_hash": gates_hash(policies),
        "world_digest": world_digest,
        "catalogue_digest": facts.catalogue_digest,
    }


def packaged_facts(identity: Mapping[str, Any]) -> dict[str, bool]:
    """What of a `run_identity` comes with seg1b and what somebody brought: a grade is worth what it was earned with."""
    packaged = default_policies()
    return {
        "gates_are_the_packaged_ones": identity["gates_hash"] == gates_hash(packaged),
        "parameters_are_the_packaged_ones": identity["parameter_hash"] == parameter_hash(packaged),
        "seeds_are_the_packaged_ones": list(identity["seeds"]) == list(packaged.certification.seeds),
        "world_is_the_packaged_one": identity["world_digest"] == load_world().digest,
    }


def software() -> dict[str, str]:
    """Versions for the telemetry; they decide no byte of data."""
    names = ("seg1b", "numpy", "numba", "pyarrow", "scipy", "ray")
    return {name: importlib.metadata.version(name) for name in names}
