"""A certification small enough for many tests: 600 merchants, two seeds, gates wide enough for a B+."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from seg1b.lanes.certify import CertifyResult, certify
from seg1b.lanes.identity import attribution_of, world_keys
from seg1b.lanes.world_stage import WorldStage
from seg1b.policy.load import Policies, default_policies, digest, set_values
from seg1b.store.filesystem import FileSystem
from seg1b.store.store import Store
from seg1b.world.content import World

sys.path.insert(0, str(Path(__file__).parents[1] / "store"))
from faulty_filesystem import UnsyncedFileSystem

SMALL: dict[str, Any] = {
    "synthesis.merchants": 600,
    "certification.seeds": (42, 7),
    "gates.bootstrap.replicates": 100,
}
WIDE: dict[str, Any] = {
    "gates.hard_gates.top1_share.b": 0.3,
    "gates.hard_gates.top1_share.b_plus": 0.29,
    "gates.hard_gates.top5_share.b": 0.5,
    "gates.hard_gates.top5_share.b_plus": 0.49,
    "gates.hard_gates.nn_p99_p50_ratio.b": 90.0,
    "gates.hard_gates.nn_p99_p50_ratio.b_plus": 80.0,
    "gates.counter_metrics.population_correlation_1deg.min": 0.2,
    "gates.counter_metrics.prior_kl.max": 1.0,
    "gates.counter_metrics.largest_merchant_share.max": 1.0,
    "gates.counter_metrics.nn_p50_km.max": 20.0,
    "gates.counter_metrics.nn_p90_km.max": 90.0,
    "gates.counter_metrics.nn_isolated_10km_share.max": 0.9,
}
"""What a tenth of the outlets cannot meet; every other gate is the packaged one."""


def small_policies(**overrides: Any) -> Policies:
    """The small certification's policies; dots of a knob as double underscores."""
    extra = {name.replace("__", "."): value for name, value in overrides.items()}
    return set_values(default_policies(), {**SMALL, **WIDE, **extra})


def one_seed(**overrides: Any) -> Policies:
    """The same with seed 42 alone."""
    return small_policies(certification__seeds=(42,), **overrides)


@dataclass(frozen=True)
class Certified:
    """A certification, its store, and the policies it was made with."""

    result: CertifyResult
    root: Path
    policies: Policies


class WorldCache:
    """World stages by what they depend on; each is made once in a session."""

    def __init__(self, default: WorldStage) -> None:
        self.stages: dict[str, WorldStage] = {}
        self._model = default

    @staticmethod
    def name(policies: Policies, world: World) -> str:
        """What a stage depends on."""
        return "/".join(
            (
                *world_keys(policies, world).values(),
                digest(policies.gates),
                attribution_of(world),
                str(world.raster is None or world.raster.path),
            )
        )

    def compute(self, policies: Policies, world: World) -> WorldStage:
        """As `compute_world`."""
        from seg1b.lanes.world_stage import compose, compute_world

        name = self.name(policies, world)
        if name not in self.stages:
            model = self._model
            if dict(model.keys) == world_keys(policies, world):
                self.stages[name] = compose(
                    world, policies, model.world.index, model.world.surface, model.world.weights, model.shares,
                    model.keys, (), model.times,
                )  # fmt: skip
            else:
                self.stages[name] = compute_world(policies, world)
        return self.stages[name]

    def run(self, store: Store, policies: Policies, world: World, *, fast: bool = False) -> WorldStage:
        """As `run_world`, without writing what no later state reads."""
        del store, fast
        return self.compute(policies, world)


@contextlib.contextmanager
def fast_world(cache: WorldCache) -> Iterator[None]:
    """Certifications and verifications take their world from the cache."""
    patch = pytest.MonkeyPatch()
    patch.setattr("seg1b.lanes.certify.run_world", cache.run)
    patch.setattr("seg1b.lanes.beside.keep_image", lambda *_: None)
    patch.setattr("seg1b.lanes.verify.compute_world", cache.compute)
    patch.setattr("seg1b.lanes.lock_phase.compute_world", cache.compute)
    patch.setattr("seg1b.lanes.world_stage.load_context", lambda _, *given: cache.compute(*given).context)
    try:
        yield
    finally:
        patch.undo()


def run_small(
    root: Path, world: World, policies: Policies, fs: FileSystem | None = None, **options: Any
) -> CertifyResult:
    """Certify into the store at `root`, by default without waiting for the disk."""
    with Store.open(root, fs=fs or UnsyncedFileSystem()) as store:
        return certify(store, policies, world, **options)


def copied(source: Path, target: Path) -> Path:
    """A copy of a published folder that may be changed (published files are read-only)."""
    shutil.copytree(source, target)
    for path in [target, *target.rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)
    return target


def linked(source: Path, target: Path) -> Path:
    """A store with the same objects, by hard links: nothing in it may be edited in place."""
    shutil.copytree(source, target, copy_function=os.link)
    return target


def world_only(source: Path, target: Path) -> Path:
    """A store that has the world states of another one and nothing else."""
    Store.open(target).close()
    for state in ("s0w", "s1", "s2w", "s2s"):
        linked(source / "objects" / state, target / "objects" / state)
    return target


def digests(result: CertifyResult) -> dict[int, dict[str, str]]:
    """Logical digests of every seed."""
    return {entry["seed"]: dict(entry["logical_digests"]) for entry in result.certificate["seeds"]}


def facts(result: CertifyResult) -> dict[str, Any]:
    """The certificate without what names runs."""
    document = dict(result.certificate)
    document["seeds"] = [{k: v for k, v in entry.items() if k != "run_id"} for entry in document["seeds"]]
    return document
