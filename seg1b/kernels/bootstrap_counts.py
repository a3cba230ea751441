"""Bootstrap replicates of what sites per country decide, without compiled code.

The same replicates as `bootstrap.replicate_statistics`, bit for bit, of samples whose distances are not known: all is
counted in integers. Loading compiled kernels takes longer than this takes for ten thousand merchants, and where they
have yet to be compiled, much longer: `screen` is to answer in a second either way. No threads, but copies of the
process: what arrays do between two looks at Python's lock is too short for threads.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import numpy.typing as npt

from seg1b.cpus import usable_cpus
from seg1b.forks import share_out
from seg1b.kernels.bootstrap_statistics import (
    FloatArray,
    IntArray,
    MerchantSample,
    country_statistics,
    word_stream,
)

Times = npt.NDArray[np.int32]

_WORD, _SHIFT = np.array(0xFFFFFFFF, np.uint64), np.array(32, np.uint64)
_BLOCKS_AT_ONCE = 1 << 13  # they stay in a CPU's cache
_DRAWS_OF_A_COPY = 4_000_000  # fewer take no longer than to copy the process


class Multiplicities:
    """How often each of M >= 1 merchants is drawn in replicates, `at_once` of them in a call.

    The rule is that of `bootstrap`: draw j of replicate r is the (j mod 8)-th 32-bit word of block r * ceil(M / 8) +
    j // 8. It owns the memory that it works in: to ask for it in every call would cost as much as the arithmetic.
    """

    def __init__(self, merchants: int, key: int, counter_hi: int) -> None:
        self._merchants, self._key, self._counter_hi = merchants, key, counter_hi
        self._blocks = -(-merchants // 8)
        self.at_once = max(1, _BLOCKS_AT_ONCE // self._blocks)
        self._halves = np.empty((self.at_once, 2, 4 * self._blocks), np.uint64)
        self._times = np.empty((self.at_once, merchants), np.int32)

    def __call__(self, first: int, replicates: int) -> Times:
        """Of replicates first, first + 1, ..., int32[replicates, M]; at most `at_once`. The next call overwrites it."""
        stream = word_stream(self._key, self._counter_hi, first * self._blocks)
        words = stream.random_raw(replicates * 4 * self._blocks).reshape(replicates, -1)
        halves = self._halves[:replicates]
        np.bitwise_and(words, _WORD, halves[:, 0])
        np.right_shift(words, _SHIFT, halves[:, 1])
        np.multiply(halves, np.uint64(self._merchants), halves)
        np.right_shift(halves, _SHIFT, halves)
        halves[:, 0, (self._merchants + 1) // 2 :] = self._merchants  # draws of nobody
        halves[:, 1, self._merchants // 2 :] = self._merchants
        drawn = halves.reshape(replicates, -1).view(np.int64)
        for times, row in zip(self._times, drawn, strict=False):
            times[:] = np.bincount(row, minlength=self._merchants + 1)[: self._merchants]
        return self._times[:replicates]


def replicate_statistics(sample: MerchantSample, replicates: int, key: int, counter_hi: int) -> FloatArray:
    """The STATISTICS and region shares of each replicate, float64[replicates, 7 + regions]; NaN for the distances.

    `sample`: without distances, M >= 1 merchants.
    """
    copies = max(1, min(usable_cpus(), replicates * sample.merchants // _DRAWS_OF_A_COPY))
    bounds = [replicates * copy // copies for copy in range(copies + 1)]
    counted = share_out(lambda share: _count(sample, key, counter_hi, *share), list(pairwise(bounds)))
    counts, southern = (np.concatenate(parts) for parts in zip(*counted, strict=True))
    return country_statistics(counts, southern, sample)


def _count(
    sample: MerchantSample, key: int, counter_hi: int, first: int, stop: int
) -> tuple[IntArray, IntArray]:
    """Of the replicates first..stop-1: sites per country int64[B, C], and southern sites int64[B]."""
    replicates = stop - first
    owner = np.repeat(np.arange(sample.merchants), np.diff(sample.pair_start))
    order = np.argsort(sample.pair_country, kind="stable")
    largest = sample.merchants * int(sample.pair_sites.max(initial=0))
    integer = np.int32 if largest <= np.iinfo(np.int32).max else np.int64
    owner, country, sites = owner[order], sample.pair_country[order], sample.pair_sites[order].astype(integer)
    start = np.flatnonzero(np.diff(country, prepend=-1))
    counts = np.zeros((replicates, len(sample.eligible)), np.int64)
    southern = np.zeros(replicates, np.int64)

    multiplicities = Multiplicities(sample.merchants, key, counter_hi)
    of_pairs = np.empty((multiplicities.at_once, len(owner)), np.int32)
    held = np.empty(of_pairs.shape, integer)
    for low in range(0, replicates, multiplicities.at_once):
        rows = slice(low, min(low + multiplicities.at_once, replicates))
        here = rows.stop - low
        times = multiplicities(first + low, here)
        if sample.southern.any():
            southern[rows] = times @ sample.southern
        np.take(times, owner, axis=1, out=of_pairs[:here], mode="clip")  # unbuffered
        np.multiply(of_pairs[:here], sites, held[:here])
        counts[rows, country[start]] = np.add.reduceat(held[:here], start, axis=1, dtype=integer)
    return counts, southern
