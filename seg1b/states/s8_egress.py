"""S8: the published `site_locations`, one GeoParquet 1.1 file per country.

A pure projection: merchant, site number, longitude, latitude, and the same point as WKB. The country stands in the
folder name only (Hive partitioning), because readers refuse a column that stands in both. Opens in GeoPandas, DuckDB
and polars without seg1b.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from seg1b.states.tables import COUNTRY, EGRESS_TABLE, Pairs, Placement
from seg1b.store.digest import PartitionKey

STATE = "s8"
TABLE = EGRESS_TABLE
SITE_ORDER_KEY = ("merchant_id", "site_order")
DERIVED = ("geometry",)
WRITING: dict[str, Any] = {
    "partition_column": COUNTRY, "sorted_by": SITE_ORDER_KEY, "derived": DERIVED, "files": "per_partition",
}  # fmt: skip
"""How the store is to write it."""

_GEO = {
    "version": "1.1.0",
    "primary_column": "geometry",
    "columns": {"geometry": {"encoding": "WKB", "geometry_types": ["Point"]}},
}


def egress_schema(attribution: str) -> pa.Schema:
    """Columns of a country's file, with the GeoParquet metadata and the attribution that its data need."""
    return pa.schema(
        [
            pa.field("merchant_id", pa.uint64(), nullable=False),
            pa.field("site_order", pa.int32(), nullable=False),
            pa.field("lon_deg", pa.float64(), nullable=False),
            pa.field("lat_deg", pa.float64(), nullable=False),
            pa.field("geometry", pa.binary(), nullable=False),
        ],
        metadata={"geo": json.dumps(_GEO, sort_keys=True), "attribution": attribution},
    )


def wkb_points(lon_deg: NDArray[np.float64], lat_deg: NDArray[np.float64]) -> pa.Array:
    """Points as little-endian WKB (ISO 19125), 21 bytes each."""
    n = len(lon_deg)
    points = np.zeros(n, np.dtype([("order", "u1"), ("type", "<u4"), ("x", "<f8"), ("y", "<f8")]))
    points["order"], points["type"], points["x"], points["y"] = 1, 1, lon_deg, lat_deg
    offsets = np.arange(n + 1, dtype=np.int32) * points.dtype.itemsize
    return pa.Array.from_buffers(pa.binary(), n, [None, pa.py_buffer(offsets), pa.py_buffer(points)])


def country_tables(
    iso: tuple[str, ...], pairs: Pairs, placement: Placement, attribution: str
) -> dict[PartitionKey, pa.Table]:
    """The egress of some sites by country, ascending."""
    schema = egress_schema(attribution)
    country, merchant_id, site_order = pairs.sites()
    bounds = np.searchsorted(country, np.arange(len(iso) + 1))
    tables: dict[PartitionKey, pa.Table] = {}
    for index in np.unique(country).tolist():
        rows = slice(int(bounds[index]), int(bounds[index + 1]))
        lon, lat = placement.lon_deg[rows], placement.lat_deg[rows]
        arrays = [merchant_id[rows], site_order[rows], lon, lat, wkb_points(lon, lat)]
        tables[iso[index]] = pa.table(arrays, schema=schema)
    return tables
