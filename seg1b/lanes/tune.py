"""The fast lane: one seed, one set of knobs changed, every gate before and after. It never certifies.

State keys decide what runs again: a state whose key did not change is read. The reference is the same seed under the
unchanged policies (reused if it is in the store), so the difference is the knobs' effect and nothing else: draws are
addressed by purpose, and every draw that a knob does not concern stays what it was.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from seg1b.catalogue.verify import verify_bundle
from seg1b.lanes.certify import Certification, Observer
from seg1b.lanes.executor import Executor, SerialExecutor
from seg1b.lanes.identity import run_identity
from seg1b.lanes.retention import anticipated_keys, leased
from seg1b.lanes.seed_tasks import Finish, Preparation
from seg1b.policy.load import Policies, set_values
from seg1b.scoring.gates import GateRow
from seg1b.scoring.score import Score
from seg1b.store.locks import Lease
from seg1b.store.receipts import Receipt, new_run_id
from seg1b.store.store import Store
from seg1b.world.content import World

Verdict = Literal["better", "worse", "same", "veto"]


@dataclass(frozen=True)
class GateChange:
    """One gate before and after. `veto`: a B gate that held does not hold any more."""

    name: str
    before: float | None
    after: float | None
    op: str
    b: float
    b_plus: float
    verdict: Verdict


@dataclass(frozen=True)
class TuneResult:
    """What the knobs did to one seed."""

    run_id: str
    seed: int
    overrides: dict[str, Any]
    reran: tuple[str, ...]
    reused: tuple[str, ...]
    before: Score
    after: Score
    gates: tuple[GateChange, ...]
    wall_s: float

    @property
    def vetoed(self) -> bool:
        """Whether a B gate or counter-metric that held was lost."""
        return any(change.verdict == "veto" for change in self.gates)


def tune(
    store: Store,
    policies: Policies,
    world: World,
    *,
    seed: int,
    overrides: Mapping[str, Any],
    bundle: Path | None = None,
    executor: Executor | None = None,
    observer: Observer = lambda _: None,
) -> TuneResult:
    """Run one seed with some knobs changed and compare it with the unchanged policies.

    `overrides`: value by dotted knob, as `seg1b config show` names them. Raises InputError for an unknown knob or a
    value out of range, and what the states raise.
    """
    started = time.perf_counter()
    changed = set_values(policies, overrides)
    chosen = executor or SerialExecutor()
    digest = None if bundle is None else verify_bundle(bundle).content_sha256_hex
    known = {key for p in (policies, changed) for key in anticipated_keys(store, p, world, (seed,), digest)}
    with leased(store, "tune", known) as lease:
        try:
            reference, before = _run(store, policies, world, seed, bundle, chosen, observer, lease)
            candidate, after = _run(store, changed, world, seed, bundle, chosen, observer, lease)
        finally:
            chosen.close()
    keys = candidate.identity.keys
    reran = tuple(name for name, key in keys.items() if reference.identity.keys[name] != key)
    run_id = new_run_id()
    origin = "synthesised" if bundle is None else "user"
    identity = {**run_identity(changed, world.digest, [candidate.facts], origin), "seed": seed}
    lineage = {"lane": "tune", "overrides": {name: str(value) for name, value in overrides.items()}}
    names = {name.lower(): key for name, key in keys.items()}
    store.receipts.publish(Receipt(run_id, identity, names, lineage, {"name": chosen.name}))
    return TuneResult(
        run_id,
        seed,
        dict(overrides),
        reran,
        tuple(name for name in keys if name not in reran),
        before.score,
        after.score,
        compare(before.score, after.score),
        time.perf_counter() - started,
    )


def _run(
    store: Store,
    policies: Policies,
    world: World,
    seed: int,
    bundle: Path | None,
    executor: Executor,
    observer: Observer,
    lease: Lease,
) -> tuple[Preparation, Finish]:
    """One seed through the chain, its keys held as soon as they are known."""
    run = Certification(store, policies, world, executor, (seed,), bundle, observer)
    run.hold, run.lease_id = lambda keys: lease.hold(keys=keys), lease.record.lease_id
    _, progress = run.run()
    return progress[seed].results()


def compare(before: Score, after: Score) -> tuple[GateChange, ...]:
    """Every gate of two scores, in the order of the second."""
    earlier = {row.name: row for row in before.report.gates}
    changes = [_change(row, earlier.get(row.name)) for row in after.report.gates]
    counters = {row.name: row for row in before.report.counters}
    for row in after.report.counters:
        old = counters.get(row.name)
        lost = old is not None and old.passed and not row.passed
        verdict: Verdict = "veto" if lost else "same"
        low = float("-inf") if row.min is None else row.min
        high = float("inf") if row.max is None else row.max
        changes.append(
            GateChange(
                row.name, None if old is None else old.observed, row.observed, "in", low, high, verdict
            )
        )
    return tuple(changes)


def _change(row: GateRow, old: GateRow | None) -> GateChange:
    before = None if old is None else old.observed
    verdict: Verdict = "same"
    if old is not None and old.pass_b and not row.pass_b:
        verdict = "veto"
    elif before is not None and row.observed is not None and before != row.observed:
        better = row.observed < before if row.op == "<=" else row.observed > before
        verdict = "better" if better else "worse"
    return GateChange(row.name, before, row.observed, row.op, row.b, row.b_plus, verdict)
