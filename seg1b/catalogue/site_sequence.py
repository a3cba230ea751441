"""Whether a table of site numbers is the one that the outlet catalogue's pairs give, compared as it streams by."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from seg1b.catalogue.rows import OutletRuns, as_dictionary, numbers_of_site_ids
from seg1b.store.digest import numbers_of


def follows(runs: OutletRuns, batches: Iterable[pa.RecordBatch]) -> bool:
    """True if the rows are 1..n of every pair, with its zero-filled text, pairs in the order of `runs`, and no more.

    Memory grows with a batch. The runs must be pairs (`OutletRuns.catalogue` demands it).
    """
    code_of = {code: number for number, code in enumerate(runs.codes)}
    row = 0
    for batch in batches:
        if batch.num_rows == 0:
            continue
        if row + batch.num_rows > runs.rows or any(column.null_count for column in batch.columns):
            return False
        run = _runs_of(runs, row, row + batch.num_rows)
        order = np.arange(row, row + batch.num_rows) - runs.first_row[run] + 1
        country = as_dictionary(batch.column("country_iso"))
        known = np.array([code_of.get(code, -1) for code in country.dictionary.to_pylist()], np.int16)
        site_id = as_dictionary(batch.column("site_id"))
        named = numbers_of_site_ids(site_id.dictionary)[numbers_of(site_id.indices)]
        same = (
            np.array_equal(numbers_of(batch.column("merchant_id")), runs.merchant_id[run])
            and np.array_equal(known[numbers_of(country.indices)], runs.country[run])
            and np.array_equal(numbers_of(batch.column("site_order")), order)
            and np.array_equal(named, order)
        )
        if not same:
            return False
        row += batch.num_rows
    return row == runs.rows


def _runs_of(runs: OutletRuns, first: int, end: int) -> npt.NDArray[np.int64]:
    """int64[end - first]: run of each of these rows."""
    low = int(np.searchsorted(runs.first_row, first, side="right")) - 1
    high = int(np.searchsorted(runs.first_row, end, side="left"))
    bounds = np.append(runs.first_row[low:high], end)
    bounds[0] = first
    return np.repeat(np.arange(low, high), np.diff(bounds))
