"""S7: the join of S5, S6 and the catalogue, proven and written down as a manifest rather than as another copy.

For every country the keys of S5 and S6 must be the same, row by row, and one to one with the sealed catalogue less
what the denylist of S3 took out. Equal columns have equal digests, and the store keeps the digest of every column of
every partition that it wrote: so the join is proven from what was published, in order, without reading it again. (S9
reads every row, and `verify` reads the files; both compare the keys once more.) The manifest names the joined tables
by their logical digests.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from seg1b.errors import ContractError
from seg1b.states.tables import COUNTRY, SITE_KEY, Pairs
from seg1b.store.digest import ColumnHasher
from seg1b.store.store import Store
from seg1b.store.table_reader import TableReader
from seg1b.store.tables import PartitionEntry

STATE = "s7"
_JOIN_COLUMNS = (*SITE_KEY, "tile_id")
_SLICE_SITES = 1 << 18


def run(store: Store, key: str, iso: tuple[str, ...], pairs: Pairs, keys: dict[str, str]) -> None:
    """Check the join and publish its manifest.

    `pairs`: the requirements; `keys`: state keys, S0c, S5 and S6 among them. Raises ContractError E701_ROW_MISSING
    (S5 and S6 differ) or E708_1A_COVERAGE_FAIL (they are not the required sites).
    """
    assigned = store.open_table("s5", keys["S5"], "s5_site_tile_assignment")
    jittered = store.open_table("s6", keys["S6"], "s6_site_jitter")
    by_country = _joined(assigned, jittered)
    _require_sites(assigned.entry.partitions, iso, pairs)
    with store.transaction(
        STATE, key, inputs={name.lower(): keys[name] for name in ("S0c", "S5", "S6")}
    ) as out:
        out.add_json(
            "s7_join.json",
            {
                "joins": {
                    "s5_site_tile_assignment": assigned.entry.logical_digest,
                    "s6_site_jitter": jittered.entry.logical_digest,
                },
                "on": list(SITE_KEY),
                "rows": sum(by_country.values()),
                "by_country": by_country,
            },
        )
        out.facts = {"sites": sum(by_country.values()), "parity_s5_s6": True, "parity_catalogue": True}


def _joined(assigned: TableReader, jittered: TableReader) -> dict[str, int]:
    """Rows of each country, the same in both tables."""
    if assigned.keys != jittered.keys:
        raise ContractError("E701_ROW_MISSING", "S5 and S6 do not hold the same countries")
    by_country = {}
    for left, right in zip(assigned.entry.partitions, jittered.entry.partitions, strict=True):
        mine, theirs = _columns(left), _columns(right)
        differing = [name for name in _JOIN_COLUMNS if mine[name] != theirs[name]]
        if left.rows != right.rows or differing:
            raise ContractError(
                "E701_ROW_MISSING",
                f"S5 and S6 differ in the sites or tiles of {left.key}"
                + (f": {', '.join(differing)}" if differing else ""),
                where=f"country {left.key}",
            )
        by_country[str(left.key)] = left.rows
    return by_country


def _columns(entry: PartitionEntry) -> dict[str, str]:
    """Digest of every joined column of a partition."""
    known = entry.columns or {}
    lacking = [name for name in _JOIN_COLUMNS if name not in known]
    if lacking:
        raise ContractError(
            "E701_ROW_MISSING", f"the digest of {lacking[0]} is not known", where=f"country {entry.key}"
        )
    return {name: known[name] for name in _JOIN_COLUMNS}


def _require_sites(partitions: tuple[PartitionEntry, ...], iso: tuple[str, ...], pairs: Pairs) -> None:
    """The tables' keys must be those of the required sites, country by country, row by row."""
    required = {
        iso[country]: Pairs(pairs.country[rows], pairs.merchant_id[rows], pairs.n_sites[rows])
        for country, rows in pairs.countries()
    }
    found = {str(entry.key): entry for entry in partitions}
    for code in sorted({*required, *found}):
        wanted, entry = required.get(code), found.get(code)
        if wanted is None or entry is None or _key_digests(wanted) != _keys(entry):
            raise ContractError(
                "E708_1A_COVERAGE_FAIL",
                f"the sites of {code} are not those the catalogue asks for",
                where=f"country {code}",
            )


def _keys(entry: PartitionEntry) -> tuple[int, dict[str, str]]:
    columns = _columns(entry)
    return entry.rows, {name: columns[name] for name in SITE_KEY if name != COUNTRY}


def _key_digests(pairs: Pairs) -> tuple[int, dict[str, str]]:
    """How many sites the pairs ask for, and the digests of merchant_id and site_order of all of them."""
    merchant, order = ColumnHasher("uint64"), ColumnHasher("int32")
    sites = 0
    for part in _slices(pairs.n_sites):
        some = Pairs(pairs.country[part], pairs.merchant_id[part], pairs.n_sites[part])
        _, merchant_id, site_order = some.sites()
        merchant.update(merchant_id)
        order.update(site_order)
        sites += len(site_order)
    return sites, {"merchant_id": merchant.digest().hex(), "site_order": order.digest().hex()}


def _slices(n_sites: npt.NDArray[np.int64]) -> Iterator[slice]:
    """Whole pairs, `_SLICE_SITES` sites or one pair more at a time."""
    end = np.cumsum(n_sites)
    steps = np.searchsorted(end, np.arange(_SLICE_SITES, end[-1], _SLICE_SITES)) + 1
    bounds = np.unique(np.concatenate(([0], steps, [len(n_sites)])))
    for low, high in pairwise(bounds.tolist()):
        yield slice(low, high)
