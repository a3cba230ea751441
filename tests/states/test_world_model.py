"""The model that S3 to S9 share: parts that belong together, none of them writable."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pytest
from small_worlds import box, small_world

from seg1b.kernels.containment import points_in_country
from seg1b.kernels.systematic import RunCurve
from seg1b.lanes.world_stage import WorldStage
from seg1b.policy.load import default_policies
from seg1b.states.world_model import WorldModel, assemble, frozen
from seg1b.world.grid import Grid
from seg1b.world.surface import build_surface
from seg1b.world.tile_index import build_tile_index
from seg1b.world.weights import build_weights


@pytest.fixture(scope="module")
def model() -> WorldModel:
    """Two countries on tiles of a tenth of a degree."""
    rings = {"AA": [box(0, 0, 3, 2)], "BB": [box(3, 0, 5, 2)]}
    world = small_world(rings, [("AA", 1.55, 0.45, 700), ("BB", 4.55, 1.45, 50)], {"AA": 1000})
    policy = default_policies().tile_weights
    index = build_tile_index(world, Grid(360))
    surface = build_surface(world, index, policy.surface)
    return assemble(world, index, surface, build_weights(surface, policy.mix, 9), policy.hilbert_block_tiles)


def arrays_of(value: object) -> Iterator[npt.NDArray[np.generic]]:
    """Every array in nested dataclasses."""
    if isinstance(value, np.ndarray):
        yield value
    elif dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            yield from arrays_of(getattr(value, field.name))


def test_names_and_totals(model: WorldModel) -> None:
    """ISO codes by position, K by dp."""
    assert model.iso == ("AA", "BB")
    assert model.country_index == {"AA": 0, "BB": 1}
    assert model.total_weight == 10**9
    assert model.grid == Grid(360)


def test_pieces_and_weights_are_two_orders_of_one_thing(model: WorldModel) -> None:
    """Tile by tile the same weights; pieces lie end to end from 0 to K."""
    for country in range(2):
        tile0, length, weight = model.weights_of(country)
        runs = zip(tile0.tolist(), length.tolist(), weight.tolist(), strict=True)
        by_runs = {t + k: w for t, n, w in runs for k in range(n) if w}
        curve = model.curve_of(country)
        assert isinstance(curve, RunCurve)
        first, size, per_tile, before = curve.tile0, curve.length, curve.weight, curve.cum
        pieces = zip(first.tolist(), size.tolist(), per_tile.tolist(), strict=True)
        assert {t + k: w for t, n, w in pieces for k in range(n)} == by_runs
        ends = before + per_tile * size
        assert before[0] == 0
        assert np.array_equal(before[1:], ends[:-1])
        assert ends[-1] == model.total_weight


def test_every_array_is_read_only(model: WorldModel) -> None:
    """Also those deep inside."""
    found = list(arrays_of(model))
    assert len(found) > 30
    assert not any(array.flags.writeable for array in found)
    with pytest.raises(ValueError, match="read-only"):
        model.index.spans.row[0] = 1


def test_frozen_returns_what_it_got() -> None:
    """Arrays and plain values."""
    array = np.zeros(2)
    assert frozen(array) is array
    assert not array.flags.writeable
    assert frozen("word") == "word"
    assert frozen(np.ndarray) is np.ndarray


def test_edges_know_the_border_of_the_model(model: WorldModel) -> None:
    """A point either side of 3 degrees east, in a tile that the border touches."""
    unit = model.grid.units_per_degree
    x = np.array([183 * unit - 1, 183 * unit - 1], np.int64)
    y = np.full(2, 89 * unit + 5, np.int64)
    tile = (y >> 32) * model.grid.ncols + (x >> 32)
    country = np.array([0, 1], np.int16)
    centre = model.index.centre_inside(country, tile)
    assert points_in_country(model.edges, country, tile, centre, x, y).tolist() == [True, False]


def test_anchors_belong_to_the_model(model: WorldModel) -> None:
    """The middle of the settlement's tile."""
    x, y = model.anchors.at(np.zeros(1, np.int16), model.grid.tile_of([1.55], [0.45]))
    assert (x.tolist(), y.tolist()) == ([1 << 31], [1 << 31])


def test_the_real_model_is_read_only_and_small(world_stage: WorldStage) -> None:
    """221 million tiles in a third of a gigabyte: nothing is kept per tile."""
    found = {array.ctypes.data: array.nbytes for array in arrays_of(world_stage.world)}
    assert sum(found.values()) < 600e6
    assert not any(array.flags.writeable for array in arrays_of(world_stage.world))
