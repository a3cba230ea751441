"""Maps of sites: the world and single countries, as PNG files and as figures of the report.

Density is shown by luminance: one site is visible, and the shade grows with the logarithm of the sites under a
pixel, so the same picture serves a hundred thousand points and a hundred million.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from seg1b.report.fill import coverage, hairlines
from seg1b.report.geometry import Outlines, Sheet, View, country_view, sheet_for
from seg1b.report.points import SitePoints
from seg1b.report.raster import count_pixels, data_uri, encode_rgb, encode_tinted, shades, spread
from seg1b.world.content import World

Floats: TypeAlias = npt.NDArray[np.float64]
Colour: TypeAlias = tuple[int, int, int]

SITE: Final[Colour] = (10, 58, 102)
SEA: Final[Colour] = (245, 247, 249)
LAND: Final[Colour] = (217, 222, 227)
FAR_LAND: Final[Colour] = (233, 236, 239)
BORDER: Final[Colour] = (250, 251, 252)
TOWN: Final[Colour] = (196, 106, 18)
INK: Final[Colour] = (38, 43, 51)

TOWN_POPULATION_MIN: Final = 50_000
WORLD_PX: Final = 2200
FIGURE_PX: Final = 400
"""Width of a country figure in its own units; its image has twice as many pixels."""
FIGURE_ASPECT: Final = 0.75
LABELS_PER_FIGURE: Final = 7
TOWNS_PER_FIGURE: Final = 100
ROUND_RADII: Final = (1.0, 2.3, 3.3, 4.3, 5.4, 6.4, 7.3, 8.3)
"""Radii in pixels at which a disc looks like one."""
WORLD_DOT_SITES_MAX: Final = 500_000
"""Up to so many sites a site on the world map is a dot of five pixels, above a single one."""


@dataclass(frozen=True)
class Town:
    """A settlement on a sheet: position and radius in pixels, and where its name goes (None: no room)."""

    name: str
    population: int
    x: float
    y: float
    radius: float
    label: tuple[float, float] | None


# -- the world -----------------------------------------------------------------------------------------------------


def world_map_png(points: SitePoints, world: World, width_px: int = WORLD_PX) -> bytes:
    """All sites over the countries' outlines, Equal Earth projection, as a PNG of its own."""
    sheet = sheet_for(points, width_px)
    polygons = world.polygons
    x, y = sheet.place(polygons.lon, polygons.lat)
    image = _paper(sheet.width, sheet.height)
    _blend(image, coverage(x, y, polygons.ring_start, sheet.width, sheet.height), LAND)
    _blend(image, hairlines(x, y, polygons.ring_start, sheet.width, sheet.height) * 0.7, BORDER)
    _blend(image, _world_shades(points, sheet) / 255.0, SITE)
    return encode_rgb(np.rint(image).astype(np.uint8))


def world_figure(points: SitePoints, outlines: Outlines, title: str) -> str:
    """All sites as an inline SVG that follows the page's colours."""
    sheet = sheet_for(points, WORLD_PX)
    png = encode_tinted(_world_shades(points, sheet), SITE)
    land = outlines.sheet_path(sheet, step=1.0)
    return (
        f'<svg class="map world" viewBox="0 0 {sheet.width} {sheet.height}" role="img" '
        f'aria-label="{escape(title)}"><title>{escape(title)}</title>'
        f'<path class="land" d="{land}"/>{_image(png, sheet.width, sheet.height)}</svg>'
    )


def _world_shades(points: SitePoints, sheet: Sheet) -> npt.NDArray[np.uint8]:
    counts = count_pixels(points.lon_deg, points.lat_deg, sheet.place, sheet.width, sheet.height)
    return shades(spread(counts, 1.0 if len(points) <= WORLD_DOT_SITES_MAX else 0.0))


# -- one country ---------------------------------------------------------------------------------------------------


