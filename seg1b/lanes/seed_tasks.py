"""What executors run for one seed: get its catalogue and requirements ready, place a shard, finish and validate.

Every function takes the shared values first and small arguments after, publishes what it makes, and returns a small
receipt. Running one again finds what is there and returns the same receipt, but for its times.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from seg1b.catalogue.bundle import write_synthesis
from seg1b.catalogue.guard import GuardMeasurement
from seg1b.catalogue.synthesise import synthesise
from seg1b.catalogue.verify import verify_files
from seg1b.lanes.guard import require_guard
from seg1b.lanes.identity import SeedFacts, manifest_fingerprint
from seg1b.lanes.retention import claimed_keys
from seg1b.lanes.shards import Shard
from seg1b.lanes.world_stage import WorldStage
from seg1b.policy.load import Policies
from seg1b.scoring.measure import ScoringContext, SiteTally, tally_blocks
from seg1b.scoring.score import Score
from seg1b.scoring.sites import Sites
from seg1b.scoring.values import plain
from seg1b.states import (
    s0_gate,
    s3_requirements,
    s4_allocation,
    s5_assignment,
    s6_jitter,
    s7_synthesis,
    s8_egress,
    s9_findings,
    s9_replay,
    s9_validation,
)
from seg1b.states.plan import BY_NAME, SHARDED_STATES, SeedIdentity, keys_for, world_externals
from seg1b.states.replay_checks import Replay
from seg1b.states.seed_tables import SiteKeys, egress_sites
from seg1b.states.shard import (
    BLOCK_SITES,
    ShardRun,
    StageTimes,
    units,
)
from seg1b.states.shard_tables import ShardTables
from seg1b.states.tables import (
    ASSIGNMENT_TABLE,
    COUNTRY,
    JITTER_TABLE,
    PLAN_TABLE,
    TABLE_OF,
    Pairs,
    assignment_to_arrow,
    column,
    jitter_to_arrow,
    plan_to_arrow,
)
from seg1b.store.digest import PartitionKey
from seg1b.store.store import Store
from seg1b.store.tables import TableHasher
from seg1b.world.grid import Grid

STAGE = "world_stage"
CATALOGUE_STATE = "cat"
_TALLY_TOGETHER_SITES = 1 << 13
"""To tally a country of a hundred sites takes hardly longer than to begin."""
_WITNESSED = {PLAN_TABLE: (), ASSIGNMENT_TABLE: (), JITTER_TABLE: (), s8_egress.TABLE: s8_egress.DERIVED}


@dataclass(frozen=True)
class Preparation:
    """What is known of a seed once its requirements are counted."""

    identity: SeedIdentity
    facts: SeedFacts
    guard: dict[str, Any]
    requirements: dict[str, Any]
    sites_per_country: np.ndarray[Any, np.dtype[np.int64]]
    reused: tuple[str, ...]
    times: StageTimes


@dataclass(frozen=True)
class ShardCheck:
    """What S9's replay found in one shard."""

    replay: Replay
    times: StageTimes


@dataclass(frozen=True)
class Finish:
    """What is known of a seed once it is validated."""

    seed: int
    passed: bool
    score: Score
    checks: list[dict[str, Any]]
    evidence: dict[str, Any]
    logical_digests: dict[str, str]
    times: StageTimes = field(default_factory=StageTimes)


