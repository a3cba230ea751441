"""S2s: how many of all sites each country gets.

An output of its own beside S2w's weights: a share knob changes no weight. The shares are a pure function of world and
policy; the catalogue synthesis draws its quotas from them, and S3 compares any catalogue with them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from seg1b.catalogue.shares import CountryShares
from seg1b.policy.models import CountrySharesPolicy
from seg1b.states.tables import column
from seg1b.world.content import World

if TYPE_CHECKING:
    from seg1b.store.store import Store
    from seg1b.world.dense_surface import Surface
    from seg1b.world.tile_index import TileIndex

STATE = "s2s"
_SCHEMA = pa.schema(
    [
        pa.field("country_iso", pa.string(), nullable=False),
        pa.field("share_ppm", pa.int64(), nullable=False),
        pa.field("prior", pa.float64(), nullable=False),
        pa.field("market_size", pa.float64(), nullable=False),
        pa.field("capacity_sites", pa.int64(), nullable=False),
        pa.field("minimum_sites", pa.int64(), nullable=False),
        pa.field("southern_share", pa.float64(), nullable=False),
        pa.field("bound_price", pa.float64(), nullable=False),
    ]
)


def run(
    store: Store,
    key: str,
    world: World,
    index: TileIndex,
    surface: Surface,
    policy: CountrySharesPolicy,
) -> CountryShares:
    """Project the market prior onto the certified set and publish the table and the prices of its limits.

    Raises InputError E_SHARES_* (infeasible limits are named).
    """
    from seg1b.catalogue.projected_shares import country_shares  # compiled code, which reading does without

    shares = country_shares(world.countries, surface.southern_share(), index.area_km2(), policy)
    arrays = [
        pa.array(list(shares.iso), pa.string()),
        shares.share_ppm,
        shares.prior,
        shares.market_size,
        shares.capacity_sites,
        shares.minimum_sites,
        shares.southern_share,
        shares.bound_price,
    ]
    with store.transaction(STATE, key) as out:
        out.add_table("country_shares", pa.table(arrays, schema=_SCHEMA), sorted_by=("country_iso",))
        out.facts = {
            "prices": shares.prices,
            "kl": shares.kl,
            "duality_gap": shares.duality_gap,
            "violation": shares.violation,
        }
    return shares


def load(store: Store, key: str) -> CountryShares:
    """The published shares."""
    table = store.read_table(STATE, key, "country_shares")
    facts = store.manifest(STATE, key).facts
    return CountryShares(
        iso=tuple(table.column("country_iso").to_pylist()),
        share_ppm=column(table, "share_ppm", np.int64),
        prior=column(table, "prior", np.float64),
        market_size=column(table, "market_size", np.float64),
        capacity_sites=column(table, "capacity_sites", np.int64),
        minimum_sites=column(table, "minimum_sites", np.int64),
        southern_share=column(table, "southern_share", np.float64),
        prices=dict(facts["prices"]),
        bound_price=column(table, "bound_price", np.float64),
        kl=float(facts["kl"]),
        duality_gap=float(facts["duality_gap"]),
        violation=dict(facts["violation"]),
    )
