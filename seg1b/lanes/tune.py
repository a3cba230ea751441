"""The fast lane: one seed, one set of knobs changed, every gate before and after. It never certifies.

State keys decide what runs again: a state whose key did not change is read. The reference is the same seed under the
unchanged policies, or a run that is named; what S9 published of it is read, so the difference is the knobs' effect and
nothing else: draws are addressed by purpose, and every draw that a knob does not concern stays what it was. Where only
the gates changed nothing is placed or replayed, and where only thresholds did nothing is measured: what was measured is
judged again.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seg1b.catalogue.verify import verify_bundle
from seg1b.lanes import waves
from seg1b.lanes.comparison import changed_knobs, compare, reruns, vetoed_by
from seg1b.lanes.executor import Executor, ThreadExecutor
from seg1b.lanes.guard import require_no_fail
from seg1b.lanes.identity import SeedFacts, manifest_fingerprint, run_identity, seed_hashes
from seg1b.lanes.knob_effect import own_values, settled, tunable_prefixes
from seg1b.lanes.perf import require_not_red
from seg1b.lanes.phase_locks import require_unlocked
from seg1b.lanes.pruned import OWN_VALUES
from seg1b.lanes.recovery import require_recovery, start_of
from seg1b.lanes.rejudge import judge_seed
from seg1b.lanes.retention import claimed_keys, known_keys, leased
from seg1b.lanes.standing import Authorities, authorities
from seg1b.lanes.stored_run import (
    POLICIES,
    StoredRun,
    lineage_policies,
    load_run,
    read_score,
    require_world,
    same_seed,
)
from seg1b.lanes.tune_result import Reference, TuneResult
from seg1b.policy.knobs import Settings
from seg1b.policy.load import Policies, policy_digests
from seg1b.states import s0_gate
from seg1b.states.plan import STATES, SeedIdentity
from seg1b.store.locks import Lease
from seg1b.store.receipts import Receipt, new_run_id
from seg1b.store.store import Store
from seg1b.world.content import World

if TYPE_CHECKING:
    from seg1b.lanes.certify import Observer


@dataclass
class _Lane:
    """One tuning on its way."""

    store: Store
    world: World
    seed: int
    bundle: Path | None
    catalogue_digest: str | None
    executor: Executor
    observer: Observer
    run_id: str = field(default_factory=new_run_id)
    found: dict[str, tuple[str, ...]] = field(default_factory=dict)
    telemetry: dict[str, dict[str, Any]] = field(default_factory=dict)

    def keys(self, policies: Policies) -> dict[str, str]:
        """Keys of every state, as far as they are known before anything runs."""
        return known_keys(self.store, policies, self.world, self.seed, self.catalogue_digest)

    def make(self, policies: Policies, lease: Lease) -> tuple[dict[str, str], SeedFacts]:
        """Keys and facts of the seed under `policies`, with every state there in the end; the cheapest way there is."""
        keys = self.keys(policies)
        # a catalogue made since the lease was taken tells more of the keys
        lease.hold(keys=claimed_keys(keys, policies, self.seed))
        there = tuple(name for name in keys if self.store.has(name.lower(), keys[name]))
        if len(keys) == len(STATES) and {"S0c", *BEFORE_S9, "S9"} <= set(there):
            return self._done(keys, there, self._facts(keys))
        if "S9" in keys and {"S0c", *BEFORE_S9} <= set(there):
            facts = self._facts(keys)
            identity = SeedIdentity(self.seed, keys, facts.manifest_fingerprint)
            hashes = seed_hashes(policies, self.world.digest, facts)
            if judge_seed(self.store, policies, self.world, identity, hashes):
                return self._done(keys, there, facts)
        # compiled code, which judging again needs not
        from seg1b.lanes.certify import Certification, seed_telemetry

        run = Certification(
            self.store, policies, self.world, self.executor, (self.seed,), self.bundle, self.observer, fast=True
        )  # fmt: skip
        run.hold, run.lease_id = lambda held: lease.hold(keys=held), lease.record.lease_id
        stage, progress = run.run()
        preparation, _ = progress[self.seed].results()
        self.telemetry[preparation.identity.keys["S9"]] = {
            "world": {"states": stage.times.seconds, "reused": list(stage.reused)},
            "seeds": {str(self.seed): seed_telemetry(preparation, progress[self.seed])},
        }
        return self._done(dict(preparation.identity.keys), there, preparation.facts)

    def _facts(self, keys: Mapping[str, str]) -> SeedFacts:
        manifest = self.store.manifest("s0c", keys["S0c"])
        digest = str(manifest.facts["catalogue_digest"])
        return SeedFacts(self.seed, digest, manifest_fingerprint(self.world.digest, digest))

    def _done(
        self, keys: dict[str, str], there: tuple[str, ...], facts: SeedFacts
    ) -> tuple[dict[str, str], SeedFacts]:
        self.found[keys["S9"]] = there
        return keys, facts


_TOLD = 6
"""More knobs than these are counted, not named."""

BEFORE_S9 = ("S3", "S4", "S5", "S6", "S7", "S8")


def tune(
    store: Store,
    policies: Policies,
    world: World,
    *,
    seed: int,
    overrides: Mapping[str, Any],
    against: str | None = None,
    recover: bool = False,
    waive_perf: str | None = None,
    bundle: Path | None = None,
    executor: Executor | None = None,
    observer: Observer = lambda _: None,
) -> TuneResult:
    """Run one seed with some knobs changed and compare it.

    `overrides`: value by knob, in full or as a short form (`policy.knobs`); shares of one mix are rescaled together.
    `against`: `last_good`, `baseline`, `candidate` or a run; None compares with the unchanged `policies`. `recover`: an
    attempt of the recovery loop, from the integrated run's policies and compared with it. `waive_perf`: why a RED state
    may wait.

    Raises InputError, and changes nothing: as `knob_effect.settled`, E_PHASE_LOCKED, E_PERF_RED, E_WAVE_FULL,
    E_STORE_DRIVEN (somebody else tunes this store), E_RUN_PRUNED, E_REFERENCE_WORLD, E_REFERENCE_SEED, E_LOCK_WORLD,
    E_BASELINE_WORLD, E_POINTER_UNSET, E_RECOVERY_*; and what the states raise.
    """
    started = time.perf_counter()
    if recover:
        policies = start_of(store, policies)
    compares = against is not None or recover
    settings, changed = settled(policies, overrides, catalogue=bundle, compares_with_a_run=compares)
    brought = None if bundle is None else verify_bundle(bundle)
    digest = None if brought is None else brought.content_sha256_hex
    if digest is not None:
        require_no_fail(store, digest, bundle)  # before anything is sealed
    lane = _Lane(store, world, seed, None, digest, executor or ThreadExecutor(), observer)
    with store.sole_driver("tune"):
        require_unlocked(store, changed)
        waived = require_not_red(store, waive_perf)
        recovery = require_recovery(store, changed, settings) if recover else None
        named = _named(store, world, seed, against or (recovery.run_id if recovery else None))
        held_to = authorities(store, world.digest, seed)
        wave = waves.open_wave(store)
        known = waves.candidate_of(wave, lane.keys(changed).get("S9"))
        if known is None:
            waves.require_room(store, wave, policies.lanes.wave_candidates_max)
        held = {key for one in (policies, changed) for key in claimed_keys(lane.keys(one), one, seed)}
        with leased(store, "tune", held | set(named.keys.values() if named else ())) as lease:
            lease.hold(run_ids=[lane.run_id, *([named.run_id] if named else [])])
            try:
                if named is not None:  # it may have been pruned before it was held
                    named = load_run(store, named.run_id)
                if waived:
                    store.ledger.note("perf_waived_for_tune", stages=list(waived), reason=waive_perf)
                if brought is not None:
                    lane.bundle = s0_gate.sealed_bundle(store, lane.keys(changed)["S0c"], brought)
                reference = _reference(
                    lane, policies, named, against or ("integrated" if recover else ""), lease
                )
                keys, facts = lane.make(changed, lease)
                lease.heartbeat()  # it is still there, so what was found is, too
            finally:
                lane.executor.close()
            return _conclude(
                lane, settings, changed, reference, held_to, known, keys, facts,
                recovery.artifact if recovery else None, started,
            )  # fmt: skip


def _named(store: Store, world: World, seed: int, text: str | None) -> StoredRun | None:
    """The run that a reference names, of this seed and world."""
    if text is None:
        return None
    run = load_run(store, text)
    require_world(store, run, world.digest, "run")
    return same_seed(store, run, seed)


def _reference(
    lane: _Lane, policies: Policies, named: StoredRun | None, name: str, lease: Lease
) -> Reference:
    if named is not None:
        return Reference(
            name, named.run_id, named.keys, named.score, named.policy_digests, named.knobs(), named.gates()
        )
    keys, _ = lane.make(policies, lease)
    score = read_score(lane.store, keys["S9"])
    digests, values = policy_digests(policies), lineage_policies(policies)
    return Reference("policies", None, keys, score, digests, values, policies.gates)


def _conclude(
    lane: _Lane,
    settings: Settings,
    changed: Policies,
    reference: Reference,
    held_to: Authorities,
    known: Mapping[str, Any] | None,
    keys: Mapping[str, str],
    facts: SeedFacts,
    recovery: str | None,
    started: float,
) -> TuneResult:
    """Compare, and enter the candidate into the wave and the ledger."""
    store = lane.store
    after = read_score(store, keys["S9"])
    before, standing = (held_to.judge(score, changed.gates) for score in (reference.score, after))
    knobs_changed = changed_knobs(reference.knobs, lineage_policies(changed))
    reasons = reruns(reference.keys, keys, changed, reference.policy_digests, knobs_changed)
    differing = {reason.state for reason in reasons}
    run_id = str(known["run_id"]) if known else lane.run_id
    felt = tunable_prefixes(changed)
    besides = {
        name: both
        for name, both in knobs_changed.items()
        if name not in settings.values and name.split(".")[0] in felt
    }
    scale = reference.score.scale_for(after, reference.gates)
    changes = compare(before.report, standing.report, neighbours_scale=scale)
    result = TuneResult(
        run_id=run_id if reasons or reference.run_id is None else reference.run_id,
        seed=lane.seed,
        settings=settings,
        against=reference,
        reasons=reasons,
        besides=besides,
        found=tuple(name for name in lane.found.get(keys["S9"], ()) if name in differing),
        reused=tuple(name for name in keys if name not in differing),
        after=after,
        standing_before=before,
        standing=standing,
        gates=vetoed_by(changes, standing.lost),
        wave=None,
        notes=(*settings.notes, *_remarks(settings, besides, reference.gates != changed.gates, known)),
        wall_s=0.0,
    )
    new = known is None and bool(reasons)
    wave = None
    if known:
        against = {"name": reference.name, "run_id": reference.run_id}
        wave = waves.compared_again(store, run_id, against, result.lost)
    if new:
        wave = _enter(lane, changed, facts, result, keys, recovery)
    wall_s = time.perf_counter() - started
    if new:
        ran = lane.telemetry.get(keys["S9"], {"seeds": {}})
        for one in ran["seeds"].values():
            one["run_id"] = result.run_id
        described = {"wall_s": wall_s, "executor": lane.executor.describe(), **ran}
        store.receipts.write_telemetry(result.run_id, described)
    return TuneResult(**{**vars(result), "wave": wave, "wall_s": wall_s})


def _remarks(
    settings: Settings,
    besides: Mapping[str, Any],
    other_gates: bool,
    known: Mapping[str, Any] | None,
) -> list[str]:
    remarks = []
    if besides:
        told = [f"{name} {before} -> {after}" for name, (before, after) in list(besides.items())[:_TOLD]]
        more = f" and {len(besides) - _TOLD} more" if len(besides) > _TOLD else ""
        remarks.append(f"the reference differs in more than was set: {', '.join(told)}{more}")
    groups = dict.fromkeys((*settings.groups, *(name.split(".")[0] for name in besides)))
    if len(groups) > 1:
        remarks.append(
            f"knobs of {' and '.join(groups)} changed together: the difference cannot be put down to one"
        )
    if other_gates:
        remarks.append(
            "status and room are by the changed gates; what the reference held by its own is a veto if it is lost"
        )
    if known:
        remarks.append(f"this is candidate {known['run_id'][:12]} of the open wave again; it counts once")
    return remarks


def _enter(
    lane: _Lane,
    changed: Policies,
    facts: SeedFacts,
    result: TuneResult,
    keys: Mapping[str, str],
    recovery: str | None,
) -> dict[str, Any]:
    """Publish the receipt and enter the candidate into the wave."""
    reference = result.against
    origin = "synthesised" if lane.bundle is None else "user"
    identity = {**run_identity(changed, lane.world.digest, [facts], origin), "seed": lane.seed}
    lineage = {
        "lane": "tune",
        "overrides": result.settings.values,
        "against": {"name": reference.name, "run_id": reference.run_id, "s9": reference.keys["S9"]},
        POLICIES: lineage_policies(changed),
        OWN_VALUES: own_values(changed),
    }
    names = {name.lower(): key for name, key in keys.items()}
    receipt = Receipt(result.run_id, identity, names, lineage, {"name": lane.executor.name})
    candidate = {
        "run_id": result.run_id,
        "seed": lane.seed,
        "s9": keys["S9"],
        "settings": ", ".join(
            f"{c.knob} {c.before} -> {c.after}" for c in result.settings.changes if c.before != c.after
        ) or "nothing set",
        "besides": {name: list(both) for name, both in result.besides.items()},
        "against": lineage["against"],
        "status_before": result.standing_before.status,
        "status_after": result.standing.status,
        "vetoed": result.vetoed,
        "lost": list(result.lost),
        "gates": {
            c.name: [c.before, c.after, c.verdict] for c in result.gates if c.verdict != "same"
        },
        "reran": list(result.reran),
        "found": list(result.found),
        "recovery": recovery,
    }  # fmt: skip
    at_most = changed.lanes.wave_candidates_max
    return waves.add_candidate(lane.store, candidate, receipt, at_most, reference.keys.values())
