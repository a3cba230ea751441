"""From the Earth to a sheet: two equal-area projections, views of a country, outlines as SVG paths."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from seg1b.report.points import SitePoints
from seg1b.world.content import Polygons, World

Floats: TypeAlias = npt.NDArray[np.float64]
Integers: TypeAlias = npt.NDArray[np.int64]

EARTH_RADIUS_KM: Final = 6371.0072
SHEET_NORTH_DEG: Final = 84.0
SHEET_SOUTH_DEG: Final = -57.0
"""Antarctica has no shops: the sheet ends here unless a point lies farther south."""
_A: Final = (1.340264, -0.081106, 0.000893, 0.003796)
_M: Final = math.sqrt(3.0) / 2.0
_X_MAX: Final = math.pi / (_M * _A[0])
MAJOR_RING_SHARE: Final = 0.03
"""Rings below this share of a country's area do not stretch its map unless they hold a site."""


def equal_earth(lon_deg: Floats, lat_deg: Floats) -> tuple[Floats, Floats]:
    """Equal Earth projection (Savric, Patterson, Jenny 2018) on x in [-1, 1], y in the same unit, north up."""
    theta = np.arcsin(_M * np.sin(np.radians(lat_deg)))
    square = theta * theta
    sixth = square**3
    slope = _A[0] + 3 * _A[1] * square + sixth * (7 * _A[2] + 9 * _A[3] * square)
    x = np.radians(lon_deg) * np.cos(theta) / (_M * slope)
    y = theta * (_A[0] + _A[1] * square + sixth * (_A[2] + _A[3] * square))
    return x / _X_MAX, y / _X_MAX


def unit_vectors(lon_deg: Floats, lat_deg: Floats) -> Floats:
    """Points on the unit sphere, float64[3, n]."""
    lon, lat = np.radians(lon_deg), np.radians(lat_deg)
    cosine = np.cos(lat)
    return np.stack((cosine * np.cos(lon), cosine * np.sin(lon), np.sin(lat)))


@dataclass(frozen=True, eq=False)
class Sheet:
    """A rectangle of pixels over the world in the Equal Earth projection."""

    width: int
    south_deg: float = SHEET_SOUTH_DEG

    @cached_property
    def _limits(self) -> tuple[float, float]:
        _, y = equal_earth(np.zeros(2), np.array([SHEET_NORTH_DEG, self.south_deg]))
        return float(y[0]), float(y[1])

    @property
    def height(self) -> int:
        """Height in pixels."""
        north, south = self._limits
        return round((north - south) * self.width / 2.0)

    def place(self, lon_deg: Floats, lat_deg: Floats) -> tuple[Floats, Floats]:
        """Degrees -> pixels, y downwards."""
        x, y = equal_earth(lon_deg, lat_deg)
        return (x + 1.0) * (self.width / 2.0), (self._limits[0] - y) * (self.width / 2.0)


def sheet_for(points: SitePoints, width: int) -> Sheet:
    """The usual sheet, or the whole globe where a site lies below its southern edge."""
    below = len(points) > 0 and float(points.lat_deg.min()) < SHEET_SOUTH_DEG
    return Sheet(width, -90.0) if below else Sheet(width)


@dataclass(frozen=True, eq=False)
class View:
    """A rectangle over one region: Lambert azimuthal equal-area around (lon, lat), in pixels.

    Nothing is torn at the antimeridian or at a pole. `left_km`, `top_km`: the corner; `km_per_px`: the scale.
    """

    lon_deg: float
    lat_deg: float
    left_km: float
    top_km: float
    km_per_px: float
    width: int
    height: int

    @cached_property
    def frame(self) -> Floats:
        """Rows: east, north and up at the centre, float64[3, 3]."""
        lon, lat = math.radians(self.lon_deg), math.radians(self.lat_deg)
        sin_lon, cos_lon, sin_lat, cos_lat = math.sin(lon), math.cos(lon), math.sin(lat), math.cos(lat)
        return np.array(
            [
                [-sin_lon, cos_lon, 0.0],
                [-sin_lat * cos_lon, -sin_lat * sin_lon, cos_lat],
                [cos_lat * cos_lon, cos_lat * sin_lon, sin_lat],
            ]
        )

    def place_vectors(self, vectors: Floats) -> tuple[Floats, Floats]:
        """Unit vectors float64[3, n] -> pixels, y downwards."""
        x, y = azimuthal_km(self.frame, vectors)
        return (x - self.left_km) / self.km_per_px, (self.top_km - y) / self.km_per_px

    def place(self, lon_deg: Floats, lat_deg: Floats) -> tuple[Floats, Floats]:
        """Degrees -> pixels, y downwards."""
        return self.place_vectors(unit_vectors(lon_deg, lat_deg))

    def scaled(self, factor: float) -> View:
        """The same view with `factor` times as many pixels."""
        return View(
            self.lon_deg,
            self.lat_deg,
            self.left_km,
            self.top_km,
            self.km_per_px / factor,
            round(self.width * factor),
            round(self.height * factor),
        )


