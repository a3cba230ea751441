"""Fast exact sorts: of the many short and few long lists of sites that pairs have, and of millions of numbers."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from seg1b.kernels.jit import in_chunks, njit, read_only, threads

FloatArray: TypeAlias = npt.NDArray[np.float64]

INSERTION_MAX = 40
_BUCKETS_FROM = 1 << 20
_BUCKET_SHIFT = 46  # of a double's bits: the exponent and six bits of the fraction remain


@njit
def sort_ascending(values: Any, scratch: Any) -> None:
    """Sort int32 or int64 values in place; `scratch` has the same type and at least the same length.

    Insertion sort for short lists, radix sort from the lowest digit for long ones: O(n).
    """
    n = len(values)
    if n <= INSERTION_MAX:
        for i in range(1, n):
            value = values[i]
            j = i - 1
            while j >= 0 and values[j] > value:
                values[j + 1] = values[j]
                j -= 1
            values[j + 1] = value
        return
    smallest, largest = values[0], values[0]
    for i in range(n):
        smallest, largest = min(smallest, values[i]), max(largest, values[i])
    digit_bits = np.int64(8) if n < 4096 else np.int64(11)
    mask = (np.int64(1) << digit_bits) - 1
    spread = np.int64(largest) - np.int64(smallest)
    place = np.empty(mask + 1, np.int64)
    shift = np.int64(0)
    while (spread >> shift) > 0:
        place[:] = 0
        for i in range(n):
            place[((np.int64(values[i]) - smallest) >> shift) & mask] += 1
        before = np.int64(0)
        for d in range(len(place)):
            here = place[d]
            place[d] = before
            before += here
        for i in range(n):
            digit = ((np.int64(values[i]) - smallest) >> shift) & mask
            scratch[place[digit]] = values[i]
            place[digit] += 1
        for i in range(n):
            values[i] = scratch[i]
        shift += digit_bits


@njit
def order_uniform_keys(key: Any, order: Any, key_scratch: Any, order_scratch: Any) -> None:
    """Sort uint64 keys in place, the permutation to `order` (int32[n]); equal keys keep their order.

    Made for keys uniform on [0, 2^64): one scatter by the top bits leaves about one key a bucket, an
    insertion sort over the whole list finishes. Exact for any keys, fast for uniform ones.
    """
    n = len(key)
    for i in range(n):
        order[i] = i
    if n > INSERTION_MAX:
        bits = np.uint64(1)
        while (np.int64(2) << np.int64(bits)) < n and bits < np.uint64(22):
            bits += np.uint64(1)
        shift = np.uint64(64) - bits
        place = np.zeros((np.int64(1) << np.int64(bits)) + 1, np.int64)
        for i in range(n):
            place[np.int64(key[i] >> shift) + 1] += 1
        for d in range(1, len(place)):
            place[d] += place[d - 1]
        for i in range(n):
            b = np.int64(key[i] >> shift)
            key_scratch[place[b]] = key[i]
            order_scratch[place[b]] = i
            place[b] += 1
        for i in range(n):
            key[i] = key_scratch[i]
            order[i] = order_scratch[i]
    for i in range(1, n):
        value, index = key[i], order[i]
        j = i - 1
        while j >= 0 and key[j] > value:
            key[j + 1] = key[j]
            order[j + 1] = order[j]
            j -= 1
        key[j + 1] = value
        order[j + 1] = index


def counting_order(
    bucket: npt.NDArray[np.int64], buckets: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """The stable order (int64[n]) of n small numbers, and where each of them begins in it (int64[buckets + 1]).

    `bucket` holds numbers in [0, buckets). Counting sort: O(n + buckets).
    """
    start = np.zeros(buckets + 1, np.int64)
    np.cumsum(np.bincount(bucket, minlength=buckets), out=start[1:])
    order = np.empty(len(bucket), np.int64)
    _deal(bucket, start[:-1].copy(), order)
    return order, start


@njit
def _deal(bucket: Any, place: Any, order: Any) -> None:
    """Put the number of each entry at its bucket's next place."""
    for i in range(len(bucket)):
        order[place[bucket[i]]] = i
        place[bucket[i]] += 1


