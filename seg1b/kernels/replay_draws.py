"""The second implementation of the draws: random blocks, streams, and which site is which (kernels.md, section 1).

The `replay_*` modules make every random draw again, as the check of S9 and `seg1b verify`. Nothing in them is shared
with the production kernels. One site at a time, in closed form where there is one; 128-bit products by 32-bit limbs;
positions of systematic samples by long division; points against all edges of their row. The compiled functions also
run as plain Python on big integers (rebind `u64` and `i64` to `int`): the tests do so.

A country's sites are numbered by pair (ascending merchant id), then by site_order 1..n of the pair.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from seg1b.kernels.jit import njit
from seg1b.kernels.replay_containment import I64, owned

U64 = NDArray[np.uint64]
u64 = cast(Callable[[Any], int], np.uint64)  # in compiled code a conversion; tests rebind it to `int`


@njit
def multiply_wide(a: int, b: int) -> tuple[int, int]:
    """High and low 64 bits of the product of two unsigned 64-bit integers, by four 32-bit limb products."""
    low_half, shift = u64(0xFFFFFFFF), u64(32)
    a0, a1, b0, b1 = a & low_half, a >> shift, b & low_half, b >> shift
    p00, p01, p10, p11 = a0 * b0, a0 * b1, a1 * b0, a1 * b1
    middle = (p00 >> shift) + (p01 & low_half) + (p10 & low_half)
    high = p11 + (p01 >> shift) + (p10 >> shift) + (middle >> shift)
    return high, ((middle & low_half) << shift) | (p00 & low_half)


@njit
def philox_block(counter_lo: int, counter_hi: int, key: int) -> tuple[int, int]:
    """One block of Philox2x64-10: all arguments and results uint64."""
    x0, x1, k = counter_lo, counter_hi, key
    for _ in range(10):
        high, low = multiply_wide(u64(0xD2B74407B1CE6E93), x0)
        x0, x1 = high ^ k ^ x1, low
        k = (k + u64(0x9E3779B97F4A7C15)) & u64(0xFFFFFFFFFFFFFFFF)
    return x0, x1


@njit
def unit_interval(x: int) -> float:
    """(binary64(x) + 1) * 2^-64, below 1: the halves are exact doubles, so their sum rounds once, to even."""
    rounded = float(x >> u64(32)) * 4294967296.0 + float(x & u64(0xFFFFFFFF))
    return min((rounded + 1.0) * 2.0**-64, 1.0 - 2.0**-53)


def _text(value: str) -> bytes:
    encoded = value.encode("utf-8")
    return len(encoded).to_bytes(4, "little") + encoded


def _hash_v2(seed: int, label: str, iso: str | None) -> hashlib._Hash:
    root = hashlib.sha256(_text("seg1b/rng/v2") + seed.to_bytes(8, "little")).digest()
    return hashlib.sha256(root + _text(label) + (b"" if iso is None else _text(iso)))


def stream_v2(
    seed: int, label: str, iso: str | None = None, merchant_id: int | None = None
) -> tuple[int, int]:
    """(key, counter_hi) of a v2 stream of the world, a country or a pair; its counter_lo starts at 0."""
    state = _hash_v2(seed, label, iso)
    if merchant_id is not None:
        state.update(merchant_id.to_bytes(8, "little"))
    digest = state.digest()
    return int.from_bytes(digest[:8], "little"), int.from_bytes(digest[8:16], "little")


def pair_streams_v2(seed: int, label: str, iso: str, merchant_ids: U64) -> tuple[U64, U64]:
    """(key, counter_hi), uint64[n] each, of the v2 pair streams of n merchants: they share what comes before them."""
    shared = _hash_v2(seed, label, iso)
    halves = []
    for merchant_id in merchant_ids.tolist():
        state = shared.copy()
        state.update(merchant_id.to_bytes(8, "little"))
        halves.append(state.digest()[:16])
    words = np.frombuffer(b"".join(halves), "<u8").astype(np.uint64).reshape(-1, 2)
    return words[:, 0].copy(), words[:, 1].copy()


def _pair_hash_v1(fingerprint: str, seed: int, label: str, merchant_id: int, iso: str) -> hashlib._Hash:
    master = _text("mlr:1B.master") + bytes.fromhex(fingerprint) + seed.to_bytes(8, "little")
    merchant = hashlib.sha256(merchant_id.to_bytes(8, "little")).digest()[24:]
    prefix = hashlib.sha256(master).digest() + _text("mlr:1B")
    return hashlib.sha256(prefix + _text(label) + merchant + _text(iso))


def _stream_of_digest_v1(digest: bytes) -> tuple[int, int, int]:
    low = int.from_bytes(digest[24:], "big")
    return int.from_bytes(digest[24:], "little"), int.from_bytes(digest[16:24], "big"), low


def pair_stream_v1(
    fingerprint: str, seed: int, label: str, merchant_id: int, iso: str
) -> tuple[int, int, int]:
    """(key, counter_hi, counter_lo) of a v1 pair stream; the manifest fingerprint is 64 hex digits."""
    return _stream_of_digest_v1(_pair_hash_v1(fingerprint, seed, label, merchant_id, iso).digest())


def site_streams_v1(
    fingerprint: str, seed: int, label: str, merchant_id: int, iso: str, n_sites: int
) -> list[tuple[int, int, int]]:
    """(key, counter_hi, counter_lo) of the v1 site streams of a pair, site_order 1 to n_sites."""
    shared = _pair_hash_v1(fingerprint, seed, label, merchant_id, iso)
    streams = []
    for site_order in range(1, n_sites + 1):
        state = shared.copy()
        state.update(site_order.to_bytes(8, "little"))
        streams.append(_stream_of_digest_v1(state.digest()))
    return streams


def draw_below(stream: tuple[int, int], bound: int) -> int:
    """Uniform on [0, bound), bound >= 1: the first x0 below the largest multiple of `bound`, reduced."""
    limit = (1 << 64) - (1 << 64) % bound
    key, counter_hi = u64(stream[0]), u64(stream[1])
    counter = 0
    while True:
        x0 = int(philox_block(u64(counter), counter_hi, key)[0])
        if x0 < limit:
            return x0 % bound
        counter += 1


def number_sites(n_sites: ArrayLike) -> tuple[I64, I64]:
    """(pair index, site_order from 1) of every site number.

    `n_sites` int64[P] per pair; both results int64[sum(n_sites)].
    """
    counts = owned(n_sites, np.int64)
    pair = np.repeat(np.arange(len(counts), dtype=np.int64), counts)
    first = np.cumsum(counts) - counts
    return pair, np.arange(1, len(pair) + 1, dtype=np.int64) - first[pair]