def azimuthal_km(frame: Floats, vectors: Floats) -> tuple[Floats, Floats]:
    """Lambert azimuthal equal-area coordinates in km around the frame's centre."""
    east, north, up = (frame[i] @ vectors for i in range(3))
    scale = EARTH_RADIUS_KM * np.sqrt(2.0 / np.maximum(1.0 + up, 1e-9))
    return east * scale, north * scale


def country_view(
    country: int, points: SitePoints, world: World, width: int, *, aspect: float | None = None
) -> View:
    """A view that shows every site of the country and its major rings.

    `aspect`: height over width, the country is centred in it; None fits the country.
    """
    vectors = [_major_vertices(country, world.polygons)]
    own = points.of_country(country)
    if len(own):
        vectors.append(unit_vectors(own.lon_deg, own.lat_deg))
    everything = np.concatenate(vectors, axis=1)
    low, high = everything.min(axis=1), everything.max(axis=1)
    middle = low + high
    lon = math.degrees(math.atan2(middle[1], middle[0]))
    lat = math.degrees(math.atan2(middle[2], math.hypot(middle[0], middle[1])))
    x, y = azimuthal_km(View(lon, lat, 0.0, 0.0, 1.0, 1, 1).frame, everything)
    span_x, span_y = max(float(np.ptp(x)), 0.5), max(float(np.ptp(y)), 0.5)
    margin = 0.05 * max(span_x, span_y)
    km_x, km_y = span_x + 2 * margin, span_y + 2 * margin
    if aspect is not None:
        km_x, km_y = max(km_x, km_y / aspect), max(km_y, km_x * aspect)
    height = max(round(width * km_y / km_x), 1)
    left = (float(x.min()) + float(x.max()) - km_x) / 2.0
    top = (float(y.min()) + float(y.max()) + km_y) / 2.0
    return View(lon, lat, left, top, km_x / width, width, height)


def _major_vertices(country: int, polygons: Polygons) -> Floats:
    rings = polygons.country_rings(country)
    areas = [_ring_area(polygons, ring) for ring in rings]
    total = sum(areas)
    parts = [
        slice(int(polygons.ring_start[ring]), int(polygons.ring_start[ring + 1]))
        for ring, area in zip(rings, areas, strict=True)
        if area >= MAJOR_RING_SHARE * total
    ]
    lon = np.concatenate([polygons.lon[part] for part in parts])
    lat = np.concatenate([polygons.lat[part] for part in parts])
    return unit_vectors(lon, lat)


def _ring_area(polygons: Polygons, ring: int) -> float:
    part = slice(int(polygons.ring_start[ring]), int(polygons.ring_start[ring + 1]))
    x, y = polygons.lon[part], np.sin(np.radians(polygons.lat[part]))
    return abs(float(np.sum(x[:-1] * y[1:] - x[1:] * y[:-1]))) / 2.0


