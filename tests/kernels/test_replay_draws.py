"""The second implementation of blocks and streams: known answers, big integers, the keying by definition."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from replay_cases import (
    FINGERPRINT,
    MASK,
    PLAIN,
    compiled_block,
    reference_draw,
    reference_philox,
    reference_stream,
    uint64s,
)

from seg1b.kernels import replay_draws

KNOWN_ANSWERS = [
    (0, 0, 0, 0xCA00A0459843D731, 0x66C24222C9A845B5),
    (MASK, MASK, MASK, 0x65B021D60CD8310F, 0x4D02F3222F86DF20),
    (0x243F6A8885A308D3, 0x13198A2E03707344, 0xA4093822299F31D0, 0x0A5E742C2997341C, 0xB0F883D38000DE5D),
]


@pytest.mark.parametrize(("lo", "hi", "key", "x0", "x1"), KNOWN_ANSWERS)
def test_published_known_answers(lo: int, hi: int, key: int, x0: int, x1: int) -> None:
    """The three published vectors of Philox2x64-10 come out, compiled and on plain integers."""
    assert compiled_block(lo, hi, key) == (x0, x1)
    assert PLAIN.philox_block(lo, hi, key) == (x0, x1)
    assert reference_philox(lo, hi, key) == (x0, x1)


@given(uint64s, uint64s, uint64s)
def test_compiled_block_is_big_integer_block(lo: int, hi: int, key: int) -> None:
    """Limb products in machine words give what unbounded integers give."""
    assert compiled_block(lo, hi, key) == PLAIN.philox_block(lo, hi, key) == reference_philox(lo, hi, key)
    high, low = replay_draws.multiply_wide(np.uint64(lo), np.uint64(key))  # type: ignore[arg-type]
    assert (int(high) << 64) + int(low) == lo * key


@given(uint64s | st.integers(0, 4096).map(lambda k: MASK - k))
def test_unit_interval_rounds_once(x: int) -> None:
    """u = (double(x) + 1) * 2^-64 with one rounding to even, strictly inside (0, 1)."""
    u = replay_draws.unit_interval(np.uint64(x))  # type: ignore[arg-type]
    assert u == min((float(x) + 1.0) / 2.0**64, 1.0 - 2.0**-53)
    assert 0.0 < u < 1.0


def test_streams_of_the_old_engine() -> None:
    """The v1 keying gives the old engine's recorded key, counter and first uniforms."""
    key, high, low = replay_draws.pair_stream_v1(FINGERPRINT, 42, "site_tile_assign", 1, "GB")
    assert (key, high, low) == (0xFEEFDFDBF03F25E0, 0xF6E204D13B8F388E, 0xE0253FF0DBDFEFFE)
    assert replay_draws.unit_interval(compiled_block(low, high, key)[0]) == float.fromhex(
        "0x1.711f44afba946p-9"
    )
    ((key, high, low),) = replay_draws.site_streams_v1(
        FINGERPRINT, 42, "in_cell_jitter:1B.S6.JITTER_V2", 1, "GB", 1
    )
    u = [PLAIN.unit_interval(x) for x in compiled_block(low, high, key)]
    assert u == [0.8213729556173935, 0.045779630053613955]


def test_streams_of_the_new_family() -> None:
    """World, country and pair streams hash exactly label, country and merchant, in this order."""
    assert replay_draws.stream_v2(7, "x") == reference_stream(7, "x")
    assert replay_draws.stream_v2(7, "x", "FR") == reference_stream(7, "x", "FR")
    assert replay_draws.stream_v2(7, "x", "FR", 2**64 - 1) == reference_stream(7, "x", "FR", 2**64 - 1)
    merchants = np.array([1, 9, 2**64 - 1], np.uint64)
    key, high = replay_draws.pair_streams_v2(7, "x", "FR", merchants)
    expected = [reference_stream(7, "x", "FR", int(m)) for m in merchants]
    assert list(zip(key.tolist(), high.tolist(), strict=True)) == expected


@pytest.mark.parametrize("bound", [1, 2, 1000, 10**12, 2**63, 2**63 + 1, 3 * 2**62 + 5])
def test_draw_below_rejects_instead_of_folding(bound: int) -> None:
    """Draws are those of the first block under the largest multiple; huge bounds reject often."""
    for seed in range(12):
        drawn = replay_draws.draw_below(replay_draws.stream_v2(seed, "test", "FR"), bound)
        assert drawn == reference_draw(seed, "test", "FR", bound)
        assert 0 <= drawn < bound


def test_draw_below_did_reject_somewhere() -> None:
    """The case above is not empty: for bound 2^63 + 1 some of the twelve first blocks are rejected."""
    streams = [replay_draws.stream_v2(seed, "test", "FR") for seed in range(12)]
    assert any(reference_philox(0, high, key)[0] >= 2**63 + 1 for key, high in streams)
