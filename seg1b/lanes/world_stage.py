"""The world half of a run: S0w, S1, S2w and S2s, made once and shared by all seeds."""

from __future__ import annotations

import dataclasses
import logging
import shutil
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from seg1b.catalogue.shares import CountryShares
from seg1b.lanes.identity import attribution_of, world_keys
from seg1b.later import Later
from seg1b.policy.load import Policies
from seg1b.scoring.measure import ScoringContext, make_context
from seg1b.states import s0_gate, s1_tile_index, s2_shares, s2_weights, world_image
from seg1b.states.plan import WORLD_IMAGE, WORLD_STATES, world_image_key
from seg1b.states.shard import StageTimes
from seg1b.states.world_model import Landmarks, WorldModel, assemble, frozen, landmarks
from seg1b.store.store import Store
from seg1b.world.content import World
from seg1b.world.dense_surface import Surface
from seg1b.world.grid import Grid
from seg1b.world.surface import PopulationSurface, build_surface
from seg1b.world.tile_index import TileIndex
from seg1b.world.weights import TileWeights, Weights

log = logging.getLogger(__name__)

_IMAGE_SHARE_OF_CAP = 0.05
"""An image that takes more of what a store may keep is not worth its place."""
_LEFT_FREE_BYTES = 1 << 30
"""Of the disk, for the runs that it is to serve."""


@dataclass(frozen=True)
class WorldStage:
    """What the seeds share: the model of the Earth, the country shares, and what scoring needs to know.

    Placing needs no `context`, so it is computed while the first sites are placed. `mapped`: the model is the store's
    image of it, of which nobody knows yet whether its bytes are those published (`check_image`).
    """

    world: WorldModel
    shares: CountryShares
    context_later: Later[ScoringContext]
    keys: Mapping[str, str]
    attribution: str
    reused: tuple[str, ...]
    times: StageTimes
    mapped: bool = False

    @property
    def context(self) -> ScoringContext:
        """What scoring needs to know of the world, waited for if need be."""
        return self.context_later.result()


def run_world(store: Store, policies: Policies, world: World, *, fast: bool = False) -> WorldStage:
    """Run or reuse S0w, S1, S2w and S2s, and put the shared model together.

    `fast`: for a lane that comes back to the same world again and again, and uses little of it. What was put together
    and kept (`keep_image`) is mapped, and the weights are brought into S4's order only when somebody asks for it.
    """
    keys = world_keys(policies, world)
    times = StageTimes()
    reused = tuple(name for name in WORLD_STATES if store.has(name.lower(), keys[name]))
    with times.of("S0w"):
        if "S0w" not in reused:
            s0_gate.seal_world(store, keys["S0w"], world)
    with ThreadPoolExecutor(1) as pool:  # reading S1 and S2 and finding landmarks use two CPUs
        grid = Grid(policies.tile_index.resolution_arcsec)
        there = {"S1", "S2w"} <= set(reused)
        image = world_image.load(store, world_image_key(keys)) if fast and there else None
        known = pool.submit(landmarks, world, grid) if there and image is None else None
        with times.of("S1"):
            if "S1" in reused:
                index = s1_tile_index.load(store, keys["S1"], len(world.countries))
            else:
                index = s1_tile_index.run(store, keys["S1"], world, policies.tile_index, times.of)
        with times.of("S2w"):
            surface: Surface
            weights: Weights
            if image is not None:
                surface, weights = image.surface, image.weights
            elif "S2w" in reused:
                surface, weights = s2_weights.load_weights(store, keys["S2w"], index)
            else:
                surface, weights = s2_weights.run_weights(
                    store, keys["S2w"], world, index, policies.tile_weights, times.of
                )
        with times.of("S2s"):
            if "S2s" in reused:
                shares = s2_shares.load(store, keys["S2s"])
            else:
                shares = s2_shares.run(store, keys["S2s"], world, index, surface, policies.country_shares)
        with times.of("model"):
            found = image.landmarks if image is not None else None if known is None else known.result()
            stage = compose(
                world, policies, index, surface, weights, shares, keys, reused, times, found,
                pieces_when_asked=fast,
            )  # fmt: skip
    return dataclasses.replace(stage, mapped=image is not None)


def check_image(store: Store, stage: WorldStage) -> None:
    """Compare the image that a stage has mapped with its digest. Raises StoreError E_STORE_DAMAGED."""
    world_image.check(store, world_image_key(stage.keys))


