"""Sparse counts by place: entries in plain arrays, found by an open-addressing table, the fullest by a heap.

`places[i]`, `counts[i]` (int64) are entry i. `table` (int64, a power of two long) holds entry numbers or -1.
Heap rows are (count, place, entry): the largest count on top, among equals the smallest place; rows that no
longer tell an entry's count are dropped when they surface.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from seg1b.kernels.jit import njit

_HASH = np.uint64(0x9E3779B97F4A7C15)


@njit
def _slot(table: Any, places: Any, place: Any) -> Any:
    """The slot that holds the entry of a place, or the empty one where it belongs."""
    mask = np.uint64(len(table) - 1)
    slot = ((np.uint64(place) * _HASH) >> np.uint64(32)) & mask
    while table[np.int64(slot)] >= 0 and places[table[np.int64(slot)]] != place:
        slot = (slot + np.uint64(1)) & mask
    return np.int64(slot)


@njit
def fill_table(table: Any, places: Any, size: Any, spare: Any) -> Any:
    """Index entries 0..size-1 with room for `spare` more; returns mask, table[: mask + 1] is used."""
    capacity = np.int64(4)
    while capacity < 2 * (size + spare):
        capacity *= 2
    used = table[:capacity]
    used[:] = -1
    for i in range(size):
        used[_slot(used, places, places[i])] = i
    return capacity - 1


@njit
def count_at(table: Any, places: Any, counts: Any, place: Any) -> Any:
    """Count at a place, 0 where there is no entry."""
    entry = table[_slot(table, places, place)]
    return counts[entry] if entry >= 0 else np.int64(0)


@njit
def insert_entry(table: Any, places: Any, counts: Any, size: Any, place: Any) -> Any:
    """(entry of a place, number of entries), with a new entry of count 0 if there was none."""
    slot = _slot(table, places, place)
    if table[slot] >= 0:
        return table[slot], size
    table[slot] = size
    places[size] = place
    counts[size] = 0
    return np.int64(size), size + 1


@njit
def _ahead(heap: Any, i: Any, j: Any) -> Any:
    return heap[i, 0] > heap[j, 0] or (heap[i, 0] == heap[j, 0] and heap[i, 1] < heap[j, 1])


@njit
def _swap(heap: Any, i: Any, j: Any) -> None:
    for c in range(3):
        heap[i, c], heap[j, c] = heap[j, c], heap[i, c]


@njit
def heap_push(heap: Any, size: Any, count: Any, place: Any, entry: Any) -> Any:
    """Add a row; returns the new size."""
    heap[size, 0], heap[size, 1], heap[size, 2] = count, place, entry
    i = size
    while i > 0 and _ahead(heap, i, (i - 1) >> 1):
        _swap(heap, i, (i - 1) >> 1)
        i = (i - 1) >> 1
    return size + 1


@njit
def heap_pop(heap: Any, size: Any, counts: Any) -> Any:
    """Take the top row that is still true; returns (its entry or -1, the new size)."""
    while size > 0:
        count, entry = heap[0, 0], heap[0, 2]
        size -= 1
        _swap(heap, 0, size)
        i = np.int64(0)
        while True:
            best = i
            for child in (2 * i + 1, 2 * i + 2):
                if child < size and _ahead(heap, child, best):
                    best = child
            if best == i:
                break
            _swap(heap, i, best)
            i = best
        if counts[entry] == count:
            return entry, size
    return np.int64(-1), size


@njit
def sort_rows(tile: Any, count: Any) -> None:
    """Sort (tile, count) rows in place by tile ascending."""
    if len(tile) > 32:
        order = np.argsort(tile)
        tile[:] = tile[order]
        count[:] = count[order]
        return
    for i in range(1, len(tile)):
        t, c = tile[i], count[i]
        j = i - 1
        while j >= 0 and tile[j] > t:
            tile[j + 1], count[j + 1] = tile[j], count[j]
            j -= 1
        tile[j + 1], count[j + 1] = t, c
