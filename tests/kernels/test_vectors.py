"""Known answers as data: one runner for all of tests/vectors, printing expected and computed on failure."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from seg1b.kernels import streams
from seg1b.kernels.apportionment import apportion
from seg1b.kernels.philox import block, draw_below, fill, u01

VECTORS = Path(__file__).resolve().parent.parent / "vectors"
POISON = 0xDEADBEEFDEADBEEF
MASTER = streams.master_v1("ab" * 32, 42)


def philox(arguments: str) -> str:
    """One block, through an output that was poisoned before the call."""
    counter_lo, counter_hi, key = (np.uint64(int(word, 16)) for word in arguments.split())
    x0, x1 = np.full(1, POISON, dtype=np.uint64), np.full(1, POISON, dtype=np.uint64)
    fill(counter_lo, counter_hi, key, x0, x1)
    return f"{int(x0[0]):016x} {int(x1[0]):016x}"


def uniform(arguments: str) -> str:
    """One word as a uniform."""
    return float(u01(np.uint64(int(arguments, 16)))).hex()


def stream_v1(arguments: str) -> str:
    """One quantity of the first engine's derivation."""
    quantity, *rest = arguments.split()
    if quantity == "merchant":
        return f"{streams.merchant_u64(1):016x}"
    if quantity == "site_u":
        stream = streams.site_stream_v1(MASTER, rest[0], "GB", 1, int(rest[1]))
    else:
        stream = streams.pair_stream_v1(MASTER, rest[0], "GB", 1)
    if quantity == "pair":
        return f"{stream.key:016x} {stream.counter_hi:016x} {stream.counter_lo:016x}"
    words = block(np.uint64(stream.counter_lo), np.uint64(stream.counter_hi), np.uint64(stream.key))
    uniforms = [float(u01(np.uint64(word))).hex() for word in words]
    return uniforms[0] if quantity == "pair_u" else " ".join(uniforms)


def stream_v2(arguments: str) -> str:
    """Address of one of seg1b's streams."""
    name, seed, label, *rest = arguments.split()
    if name == "world_stream":
        stream = streams.world_stream(int(seed), label)
    elif name == "country_stream":
        stream = streams.country_stream(int(seed), label, rest[0])
    else:
        stream = streams.pair_stream(int(seed), label, rest[0], int(rest[1]))
    assert stream.counter_lo == 0
    return f"{stream.key:016x} {stream.counter_hi:016x}"


def drawn(arguments: str) -> str:
    """A bounded integer."""
    return str(draw_below(streams.country_stream(42, "trade_area", "GB"), int(arguments)))


def apportioned(arguments: str) -> str:
    """Largest-remainder shares."""
    masses, total = arguments.split(" / ")
    shares = apportion(np.array([int(m) for m in masses.split()], dtype=np.int64), int(total))
    return " ".join(str(int(share)) for share in shares)


RUNNERS: dict[str, Callable[[str], str]] = {
    "philox2x64_10.txt": philox,
    "u01.txt": uniform,
    "streams_v1.txt": stream_v1,
    "streams_v2.txt": stream_v2,
    "draw_below.txt": drawn,
    "apportionment.txt": apportioned,
}


@pytest.mark.parametrize("name", sorted(RUNNERS))
def test_known_answers(name: str) -> None:
    """Every line of a vector file holds, compared in the file's own format."""
    lines = [line for line in (VECTORS / name).read_text(encoding="utf-8").splitlines() if line[:1] != "#"]
    assert lines
    expected = "\n".join(lines)
    computed = "\n".join(
        f"{arguments} -> {RUNNERS[name](arguments)}"
        for arguments in (line.split(" -> ")[0] for line in lines)
    )
    assert computed == expected, f"{name}\nexpected\n{expected}\ncomputed\n{computed}"


def test_a_wrong_vector_is_noticed() -> None:
    """The runner can fail: a changed input gives another output."""
    assert philox("1 0 0") != philox("0 0 0")
    assert apportioned("1 2 / 3") != "2 1"