def ascending_with_order(values: FloatArray) -> tuple[FloatArray, npt.NDArray[np.int32]]:
    """Values float64[n] in ascending order, and their numbers in that order, int32[n]; equal ones in any order.

    All values must be finite and not negative (no negative zero), n below 2^31. Threads scatter stretches of values
    over buckets by their leading bits, then sort the buckets: they fit into a cache, which a whole array does not.
    """
    if len(values) < _BUCKETS_FROM:
        order = np.argsort(values)
        return values[order], order.astype(np.int32)
    ascending, numbers, bounds = _scattered(values, with_order=True)

    def sort(first: int, stop: int) -> None:
        for low, high in pairwise(bounds[first : stop + 1].tolist()):
            if high - low > 1:
                order = np.argsort(ascending[low:high])
                ascending[low:high] = ascending[low:high][order]
                numbers[low:high] = numbers[low:high][order]

    in_chunks(sort, len(bounds) - 1, bounds)
    return ascending, numbers


def ascending(values: FloatArray) -> FloatArray:
    """Values float64[n] in ascending order; otherwise as `ascending_with_order`."""
    if len(values) < _BUCKETS_FROM:
        return np.sort(values)
    found, _, bounds = _scattered(values, with_order=False)

    def sort(first: int, stop: int) -> None:
        for low, high in pairwise(bounds[first : stop + 1].tolist()):
            found[low:high].sort()

    in_chunks(sort, len(bounds) - 1, bounds)
    return found


def _scattered(
    values: FloatArray, *, with_order: bool
) -> tuple[FloatArray, npt.NDArray[np.int32], npt.NDArray[np.int64]]:
    """Values by bucket, their numbers (none without `with_order`), and where each bucket begins, and the end."""
    n, parts = len(values), threads()
    bits = read_only(np.ascontiguousarray(values)).view(np.int64)
    lowest = int(bits.min()) >> _BUCKET_SHIFT
    buckets = (int(bits.max()) >> _BUCKET_SHIFT) - lowest + 1
    count = np.zeros((parts, buckets), np.int64)
    cuts = [n * i // parts for i in range(parts + 1)]

    def tell(first: int, stop: int) -> None:
        for part in range(first, stop):
            _count_buckets(bits, cuts[part], cuts[part + 1], lowest, count[part])

    in_chunks(tell, parts)
    bounds = np.zeros(buckets + 1, np.int64)
    np.cumsum(count.sum(axis=0), out=bounds[1:])
    place = bounds[:-1] + np.cumsum(count, axis=0) - count
    scattered, numbers = np.empty(n, np.int64), np.empty(n if with_order else 0, np.int32)

    def deal(first: int, stop: int) -> None:
        for part in range(first, stop):
            _deal_bits(bits, cuts[part], cuts[part + 1], lowest, place[part], scattered, numbers)

    in_chunks(deal, parts)
    return scattered.view(np.float64), numbers, bounds


@njit
def _count_buckets(bits: Any, first: int, stop: int, lowest: int, count: Any) -> None:
    for i in range(first, stop):
        count[(bits[i] >> _BUCKET_SHIFT) - lowest] += 1


@njit
def _deal_bits(
    bits: Any, first: int, stop: int, lowest: int, place: Any, scattered: Any, numbers: Any
) -> None:
    """Put values first to stop at the next places of their buckets."""
    for i in range(first, stop):
        bucket = (bits[i] >> _BUCKET_SHIFT) - lowest
        scattered[place[bucket]] = bits[i]
        if len(numbers) > 0:
            numbers[place[bucket]] = i
        place[bucket] += 1
