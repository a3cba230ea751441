"""The seal of a world holds what the world's digest covers, no more and no less."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from seg1b.states.s0_gate import seal_world
from seg1b.store.store import Store
from seg1b.world.bundle import world_digest
from seg1b.world.content import World

KEY = "a" * 64


def test_the_seal_names_every_file_and_follows_from_the_digest_alone(
    real_world: World, tmp_path: Path
) -> None:
    """A reader can compute the digest from it, and another provenance of the same data seals to the same bytes."""
    with Store.open(tmp_path) as store:
        seal_world(store, KEY, real_world)
        sealed = store.read_json("s0w", KEY, "sealed_world.json")
        assert world_digest(sealed["files"], None) == sealed["world_digest"] == real_world.digest
        told_otherwise = {**real_world.provenance, "title": "another title", "sources": {}}
        seal_world(store, KEY, dataclasses.replace(real_world, provenance=told_otherwise))
        assert store.read_json("s0w", KEY, "sealed_world.json") == sealed
