"""Bootstrap replicates and jackknife of what sites per country decide, without compiled code.

The same as in `bootstrap`, bit for bit, of samples whose distances are not known: all is counted in integers. Loading
compiled kernels takes longer than this takes for ten thousand merchants, and where they have yet to be compiled, much
longer: `screen` is to answer in a second either way. No threads, but copies of the process: what arrays do between two
looks at Python's lock is too short for threads.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import numpy.typing as npt

from seg1b.forks import share_out
from seg1b.kernels.bootstrap_statistics import (
    FloatArray,
    IntArray,
    MerchantSample,
    country_statistics,
    jackknife_counts,
    word_stream,
)

Times = npt.NDArray[np.int32]

_WORD, _SHIFT = np.array(0xFFFFFFFF, np.uint64), np.array(32, np.uint64)
_BLOCKS_AT_ONCE = 1 << 13  # they stay in a CPU's cache
_DRAWS_OF_A_SHARE = 2_000_000  # about as long as the jackknife; less takes no longer than to copy the process


class Multiplicities:
    """How often each of M >= 1 merchants is drawn in replicates, `at_once` of them in a call.

    The rule is that of `bootstrap`: draw j of replicate r is the (j mod 8)-th 32-bit word of block r * ceil(M / 8) +
    j // 8. It owns the memory that it works in: to ask for it in every call would cost as much as the arithmetic.
    """

    def __init__(self, merchants: int, key: int, counter_hi: int) -> None:
        self._merchants, self._key, self._counter_hi = merchants, key, counter_hi
        self._blocks = -(-merchants // 8)
        self._stream, self._next = word_stream(key, counter_hi, 0), 0
        self.at_once = max(1, _BLOCKS_AT_ONCE // self._blocks)
        self._halves = np.empty((self.at_once, 2, 4 * self._blocks), np.uint64)
        self._times = np.empty((self.at_once, merchants), np.int32)

    def __call__(self, first: int, replicates: int) -> Times:
        """Of replicates first, first + 1, ..., int32[replicates, M]; at most `at_once`. The next call overwrites it."""
        if first != self._next:
            self._stream = word_stream(self._key, self._counter_hi, first * self._blocks)
        self._next = first + replicates
        words = self._stream.random_raw(replicates * 4 * self._blocks).reshape(replicates, -1)
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


class _Replicates:
    """Statistics of replicates, with the pairs in the order of their countries and the memory to work in."""

    def __init__(self, sample: MerchantSample, key: int, counter_hi: int) -> None:
        self._sample = sample
        self._southern = sample.southern if sample.southern.any() else None
        self._multiplicities = Multiplicities(sample.merchants, key, counter_hi)
        order = np.argsort(sample.pair_country, kind="stable")
        largest = sample.merchants * int(sample.pair_sites.max(initial=0))
        integer = np.int32 if largest <= np.iinfo(np.int32).max else np.int64
        self._owner: IntArray = np.repeat(np.arange(sample.merchants), np.diff(sample.pair_start))[order]
        self._sites = sample.pair_sites[order].astype(integer)
        country = sample.pair_country[order]
        self._start = np.flatnonzero(np.diff(country, prepend=-1))
        self._country = country[self._start]
        self._of_pairs = np.empty((self._multiplicities.at_once, len(order)), np.int32)
        self._held = np.empty(self._of_pairs.shape, integer)

    def statistics(self, first: int, stop: int) -> FloatArray:
        """Of the replicates first..stop-1, as `country_statistics`."""
        counts = np.zeros((stop - first, len(self._sample.eligible)), np.int64)
        southern = np.zeros(stop - first, np.int64)
        for low in range(0, stop - first, self._multiplicities.at_once):
            rows = slice(low, min(low + self._multiplicities.at_once, stop - first))
            here = rows.stop - low
            times = self._multiplicities(first + low, here)
            if self._southern is not None:
                southern[rows] = times @ self._southern
            np.take(times, self._owner, axis=1, out=self._of_pairs[:here], mode="clip")  # unbuffered
            held = np.multiply(self._of_pairs[:here], self._sites, self._held[:here])
            counts[rows, self._country] = np.add.reduceat(held, self._start, axis=1, dtype=held.dtype)
        return country_statistics(counts, southern, self._sample)


def replicates_and_jackknife(
    sample: MerchantSample, replicates: int, key: int, counter_hi: int
) -> tuple[FloatArray, FloatArray]:
    """The STATISTICS and region shares of each replicate, float64[replicates, 7 + regions], and with each merchant left
    out in turn, float64[M, 7 + regions]; NaN for the distances.

    `sample`: without distances, M >= 1 merchants.
    """
    drawn = _Replicates(sample, key, counter_hi)
    shares = max(1, replicates * sample.merchants // _DRAWS_OF_A_SHARE)
    if shares == 1:
        return drawn.statistics(0, replicates), jackknife_counts(sample)
    bounds = pairwise(replicates * share // shares for share in range(shares + 1))
    jackknife, *rows = share_out(  # it takes longest: nobody is to wait for it
        lambda part: drawn.statistics(*part) if part else jackknife_counts(sample), [(), *bounds]
    )
    return np.concatenate(rows), jackknife
