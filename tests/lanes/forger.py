"""A forger with the whole package at hand: whatever can be recomputed after a lie, it recomputes.

After its work no digest, no metric, no gate row and no report of a check contradicts the moved shops; only what
follows from world, policy and seed does.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from seg1b.catalogue.guard import guard_bundle
from seg1b.catalogue.verify import read_catalogue, read_runs, verify_bundle
from seg1b.lanes import certificate
from seg1b.lanes.identity import SeedFacts, manifest_fingerprint, run_identity, seed_hashes
from seg1b.lanes.world_stage import WorldStage
from seg1b.policy.load import CERTIFIED_FILES, Policies
from seg1b.report.page import SitePoints, draw_maps, write_report
from seg1b.scoring.values import plain
from seg1b.states import s8_egress, s9_findings, s9_validation
from seg1b.states.required_pairs import required_pairs
from seg1b.states.seed_tables import SeedTables, SiteKeys, join_egress
from seg1b.states.tables import (
    ASSIGNMENT_TABLE,
    COUNTRY,
    JITTER_TABLE,
    PLAN_TABLE,
    assignment_to_arrow,
    column,
    jitter_to_arrow,
    pairs_to_arrow,
    placement_from_arrow,
    plan_from_arrow,
    plan_to_arrow,
)
from seg1b.store.digest import readable_json, sha256_bytes, sha256_file
from seg1b.store.tables import hive_digest, partitioned_digest
from seg1b.world.bundle import load_world

Mutation = Callable[[int, SeedTables], SeedTables]
DocumentEdit = Callable[[dict[str, Any]], None]


class Forger:
    """Works in the folder of a copied certification."""

    def __init__(self, folder: Path, stage: WorldStage, policies: Policies) -> None:
        self.folder, self.stage, self.policies = folder, stage, policies
        self.document = json.loads((folder / certificate.CERTIFICATE).read_bytes())

    # -- files only

    def edit_json(self, name: str, change: DocumentEdit) -> None:
        """Change a JSON document and write it the way seg1b does."""
        path = self.folder / name
        value = json.loads(path.read_bytes())
        change(value)
        path.write_bytes(readable_json(value))

    def edit_certificate(self, change: DocumentEdit) -> None:
        """Change facts of the certificate; its id follows."""
        change(self.document)
        self.document["cert_id"] = certificate.certificate_id(self.document)
        (self.folder / certificate.CERTIFICATE).write_bytes(readable_json(self.document))

    def rehash(self) -> None:
        """files.json and the flag of what lies there now."""
        special = {certificate.FILES, certificate.FLAG, certificate.TELEMETRY}
        files = {
            path.relative_to(self.folder).as_posix(): {
                "bytes": path.stat().st_size,
                "sha256": sha256_file(path),
            }
            for path in sorted(self.folder.rglob("*"))
            if path.is_file()
        }
        listing = {
            "format": 1,
            "files": {name: entry for name, entry in files.items() if name not in special},
        }
        (self.folder / certificate.FILES).write_bytes(readable_json(listing))
        flag = self.folder / certificate.FLAG
        flag.unlink(missing_ok=True)
        if self.document["grade"] != "below_B":
            flag.write_text(f"sha256_hex = {sha256_bytes(readable_json(listing))}\n")

    # -- tables

    def read(self, seed: int) -> SeedTables:
        """A seed's tables."""
        root, iso = self.folder / "seeds" / str(seed), self.stage.world.iso
        tables = {
            name: pa.concat_tables(
                [pq.read_table(f) for f in sorted((root / name).glob("*.parquet"))]
            ).sort_by(COUNTRY)
            for name in (PLAN_TABLE, ASSIGNMENT_TABLE, JITTER_TABLE)
        }
        partitions = sorted((root / "site_locations").iterdir())
        egress = join_egress(
            iso,
            ((p.name[-2:], pq.read_table(next(p.glob("*.parquet")), partitioning=None)) for p in partitions),
        )
        source = read_catalogue(verify_bundle(root / "catalogue"), iso)
        pairs, _ = required_pairs(source, self.stage.world.countries, self.policies.requirements)
        return SeedTables(
            pairs, plan_from_arrow(iso, tables[PLAN_TABLE]),
            SiteKeys.from_arrow(iso, tables[ASSIGNMENT_TABLE]),
            column(tables[ASSIGNMENT_TABLE], "tile_id", np.int64),
            SiteKeys.from_arrow(iso, tables[JITTER_TABLE]), placement_from_arrow(tables[JITTER_TABLE]),
            egress.keys, egress.lon_deg, egress.lat_deg, egress.geometry_matches, source,
        )  # fmt: skip

    def write(self, seed: int, tables: SeedTables) -> dict[str, str]:
        """Write a seed's tables and return their logical digests. Keys are those of the pairs."""
        root, iso, pairs = self.folder / "seeds" / str(seed), self.stage.world.iso, tables.pairs
        arrow = {
            PLAN_TABLE: plan_to_arrow(iso, tables.plan),
            ASSIGNMENT_TABLE: assignment_to_arrow(iso, pairs, tables.assigned_tile),
            JITTER_TABLE: jitter_to_arrow(iso, pairs, tables.placement),
        }
        for name, table in arrow.items():
            shutil.rmtree(root / name)
            (root / name).mkdir()
            pq.write_table(table, root / name / "part-00000.parquet")
        placed = dataclasses.replace(tables.placement, lon_deg=tables.lon_deg, lat_deg=tables.lat_deg)
        egress = s8_egress.country_tables(iso, pairs, placed, self.stage.attribution)
        for code, table in egress.items():
            (file,) = (root / "site_locations" / f"{COUNTRY}={code}").glob("*.parquet")
            os.remove(file)
            pq.write_table(table, file)
        return {
            "s3_requirements": partitioned_digest(pairs_to_arrow(iso, pairs), COUNTRY),
            **{name: partitioned_digest(table, COUNTRY) for name, table in arrow.items()},
            "site_locations": hive_digest(egress, s8_egress.DERIVED),
        }

    # -- everything

    def forge(self, mutate: Mutation, claimed: Policies | None = None, origin: str = "synthesised") -> None:
        """Change tables, then claim that they replay, score them honestly and publish all of it anew.

        `claimed`: policies that the certificate states, such as gates that it would pass.
        """
        policies = claimed or self.policies
        evidence, witness, points = [], {}, {}
        for entry in self.document["seeds"]:
            seed = int(entry["seed"])
            tables = mutate(seed, self.read(seed))
            tables = dataclasses.replace(
                tables,
                geometry_matches=np.ones(len(tables.lon_deg), np.bool_),
                egress=SiteKeys.of(tables.pairs),
            )
            evidence.append(self._seed(seed, tables, policies))
            points[seed] = SitePoints(tables.egress.country, tables.lon_deg, tables.lat_deg)
            if seed == policies.certification.reproducibility_witness_seed:
                logical = evidence[-1].logical_digests
                witness[seed] = {name: logical[name] for name in logical if name != "s3_requirements"}
        identity = run_identity(policies, self.stage.world.digest, [seed.facts for seed in evidence], origin)
        run_ids = {int(entry["seed"]): str(entry["run_id"]) for entry in self.document["seeds"]}
        again = certificate.assemble(self.stage, policies, identity, evidence, run_ids, witness)
        self.document = json.loads(readable_json(again.document))
        own = self.folder / "world"
        world = load_world(own, raster_required=False) if own.is_dir() else load_world()
        first = int(self.document["seeds"][0]["seed"])
        maps = draw_maps(points[first], first, world)
        write_report(self._put, self.document, again.scores, again.pooled, maps, world)
        (self.folder / certificate.CERTIFICATE).write_bytes(readable_json(self.document))
        for file in CERTIFIED_FILES:
            name = f"config/{file.path.removesuffix('.yaml')}.json"
            model = getattr(policies, file.attribute)
            (self.folder / name).write_bytes(readable_json(model.model_dump(mode="json")))
        self.rehash()

    def _put(self, name: str, data: bytes) -> None:
        (self.folder / name).write_bytes(data)

    def _seed(self, seed: int, tables: SeedTables, policies: Policies) -> certificate.SeedEvidence:
        digests = self.write(seed, tables)
        receipt = verify_bundle(self.folder / "seeds" / str(seed) / "catalogue")
        catalogue = receipt.content_sha256_hex
        fingerprint = manifest_fingerprint(self.stage.world.digest, catalogue)
        found = s9_validation.validate(
            self.stage.world, tables, self.stage.context, policies, seed, fingerprint
        )
        # the lie: every check passed, whatever was found
        checks = tuple(dataclasses.replace(check, differing=0, first="") for check in found.replay.checks)
        violations: Mapping[str, int | None] = dict.fromkeys(found.replay.violations, 0)
        replay = dataclasses.replace(found.replay, checks=checks, violations=dict(violations))
        claim = dataclasses.replace(found, replay=replay)
        facts = SeedFacts(seed, catalogue, fingerprint)
        hashes = seed_hashes(policies, self.stage.world.digest, facts)
        identity = {"seed": seed, "manifest_fingerprint": fingerprint, **hashes}
        validation = self.folder / "seeds" / str(seed) / "validation"
        shutil.rmtree(validation)
        validation.mkdir()
        for name, data in s9_findings.bundle_documents(claim, identity, policies, digests).items():
            (validation / name).write_bytes(data)
        _, denied = required_pairs(tables.catalogue, self.stage.world.countries, policies.requirements)
        return certificate.SeedEvidence(
            facts, plain(guard_bundle(read_runs(receipt), receipt, policies.guard)), denied,
            tables.pairs.sites_per_country(len(self.stage.world.iso)), claim.score, claim.passed, claim.checks(),
            claim.evidence, digests,
        )  # fmt: skip
