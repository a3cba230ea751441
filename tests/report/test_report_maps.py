"""Maps: where points land, what is filled, and that a PNG is a PNG with the size asked for."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from report_cases import ISO, points, small_world

from seg1b.report.fill import coverage, hairlines
from seg1b.report.geometry import EARTH_RADIUS_KM, Outlines, Sheet, country_view, equal_earth, path_of_rings
from seg1b.report.maps import country_figure, country_map_png, scale_bar, towns_in, world_map_png
from seg1b.report.points import SitePoints
from seg1b.report.raster import SIGNATURE, count_pixels, encode_rgb, encode_tinted, shades, spread


def chunks_of(png: bytes) -> list[bytes]:
    """Chunk types of a PNG, each with a correct checksum."""
    assert png[:8] == SIGNATURE
    kinds, at = [], 8
    while at < len(png):
        (length,) = struct.unpack(">I", png[at : at + 4])
        kind, data = png[at + 4 : at + 8], png[at + 8 : at + 8 + length]
        assert struct.unpack(">I", png[at + 8 + length : at + 12 + length])[0] == zlib.crc32(kind + data)
        kinds.append(kind)
        at += 12 + length
    return kinds


def test_png_files_have_the_size_asked_for_and_no_metadata() -> None:
    """Signature, checksums, size; no text, time or physical chunk."""
    world, sites = small_world(), points(1)
    for png, width in (
        (world_map_png(sites, world, 300), 300),
        (country_map_png("SQ", sites, world, 200), 200),
    ):
        assert chunks_of(png) == [b"IHDR", b"IDAT", b"IEND"]
        assert struct.unpack(">I", png[16:20])[0] == width
    assert country_map_png("SQ", sites, world, 200) == country_map_png("SQ", sites, world, 200)


def test_an_unknown_country_is_a_key_error() -> None:
    """The caller names the code."""
    with pytest.raises(KeyError, match="XX"):
        country_map_png("XX", points(1), small_world(), 100)


@pytest.mark.parametrize("width", [7, 8])
@pytest.mark.parametrize("levels", [3, 40])
def test_tinted_images_read_back_pixel_by_pixel(width: int, levels: int) -> None:
    """Four and eight bits, odd and even widths: another reader sees the colour and the opacities."""
    opacity = (np.arange(5 * width) % levels * 6).astype(np.uint8).reshape(5, width)
    png = encode_tinted(opacity, (10, 20, 30))
    image = np.asarray(Image.open(io.BytesIO(png)).convert("RGBA"))
    assert (image[:, :, 3] == opacity).all()
    assert (image[:, :, :3] == (10, 20, 30)).all()


def test_rgb_images_read_back_pixel_by_pixel() -> None:
    """Another reader sees the same pixels."""
    pixels = np.arange(4 * 5 * 3, dtype=np.uint8).reshape(4, 5, 3)
    assert (np.asarray(Image.open(io.BytesIO(encode_rgb(pixels)))) == pixels).all()


def test_counting_loses_no_point_inside_and_keeps_none_outside() -> None:
    """One pixel per point, whatever the number of points."""
    x = np.array([0.0, 0.99, 1.0, 9.99, 10.0, -0.01])
    counts = count_pixels(x, np.zeros(6), lambda a, b: (a, b), 10, 2)
    assert counts[0].tolist() == [2, 1, 0, 0, 0, 0, 0, 0, 0, 1]
    assert counts[1].sum() == 0


def test_a_disc_of_one_pixel_is_a_plus() -> None:
    """Spreading adds up where discs overlap and does not leave the image."""
    counts = np.zeros((3, 4), np.int64)
    counts[1, 1] = counts[1, 2] = 1
    assert spread(counts, 1.0).tolist() == [[0, 1, 1, 0], [1, 2, 2, 1], [0, 1, 1, 0]]
    assert spread(counts, 0.9) is counts


@given(st.integers(2, 10**9))
def test_more_sites_are_never_paler(most: int) -> None:
    """Opacity grows with the count, one site shows, none is clear; also for a billion sites in a pixel."""
    counts = np.unique(np.geomspace(1, most, 50).astype(np.int64))
    opacity = shades(np.concatenate(([0], counts))[None, :])[0].astype(int)
    assert opacity[0] == 0
    assert opacity[1] >= 100
    assert (np.diff(opacity) >= 0).all()
    assert opacity[-1] == 255 or most < 3


def test_a_square_with_a_hole_is_filled_even_odd() -> None:
    """Whole, half and no coverage, exactly."""
    x = np.array([1.0, 5.5, 5.5, 1.0, 1.0, 2.0, 3.0, 3.0, 2.0, 2.0])
    y = np.array([1.0, 1.0, 4.0, 4.0, 1.0, 2.0, 2.0, 3.0, 3.0, 2.0])
    covered = coverage(x, y, np.array([0, 5, 10]), 7, 5)
    row = [0, 1, 1, 1, 1, 0.5, 0]
    assert covered[1].tolist() == row
    assert covered[2].tolist() == [0, 1, 0, 1, 1, 0.5, 0]
    assert covered[3].tolist() == row
    assert covered[0].sum() == covered[4].sum() == 0.0


def test_filling_clips_at_the_edges() -> None:
    """A ring around the whole image covers every pixel."""
    x, y = np.array([-9.0, 99.0, 99.0, -9.0, -9.0]), np.array([-9.0, -9.0, 99.0, 99.0, -9.0])
    assert (coverage(x, y, np.array([0, 5]), 6, 4) == 1.0).all()
    assert not hairlines(x, y, np.array([0, 5]), 6, 4).any()


def test_hairlines_do_not_join_rings() -> None:
    """The end of one ring and the start of the next are not an edge."""
    x, y = np.array([0.5, 0.5, 9.5, 9.5]), np.array([0.5, 2.5, 0.5, 2.5])
    marked = hairlines(x, y, np.array([0, 2, 4]), 10, 3)
    assert marked.any(axis=0).tolist() == [True] + [False] * 8 + [True]


def test_equal_earth_has_the_published_extent() -> None:
    """Width over height is 2.0546, the equator is the widest, and areas are equal in the two hemispheres."""
    x, y = equal_earth(np.array([180.0, 0.0, 0.0]), np.array([0.0, 90.0, -90.0]))
    assert x[0] == pytest.approx(1.0)
    assert 2.0 / (y[1] - y[2]) == pytest.approx(2.0546, abs=1e-4)


def test_a_sheet_reaches_south_only_for_those_who_are_there() -> None:
    """Antarctica is left out unless it has a site."""
    whole = Sheet(1000, -90.0)
    assert whole.height > Sheet(1000).height
    _, y = whole.place(np.zeros(1), np.array([-89.0]))
    assert 0 <= y[0] < whole.height


@pytest.mark.parametrize("iso", ["IS", "SQ", "TI"])
def test_every_site_of_a_country_is_on_its_map(iso: str) -> None:
    """Also across the antimeridian, and in a country smaller than a tile."""
    world, sites = small_world(), points(3)
    index = ISO.index(iso)
    own = sites.of_country(index)
    view = country_view(index, sites, world, 400, aspect=0.75)
    counts = count_pixels(own.lon_deg, own.lat_deg, view.place, view.width, view.height)
    assert counts.sum() == len(own) > 0
    assert (view.width, view.height) == (400, 300)


def test_the_antimeridian_does_not_stretch_a_map() -> None:
    """IS is three degrees wide, about 320 km, not three hundred and sixty."""
    view = country_view(0, points(3), small_world(), 400)
    assert 300 < view.km_per_px * view.width < 420


def test_a_view_keeps_areas() -> None:
    """A ring of one degree at 45 north has its area on the sheet."""
    view = country_view(2, points(3), small_world(), 800)
    x, y = view.place(np.array([9.0, 10.0, 10.0, 9.0]), np.array([45.0, 45.0, 46.0, 46.0]))
    shoelace = abs(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1))) / 2 * view.km_per_px**2
    exact = EARTH_RADIUS_KM**2 * np.radians(1) * (np.sin(np.radians(46)) - np.sin(np.radians(45)))
    assert shoelace == pytest.approx(exact, rel=2e-3)


def test_a_country_without_sites_has_a_map_of_its_outline() -> None:
    """The figure says zero sites."""
    none = SitePoints(np.zeros(0, np.int16), np.zeros(0), np.zeros(0))
    assert "Map of Nobody: 0 sites" in country_figure(1, none, Outlines(small_world()))


def test_towns_are_named_while_there_is_room() -> None:
    """Largest first; the names that fit are those of the largest; none where the limit is zero."""
    world = small_world()
    view = country_view(2, points(3), world, 400)
    towns = towns_in(view, 2, world, 11.0, 5)
    assert [town.name for town in towns] == ["Łódź", "<script>"]
    assert towns[0].radius > towns[1].radius
    assert all(town.label is not None for town in towns)
    assert [town.label for town in towns_in(view, 2, world, 11.0, 0)] == [None, None]
    assert [town.name for town in towns_in(country_view(3, points(3), world, 400), 3, world, 11.0, 5)] == [
        "Tinytown"
    ]


def test_scale_bars_are_round() -> None:
    """One, two or five times a power of ten, not longer than a fifth of the map."""
    for iso, unit in (("SQ", "km"), ("TI", "m")):
        view = country_view(ISO.index(iso), points(3), small_world(), 400)
        length, text = scale_bar(view)
        value, said = text.split(" ")
        assert said == unit
        assert value.rstrip("0").replace(",", "") in ("1", "2", "5")
        assert 400 / 12.5 < length <= 80.0


def test_outlines_drop_what_is_smaller_than_a_step_and_merge_what_is_straight() -> None:
    """A square with a point on each edge is four corners; a speck is nothing."""
    x = np.array([0.0, 5, 10, 10, 10, 5, 0, 0, 0, 20.0, 20.1, 20.1, 20.0])
    y = np.array([0.0, 0, 0, 5, 10, 10, 10, 5, 0, 20.0, 20.0, 20.1, 20.0])
    assert path_of_rings(x, y, np.array([0, 9, 13]), np.arange(2), 1.0) == ["M0 0l10 0 0 10 -10 0z"]