@dataclass(frozen=True, eq=False)
class Outlines:
    """The world's rings, ready to be drawn many times."""

    world: World

    @cached_property
    def vectors(self) -> Floats:
        """All vertices on the unit sphere, float64[3, V]."""
        return unit_vectors(self.world.polygons.lon, self.world.polygons.lat)

    def sheet_path(self, sheet: Sheet, step: float = 1.0) -> str:
        """SVG path data of all land on a world sheet, rounded to `step` pixels."""
        polygons = self.world.polygons
        x, y = sheet.place(polygons.lon, polygons.lat)
        rings = np.arange(len(polygons.ring_country))
        return " ".join(path_of_rings(x, y, polygons.ring_start, rings, step))

    def view_paths(self, view: View, country: int, step: float = 0.5) -> tuple[str, str]:
        """SVG path data of (the country, its neighbours) in a view."""
        near, x, y, start = self.view_rings(view)
        own = self.world.polygons.ring_country[near] == country
        number = np.arange(len(near))
        mine = path_of_rings(x, y, start, number[own], step)
        others = path_of_rings(x, y, start, number[~own], step)
        return " ".join(mine), " ".join(others)

    def view_rings(self, view: View) -> tuple[Integers, Floats, Floats, Integers]:
        """(ring numbers, x, y, start) of the rings that touch a view, clamped to a margin around it."""
        polygons = self.world.polygons
        start = polygons.ring_start
        reach_km = math.hypot(
            max(abs(view.left_km), abs(view.left_km + view.width * view.km_per_px)),
            max(abs(view.top_km), abs(view.top_km - view.height * view.km_per_px)),
        )
        nearness = view.frame[2] @ self.vectors
        chord = min(reach_km * 1.05 / EARTH_RADIUS_KM, 1.999)
        closest = np.maximum.reduceat(nearness, start[:-1])
        # an edge may cross the view with both ends outside: the floor keeps neighbours of very small countries
        near = np.flatnonzero(closest >= 1.0 - max(chord, 0.03) ** 2 / 2.0)
        length = np.diff(start)[near]
        new_start = np.concatenate(([0], np.cumsum(length)))
        take = np.repeat(start[near] - new_start[:-1], length) + np.arange(int(new_start[-1]))
        x, y = view.place_vectors(self.vectors[:, take])
        x = np.clip(x, -float(view.width), 2.0 * view.width)
        y = np.clip(y, -float(view.height), 2.0 * view.height)
        if len(near):
            low_x, high_x = (f.reduceat(x, new_start[:-1]) for f in (np.minimum, np.maximum))
            low_y, high_y = (f.reduceat(y, new_start[:-1]) for f in (np.minimum, np.maximum))
            seen = (high_x >= 0) & (low_x <= view.width) & (high_y >= 0) & (low_y <= view.height)
            return _kept(near, x, y, new_start, seen)
        return near, x, y, new_start


def _kept(
    near: Integers, x: Floats, y: Floats, start: Integers, seen: npt.NDArray[np.bool_]
) -> tuple[Integers, Floats, Floats, Integers]:
    length = np.diff(start)
    vertices = np.repeat(seen, length)
    return near[seen], x[vertices], y[vertices], np.concatenate(([0], np.cumsum(length[seen])))


def path_of_rings(x: Floats, y: Floats, start: Integers, rings: Integers, step: float) -> list[str]:
    """Closed SVG subpaths in integers of `step` pixels; rings smaller than a step are left out.

    The caller scales them back: the paths belong in a group with `scale(step)`.
    """
    qx, qy = np.rint(x / step).astype(np.int64), np.rint(y / step).astype(np.int64)
    paths = []
    for ring in rings.tolist():
        part = slice(int(start[ring]), int(start[ring + 1]))
        text = _subpath(qx[part], qy[part])
        if text:
            paths.append(text)
    return paths


def _subpath(x: Integers, y: Integers) -> str:
    dx, dy = np.diff(x), np.diff(y)
    moved = (dx != 0) | (dy != 0)
    dx, dy = dx[moved], dy[moved]
    if len(dx) < 3:
        return ""
    turn = (dx[1:] * dy[:-1] != dx[:-1] * dy[1:]) | (dx[1:] * dx[:-1] + dy[1:] * dy[:-1] < 0)
    ends = np.concatenate((np.flatnonzero(turn), [len(dx) - 1]))
    px, py = np.cumsum(dx)[ends], np.cumsum(dy)[ends]
    steps = zip(np.diff(px, prepend=0).tolist(), np.diff(py, prepend=0).tolist(), strict=True)
    return f"M{int(x[0])} {int(y[0])}l" + " ".join([f"{a} {b}" for a, b in steps][:-1]) + "z"
