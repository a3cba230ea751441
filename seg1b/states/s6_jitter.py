"""S6: the point within its tile at which each site stands, inside its country.

`cluster_v3` (default) puts shops round anchors that all merchants of a tile share; `uniform_v1` and `mixture_v2`
reproduce the first engine. S6 never changes a tile. A point that no attempt finds comes from the exact sampler of the
clipped tile and is counted (cluster_v3), or is an error (v1 modes).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from seg1b.kernels import jitter, jitter_v1, streams
from seg1b.kernels.jit import read_only
from seg1b.policy.models import JitterPolicy
from seg1b.states.s5_assignment import pair_stream_words
from seg1b.states.tables import Pairs, Placement
from seg1b.states.world_model import WorldModel

IntArray = NDArray[np.int64]

CLUSTER_LABEL = "jitter_v3"
NO_COMPONENT = 255


def run(
    world: WorldModel,
    pairs: Pairs,
    tile_id: IntArray,
    policy: JitterPolicy,
    seed: int,
    manifest_fingerprint: str,
) -> Placement:
    """Points of all sites of a shard; `tile_id` is S5's, (S,) in (country, merchant, site_order) order.

    `manifest_fingerprint` feeds the v1 streams only. Raises ContractError E613 where no point can be found.
    """
    country, _, site_order = pairs.sites()
    tile_id = read_only(tile_id)  # made now or read from S5's table: one kind of array, one compiled kernel
    boundary = world.on_boundary(country, tile_id)
    centre_inside = world.index.centre_inside(country, tile_id)
    if policy.mode != "cluster_v3":
        return _first_engine(
            world, pairs, tile_id, policy, seed, manifest_fingerprint, boundary, centre_inside
        )
    key, high = pair_stream_words(seed, CLUSTER_LABEL, world.iso, pairs)
    anchor_x, anchor_y = world.anchors.at(country, tile_id)
    found = jitter.cluster_v3(
        cluster_parameters(policy),
        world.digest,
        world.edges,
        tile_id,
        country,
        np.repeat(key, pairs.n_sites),
        np.repeat(high, pairs.n_sites),
        site_order,
        world.surface.population_at(country, tile_id),
        anchor_x,
        anchor_y,
        boundary,
        centre_inside,
    )
    lon, lat = world.grid.to_degrees(found.x, found.y)
    return Placement(tile_id, lon, lat, found.attempts, found.component.astype(np.uint8))


def cluster_parameters(policy: JitterPolicy) -> jitter.ClusterParameters:
    """The policy's decimals as the kernel's integers."""
    cluster = policy.cluster_v3
    return jitter.cluster_parameters(
        cluster.component_weights.core,
        cluster.component_weights.secondary,
        cluster.anchor_population_thresholds,
        cluster.anchor_margin,
        cluster.core_sd_tile,
        cluster.secondary_sd_tile,
        policy.max_attempts,
    )


def _first_engine(
    world: WorldModel, pairs: Pairs, tile_id: IntArray, policy: JitterPolicy, seed: int, manifest_fingerprint: str,
    boundary: NDArray[np.bool_], centre_inside: NDArray[np.bool_],
) -> Placement:  # fmt: skip
    """uniform_v1 and mixture_v2: one stream per site, keyed by the engine's own fingerprint if the policy has it."""
    master = streams.master_v1(policy.v1_manifest_fingerprint or manifest_fingerprint, seed)
    mode = policy.mixture_v2 if policy.mode == "mixture_v2" else policy.uniform_v1
    label = f"in_cell_jitter:{mode.namespace}"
    country, merchant_id, site_order = pairs.sites()
    drawn = [
        streams.site_stream_v1(master, label, world.iso[c], int(m), int(s))
        for c, m, s in zip(country, merchant_id, site_order, strict=True)
    ]
    key = np.array([s.key for s in drawn], np.uint64)
    high = np.array([s.counter_hi for s in drawn], np.uint64)
    low = np.array([s.counter_lo for s in drawn], np.uint64)
    per_degree = world.grid.tiles_per_degree
    if policy.mode == "uniform_v1":
        found = jitter_v1.uniform_v1(
            policy.max_attempts,
            world.edges,
            per_degree,
            tile_id,
            country,
            key,
            high,
            low,
            boundary,
            centre_inside,
        )
        component = np.full(len(tile_id), NO_COMPONENT, np.uint8)
    else:
        found = jitter_v1.mixture_v2(
            mixture_parameters(policy), policy.max_attempts, world.edges, per_degree, tile_id, country,
            key, high, low, boundary, centre_inside,
        )  # fmt: skip
        component = found.component.astype(np.uint8)
    return Placement(tile_id, found.x, found.y, found.attempts, component)


def mixture_parameters(policy: JitterPolicy) -> jitter_v1.MixtureParameters:
    """The policy's mixture as the kernel's numbers."""
    mixture = policy.mixture_v2
    parts = (mixture.core, mixture.secondary, mixture.sparse_tail)
    lon = tuple(part.exponent_lon for part in parts)
    lat = tuple(part.exponent_lat for part in parts)
    offset = tuple(part.max_offset for part in parts)
    return jitter_v1.MixtureParameters(
        mixture.selection_blend,
        mixture.component_weights.core,
        mixture.component_weights.secondary,
        (lon[0], lon[1], lon[2]),
        (lat[0], lat[1], lat[2]),
        (offset[0], offset[1], offset[2]),
        (offset[0], offset[1], offset[2]),
    )
