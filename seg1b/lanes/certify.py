"""The certification lane: all seeds, the full chain, one graded certificate.

The driver prepares the world once, then keeps every seed in flight: its catalogue and requirements, its shards, its
validation. Executors decide where and in what order; the driver collects by key and aggregates at the end. What is
published under its key is never made again, so an interrupted certification goes on where it stopped.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from seg1b.catalogue.verify import verify_bundle
from seg1b.errors import ContractError
from seg1b.lanes import baseline, certificate, certificate_folder
from seg1b.lanes.beside import Beside
from seg1b.lanes.executor import Completion, Executor, SerialExecutor, Task
from seg1b.lanes.guard import require_no_fail
from seg1b.lanes.identity import run_identity, seed_hashes
from seg1b.lanes.knob_effect import own_values
from seg1b.lanes.phase_locks import require_unlocked
from seg1b.lanes.pruned import OWN_VALUES
from seg1b.lanes.retention import anticipated_keys, claimed_keys, known_keys, leased, prune_before_run
from seg1b.lanes.seed_tasks import (
    STAGE,
    Finish,
    Preparation,
    check_shard,
    finish_seed,
    place_shard,
    prepare_seed,
    witness_seed,
)
from seg1b.lanes.shards import Shard, plan_shards
from seg1b.lanes.stored_run import POLICIES, lineage_policies
from seg1b.lanes.world_stage import WorldStage, run_world
from seg1b.policy.load import Policies
from seg1b.states import s0_gate, s9_findings
from seg1b.states.plan import SHARDED_STATES
from seg1b.states.replay_checks import Replay
from seg1b.store.receipts import Receipt, new_run_id
from seg1b.store.store import Store
from seg1b.world.content import World

log = logging.getLogger(__name__)

_PREPARE_COST = 4e5
_FINISH_COST = 3e5
_WITNESS_COST = 1e5


@dataclass(frozen=True)
class Event:
    """Progress for whoever watches: `done` of `total` steps of a stage of a seed (None: the world)."""

    stage: str
    seed: int | None
    done: int
    total: int


Observer = Callable[[Event], None]


def _silent(_: Event) -> None:
    """Watch nothing."""


def _hold_nothing(_: Iterable[str]) -> None:
    """For a run without a lease."""


def _copy_nothing(_: Preparation) -> None:
    """For a run without a folder."""


@dataclass(frozen=True)
class CertifyResult:
    """A published certification: its folder, its certificate, whether it had been there before, and the times."""

    path: Path
    certificate: dict[str, Any]
    found: bool
    telemetry: dict[str, Any]

    @property
    def grade(self) -> str:
        """`B+`, `B` or `below_B`."""
        return str(self.certificate["grade"])


@dataclass
class SeedProgress:
    """One seed on its way through a certification."""

    preparation: Preparation | None = None
    plan_proven: bool = False
    shards: dict[str, Shard] = field(default_factory=dict)
    placed: int = 0
    checks: dict[str, Replay] = field(default_factory=dict)
    finish: Finish | None = None
    witness: dict[str, str] | None = None
    run_id: str = field(default_factory=new_run_id)

    def results(self) -> tuple[Preparation, Finish]:
        """What the seed came to; only once every task of it has completed.

        Raises ContractError E_LANE_INCOMPLETE before that.
        """
        if self.preparation is None or self.finish is None:
            raise ContractError(
                "E_LANE_INCOMPLETE", "a seed was asked for its results before it was finished"
            )
        return self.preparation, self.finish


@dataclass
class Certification:
    """One certification on its way.

    `fast`: for a lane that never certifies. There is no witness, pruning goes on beside the first shards, the world's
    image is mapped, and a plan that was replayed before, under the same keys, is not replayed again.
    """

    store: Store
    policies: Policies
    world: World
    executor: Executor
    seeds: tuple[int, ...]
    bundle: Path | None
    observer: Observer
    hold: Callable[[Iterable[str]], None] = _hold_nothing
    lease_id: str | None = None
    finished: Callable[[Preparation], None] = _copy_nothing
    fast: bool = False
    progress: dict[int, SeedProgress] = field(default_factory=dict)
    workers: dict[str, int] = field(default_factory=dict)

    def run(self) -> tuple[WorldStage, dict[int, SeedProgress]]:
        """Every task of every seed. `hold` gets a seed's keys as soon as they are known."""
        self.executor.start()
        self.observer(Event("world", None, 0, 1))
        authority, policy = self.executor.retention(self.store), self.policies.retention
        with Beside(partial(prune_before_run, authority, policy, self.store.root)) as beside:
            stage = run_world(self.store, self.policies, self.world, fast=self.fast)
            self.observer(Event("world", None, 1, 1))
            beside.has_world(self.store, self.policies, stage)
            self.executor.share(STAGE, stage)
            if not self.fast:
                beside.require_room()
            for seed in self.seeds:
                self.progress[seed] = SeedProgress()
                preparing = (self.store, self.policies, seed, self.bundle, self.lease_id)
                self._submit("prepare", seed, prepare_seed, preparing, _PREPARE_COST)
            for completion in self.executor.completions():
                beside.require_image()
                if completion.task.key[0] != "prepare":
                    beside.require_room()
                self._follow_up(completion)
        return stage, self.progress

    def _submit(self, kind: str, seed: int, function: Callable[..., Any], arguments: tuple[Any, ...], cost: float,
                *rest: str) -> None:  # fmt: skip
        self.executor.submit(Task((kind, str(seed), *rest), function, arguments, cost))

    def _follow_up(self, completion: Completion) -> None:
        self.workers[completion.worker] = self.workers.get(completion.worker, 0) + 1
        kind, seed = completion.task.key[0], int(completion.task.key[1])
        progress = self.progress[seed]
        log.info("%s finished on %s", "/".join(completion.task.key), completion.worker)
        if kind == "prepare":
            progress.preparation = completion.receipt
            self.hold(claimed_keys(completion.receipt.identity.keys, self.policies, seed))
            self._place(seed, completion.receipt)
        elif kind == "place":
            progress.placed += 1
            _add(progress.preparation, completion.receipt.seconds)
            self.observer(Event("place", seed, progress.placed, len(progress.shards)))
            self._check(seed, progress, completion.task.key[2])
        elif kind == "check":
            progress.checks[completion.task.key[2]] = completion.receipt.replay
            _add(progress.preparation, completion.receipt.times.seconds)
            self.observer(Event("validate", seed, len(progress.checks), len(progress.shards) + 1))
            if len(progress.checks) == len(progress.shards):
                self._finish(seed, progress)
        elif kind == "witness":
            progress.witness = completion.receipt
            self.observer(Event("witness", seed, 1, 1))
        else:
            progress.finish = completion.receipt
            self.finished(_prepared(seed, progress))
            self.observer(Event("validate", seed, len(progress.shards) + 1, len(progress.shards) + 1))

    def _place(self, seed: int, preparation: Preparation) -> None:
        progress = self.progress[seed]
        keys = preparation.identity.keys
        progress.plan_proven = self.fast and s9_findings.plan_is_proven(self.store, keys, seed)
        progress.shards = {shard.name: shard for shard in plan_shards(preparation.sites_per_country)}
        self.observer(Event("prepare", seed, 1, 1))
        if not self.fast and seed == self.policies.certification.reproducibility_witness_seed:
            arguments = (self.store, self.policies, preparation.identity)
            self._submit("witness", seed, witness_seed, arguments, _WITNESS_COST)
        if all(self.store.has(state.lower(), keys[state]) for state in SHARDED_STATES):
            progress.placed = len(progress.shards)
            for name in progress.shards:
                self._check(seed, progress, name)
            return
        for shard in progress.shards.values():
            placing = (self.store, self.policies, preparation.identity, shard)
            self._submit("place", seed, place_shard, placing, float(shard.sites), shard.name)

    def _check(self, seed: int, progress: SeedProgress, name: str) -> None:
        shard = progress.shards[name]
        identity = _prepared(seed, progress).identity
        arguments = (self.store, self.policies, identity, shard, progress.plan_proven)
        self._submit("check", seed, check_shard, arguments, float(shard.sites), name)

    def _finish(self, seed: int, progress: SeedProgress) -> None:
        preparation = _prepared(seed, progress)
        arguments = (
            self.store,
            self.policies,
            preparation.identity,
            seed_hashes(self.policies, self.world.digest, preparation.facts),
            tuple(sorted(progress.shards)),
            tuple(progress.checks[name] for name in sorted(progress.checks)),
        )
        self._submit("finish", seed, finish_seed, arguments, _FINISH_COST)