def country_map_png(country_iso: str, points: SitePoints, world: World, width_px: int = 1200) -> bytes:
    """The sites of one country over its outline as a PNG of its own, with towns of 50,000 people and more.

    Lambert azimuthal equal-area around the country. Raises KeyError for a code that the world does not know.
    """
    country = world.countries.index_of[country_iso]
    view = country_view(country, points, world, width_px, aspect=FIGURE_ASPECT)
    own_points = points.of_country(country)
    image = _paper(view.width, view.height)
    near, x, y, start = Outlines(world).view_rings(view)
    own = world.polygons.ring_country[near] == country
    for rings, colour in ((~own, FAR_LAND), (own, LAND)):
        picked = np.repeat(rings, np.diff(start))
        bounds = np.concatenate(([0], np.cumsum(np.diff(start)[rings])))
        if len(bounds) > 1:
            _blend(image, coverage(x[picked], y[picked], bounds, view.width, view.height), colour)
    lettering = 13.0 * max(width_px / 800.0, 0.8)
    towns = towns_in(view, country, world, lettering, max(4, width_px // 60))
    faint = town_opacity(len(towns))
    for town in towns:
        _blend_ring(image, town, faint)
    counts = count_pixels(own_points.lon_deg, own_points.lat_deg, view.place, view.width, view.height)
    radius = site_radius(len(own_points), width_px)
    _blend(image, shades(spread(counts, radius)) / 255.0, SITE)
    return _with_lettering(np.rint(image).astype(np.uint8), towns, view, lettering)


def country_figure(country: int, points: SitePoints, outlines: Outlines) -> str:
    """The sites of one country as an inline SVG that follows the page's colours."""
    world = outlines.world
    view = country_view(country, points, world, FIGURE_PX, aspect=FIGURE_ASPECT)
    own = points.of_country(country)
    fine = view.scaled(2.0)
    counts = count_pixels(own.lon_deg, own.lat_deg, fine.place, fine.width, fine.height)
    png = encode_tinted(shades(spread(counts, site_radius(len(own), fine.width))), SITE)
    mine, others = outlines.view_paths(view, country)
    towns = towns_in(view, country, world, 11.0, LABELS_PER_FIGURE)[:TOWNS_PER_FIGURE]
    name = world.countries.name[country]
    title = f"Map of {name}: {len(own):,} sites over the outline of the country, with its largest towns"
    rings = "".join(f'<circle cx="{t.x:.1f}" cy="{t.y:.1f}" r="{t.radius:.1f}"/>' for t in towns)
    names = "".join(
        f'<text x="{t.label[0]:.1f}" y="{t.label[1]:.1f}">{escape(t.name)}</text>' for t in towns if t.label
    )
    length_px, text = scale_bar(view)
    bottom = view.height - 10
    return (
        f'<svg class="map" viewBox="0 0 {view.width} {view.height}" role="img" aria-label="{escape(title)}">'
        f"<title>{escape(title)}</title>"
        f'<g transform="scale(.5)"><path class="far" d="{others}"/><path class="land" d="{mine}"/></g>'
        f'<g class="towns" opacity="{town_opacity(len(towns)):.2f}">{rings}</g>'
        f'{_image(png, view.width, view.height)}<g class="names">{names}</g>'
        f'<g class="scale"><path d="M10 {bottom - 4}v4h{length_px:.1f}v-4"/>'
        f'<text x="{length_px + 16:.1f}" y="{bottom}">{text}</text></g></svg>'
    )


def site_radius(sites: int, width_px: int) -> float:
    """Radius of a site in pixels, of those that make a round dot: large where there are few sites."""
    wanted = (4.3 if sites <= 150 else 2.9 if sites <= 8000 else 2.0) * width_px / 800.0
    return max(radius for radius in ROUND_RADII if radius <= max(wanted, ROUND_RADII[0]))


def town_opacity(towns: int) -> float:
    """How faint the marks of that many towns are."""
    return min(max(4.0 / math.sqrt(max(towns, 1)), 0.25), 0.6)


def towns_in(view: View, country: int, world: World, lettering: float, labels_max: int) -> list[Town]:
    """Towns of the country in the view, largest first, named while there is room.

    `lettering`: size of the letters in pixels.
    """
    settlements = world.settlements
    low, high = np.searchsorted(settlements.country, [country, country + 1])
    population = settlements.population[low:high]
    chosen = np.flatnonzero(population >= TOWN_POPULATION_MIN)
    if not len(chosen):
        chosen = np.argsort(-population, kind="stable")[:3]
    chosen = chosen[np.argsort(-population[chosen], kind="stable")]
    at = chosen + low
    x, y = view.place(settlements.lon_e5[at] / 1e5, settlements.lat_e5[at] / 1e5)
    boxes: list[tuple[float, float, float, float]] = []
    towns = []
    for i, row in enumerate(at.tolist()):
        people, px, py = int(settlements.population[row]), float(x[i]), float(y[i])
        if not (0 <= px <= view.width and 0 <= py <= view.height):
            continue
        radius = lettering * min(0.2 + 0.09 * math.sqrt(people / TOWN_POPULATION_MIN), 1.1)
        label, name = None, ""
        if len(boxes) < labels_max and i < 4 * labels_max:
            name = str(settlements.name[row])
            label = _room_for(name, px, py, radius, lettering, view, boxes)
        towns.append(Town(name, people, px, py, radius, label))
    return towns


def _room_for(
    name: str,
    x: float,
    y: float,
    radius: float,
    lettering: float,
    view: View,
    boxes: list[tuple[float, float, float, float]],
) -> tuple[float, float] | None:
    """Left end of the baseline, right or left of the town; the box taken is added to `boxes`."""
    width, gap = 0.62 * lettering * len(name), radius + 0.3 * lettering
    for left in (x + gap, x - gap - width):
        box = (left, y - 0.8 * lettering, left + width, y + 0.6 * lettering)
        fits = (
            box[0] > 2 and box[2] < view.width - 2 and box[1] > 2 and box[3] < view.height - 1.8 * lettering
        )
        if fits and not any(_overlap(box, other) for other in boxes):
            boxes.append(box)
            return left, y + 0.35 * lettering
    return None


def _overlap(a: Sequence[float], b: Sequence[float]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def scale_bar(view: View) -> tuple[float, str]:
    """(length in pixels, text) of a round distance of about a fifth of the width."""
    target = view.km_per_px * view.width / 5.0
    decade = 10.0 ** math.floor(math.log10(target))
    km = max(factor * decade for factor in (1.0, 2.0, 5.0) if factor * decade <= target)
    text = f"{km:,.0f} km" if km >= 1 else f"{km * 1000:,.0f} m"
    return km / view.km_per_px, text


# -- pixels --------------------------------------------------------------------------------------------------------


def _image(png: bytes, width: int, height: int) -> str:
    return f'<image class="sites" width="{width}" height="{height}" href="{data_uri(png)}"/>'


def _paper(width: int, height: int) -> Floats:
    return np.tile(np.array(SEA, np.float64), (height, width, 1))


def _blend(image: Floats, opacity: npt.NDArray[np.floating], colour: Colour) -> None:
    image += opacity[:, :, None] * (np.array(colour, np.float64) - image)


def _blend_ring(image: Floats, town: Town, opacity: float) -> None:
    """A faint ring of about 1.5 pixels."""
    height, width, _ = image.shape
    reach = math.ceil(town.radius) + 2
    x0, x1 = max(int(town.x) - reach, 0), min(int(town.x) + reach + 1, width)
    y0, y1 = max(int(town.y) - reach, 0), min(int(town.y) + reach + 1, height)
    yy, xx = np.mgrid[y0:y1, x0:x1]
    away = np.abs(np.hypot(xx + 0.5 - town.x, yy + 0.5 - town.y) - town.radius)
    _blend(image[y0:y1, x0:x1], opacity * np.clip(1.4 - away, 0.0, 1.0), TOWN)


def _with_lettering(
    pixels: npt.NDArray[np.uint8], towns: Iterable[Town], view: View, lettering: float
) -> bytes:
    """Names and the scale bar; Pillow sets the type (it comes with matplotlib, and so does the font)."""
    from PIL import Image, ImageDraw, ImageFont

    image = Image.fromarray(pixels)
    draw = ImageDraw.Draw(image)
    font = ImageFont.truetype(io.BytesIO(_font_bytes()), round(lettering))
    halo = max(round(lettering / 8), 1)
    for town in towns:
        if town.label is not None:
            draw.text(town.label, town.name, INK, font, anchor="ls", stroke_width=halo, stroke_fill=FAR_LAND)
    length, text = scale_bar(view)
    left, bottom = lettering, view.height - lettering
    tick = lettering / 3
    line = [(left, bottom - tick), (left, bottom), (left + length, bottom), (left + length, bottom - tick)]
    draw.line(line, fill=INK, width=max(round(lettering / 10), 1))
    draw.text((left + length + tick, bottom), text, INK, font, anchor="ls")
    return encode_rgb(np.asarray(image, np.uint8))


def _font_bytes() -> bytes:
    import importlib.util
    from pathlib import Path

    found = importlib.util.find_spec("matplotlib")
    if found is None or found.origin is None:
        raise RuntimeError("matplotlib, which brings the font, is not installed")
    return (Path(found.origin).parent / "mpl-data/fonts/ttf/DejaVuSans.ttf").read_bytes()
