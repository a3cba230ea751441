"""Streams: byte encodings, vector forms, bounded draws."""

from __future__ import annotations

import hashlib
import struct

import numpy as np
import pytest

from seg1b.kernels import philox, streams
from seg1b.kernels.philox import block


def test_a_pair_stream_is_the_documented_digest() -> None:
    """SHA-256 of root, label, country and merchant, written out with struct."""

    def text(s: str) -> bytes:
        return struct.pack("<I", len(s.encode())) + s.encode()

    root = hashlib.sha256(text("seg1b/rng/v2") + struct.pack("<Q", 7)).digest()
    digest = hashlib.sha256(root + text("jitter_v3") + text("FR") + struct.pack("<Q", 99)).digest()
    key, counter_hi = struct.unpack("<QQ", digest[:16])
    assert streams.pair_stream(7, "jitter_v3", "FR", 99) == streams.Stream(key, counter_hi, 0)


def test_vector_forms_equal_the_scalar_ones() -> None:
    """Many pairs at once give the same addresses as one by one."""
    merchants = np.array([1, 1, 5, 2**63 + 11], dtype=np.uint64)
    key, high = streams.pair_streams(3, "x", "GB", merchants)
    for i, m in enumerate(merchants):
        assert streams.pair_stream(3, "x", "GB", int(m)) == streams.Stream(int(key[i]), int(high[i]), 0)


def test_no_pairs_give_empty_streams() -> None:
    """Empty in, empty out."""
    none = np.empty(0, dtype=np.uint64)
    assert [len(c) for c in streams.pair_streams(1, "x", "GB", none)] == [0, 0]


def test_streams_differ_by_every_part_of_their_address() -> None:
    """Seed, label, country and merchant all matter; text cannot run over from one field into the next."""
    addresses = [
        streams.pair_stream(1, "a", "GB", 1),
        streams.pair_stream(2, "a", "GB", 1),
        streams.pair_stream(1, "b", "GB", 1),
        streams.pair_stream(1, "a", "FR", 1),
        streams.pair_stream(1, "a", "GB", 2),
        streams.country_stream(1, "a", "GB"),
        streams.country_stream(1, "aG", "B"),
        streams.world_stream(1, "a"),
    ]
    assert len(set(addresses)) == len(addresses)


def test_draw_below_rejects_the_tail_of_the_word() -> None:
    """A bound just above 2^63 rejects about half of the words: the draw is the first word under the limit."""
    bound = 2**63 + 1
    rejected = 0
    for seed in range(40):
        stream = streams.world_stream(seed, "rejection")
        attempt = 0
        while True:
            x0 = int(block(np.uint64(attempt), np.uint64(stream.counter_hi), np.uint64(stream.key))[0])
            if x0 < bound:
                break
            attempt += 1
        rejected += attempt
        assert philox.draw_below(stream, bound) == x0
    assert rejected > 10


@pytest.mark.parametrize("bound", [0, -1, 2**64 + 1])
def test_draw_below_refuses_impossible_bounds(bound: int) -> None:
    """Bounds outside [1, 2^64] are an error, not a wrong draw."""
    with pytest.raises(ValueError, match="bound must be in"):
        philox.draw_below(streams.world_stream(1, "x"), bound)


@pytest.mark.parametrize("fingerprint", ["ab" * 31, "ab" * 33, "zz" * 32])
def test_a_fingerprint_has_64_hexadecimal_digits(fingerprint: str) -> None:
    """v1 streams start from 32 raw bytes."""
    with pytest.raises(ValueError):  # noqa: PT011 - both messages are the standard library's or ours
        streams.master_v1(fingerprint, 1)


def test_the_counter_wraps_at_128_bits() -> None:
    """counter_after adds with carry and wraps."""
    assert streams.Stream(0, 1, 2**64 - 1).counter_after(1) == (0, 2)
    assert streams.Stream(0, 2**64 - 1, 2**64 - 1).counter_after(2) == (1, 0)
