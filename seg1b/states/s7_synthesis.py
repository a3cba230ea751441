"""S7: the join of S5, S6 and the catalogue, proven and written down as a manifest rather than as another copy.

For every country the keys of S5 and S6 must be the same, row by row, and one to one with the sealed catalogue less
what the denylist of S3 took out. The manifest names the joined tables by their logical digests.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from seg1b.errors import ContractError
from seg1b.states.tables import SITE_KEY, Pairs
from seg1b.store.store import Store

STATE = "s7"
_JOIN_COLUMNS = (*SITE_KEY, "tile_id")


def run(store: Store, key: str, iso: tuple[str, ...], pairs: Pairs, keys: dict[str, str]) -> None:
    """Check the join and publish its manifest.

    `pairs`: the requirements; `keys`: state keys, S0c, S5 and S6 among them. Raises ContractError E701_ROW_MISSING
    (S5 and S6 differ) or E708_1A_COVERAGE_FAIL (they are not the required sites).
    """
    assigned = store.open_table("s5", keys["S5"], "s5_site_tile_assignment")
    jittered = store.open_table("s6", keys["S6"], "s6_site_jitter")
    if assigned.keys != jittered.keys:
        raise ContractError("E701_ROW_MISSING", "S5 and S6 do not hold the same countries")
    country, merchant_id, site_order = pairs.sites()
    bounds = np.searchsorted(country, np.arange(len(iso) + 1))
    by_country = {}
    for code, left in assigned.partitions(_JOIN_COLUMNS):
        right = jittered.partition(code, _JOIN_COLUMNS)
        if not left.equals(right):
            raise ContractError(
                "E701_ROW_MISSING",
                f"S5 and S6 differ in the sites or tiles of {code}",
                where=f"country {code}",
            )
        index = iso.index(str(code))
        rows = slice(int(bounds[index]), int(bounds[index + 1]))
        _require_sites(left, merchant_id[rows], site_order[rows], str(code))
        by_country[str(code)] = left.num_rows
    if sum(by_country.values()) != len(country):
        raise ContractError(
            "E708_1A_COVERAGE_FAIL", f"{sum(by_country.values())} sites for {len(country)} required"
        )
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


def _require_sites(table: pa.Table, merchant_id: np.ndarray, site_order: np.ndarray, iso: str) -> None:
    same = np.array_equal(table.column("merchant_id").to_numpy(), merchant_id) and np.array_equal(
        table.column("site_order").to_numpy(), site_order
    )
    if not same:
        raise ContractError(
            "E708_1A_COVERAGE_FAIL",
            f"the sites of {iso} are not those the catalogue asks for",
            where=f"country {iso}",
        )
