"""Every draw of a seed made again, by other code than that which drew first.

The replay (`kernels/replay_*.py`) derives its streams, multiplies, searches and tests points on its own. With the
kernels of S4, S5 and S6 it shares one thing: the table of the inverse normal, whose SHA-256 `kernels/jitter.py` pins.
Not made again by other code: the plan of the mode `largest_remainder_v1`, which draws nothing and is made by S4's own.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from seg1b.kernels import (
    replay_allocation,
    replay_assignment,
    replay_containment,
    replay_jitter,
    replay_jitter_v1,
)
from seg1b.kernels.jitter import inverse_normal_table
from seg1b.policy.load import Policies
from seg1b.states import s4_allocation
from seg1b.states.seed_tables import Numbering
from seg1b.states.tables import Pairs, Plan
from seg1b.states.world_model import WorldModel

IntArray = NDArray[np.int64]


@dataclass(frozen=True)
class Points:
    """Of n sites in key order: float64 degrees, int64 attempts, uint8 component (255: none)."""

    lon_deg: NDArray[np.float64]
    lat_deg: NDArray[np.float64]
    attempts: IntArray
    component: NDArray[np.uint8]


@dataclass(frozen=True)
class Redraw:
    """A seed's draws, country by country; what many countries or checks need is derived once."""

    world: WorldModel
    policies: Policies
    seed: int
    manifest_fingerprint: str
    _borders: dict[int, replay_containment.EdgeIndex] = field(default_factory=dict, init=False, repr=False)

    def borders(self, country: int) -> replay_containment.EdgeIndex:
        """The edges of a country as the replay finds them."""
        if country not in self._borders:
            x, y, ring_start = self.world.polygons.of(country)
            self._borders[country] = replay_containment.build_edge_index(
                x, y, ring_start, self.world.grid.tiles_per_degree
            )
        return self._borders[country]

    def plan(self, country: int, pairs: Pairs, part: slice, numbering: Numbering | None) -> IntArray:
        """S4: the tile of every site number of a country, or of the block of its pairs that `numbering` says."""
        policy, iso = self.policies.allocation, self.world.iso[country]
        pieces, n_sites = self.world.replay_pieces(country), pairs.n_sites[part]
        if policy.mode == "two_stage_pps":
            block = None if numbering is None else (numbering.first, numbering.sites)
            rule = policy.two_stage
            return replay_allocation.replay_country_plan(
                self.seed, iso, n_sites, pieces, rule.sites_per_area, rule.dispersed_ppm, block
            )
        if policy.mode == "systematic_pps":
            merchants = pairs.merchant_id[part]
            return replay_allocation.replay_pair_plan(self.seed, iso, merchants, n_sites, pieces)
        return expanded(s4_allocation.run(self.world, pairs.only([country]), policy, self.seed).plan)

    def assignment(self, country: int, pairs: Pairs, part: slice, planned: IntArray) -> IntArray:
        """S5: the tile of every site of a country, of each pair's `planned` tiles, ascending pair by pair."""
        merchants, n_sites = pairs.merchant_id[part], pairs.n_sites[part]
        return replay_assignment.replay_assignment(
            self.seed, self.world.iso[country], merchants, n_sites, planned, self._fingerprint_of_v1
        )

    @cached_property
    def _fingerprint_of_v1(self) -> str | None:
        """What S5's streams are keyed by in the first engine's family; None in ours."""
        policy = self.policies.assignment
        return (policy.v1_manifest_fingerprint or self.manifest_fingerprint) if policy.rng == "v1" else None

    def points(self, country: int, pairs: Pairs, part: slice, tile: IntArray) -> Points:
        """S6: where the sites of a country lie in their tiles."""
        in_mode = self._clustered if self.policies.jitter.mode == "cluster_v3" else self._as_in_v1
        return in_mode(country, pairs.merchant_id[part], pairs.n_sites[part], tile)

    def _clustered(
        self, country: int, merchants: NDArray[np.uint64], n_sites: IntArray, tile: IntArray
    ) -> Points:
        world, per_degree = self.world, self.world.grid.tiles_per_degree
        towns = world.settlements
        own = slice(*np.searchsorted(towns.country, [country, country + 1]).tolist())
        anchors = replay_jitter.settlement_anchors(
            tile,
            per_degree,
            towns.lon_e5[own],
            towns.lat_e5[own],
            towns.population[own],
            towns.geonameid[own],
        )
        people = world.surface.population_at(np.full(len(tile), country, np.int16), tile)
        found = replay_jitter.replay_jitter(
            self.seed, world.iso[country], merchants, n_sites, tile, people, anchors, self._cluster_rule,
            self.borders(country),
        )  # fmt: skip
        scale = float(per_degree << 32)
        lon, lat = (found.x - (180 * per_degree << 32)) / scale, ((90 * per_degree << 32) - found.y) / scale
        return Points(lon, lat, found.attempts, found.component.astype(np.uint8))

    @cached_property
    def _cluster_rule(self) -> replay_jitter.ClusterRule:
        """The jitter policy as the replay's own integers."""
        cluster = self.policies.jitter.cluster_v3
        weights = cluster.component_weights
        return replay_jitter.cluster_rule(
            self.world.digest,
            inverse_normal_table(),
            self.policies.jitter.max_attempts,
            (weights.core, weights.secondary, weights.sparse_tail),
            cluster.anchor_population_thresholds,
            cluster.anchor_margin,
            cluster.core_sd_tile,
            cluster.secondary_sd_tile,
        )

    def _as_in_v1(
        self, country: int, merchants: NDArray[np.uint64], n_sites: IntArray, tile: IntArray
    ) -> Points:
        policy = self.policies.jitter
        mixed = policy.mode == "mixture_v2"
        found = replay_jitter_v1.replay_jitter_v1(
            self.seed,
            self.world.iso[country],
            merchants,
            n_sites,
            tile,
            policy.v1_manifest_fingerprint or self.manifest_fingerprint,
            policy.mixture_v2.namespace if mixed else policy.uniform_v1.namespace,
            policy.max_attempts,
            mixture_rule(self.policies) if mixed else replay_jitter_v1.UNIFORM,
            self.borders(country),
        )
        component = found.component.astype(np.uint8)  # -1, uniform, is 255
        return Points(found.lon_deg, found.lat_deg, found.attempts, component)


def expanded(plan: Plan) -> IntArray:
    """Each pair's multiset of tiles, ascending, pair after pair."""
    return np.repeat(plan.tile_id, plan.n_sites_tile)


def mixture_rule(policies: Policies) -> replay_jitter_v1.MixtureRule:
    """The mixture policy as the replay's own numbers."""
    mixture = policies.jitter.mixture_v2
    parts = (mixture.core, mixture.secondary, mixture.sparse_tail)
    weights = mixture.component_weights
    return replay_jitter_v1.MixtureRule(
        mixture.selection_blend,
        weights.core,
        weights.secondary,
        np.array([[part.exponent_lon, part.exponent_lat] for part in parts]),
        np.array([[part.max_offset, part.max_offset] for part in parts]),
    )