def prepare_seed(
    shared: Mapping[str, Any],
    store: Store,
    policies: Policies,
    seed: int,
    bundle: Path | None,
    lease_id: str | None = None,
) -> Preparation:
    """CAT (unless the user brought a bundle), S0c and S3 of one seed.

    `lease_id`: the driver's lease, which the keys are added to as soon as the catalogue tells them: no other lane's
    pruning can come between what is published here and the driver that hears of it.
    Raises InputError E_GUARD_FAIL if the 1A guard rejects the catalogue, here or in an earlier verdict.
    """
    stage: WorldStage = shared[STAGE]
    times = StageTimes()
    reused = []
    externals = world_externals(stage.world.digest, stage.attribution)
    world_keys = keys_for(policies, externals, seed)
    receipt = None
    with times.of("CAT"):
        if bundle is not None:
            with times.of("CAT.verify"):
                receipt = s0_gate.bundle_receipt(store, bundle)
            digest = receipt.content_sha256_hex
        else:
            if store.has(CATALOGUE_STATE, world_keys["CAT"]):
                reused.append("CAT")
            else:
                publish_synthesis(store, world_keys["CAT"], stage, policies, seed, times)
            digest = str(store.manifest(CATALOGUE_STATE, world_keys["CAT"]).facts["catalogue_digest"])
            bundle = store.layout.object(CATALOGUE_STATE, world_keys["CAT"]) / s0_gate.BUNDLE_FOLDER
    keys = keys_for(policies, {**externals, "catalogue": digest}, seed)
    if lease_id is not None:
        store.widen_lease(lease_id, claimed_keys(keys, policies, seed))
    with times.of("S0c"):
        if store.has(s0_gate.CATALOGUE_STATE, keys["S0c"]):
            reused.append("S0c")
        else:
            with times.of("S0c.seal"):
                s0_gate.seal_catalogue(store, keys["S0c"], receipt or s0_gate.bundle_receipt(store, bundle))
        measured = store.read_json(s0_gate.CATALOGUE_STATE, keys["S0c"], s0_gate.GUARD_NAME)
        guard = require_guard(store, policies, digest, GuardMeasurement.from_json(measured))
    with times.of("S3"):
        iso = stage.world.iso
        if store.has(s3_requirements.STATE, keys["S3"]):
            reused.append("S3")
            with times.of("S3.read"):
                pairs = s3_requirements.load(store, keys["S3"], iso)
        else:
            with times.of("S3.derive"):
                pairs = s3_requirements.run(
                    store,
                    keys["S3"],
                    keys["S0c"],
                    stage.world.countries,
                    stage.world.index.tiles,
                    stage.shares,
                    policies.requirements,
                )
    fingerprint = manifest_fingerprint(stage.world.digest, digest)
    return Preparation(
        SeedIdentity(seed, keys, fingerprint),
        SeedFacts(seed, digest, fingerprint),
        plain(guard),
        dict(store.manifest(s3_requirements.STATE, keys["S3"]).facts),
        pairs.sites_per_country(len(iso)),
        tuple(reused),
        times,
    )


def publish_synthesis(
    store: Store, key: str, stage: WorldStage, policies: Policies, seed: int, times: StageTimes
) -> None:
    """Synthesise the catalogue of a seed and publish its bundle."""
    with times.of("CAT.synthesise"):
        synthesis = synthesise(stage.world.countries, stage.shares, policies.synthesis, seed)
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch) / s0_gate.BUNDLE_FOLDER
        with times.of("CAT.write"):
            write_synthesis(root, synthesis, stage.shares, policies.country_shares, stage.world.digest)
        with times.of("CAT.verify"):
            receipt = verify_files(root)
        with times.of("CAT.publish"), store.transaction(CATALOGUE_STATE, key) as out:
            s0_gate.add_bundle(out, receipt)
            out.facts = {"catalogue_digest": receipt.content_sha256_hex, "seed": seed}


def place_shard(
    shared: Mapping[str, Any], store: Store, policies: Policies, identity: SeedIdentity, shard: Shard
) -> StageTimes:
    """S4, S5, S6 and S8 for the countries of one shard."""
    stage: WorldStage = shared[STAGE]
    pairs = s3_requirements.load(store, identity.keys["S3"], stage.world.iso, shard.countries)
    return ShardRun(store, stage.world, policies, identity, shard.name, pairs, stage.attribution).run()


