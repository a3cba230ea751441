"""What P0 wants of a baseline: a scorecard, three tables, and checkpoints of S2, S4, S6 and S8; written once.

The content follows from the run's outputs alone (no run id, no clock), so pinning a run of the same identity again
finds what is there. The pointer names the key; so the artifacts live as long as the pin.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from seg1b.lanes.stored_run import StoredRun, require_outputs
from seg1b.policy.gates import GatesPolicy
from seg1b.scoring.grading import run_status
from seg1b.scoring.values import plain
from seg1b.states import s2_shares, s8_egress
from seg1b.states.tables import PLAN_TABLE
from seg1b.store.digest import canonical_json, readable_json, sha256_bytes
from seg1b.store.state_keys import state_key
from seg1b.store.store import Store
from seg1b.world.content import World

STATE = "p0"
REVISION = 1
SCORECARD = "scorecard.json"
Row = Mapping[str, Any]


def publish(
    store: Store, run: StoredRun, world: World, gates: GatesPolicy, claim: Callable[[str], None]
) -> str:
    """Publish the artifacts of a run and return their key (hex64), which `claim` gets before. The run must be held.

    Raises InputError E_RUN_PRUNED.
    """
    states = ("S2w", "S2s", "S4", "S6", "S8", "S9")
    require_outputs(store, run.run_id, run.keys, states)
    published = {"baseline": gates.baseline.model_dump(mode="json"), "hard_gates": plain(_thresholds(gates))}
    inputs = {name: run.keys[name] for name in states}
    external = {"world": world.digest, "gates": sha256_bytes(canonical_json(published))}
    key = state_key(STATE, REVISION, None, inputs=inputs, external=external, seed=run.seed)
    claim(key)
    if not store.has(STATE, key):
        documents = _documents(store, run, world, gates)
        with store.transaction(STATE, key, inputs) as out:
            for name, data in sorted(documents.items()):
                out.add_bytes(name, data)
    return key


def scorecard(run: StoredRun, gates: GatesPolicy) -> dict[str, Any]:
    """The core metrics of a run against the published baseline and the gates."""
    rows = {row.name: row for row in run.score.report.gates}
    return {
        "seed": run.seed,
        "manifest_fingerprint": run.receipt.identity["manifest_fingerprint"],
        "parameter_hash": run.receipt.identity["parameter_hash"],
        "gates_hash": run.receipt.identity["gates_hash"],
        "status": run_status(run.score.report),
        "sites": run.score.facts["core"]["site_count"],
        "active_countries": run.score.facts["core"]["active_countries"],
        "metrics": {
            name: {
                "value": value,
                "published_baseline": gates.baseline.metrics[name],  # type: ignore[index]
                "op": rows[name].op,
                "b": rows[name].b,
                "b_plus": rows[name].b_plus,
                "pass_b": rows[name].pass_b,
                "pass_b_plus": rows[name].pass_b_plus,
            }
            for name, value in run.score.metrics.items()
        },
        "counter_metrics": {name: m["value"] for name, m in run.score.facts["counter_metrics"].items()},
    }


def _thresholds(gates: GatesPolicy) -> dict[str, Any]:
    return {name: gate.model_dump(mode="json") for name, gate in gates.hard_gates.items()}


def _documents(store: Store, run: StoredRun, world: World, gates: GatesPolicy) -> dict[str, bytes]:
    egress = store.open_table("s8", run.keys["S8"], s8_egress.TABLE)
    sites = {str(iso): rows for iso, rows in egress.partition_rows}
    facts = run.score.facts
    countries, regions = _shares(sites, world), _region_shares(sites, world)
    quantiles = [
        {"quantile": float(f"0.{name[1:]}"), "distance_m": value}
        for name, value in facts["core"]["nn_quantiles_m"].items()
    ]
    tables = {"country_share": countries, "region_share": regions, "nn_quantiles": quantiles}
    documents = {SCORECARD: readable_json(scorecard(run, gates))}
    for name, rows in tables.items():
        documents[f"{name}.json"] = readable_json(rows)
        documents[f"{name}.csv"] = _csv(rows)
    geometry = {
        "nn_quantiles_m": facts["core"]["nn_quantiles_m"],
        "nn_p99_p50_ratio": run.score.metrics["nn_p99_p50_ratio"],
        "collapse_sentinel": facts["collapse_sentinel"],
    }
    accounting = store.read_json("s9", run.keys["S9"], "validation/rng_accounting.json")
    documents["checkpoints/s2.json"] = readable_json(_s2(store, run, world))
    documents["checkpoints/s4.json"] = readable_json(_s4(store, run, sites, world))
    documents["checkpoints/s6.json"] = readable_json(
        {**_digest_of(store, run, "S6"), **geometry, "rng_families": accounting["families"]}
    )
    documents["checkpoints/s8.json"] = readable_json(
        {**_digest_of(store, run, "S8"), **geometry, "sites": sum(sites.values()), "country_shares": countries,
         "region_shares": regions,
         "southern_hemisphere_share": run.score.metrics["southern_hemisphere_share"]}
    )  # fmt: skip
    return documents


def _shares(sites: Mapping[str, int], world: World) -> list[dict[str, Any]]:
    """Every country of the world, the largest share first; ties by code."""
    table, total = world.countries, sum(sites.values())
    order = sorted(range(len(table)), key=lambda c: (-sites.get(table.iso[c], 0), table.iso[c]))
    return [
        {
            "rank": rank, "country_iso": table.iso[c], "name": table.name[c], "macro_region": table.macro_region[c],
            "eligible": bool(table.eligible[c]), "sites": sites.get(table.iso[c], 0),
            "share": sites.get(table.iso[c], 0) / total,
        }
        for rank, c in enumerate(order, start=1)
    ]  # fmt: skip


def _region_shares(sites: Mapping[str, int], world: World) -> list[dict[str, Any]]:
    region = dict(zip(world.countries.iso, world.countries.macro_region, strict=True))
    total = sum(sites.values())
    found = dict.fromkeys(sorted(set(region.values())), 0)
    for iso, count in sites.items():
        found[region[iso]] += count
    ordered = sorted(found.items(), key=lambda item: (-item[1], item[0]))
    return [{"macro_region": name, "sites": count, "share": count / total} for name, count in ordered]


def _s2(store: Store, run: StoredRun, world: World) -> dict[str, Any]:
    """Mass per country and region as S2 certifies it, before any catalogue."""
    shares = s2_shares.load(store, run.keys["S2s"])
    ppm = {iso: int(value) for iso, value in zip(shares.iso, shares.share_ppm.tolist(), strict=True)}
    manifest = store.manifest("s2w", run.keys["S2w"])
    return {
        "keys": {name: run.keys[name] for name in ("S2w", "S2s")},
        "tile_weights": dict(manifest.facts),
        "country_mass": [
            {**row, "prior": float(shares.prior[shares.iso.index(str(row["country_iso"]))])}
            for row in _shares(ppm, world)
        ],
        "region_mass": _region_shares(ppm, world),
        "kl_to_prior": shares.kl,
        "prices": shares.prices,
    }


def _s4(store: Store, run: StoredRun, sites: Mapping[str, int], world: World) -> dict[str, Any]:
    """Shares after integerisation: sites and occupied (merchant, tile) rows per country, and the fullest of them."""
    plan = store.open_table("s4", run.keys["S4"], PLAN_TABLE)
    rows = []
    for iso, count in plan.partition_rows:
        placed = plan.partition(iso, ["n_sites_tile"]).column("n_sites_tile").to_pylist()
        rows.append(
            {"country_iso": str(iso), "sites": sum(placed), "plan_rows": count, "fullest": max(placed)}
        )
    planned = {row["country_iso"]: row["sites"] for row in rows}
    return {
        **_digest_of(store, run, "S4"),
        "countries": rows,
        "region_shares": _region_shares(planned, world),
        "conserves_egress": planned == dict(sites),
    }


def _digest_of(store: Store, run: StoredRun, state: str) -> dict[str, Any]:
    manifest = store.manifest(state.lower(), run.keys[state])
    return {
        "key": run.keys[state],
        "logical_digests": {name: table.logical_digest for name, table in sorted(manifest.tables.items())},
    }


def _csv(rows: Sequence[Row]) -> bytes:
    out = io.StringIO(newline="")
    writer = csv.DictWriter(out, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue().encode()
