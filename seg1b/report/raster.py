"""Density of points as pixels, and pixels as PNG. Same input, same bytes: a PNG here has no metadata chunk."""

from __future__ import annotations

import base64
import struct
import zlib
from collections.abc import Callable
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

Floats: TypeAlias = npt.NDArray[np.float64]
Pixels: TypeAlias = npt.NDArray[np.uint8]

SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
CHUNK: Final = 4_000_000
"""Points projected at a time: bounds the memory for a hundred million of them."""
LEVELS: Final = 15
"""Shades of density; few, so that the image compresses well."""


def count_pixels(
    lon_deg: Floats,
    lat_deg: Floats,
    place: Callable[[Floats, Floats], tuple[Floats, Floats]],
    width: int,
    height: int,
) -> npt.NDArray[np.int64]:
    """Sites per pixel, int64[height, width]. `place`: (lon, lat) degrees -> (x, y) pixels, y downwards."""
    counts = np.zeros(width * height, np.int64)
    for start in range(0, len(lon_deg), CHUNK):
        x, y = place(lon_deg[start : start + CHUNK], lat_deg[start : start + CHUNK])
        inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
        pixel = y[inside].astype(np.int64) * width + x[inside].astype(np.int64)
        counts += np.bincount(pixel, minlength=width * height)
    return counts.reshape(height, width)


def spread(counts: npt.NDArray[np.int64], radius: float) -> npt.NDArray[np.int64]:
    """Each point as a disc of `radius` pixels: the sum of the counts under it. A radius below 1 changes nothing."""
    reach = int(radius)
    if reach < 1:
        return counts
    height, width = counts.shape
    padded = np.pad(counts, reach)
    total = np.zeros_like(counts)
    for dy in range(-reach, reach + 1):
        for dx in range(-reach, reach + 1):
            if dx * dx + dy * dy <= radius * radius:
                total += padded[reach + dy : reach + dy + height, reach + dx : reach + dx + width]
    return total


def shades(counts: npt.NDArray[np.int64], floor: float = 0.5) -> Pixels:
    """Opacity uint8 by the logarithm of density, in LEVELS steps; one site is visible (`floor`), none is clear.

    Full opacity is the 99.5th percentile of the pixels in use, so the range fits a thousand points as well as
    a hundred million.
    """
    used = counts[counts > 0]
    if not len(used):
        return np.zeros(counts.shape, np.uint8)
    full = max(float(np.quantile(used, 0.995)), 2.0)
    steps = np.rint(np.log(np.arange(1, 4097) / 4096.0 * full + 1e-12) / np.log(full) * (LEVELS - 1))
    level = np.clip(steps, 0, LEVELS - 1).astype(np.int64)
    index = np.clip((counts / full * 4096.0).astype(np.int64), 1, 4096) - 1
    opacity = np.rint(255.0 * (floor + (1.0 - floor) * np.arange(LEVELS) / (LEVELS - 1))).astype(np.uint8)
    return np.where(counts > 0, opacity[level[index]], np.uint8(0))


def encode_tinted(opacity: Pixels, colour: tuple[int, int, int]) -> bytes:
    """PNG of one colour with an opacity per pixel, uint8[height, width]: a palette image."""
    values, index = np.unique(opacity, return_inverse=True)
    palette = bytes(colour) * len(values)
    pixels: Pixels = index.astype(np.uint8).reshape(opacity.shape)
    bits = 4 if len(values) <= 16 else 8
    if bits == 4:
        if pixels.shape[1] % 2:
            pixels = np.pad(pixels, ((0, 0), (0, 1)))
        pixels = (pixels[:, 0::2] << np.uint8(4)) | pixels[:, 1::2]
    height, width = (int(size) for size in opacity.shape)
    header = struct.pack(">IIBBBBB", width, height, bits, 3, 0, 0, 0)
    return _png(header, pixels, (b"PLTE", palette), (b"tRNS", values.astype(np.uint8).tobytes()))


def encode_rgb(pixels: Pixels) -> bytes:
    """PNG of uint8[height, width, 3]."""
    height, width, _ = pixels.shape
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return _png(header, pixels.reshape(height, width * 3))


def _png(header: bytes, rows: Pixels, *extra: tuple[bytes, bytes]) -> bytes:
    unfiltered = np.pad(rows, ((0, 0), (1, 0))).tobytes()
    body = (b"IDAT", zlib.compress(unfiltered, 9))
    chunks = [(b"IHDR", header), *extra, body, (b"IEND", b"")]
    return SIGNATURE + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )


def data_uri(png: bytes) -> str:
    """The PNG as a `data:` address."""
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")