def keep_image(store: Store, policies: Policies, stage: WorldStage) -> None:
    """Keep the model as it lies in memory for the next `fast` run, unless that is done, it is none of runs, or there is
    no room.

    It takes a second, most of it without Python's lock. Without it a run takes longer; so nothing that goes wrong here
    is worth more than a warning.
    """
    model, key = stage.world, world_image_key(stage.keys)
    if store.has(WORLD_IMAGE, key) or not (
        isinstance(model.surface, PopulationSurface) and isinstance(model.weights, TileWeights)
    ):
        return
    marks = Landmarks(model.polygons, model.edges, model.anchors)
    image = world_image.WorldImage(model.surface, model.weights, marks)
    try:
        room_bytes = shutil.disk_usage(store.root).free - _LEFT_FREE_BYTES
        if image.length_bytes > min(room_bytes, _IMAGE_SHARE_OF_CAP * policies.retention.live_bytes_max):
            return
        with stage.times.of("image"):
            world_image.publish(store, key, image)
    except OSError as error:  # a StoreError is one
        log.warning("no image of the world is kept: %s", error)


def compute_world(policies: Policies, world: World) -> WorldStage:
    """As `run_world`, without a store: what `verify` does."""
    times = StageTimes()
    from seg1b.catalogue.projected_shares import country_shares
    from seg1b.world.tile_index import build_tile_index
    from seg1b.world.weights import build_weights

    with times.of("S1"):
        index = build_tile_index(world, Grid(policies.tile_index.resolution_arcsec))
    with times.of("S2w"):
        surface = s2_weights.placement_surface(world, index, policies.tile_weights)
        weights = build_weights(surface, policies.tile_weights.mix, policies.tile_weights.dp)
    with times.of("S2s"):
        area = index.area_km2()
        shares = country_shares(world.countries, surface.southern_share(), area, policies.country_shares)
    with times.of("model"):
        keys = world_keys(policies, world)
        return compose(world, policies, index, surface, weights, shares, keys, (), times)


def compose(
    world: World,
    policies: Policies,
    index: TileIndex,
    surface: Surface,
    weights: Weights,
    shares: CountryShares,
    keys: Mapping[str, str],
    reused: tuple[str, ...],
    times: StageTimes,
    known: Landmarks | None = None,
    *,
    pieces_when_asked: bool = False,
) -> WorldStage:
    """Join the world's outputs to what every seed shares; `known` and `pieces_when_asked` are for `assemble`."""
    frozen(
        surface
    )  # before both halves use it: a kernel is compiled for read-only and for writable arrays apart
    frozen(shares)
    context = Later(lambda: frozen(scoring_context(world, policies, index, surface, shares)))
    block_tiles = policies.tile_weights.hilbert_block_tiles
    model = assemble(world, index, surface, weights, block_tiles, known, pieces_when_asked=pieces_when_asked)
    return WorldStage(model, shares, context, keys, attribution_of(world), reused, times)


def scoring_context(
    world: World, policies: Policies, index: TileIndex, surface: Surface, shares: CountryShares
) -> ScoringContext:
    """What scoring needs to know of the world: the placement surface first, the bundled one beside a raster."""
    surfaces: list[tuple[str, Surface]] = [("placement", surface)]
    if world.raster is not None:
        surfaces.append(("bundled", build_surface(world, index, policies.tile_weights.surface)))
    return make_context(
        iso=world.countries.iso,
        macro_region=world.countries.macro_region,
        eligible=np.asarray(world.countries.eligible),
        prior=shares.prior,
        market=shares.market_size,
        grid=index.grid,
        settlement_lon_deg=world.settlements.lon_e5 / 1e5,
        settlement_lat_deg=world.settlements.lat_e5 / 1e5,
        settlement_population=world.settlements.population,
        surfaces=surfaces,
        gates=policies.gates,
    )


def load_context(store: Store, policies: Policies, world: World) -> ScoringContext | None:
    """As of `run_world`: what scoring takes, without what placing takes. None where S1, S2w or S2s is not kept."""
    keys = world_keys(policies, world)
    if not all(store.has(state.lower(), keys[state]) for state in ("S1", "S2w", "S2s")):
        return None
    index = s1_tile_index.load(store, keys["S1"], len(world.countries))
    surface, _ = s2_weights.load_weights(store, keys["S2w"], index)
    shares = s2_shares.load(store, keys["S2s"])
    return frozen(scoring_context(world, policies, index, frozen(surface), shares))