def check_shard(
    shared: Mapping[str, Any],
    store: Store,
    policies: Policies,
    identity: SeedIdentity,
    shard: Shard,
    plan_proven: bool = False,
) -> ShardCheck:
    """S9's replay of the countries of one shard, from what S3 to S8 published.

    `plan_proven`: the draws of S4 and S5 were made again in an earlier run, and are not now. Never for a certificate.
    """
    stage: WorldStage = shared[STAGE]
    times = StageTimes()
    replays = []
    with times.of("S9"):
        pairs = s3_requirements.load(store, identity.keys["S3"], stage.world.iso, shard.countries)
        tables = ShardTables(store, stage.world.iso, identity.keys, shard.name)
        for unit in units(pairs):
            with times.of("S9.read"):
                blocks = tables.blocks(unit)
            while True:
                with times.of("S9.read"):
                    block = next(blocks, None)
                if block is None:
                    break
                with times.of("S9.replay"):
                    replays.append(
                        s9_replay.run_countries(
                            stage.world, block.tables, block.tables.pairs, policies, identity.seed,
                            identity.manifest_fingerprint, numbering=block.numbering, plan_proven=plan_proven,
                        )
                    )  # fmt: skip
    return ShardCheck(s9_replay.summed(replays), times)


def witness_seed(
    shared: Mapping[str, Any], store: Store, policies: Policies, identity: SeedIdentity
) -> dict[str, str]:
    """Make a seed a second time and return its logical digests; nothing of the first run is read but S3's pairs."""
    stage: WorldStage = shared[STAGE]
    pairs = s3_requirements.load(store, identity.keys["S3"], stage.world.iso)
    return witness_digests(stage, policies, identity.seed, identity.manifest_fingerprint, pairs)


def witness_digests(
    stage: WorldStage, policies: Policies, seed: int, manifest_fingerprint: str, pairs: Pairs
) -> dict[str, str]:
    """Logical digests of S4, S5, S6 and S8, made in memory as one shard: the reproducibility witness."""
    world, iso = stage.world, stage.world.iso
    hashers = {table: TableHasher(derived) for table, derived in _WITNESSED.items()}
    for unit in units(pairs):
        plan = s4_allocation.run(world, unit.pairs, policies.allocation, seed).plan
        row_start = plan.rows_of_pairs(unit.pairs)
        for part in unit.blocks:
            block, rows = unit.pairs.rows(part), plan.rows(slice(row_start[part.start], row_start[part.stop]))
            tile_id = s5_assignment.run(iso, block, rows, policies.assignment, seed, manifest_fingerprint)
            placement = s6_jitter.run(world, block, tile_id, policies.jitter, seed, manifest_fingerprint)
            hashers[PLAN_TABLE].extend(plan_to_arrow(iso, rows), COUNTRY)
            hashers[ASSIGNMENT_TABLE].extend(assignment_to_arrow(iso, block, tile_id), COUNTRY)
            hashers[JITTER_TABLE].extend(jitter_to_arrow(iso, block, placement), COUNTRY)
            for key, table in s8_egress.country_tables(iso, block, placement, stage.attribution).items():
                hashers[s8_egress.TABLE].append(key, table)
    return {table: hasher.hexdigest() for table, hasher in hashers.items()}


def finish_seed(
    shared: Mapping[str, Any],
    store: Store,
    policies: Policies,
    identity: SeedIdentity,
    hashes: Mapping[str, str],
    parts: tuple[str, ...],
    replays: tuple[Replay, ...],
) -> Finish:
    """Commit S4, S5, S6 and S8, then S7 and S9.

    `parts`: names of the shards; `replays`: what `check_shard` said of each; `hashes`: parameter_hash, gates_hash,
    world_digest and catalogue_digest.
    """
    stage: WorldStage = shared[STAGE]
    times = StageTimes()
    keys, seed, iso = identity.keys, identity.seed, stage.world.iso
    pairs = s3_requirements.load(store, keys["S3"], iso)
    rows = int(pairs.n_sites.sum())
    for state in SHARDED_STATES[:-1]:
        with times.part(state, "commit"):
            commit_state(store, state, keys, parts, rows)
    with times.part("S7", "join"):
        if not store.has("s7", keys["S7"]):
            s7_synthesis.run(store, keys["S7"], iso, pairs, keys)
    with times.part("S8", "commit"):
        commit_state(store, "S8", keys, parts, rows)
    with times.of("S9"):
        with times.of("S9.requirements"):
            catalogue = s0_gate.read_sealed_catalogue(store, keys["S0c"], iso)
            requirements = s9_replay.check_requirements(stage.world, catalogue, pairs, policies)
        replay = s9_replay.joined(requirements, replays)
        s9_validation.require_scorable(replay)
        with times.of("S9.tally"):
            sites = [read_tally(store, stage.context, stage.world.grid, keys, seed)]
        with times.of("S9.score"):  # nobody else keeps the tally, which is the largest thing in memory
            recall = s9_validation.recalling(store, keys, seed)
            validation = s9_validation.conclude(sites.pop(), replay, stage.context, seed, recall)
        digests = s9_findings.logical_digests(store, keys)
        facts = {"seed": seed, "manifest_fingerprint": identity.manifest_fingerprint, **hashes}
        with times.of("S9.publish"):
            s9_findings.keep_findings(store, keys, policies.gates, seed, validation)
            kept = s9_findings.rests_on(store, keys, policies.gates, seed, replay)
            s9_findings.publish(store, keys["S9"], validation, facts, policies, digests, kept)
    return Finish(
        seed, validation.passed, validation.score, validation.checks(), validation.evidence, digests, times
    )


