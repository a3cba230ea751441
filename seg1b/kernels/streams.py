"""Random streams addressed by purpose: what a draw is for decides its key and counter.

Two families. v2: one SHA-256 per country or pair, the counter starts at 0. v1: the first engine's derivation,
where key and low counter are the same eight digest bytes (a known weakness, kept to reproduce its rows).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

V2_NAMESPACE = "seg1b/rng/v2"
V1_MASTER_NAMESPACE = "mlr:1B.master"
V1_STREAM_NAMESPACE = "mlr:1B"
ATTEMPT_STRIDE = 2
SITE_STRIDE = 1 << 16

_WORD = 1 << 64


@dataclass(frozen=True)
class Stream:
    """Address of a stream of Philox blocks: 64-bit key and the 128-bit counter of its first block."""

    key: int
    counter_hi: int
    counter_lo: int

    def counter_after(self, blocks: int) -> tuple[int, int]:
        """(counter_lo, counter_hi) after `blocks` blocks: 128-bit addition, wrapping."""
        counter = (self.counter_hi << 64 | self.counter_lo) + blocks
        return counter % _WORD, (counter >> 64) % _WORD


def encode_text(text: str) -> bytes:
    """`str(s)` of the contract: u32 little-endian byte length, then the UTF-8 bytes."""
    data = text.encode()
    return len(data).to_bytes(4, "little") + data


def encode_u64(value: int) -> bytes:
    """`u64(v)` of the contract: eight bytes little-endian. Raises OverflowError outside [0, 2^64)."""
    return int(value).to_bytes(8, "little")


# v2


def _root_v2(seed: int) -> bytes:
    return hashlib.sha256(encode_text(V2_NAMESPACE) + encode_u64(seed)).digest()


def _stream_v2(digest: bytes) -> Stream:
    return Stream(int.from_bytes(digest[0:8], "little"), int.from_bytes(digest[8:16], "little"), 0)


def world_stream(seed: int, label: str) -> Stream:
    """v2 stream for a purpose that belongs to no country."""
    return _stream_v2(hashlib.sha256(_root_v2(seed) + encode_text(label)).digest())


def country_stream(seed: int, label: str, country_iso: str) -> Stream:
    """v2 stream of one country for one purpose."""
    return _stream_v2(hashlib.sha256(_root_v2(seed) + encode_text(label) + encode_text(country_iso)).digest())


def pair_stream(seed: int, label: str, country_iso: str, merchant_id: int) -> Stream:
    """v2 stream of one (merchant, country) pair for one purpose."""
    message = _root_v2(seed) + encode_text(label) + encode_text(country_iso) + encode_u64(merchant_id)
    return _stream_v2(hashlib.sha256(message).digest())


def pair_streams(
    seed: int, label: str, country_iso: str, merchant_ids: npt.NDArray[np.uint64]
) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64]]:
    """(key, counter_hi), uint64[n] each, of the v2 pair streams of n merchants in one country."""
    prefix = hashlib.sha256(_root_v2(seed) + encode_text(label) + encode_text(country_iso))
    ids = np.ascontiguousarray(merchant_ids, dtype="<u8").tobytes()
    digests = bytearray()
    for start in range(0, len(ids), 8):
        state = prefix.copy()
        state.update(ids[start : start + 8])
        digests += state.digest()[:16]
    words = np.frombuffer(bytes(digests), dtype="<u8").astype(np.uint64).reshape(-1, 2)
    return words[:, 0].copy(), words[:, 1].copy()


# v1


def master_v1(manifest_fingerprint: str, seed: int) -> bytes:
    """v1 master digest; `manifest_fingerprint` is 64 hexadecimal digits. Raises ValueError if it is not."""
    raw = bytes.fromhex(manifest_fingerprint)
    if len(raw) != 32 or len(manifest_fingerprint) != 64:
        raise ValueError("manifest_fingerprint must be 64 hexadecimal digits")
    return hashlib.sha256(encode_text(V1_MASTER_NAMESPACE) + raw + encode_u64(seed)).digest()


def merchant_u64(merchant_id: int) -> int:
    """v1 merchant number: the last eight bytes of SHA-256(u64(merchant_id)), little-endian."""
    return int.from_bytes(hashlib.sha256(encode_u64(merchant_id)).digest()[24:32], "little")


def _stream_v1(digest: bytes) -> Stream:
    return Stream(
        key=int.from_bytes(digest[24:32], "little"),
        counter_hi=int.from_bytes(digest[16:24], "big"),
        counter_lo=int.from_bytes(digest[24:32], "big"),
    )


def _pair_message_v1(master: bytes, label: str, country_iso: str, merchant_id: int) -> bytes:
    return (
        master
        + encode_text(V1_STREAM_NAMESPACE)
        + encode_text(label)
        + encode_u64(merchant_u64(merchant_id))
        + encode_text(country_iso)
    )


def pair_stream_v1(master: bytes, label: str, country_iso: str, merchant_id: int) -> Stream:
    """v1 stream of one (merchant, country) pair, from the digest of `master_v1`."""
    return _stream_v1(hashlib.sha256(_pair_message_v1(master, label, country_iso, merchant_id)).digest())


def site_stream_v1(master: bytes, label: str, country_iso: str, merchant_id: int, site_order: int) -> Stream:
    """v1 stream of one site of a pair, from the digest of `master_v1`."""
    message = _pair_message_v1(master, label, country_iso, merchant_id) + encode_u64(site_order)
    return _stream_v1(hashlib.sha256(message).digest())
