"""Polygons as pixels: anti-aliased even-odd filling and hairlines, in numpy alone."""

from __future__ import annotations

from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

Floats: TypeAlias = npt.NDArray[np.float64]
Integers: TypeAlias = npt.NDArray[np.int64]

SUB_ROWS: Final = 4
"""Scan lines per pixel row; along a line the coverage is exact."""


def coverage(x: Floats, y: Floats, start: Integers, width: int, height: int) -> Floats:
    """Covered share of each pixel, float64[height, width], by closed rings `start[i]:start[i + 1]`, even-odd."""
    rows = height * SUB_ROWS
    first = _edges(start)
    x0, x1, y0, y1 = x[first], x[first + 1], y[first] * SUB_ROWS, y[first + 1] * SUB_ROWS
    down = y0 <= y1
    x0, x1 = np.where(down, x0, x1), np.where(down, x1, x0)
    y0, y1 = np.where(down, y0, y1), np.where(down, y1, y0)
    top = np.clip(np.ceil(y0 - 0.5), 0, rows).astype(np.int64)
    crossed = np.clip(np.ceil(y1 - 0.5), 0, rows).astype(np.int64) - top
    edge = np.repeat(np.arange(len(first)), crossed)
    row = _counting(crossed) + top[edge]
    slope = (x1 - x0)[edge] / np.maximum(y1 - y0, 1e-12)[edge]
    at = np.clip(x0[edge] + (row + 0.5 - y0[edge]) * slope, 0.0, width)
    order = np.lexsort((at, row))
    row, at = row[order] // SUB_ROWS, at[order]
    sign = np.where(np.arange(len(at)) % 2 == 0, 1.0, -1.0) / SUB_ROWS
    column = at.astype(np.int64)
    fraction = at - column
    cell = row * (width + 2) + column
    change = np.bincount(cell, weights=sign * (1.0 - fraction), minlength=height * (width + 2))
    change += np.bincount(cell + 1, weights=sign * fraction, minlength=height * (width + 2))
    covered = np.cumsum(change.reshape(height, width + 2), axis=1)[:, :width]
    return np.clip(covered, 0.0, 1.0)


def hairlines(x: Floats, y: Floats, start: Integers, width: int, height: int) -> npt.NDArray[np.bool_]:
    """Pixels that an edge passes through (sampled once per pixel), bool[height, width]."""
    first = _edges(start)
    dx, dy = x[first + 1] - x[first], y[first + 1] - y[first]
    samples = np.ceil(np.maximum(np.abs(dx), np.abs(dy))).astype(np.int64) + 1
    edge = np.repeat(np.arange(len(first)), samples)
    part = _counting(samples) / samples[edge]
    px = np.floor(x[first][edge] + part * dx[edge]).astype(np.int64)
    py = np.floor(y[first][edge] + part * dy[edge]).astype(np.int64)
    inside = (px >= 0) & (px < width) & (py >= 0) & (py < height)
    marked = np.zeros(width * height, np.bool_)
    marked[py[inside] * width + px[inside]] = True
    return marked.reshape(height, width)


def _edges(start: Integers) -> Integers:
    """First vertex of every edge: all vertices but the last of each ring."""
    is_last = np.zeros(int(start[-1]), np.bool_)
    is_last[start[1:] - 1] = True
    return np.flatnonzero(~is_last)


def _counting(lengths: Integers) -> Integers:
    """0, 1, ... lengths[0]-1, 0, 1, ... lengths[1]-1, ..."""
    total = int(lengths.sum())
    return np.arange(total) - np.repeat(np.cumsum(lengths) - lengths, lengths)