def commit_state(
    store: Store, state: str, keys: Mapping[str, str], parts: tuple[str, ...], sites: int
) -> None:
    """Make the parts of a sharded state visible as one output."""
    name, key = state.lower(), keys[state]
    if store.has(name, key):
        return
    documents = {}
    if state == "S4":
        documents["diagnostics.json"] = _joined_diagnostics(store, key, parts)
    store.commit(
        name,
        key,
        {"sites": sites},
        inputs={source.lower(): keys[source] for source in BY_NAME[state].inputs},
        documents=documents,
        expected_parts=parts,
        expected_rows=None if state == "S4" else {TABLE_OF[state]: sites},
    )


def _joined_diagnostics(store: Store, key: str, parts: tuple[str, ...]) -> bytes:
    """S4's diagnostics of all shards, by country."""
    records: list[dict[str, Any]] = []
    for part in parts:
        folder = store.layout.part("s4", key, part)
        records += json.loads((folder / "diagnostics.json").read_bytes())
    return json.dumps(sorted(records, key=lambda record: str(record["country_iso"])), sort_keys=True).encode()


def read_tally(
    store: Store, context: ScoringContext, grid: Grid, keys: Mapping[str, str], seed: int
) -> SiteTally:
    """The tally of a seed's published egress, read a block at a time."""
    position = {code: index for index, code in enumerate(context.iso)}
    whole = store.open_table("s8", keys["S8"], s8_egress.TABLE)
    blocks = _tally_blocks(whole.partition_rows)

    def read(first: int, stop: int) -> Iterator[Sites]:
        reader = store.open_table("s8", keys["S8"], s8_egress.TABLE)  # one for each thread
        columns = (*s8_egress.SITE_ORDER_KEY, "lon_deg", "lat_deg")
        for block in blocks[first:stop]:
            table = pa.concat_tables(
                [reader.slice(code, begin, rows, columns) for code, begin, rows in block]
            )
            countries = [position[str(code)] for code, _, _ in block]
            site_keys = SiteKeys(
                np.repeat(np.array(countries, np.int16), [rows for _, _, rows in block]),
                column(table, "merchant_id", np.uint64),
                column(table, "site_order", np.int32),
            )
            lon, lat = column(table, "lon_deg", np.float64), column(table, "lat_deg", np.float64)
            yield egress_sites(site_keys, lon, lat, grid)

    sizes = np.array([sum(rows for _, _, rows in block) for block in blocks], np.int64)
    return tally_blocks(read, sizes, seed, context)


def _tally_blocks(
    partition_rows: Sequence[tuple[PartitionKey, int]],
) -> list[list[tuple[PartitionKey, int, int]]]:
    """Blocks of (country, first row, rows): a part of a large country, or small countries together."""
    blocks: list[list[tuple[PartitionKey, int, int]]] = []
    together = min(_TALLY_TOGETHER_SITES, BLOCK_SITES)
    held = together
    for code, total in partition_rows:
        for first in range(0, total, BLOCK_SITES):
            rows = min(BLOCK_SITES, total - first)
            if held + rows > together:
                blocks.append([])
                held = 0
            blocks[-1].append((code, first, rows))
            held += rows
    return blocks