def _prepared(seed: int, progress: SeedProgress) -> Preparation:
    if progress.preparation is None:
        raise ContractError("E_LANE_INCOMPLETE", f"seed {seed} was placed before it was prepared")
    return progress.preparation


def _add(preparation: Preparation | None, seconds: Mapping[str, Mapping[str, float]]) -> None:
    """Add a shard's times per state to its seed's."""
    if preparation is not None:
        preparation.times.add(seconds)


def certify(
    store: Store,
    policies: Policies,
    world: World,
    *,
    seeds: Sequence[int] | None = None,
    bundle: Path | None = None,
    executor: Executor | None = None,
    observer: Observer = _silent,
) -> CertifyResult:
    """Certify and publish; an identical certification is found again and returned.

    `bundle`: a user's 1A bundle (None: every seed synthesises its own catalogue); `seeds`: None takes the
    certification policy's. Raises InputError for what the user brought and for a locked phase, StoreError for the
    store.
    """
    started = time.perf_counter()
    require_unlocked(store, policies)
    executor = executor or SerialExecutor()
    chosen = tuple(seeds) if seeds is not None else tuple(policies.certification.seeds)
    run = Certification(store, policies, world, executor, chosen, bundle, observer)
    brought = None if bundle is None else verify_bundle(bundle)
    digest = None if brought is None else brought.content_sha256_hex
    if digest is not None:
        require_no_fail(store, digest, bundle)  # before anything is sealed
    known = anticipated_keys(store, policies, world, chosen, digest)
    with (
        leased(store, "certify", known) as lease,
        ThreadPoolExecutor(1) as pool,
        certificate_folder.drafting(store, world, chosen[0]) as draft,
    ):
        try:
            run.hold, run.lease_id = lambda keys: lease.hold(keys=keys), lease.record.lease_id
            run.finished = draft.add_seed
            if brought is not None:
                key = known_keys(store, policies, world, chosen[0], digest)["S0c"]
                run.bundle = s0_gate.sealed_bundle(store, key, brought)
            stage, progress = run.run()
            results = [one.results() for one in progress.values()]
            preparations = [preparation for preparation, _ in results]
            identity = run_identity(
                policies,
                world.digest,
                [p.facts for p in preparations],
                "synthesised" if bundle is None else "user",
            )
            run_ids = {seed: progress[seed].run_id for seed in chosen}
            lease.hold(
                run_ids=run_ids.values(),  # until a pointer and the pack name them
                keys={key for p in preparations for key in p.identity.keys.values()}
                | set(stage.keys.values()),
            )
            _publish_receipts(store, identity, preparations, run_ids, executor.name, policies)
            executor.retention(store).set_pointer(
                "current_candidate", run_ids[chosen[0]], {"lane": "certify"}
            )
            closing = pool.submit(executor.close)  # takes a second or two on Ray, and no task is left
            evidence = [certificate.evidence_of(preparation, finish) for preparation, finish in results]
            witness = {seed: one.witness for seed, one in progress.items() if one.witness is not None}
            assembled = certificate.assemble(stage, policies, identity, evidence, run_ids, witness)
            observer(Event("publish", None, 0, 1))
            telemetry = {
                "wall_s": time.perf_counter() - started,
                "executor": executor.describe(),
                "tasks_per_worker": dict(sorted(run.workers.items())),
                "world": {"states": stage.times.seconds, "reused": list(stage.reused)},
                "seeds": {
                    str(p.identity.seed): seed_telemetry(p, progress[p.identity.seed]) for p in preparations
                },
            }
            path, found = certificate_folder.publish(draft, stage, policies, assembled, telemetry)
            observer(Event("publish", None, 1, 1))
            telemetry["wall_s"] = time.perf_counter() - started
            if assembled.document["grade"] != "below_B":
                details = {"cert_id": assembled.document["cert_id"], "grade": assembled.document["grade"]}
                kept = baseline.certified(store, run_ids[chosen[0]], details)
                telemetry["not_last_good"] = list(kept)
                if kept:
                    log.warning("the last good run stays what it was: %s", "; ".join(kept))
            for run_id in run_ids.values():
                store.receipts.write_telemetry(run_id, telemetry)
            closing.result()
        finally:
            executor.close()
    return CertifyResult(path, certificate.load(path), found, telemetry)


def seed_telemetry(preparation: Preparation, progress: SeedProgress) -> dict[str, Any]:
    """Times per state and stage of a seed that was run, and what of it was there already."""
    _, finish = progress.results()
    return {
        "run_id": progress.run_id,
        "reused": list(preparation.reused),
        "states": preparation.times.joined(finish.times).seconds,
        "shards": {shard.name: shard.sites for shard in progress.shards.values()},
    }


def _publish_receipts(
    store: Store,
    identity: dict[str, Any],
    preparations: Sequence[Preparation],
    run_ids: dict[int, str],
    executor_name: str,
    policies: Policies,
) -> None:
    lineage = {
        "lane": "certify",
        POLICIES: lineage_policies(policies),
        OWN_VALUES: own_values(policies),
    }
    for preparation in preparations:
        seed = preparation.identity.seed
        keys = {name.lower(): key for name, key in preparation.identity.keys.items()}
        facts = {
            **identity,
            "seed": seed,
            "seed_manifest_fingerprint": preparation.facts.manifest_fingerprint,
        }
        store.receipts.publish(Receipt(run_ids[seed], facts, keys, lineage, {"name": executor_name}))
