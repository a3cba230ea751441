"""Negative controls on demand: worlds that must fail, made from one honest seed, in memory.

A gate that nothing can fail proves nothing. Every control of `scoring.controls` is scored, and besides them the first
engine's own placement: its largest-remainder kernel on area weights, run through S4.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from seg1b.catalogue.synthesise import synthesise
from seg1b.lanes.world_stage import WorldStage, compute_world, run_world
from seg1b.policy.load import Policies, set_values
from seg1b.scoring.controls import CONTROLS, relocated
from seg1b.scoring.gates import STRUCTURAL_CHECKS
from seg1b.scoring.score import Score, score_seed
from seg1b.scoring.sites import Sites, make_sites
from seg1b.states import s4_allocation, s5_assignment, s6_jitter
from seg1b.states.required_pairs import required_pairs
from seg1b.states.tables import Pairs
from seg1b.states.world_model import WorldModel, assemble
from seg1b.store.store import Store
from seg1b.world.content import World
from seg1b.world.weights import build_weights

HONEST = "honest_placement"
FIRST_ENGINE = "first_engine_placement"
FIRST_ENGINE_KNOBS: dict[str, Any] = {
    "s4.mode": "largest_remainder_v1",
    "s2w.mix": {"uniform": 0.0, "area": 1.0, "population": 0.0},
}
_NO_FINGERPRINT = "0" * 64

Watcher = Callable[[str, int, int], None]


@dataclass(frozen=True)
class ControlRow:
    """One control: what it must fail, what it failed, and whether it failed all that it must.

    The honest placement comes first; it is `ok` if it passes every row that some control must fail.
    """

    control: str
    what: str
    must_fail: tuple[str, ...]
    failed: tuple[str, ...]
    ok: bool


def _silent(_name: str, _done: int, _total: int) -> None:
    """Watch nothing."""


def run_controls(
    policies: Policies,
    world: World,
    *,
    seed: int = 42,
    store: Store | None = None,
    watcher: Watcher = _silent,
) -> tuple[ControlRow, ...]:
    """Score the honest placement of `seed` and every control made from it.

    With a store, S1 and S2 are reused or published there; everything else stays in memory. `watcher` is called with
    (name, done, total) before each.
    """
    total = len(CONTROLS) + 3
    watcher("world", 0, total)
    stage = compute_world(policies, world) if store is None else run_world(store, policies, world)
    watcher(HONEST, 1, total)
    pairs = synthetic_pairs(stage, policies, seed)
    sites = honest_sites(stage.world, pairs, policies, seed)
    rows = []
    for number, (name, what, must_fail, made) in enumerate(
        _worlds(stage, pairs, sites, policies, world, seed), 1
    ):
        watcher(name, number, total)
        failed = failed_names(score_seed(made(), seed, stage.context, dict.fromkeys(STRUCTURAL_CHECKS, 0)))
        rows.append(_row(name, what, must_fail, failed))
    watcher("done", total, total)
    return tuple(rows)


def _worlds(
    stage: WorldStage, pairs: Pairs, sites: Sites, policies: Policies, world: World, seed: int
) -> Iterator[tuple[str, str, tuple[str, ...], Callable[[], Sites]]]:
    model = stage.world
    yield HONEST, "what these policies place", (), lambda: sites
    for control in CONTROLS:
        yield (
            control.name,
            control.what,
            control.must_fail,
            partial(control.build, sites, model.surface, model.grid, seed),
        )
    must_fail = next(control.must_fail for control in CONTROLS if control.name == "old_placement")
    what = "the first engine's own kernel on area weights, through S4"
    yield FIRST_ENGINE, what, must_fail, partial(first_engine_sites, model, world, pairs, policies, seed)


def _row(name: str, what: str, must_fail: tuple[str, ...], failed: tuple[str, ...]) -> ControlRow:
    if name == HONEST:
        never = {gate for control in CONTROLS for gate in control.must_fail}
        return ControlRow(name, what, (), failed, not never & set(failed))
    return ControlRow(name, what, must_fail, failed, set(must_fail) <= set(failed))


def failed_names(score: Score) -> tuple[str, ...]:
    """Names of the rows that fail for B, without the surface, each once, in order."""
    return tuple(dict.fromkeys(name.split("@")[0] for name in score.report.failed("B")))


def synthetic_pairs(stage: WorldStage, policies: Policies, seed: int) -> Pairs:
    """S3's requirements of the catalogue that `seed` synthesises."""
    countries = stage.world.countries
    catalogue = synthesise(countries, stage.shares, policies.synthesis, seed).catalogue
    return required_pairs(catalogue, countries, policies.requirements)[0]


def honest_sites(model: WorldModel, pairs: Pairs, policies: Policies, seed: int) -> Sites:
    """S4, S5 and S6 in memory."""
    plan = s4_allocation.run(model, pairs, policies.allocation, seed).plan
    tiles = s5_assignment.run(model.iso, pairs, plan, policies.assignment, seed, _NO_FINGERPRINT)
    placed = s6_jitter.run(model, pairs, tiles, policies.jitter, seed, _NO_FINGERPRINT)
    country, merchant_id, site_order = pairs.sites()
    return make_sites(merchant_id, country, site_order, placed.lon_deg, placed.lat_deg, tiles)


def first_engine_sites(model: WorldModel, world: World, pairs: Pairs, policies: Policies, seed: int) -> Sites:
    """The first engine's tiles, each site uniform in its own."""
    old = set_values(policies, FIRST_ENGINE_KNOBS)
    weights = build_weights(model.surface, old.tile_weights.mix, old.tile_weights.dp)
    by_area = assemble(world, model.index, model.surface, weights, old.tile_weights.hilbert_block_tiles)
    plan = s4_allocation.run(by_area, pairs, old.allocation, seed).plan
    tiles = np.asarray(
        s5_assignment.run(model.iso, pairs, plan, old.assignment, seed, _NO_FINGERPRINT), np.int64
    )
    country, merchant_id, site_order = pairs.sites()
    zero = np.zeros(len(tiles))
    sites = make_sites(merchant_id, country, site_order, zero, zero, tiles)
    return relocated(sites, sites.tile_id, model.grid, seed, "first_engine")
