"""Uniform numbers for merchants and countries, addressed by what they are for.

A merchant's draws for one purpose are the Philox blocks `merchant_id * 2^20 + index` of the purpose's stream:
they do not depend on how many merchants there are or on the order in which they are worked on.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from seg1b.kernels.philox import block, fill_at
from seg1b.kernels.streams import Stream, country_stream, world_stream

Words = npt.NDArray[np.uint64]
Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

MERCHANT_STRIDE = 1 << 20
"""Blocks that one merchant may use for one purpose."""


def uniform(words: Words) -> Floats:
    """u64[n] as f64[n] in (0, 1): `(x + 1) * 2^-64`, as `kernels.philox.u01`."""
    return np.minimum((words.astype(np.float64) + 1.0) * 2.0**-64, 1.0 - 2.0**-53)


def rank(keys: Words | Floats) -> Integers:
    """int64[n]: position of each key in ascending order, ties by index."""
    ranks = np.empty(keys.size, np.int64)
    ranks[np.argsort(keys, kind="stable")] = np.arange(keys.size)
    return ranks


@dataclass(frozen=True)
class Draws:
    """The random numbers of one synthesis, and a ledger of how many blocks each purpose used."""

    seed: int
    ledger: dict[str, int] = field(default_factory=dict)

    def stream(self, label: str) -> Stream:
        """Stream of one purpose."""
        return world_stream(self.seed, label)

    def record(self, label: str, blocks: int) -> None:
        """Book `blocks` Philox blocks under `label`."""
        self.ledger[label] = self.ledger.get(label, 0) + blocks

    def words(self, label: str, merchant_id: Words, index: Integers | int = 0) -> tuple[Words, Words]:
        """(x0, x1) u64[n]: block number `index` of each merchant."""
        stream = self.stream(label)
        counter = merchant_id * np.uint64(MERCHANT_STRIDE) + np.asarray(index).astype(np.uint64)
        x0, x1 = np.empty_like(counter), np.empty_like(counter)
        high, key = np.full_like(counter, stream.counter_hi), np.full_like(counter, stream.key)
        fill_at(counter, high, key, x0, x1)
        self.record(label, counter.size)
        return x0, x1

    def uniforms(self, label: str, merchant_id: Words) -> Floats:
        """f64[n] in (0, 1), independent between merchants."""
        return uniform(self.words(label, merchant_id)[0])

    def strata(self, label: str, merchant_id: Words) -> Floats:
        """f64[n] in (0, 1), exactly one in each of n equal strata: quotas instead of coin flips."""
        x0, x1 = self.words(label, merchant_id)
        return (rank(x0) + uniform(x1)) / max(merchant_id.size, 1)

    def country_uniform(self, label: str, country_iso: str) -> float:
        """One number in (0, 1) for a country."""
        stream = country_stream(self.seed, label, country_iso)
        x0, _ = block(np.uint64(0), np.uint64(stream.counter_hi), np.uint64(stream.key))
        self.record(label, 1)
        return float(uniform(np.array([x0], dtype=np.uint64))[0])
