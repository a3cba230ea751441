"""S6, the first engine's modes: parity vectors, formulas, borders."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from seg1b.errors import ContractError
from seg1b.kernels.containment import TILE, EdgeIndex, build_edge_index
from seg1b.kernels.jitter import CORE, SECONDARY, SPARSE, JitterResult
from seg1b.kernels.jitter_v1 import MixtureParameters, mixture_v2, uniform_v1
from seg1b.kernels.streams import master_v1, site_stream_v1

PER_DEGREE = 120
NCOLS, NROWS = 360 * PER_DEGREE, 180 * PER_DEGREE
SHIPPED = MixtureParameters(
    selection_blend=0.5, core=0.1, secondary=0.2,
    exponent_lon=(1.6, 1.0, 0.55), exponent_lat=(1.6, 1.0, 0.55),
    max_offset_lon=(0.8, 1.0, 1.0), max_offset_lat=(0.8, 1.0, 1.0),
)  # fmt: skip
TILE_ID = 4626 * NCOLS + 21585


def index_of(left: float, right: float) -> EdgeIndex:
    """A country that fills the rows of TILE_ID between two fractions of its width."""
    row, col = divmod(TILE_ID, NCOLS)
    x = [int((col + f) * TILE) for f in (left, right, right, left)]
    y = [(row + r) * TILE for r in (-1, -1, 2, 2)]
    return build_edge_index(
        np.array(x), np.array(y), np.array([0, 4]), np.zeros(1, dtype=np.int16), 1, NCOLS, NROWS
    )


def draw(
    n: int, mixture: bool, index: EdgeIndex | None = None, centre: bool = True, max_attempts: int = 64
) -> JitterResult:
    """Sites 1..n of merchant 1 in GB; without an index the tile is interior."""
    label = "in_cell_jitter:1B.S6.JITTER_V2"
    streams = [site_stream_v1(master_v1("ab" * 32, 42), label, "GB", 1, order) for order in range(1, n + 1)]
    key, high, low = (
        np.array([getattr(stream, name) for stream in streams], np.uint64)
        for name in ("key", "counter_hi", "counter_lo")
    )
    rest = (
        max_attempts, index or index_of(0.0, 1.0), PER_DEGREE, np.full(n, TILE_ID),
        np.zeros(n, dtype=np.int16),
        key, high, low, np.full(n, index is not None), np.full(n, centre),
    )  # fmt: skip
    return mixture_v2(SHIPPED, *rest) if mixture else uniform_v1(*rest)


def fractions(result: JitterResult) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Position in the tile from its south-west corner."""
    row, col = divmod(TILE_ID, NCOLS)
    return (result.x + 180) * PER_DEGREE - col, (result.y - 90) * PER_DEGREE + row + 1


def test_uniform_draws_are_the_published_ones() -> None:
    """Site 1 of the engine's vector: u_lon 0.8213729556173935, u_lat 0.045779630053613955, bit for bit."""
    result = draw(1, mixture=False)
    row, col = divmod(TILE_ID, NCOLS)
    min_lon, max_lon = (col - 21600) / 120, (col + 1 - 21600) / 120
    min_lat, max_lat = (10800 - row - 1) / 120, (10800 - row) / 120
    assert result.x[0] == min_lon + 0.8213729556173935 * (max_lon - min_lon)
    assert result.y[0] == min_lat + 0.045779630053613955 * (max_lat - min_lat)
    assert (result.attempts[0], result.component[0]) == (1, SPARSE)


def test_mixture_selects_and_bends_by_the_same_uniforms() -> None:
    """Selector, component and curve recomputed from the uniform mode's positions."""
    u_lon, u_lat = fractions(draw(4000, mixture=False))
    result = draw(4000, mixture=True)
    selector = 0.5 * u_lon + 0.5 * u_lat
    expected = np.where(selector < 0.1, CORE, np.where(selector < 0.1 + 0.2, SECONDARY, SPARSE))
    assert (result.component != expected).sum() <= 1
    for u, got in zip((u_lon, u_lat), fractions(result), strict=True):
        c = 2 * u - 1
        exponent, offset = np.array([1.6, 1.0, 0.55])[expected], np.array([0.8, 1.0, 1.0])[expected]
        assert np.allclose(got, 0.5 + 0.5 * np.sign(c) * np.abs(c) ** exponent * offset, atol=1e-6)
    shares = np.bincount(result.component, minlength=3) / 4000
    assert np.abs(shares - [0.02, 0.16, 0.82]).max() < 0.02


@pytest.mark.parametrize("mixture", [False, True])
def test_points_outside_are_drawn_again_from_the_next_block(mixture: bool) -> None:
    """The left third of the tile is land: every point lies there, a third of first attempts does."""
    result = draw(2000, mixture, index_of(-1.0, 1 / 3), centre=False)
    f_lon, _ = fractions(result)
    assert float(f_lon.max()) <= 1 / 3 + 1e-9
    assert 0.2 < (result.attempts == 1).mean() < 0.45
    first = draw(2000, mixture)
    accepted = result.attempts == 1
    assert np.array_equal(result.x[accepted], first.x[accepted])


def test_running_out_of_attempts_is_an_error() -> None:
    """Never a silent fallback in v1: E613 with the site."""
    with pytest.raises(ContractError) as caught:
        draw(50, mixture=False, index=index_of(-1.0, 1e-6), centre=False, max_attempts=3)
    assert caught.value.code == "E613"
    assert "site 0 of the shard" in caught.value.where
