"""What the tests of the replay share: references by definition, big-integer forms, small worlds."""

from __future__ import annotations

import hashlib
import importlib
import pkgutil
from fractions import Fraction
from statistics import NormalDist
from types import FunctionType
from typing import Any

import numpy as np
from hypothesis import strategies as st

import seg1b.kernels
from seg1b.kernels import replay_draws, replay_jitter_v1
from seg1b.kernels.replay_containment import TILE_UNITS, EdgeIndex, build_edge_index

MASK = (1 << 64) - 1
D = 120
COLUMNS = 360 * D
WORLD = COLUMNS * TILE_UNITS
DIGEST = "0123456789abcdef" * 4
FINGERPRINT = "ab" * 32
THRESHOLDS = (500, 2000, 8000)
uint64s = st.integers(0, MASK)
Ring = list[tuple[int, int]]

REPLAY_MODULES = tuple(
    importlib.import_module(f"seg1b.kernels.{module.name}")
    for module in pkgutil.iter_modules(seg1b.kernels.__path__)
    if module.name.startswith("replay_")
)
"""All modules of the second implementation."""


def plain_python() -> Any:
    """All replay modules in one, every compiled function replaced by its Python source, on Python integers."""
    namespace: dict[str, Any] = {}
    for module in REPLAY_MODULES:
        namespace |= vars(module)
    for name, value in list(namespace.items()):
        source = getattr(value, "py_func", value)
        if isinstance(source, FunctionType) and source.__module__.startswith("seg1b.kernels.replay_"):
            copy = FunctionType(source.__code__, namespace, name, source.__defaults__)
            namespace[name] = copy
    namespace["u64"] = namespace["i64"] = int
    return type("Plain", (), {k: staticmethod(v) if callable(v) else v for k, v in namespace.items()})


PLAIN = plain_python()


def reference_philox(lo: int, hi: int, key: int) -> tuple[int, int]:
    """Philox2x64-10 on unbounded integers."""
    for _ in range(10):
        product = 0xD2B74407B1CE6E93 * lo
        lo, hi = (product >> 64) ^ key ^ hi, product & MASK
        key = (key + 0x9E3779B97F4A7C15) & MASK
    return lo, hi


def reference_stream(seed: int, label: str, *rest: str | int) -> tuple[int, int]:
    """(key, counter_hi) of a v2 stream, from the byte encodings."""

    def text(value: str) -> bytes:
        return len(value.encode()).to_bytes(4, "little") + value.encode()

    root = hashlib.sha256(text("seg1b/rng/v2") + seed.to_bytes(8, "little")).digest()
    tail = b"".join(text(r) if isinstance(r, str) else r.to_bytes(8, "little") for r in rest)
    digest = hashlib.sha256(root + text(label) + tail).digest()
    return int.from_bytes(digest[0:8], "little"), int.from_bytes(digest[8:16], "little")


def reference_draw(seed: int, label: str, iso: str, bound: int) -> int:
    """Uniform below `bound` from a country stream, by rejection."""
    key, hi = reference_stream(seed, label, iso)
    counter = 0
    while (x0 := reference_philox(counter, hi, key)[0]) >= (1 << 64) // bound * bound:
        counter += 1
    return x0 % bound


def reference_inside(rings: list[Ring], x: int, y: int) -> bool:
    """Even-odd with a ray to the east, in fractions, on the plane: rings must not cross the antimeridian."""
    odd = False
    for ring in rings:
        for (x0, y0), (x1, y1) in zip(ring, ring[1:] + ring[:1], strict=True):
            if (y0 <= y) != (y1 <= y) and x0 + Fraction((x1 - x0) * (y - y0), y1 - y0) > x:
                odd = not odd
    return odd


def normal_table() -> np.ndarray[Any, np.dtype[np.int64]]:
    """The inverse normal at i / 4096 in units of 2^-24, its ends cut at 2^-14."""
    inverse = NormalDist().inv_cdf
    table = [round(2**24 * inverse(i / 4096)) for i in range(1, 4096)]
    edge = round(2**24 * inverse(2.0**-14))
    return np.array([edge, *table, -edge], np.int64)


TABLE = normal_table()
MIXTURE = replay_jitter_v1.MixtureRule(
    0.5, 0.1, 0.2, np.array([[1.6, 1.6], [1, 1], [0.55, 0.55]]), np.array([[0.8, 0.8], [1, 1], [1, 1]])
)
ROW, COLUMN = 4000, 20000


def units(tiles_x: float, tiles_y: float) -> tuple[int, int]:
    """A vertex `tiles_x`, `tiles_y` tiles east and south of the small worlds' corner."""
    return int((COLUMN + Fraction(tiles_x)) * TILE_UNITS), int((ROW + Fraction(tiles_y)) * TILE_UNITS)


SQUARE: Ring = [units(0, 0), units(3, 0), units(3, 3), units(0, 3)]
SLIVER: Ring = [units(0.25, 0), units(0.25005, 0), units(0.2501, 1), units(0.25, 1)]
TRIANGLE: Ring = [units(0, 0), units(3, 0), units(0, 3)]
vertices = st.tuples(st.integers(0, 40), st.integers(0, 40)).map(lambda p: units(p[0] / 8, p[1] / 8))


def edges(*rings: Ring) -> EdgeIndex:
    """The edge index of a country of these rings."""
    start = np.cumsum([0, *(len(r) for r in rings)])
    return build_edge_index([x for r in rings for x, _ in r], [y for r in rings for _, y in r], start, D)


def tile(column: int, row: int) -> int:
    """Tile id in the small worlds."""
    return (ROW + row) * COLUMNS + COLUMN + column


def no_settlements(n: int) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """`n` tiles without a settlement."""
    return np.full(n, -1, np.int64), np.full(n, -1, np.int64)


def compiled_block(lo: int, hi: int, key: int) -> tuple[int, int]:
    """The compiled block on plain integers."""
    x0, x1 = replay_draws.philox_block(np.uint64(lo), np.uint64(hi), np.uint64(key))  # type: ignore[arg-type]
    return int(x0), int(x1)
