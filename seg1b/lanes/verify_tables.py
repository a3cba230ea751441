"""A seed's published tables, read from the files of a certification folder: exactly their columns, no others."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from seg1b.catalogue.outlets import OutletCatalogue
from seg1b.errors import InputError
from seg1b.lanes.verify_report import VerifyReport
from seg1b.lanes.world_stage import WorldStage
from seg1b.policy.load import Policies
from seg1b.states.required_pairs import required_pairs
from seg1b.states.s8_egress import DERIVED, TABLE, egress_schema
from seg1b.states.seed_tables import SeedTables, SiteTables, join_egress
from seg1b.states.tables import (
    ASSIGNMENT_SCHEMA,
    ASSIGNMENT_TABLE,
    COUNTRY,
    JITTER_SCHEMA,
    JITTER_TABLE,
    PLAN_SCHEMA,
    PLAN_TABLE,
    pairs_to_arrow,
)
from seg1b.store.digest import PartitionKey
from seg1b.store.tables import hive_digest, partitioned_digest, split

_COPY = "copy the certification's folder again, whole"


def read_seed(
    folder: Path, stage: WorldStage, policies: Policies, catalogue: OutletCatalogue, report: VerifyReport
) -> tuple[SeedTables, dict[str, str]]:
    """A seed's published tables and their logical digests, from the files; `catalogue` as the seed's bundle has it.

    Foreign columns and metadata are findings. Raises InputError E_VERIFY_TABLE for a table that is none, and
    whatever pyarrow raises for a file that it cannot read.
    """
    iso = stage.world.iso
    pairs, _ = required_pairs(catalogue, stage.world.countries, policies.requirements)
    plan, plan_digest = _read_table(folder / PLAN_TABLE, PLAN_SCHEMA, report)
    assigned, assigned_digest = _read_table(folder / ASSIGNMENT_TABLE, ASSIGNMENT_SCHEMA, report)
    jittered, jittered_digest = _read_table(folder / JITTER_TABLE, JITTER_SCHEMA, report)
    partitions = _read_egress(folder / TABLE, egress_schema(stage.attribution), report)
    egress = join_egress(iso, ((str(code), rows) for code, rows in partitions.items()))
    tables = SeedTables.of(catalogue, SiteTables.from_arrow(iso, pairs, plan, assigned, jittered, egress))
    return tables, {
        "s3_requirements": partitioned_digest(pairs_to_arrow(iso, pairs), COUNTRY),
        PLAN_TABLE: plan_digest,
        ASSIGNMENT_TABLE: assigned_digest,
        JITTER_TABLE: jittered_digest,
        TABLE: hive_digest(partitions, DERIVED),
    }


def _read_table(folder: Path, schema: pa.Schema, report: VerifyReport) -> tuple[pa.Table, str]:
    """All part files of a table, its countries in order, and its logical digest."""
    parts: dict[PartitionKey, pa.Table] = {}
    for file in sorted(folder.glob("*.parquet")):
        table = pq.read_table(file, partitioning=None)
        if not table.schema.equals(schema, check_metadata=True):
            where = f"{folder.parent.name}/{folder.name}/{file.name}"
            what = f"its columns or metadata are not those of {folder.name}"
            report.find("E_VERIFY_TABLE_SCHEMA", what, where)
        for key, rows in split(table, COUNTRY):
            if key in parts:
                raise InputError(
                    "E_VERIFY_TABLE", f"two files hold rows of {key}", where=str(folder), next_step=_COPY
                )
            parts[key] = rows
    if not parts:
        raise InputError("E_VERIFY_TABLE", "the table has no rows", where=str(folder), next_step=_COPY)
    table = pa.concat_tables([parts[key] for key in sorted(parts, key=str)])
    return table, partitioned_digest(table, COUNTRY)


def _read_egress(folder: Path, schema: pa.Schema, report: VerifyReport) -> dict[PartitionKey, pa.Table]:
    """The egress by country, ascending."""
    partitions: dict[PartitionKey, pa.Table] = {}
    for partition in sorted(folder.glob(f"{COUNTRY}=*")):
        tables = [pq.read_table(file, partitioning=None) for file in sorted(partition.glob("*.parquet"))]
        if not all(table.schema.equals(schema, check_metadata=True) for table in tables):
            what = "its columns or metadata (GeoParquet, attribution) are not those of site_locations"
            where = f"{folder.parent.name}/{folder.name}/{partition.name}"
            report.find("E_VERIFY_EGRESS_SCHEMA", what, where)
        partitions[partition.name.removeprefix(f"{COUNTRY}=")] = pa.concat_tables(tables)
    return partitions
