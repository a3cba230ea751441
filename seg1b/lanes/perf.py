"""The performance lane: pin a timing baseline, check a run against budgets and baseline, close a phase.

A slow-down on the same inputs is rejected unless it is waived by name, and the waiver stays in the record and in the
ledger. What a check finds stays open until a run that made the same stage again is judged by the same budgets and found
well, or the stage is waived: meanwhile statistical changes are refused (`require_not_red`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from seg1b.errors import InputError, StoreError
from seg1b.lanes.perf_times import (
    StageVerdict,
    Timings,
    fastest,
    hotspots,
    judge,
    require_complete,
    timings_of,
)
from seg1b.lanes.stored_run import witnesses_of
from seg1b.policy.load import Policies, digest
from seg1b.store.roots import PERFORMANCE_BASELINE
from seg1b.store.store import Store

CHECK = "check"
RED, SLOWER = "RED", "slower"
HOTSPOTS = "hotspots"
"""Name under which a change of the hotspots is waived."""


@dataclass(frozen=True)
class Check:
    """A run judged. `waived`: reason by stage; `red` and `slower`: what is left without a waiver."""

    run_id: str
    seed: int
    sites: int
    clocks: tuple[str, str]
    baseline: str | None
    stages: tuple[StageVerdict, ...]
    waived: dict[str, str]

    @property
    def red(self) -> tuple[str, ...]:
        """Stages above their stretch budget, not waived."""
        return tuple(row.stage for row in self.stages if row.colour == "RED" and row.stage not in self.waived)

    @property
    def slower(self) -> tuple[str, ...]:
        """Stages slower than the baseline allows, not waived."""
        return tuple(row.stage for row in self.stages if row.slower and row.stage not in self.waived)

    @property
    def passed(self) -> bool:
        """Nothing RED, nothing slower."""
        return not self.red and not self.slower

    @property
    def status(self) -> str:
        """The worst colour of any state: `GREEN`, `AMBER` or `RED`; a waiver does not change it."""
        found = {row.colour for row in self.stages}
        return "RED" if "RED" in found else "AMBER" if "AMBER" in found else "GREEN"

    def settles(self, stage: str, why: str) -> bool:
        """Whether this run made the stage and what was found of it (`RED` or `slower`) is so no more."""
        row = next((row for row in self.stages if row.stage == stage), None)
        if stage in self.waived:
            return True
        if row is None:
            return False
        return row.colour in ("GREEN", "AMBER") if why == RED else row.before_s is not None and not row.slower

    def facts(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "run_id": self.run_id,
            "seed": self.seed,
            "sites": self.sites,
            "budget_clock": self.clocks[0],
            "comparison_clock": self.clocks[1],
            "status": self.status,
            "passed": self.passed,
            "red": list(self.red),
            "slower": list(self.slower),
            "waived": dict(self.waived),
            "baseline_run_id": self.baseline,
            "stages": [{**dataclasses.asdict(row), "change": row.change} for row in self.stages],
        }


@dataclass(frozen=True)
class Closure:
    """A phase's closing record: the check, the executions it rests on, determinism and hotspots."""

    check: Check
    executions: tuple[str, ...]
    witnesses: tuple[tuple[str, bool], ...]
    hotspots: dict[str, list[str]]
    hotspots_stable: bool

    @property
    def deterministic(self) -> bool:
        """Whether every witness gave the published digests; no waiver helps."""
        return all(same for _, same in self.witnesses)

    @property
    def decision(self) -> str:
        """`GO` or `HOLD`."""
        stable = self.hotspots_stable or HOTSPOTS in self.check.waived
        return "GO" if self.check.passed and self.deterministic and stable else "HOLD"

    @property
    def name(self) -> str:
        """Of its record."""
        return f"closure-{self.check.run_id}"

    def facts(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "decision": self.decision,
            **self.check.facts(),
            "executions": list(self.executions),
            "witnesses": [{"run_id": run_id, "same": same} for run_id, same in self.witnesses],
            "deterministic": self.deterministic,
            "hotspots": self.hotspots,
            "hotspots_stable": self.hotspots_stable,
        }


def pin_baseline(store: Store, policies: Policies, run_id: str) -> Timings:
    """Make a run's times the baseline; it must have made every state. The run is kept as long as it is pinned.

    Raises InputError E_PERF_TELEMETRY or E_PERF_NOT_MEASURED.
    """
    timings = timings_of(store, run_id)
    require_complete(timings)
    top = [stage for stage, _ in hotspots(timings, policies.budgets)]
    with store.exclusive("pinning the timing baseline"):
        store.performance.write(PERFORMANCE_BASELINE, {**dataclasses.asdict(timings), "hotspots": top})
        store.ledger.append({"event": "perf_baseline_pinned", "run_id": run_id, "hotspots": top})
    return timings


def pinned_baseline(store: Store) -> Timings | None:
    """The baseline, or None. Raises StoreError E_STORE_DAMAGED."""
    record = store.performance.find(PERFORMANCE_BASELINE)
    if record is None:
        return None
    try:
        return Timings.from_json(record)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise StoreError(
            "E_STORE_DAMAGED", f"the timing baseline is not consistent ({type(error).__name__}: {error})",
            where=str(store.layout.performance / f"{PERFORMANCE_BASELINE}.json"),
            next_step="pin it again: `seg1b perf baseline RUN`",
        ) from error  # fmt: skip


def check(store: Store, policies: Policies, run_id: str, waive: Mapping[str, str] | None = None) -> Check:
    """Judge a run and keep what was found. `waive`: reason by stage.

    Raises InputError E_PERF_TELEMETRY, E_PERF_NOT_MEASURED, E_PERF_BASELINE_INPUTS or E_PERF_WAIVER.
    """
    found = _judged(store, policies, timings_of(store, run_id), waive or {})
    _keep(store, policies, found)
    return found


def _judged(store: Store, policies: Policies, timings: Timings, waive: Mapping[str, str]) -> Check:
    if not timings.made:
        require_complete(timings)
    baseline = pinned_baseline(store)
    rows = judge(timings, policies.budgets, baseline)
    known = list(dict.fromkeys([row.stage for row in rows] + list(open_stages(store)) + [HOTSPOTS]))
    for stage, reason in waive.items():
        if stage not in known or not reason.strip():
            raise InputError(
                "E_PERF_WAIVER",
                f"{stage!r} cannot be waived: "
                + ("it needs a reason" if stage in known else "no such stage"),
                where=f"--waive {stage}={reason}",
                next_step="`--waive STAGE=REASON`, STAGE one of " + ", ".join(known),
            )
    return Check(
        timings.run_id, timings.seed, timings.sites,
        (policies.budgets.budget_clock, policies.budgets.comparison_clock),
        None if baseline is None else baseline.run_id, tuple(rows), dict(waive),
    )  # fmt: skip


def open_stages(store: Store) -> dict[str, dict[str, str]]:
    """What checks found and nobody settled: by stage, `why` (`RED` or `slower`), `run_id` and `budgets` (digest).

    Raises StoreError E_STORE_DAMAGED.
    """
    record = store.performance.find(CHECK)
    if record is None:
        return {}
    try:
        fields = ("why", "run_id", "budgets")
        return {
            str(stage): {field: str(entry[field]) for field in fields}
            for stage, entry in record["open"].items()
        }
    except (KeyError, TypeError, AttributeError) as error:
        raise StoreError(
            "E_STORE_DAMAGED", f"the last performance check is not consistent ({type(error).__name__}: {error})",
            where=str(store.layout.performance / f"{CHECK}.json"),
            next_step="move it away and judge the run again: `seg1b perf check RUN`",
        ) from error  # fmt: skip


def _keep(store: Store, policies: Policies, found: Check) -> None:
    budgets = digest(policies.budgets)
    with store.exclusive("keeping a performance check"):
        left = {
            stage: entry
            for stage, entry in open_stages(store).items()
            if not (
                found.settles(stage, entry["why"]) and (entry["budgets"] == budgets or stage in found.waived)
            )
        }
        for why, stages in ((SLOWER, found.slower), (RED, found.red)):
            left |= {stage: {"why": why, "run_id": found.run_id, "budgets": budgets} for stage in stages}
        store.performance.write(CHECK, {**found.facts(), "open": left})
        if found.waived:
            store.ledger.append({"event": "perf_waived", "run_id": found.run_id, "stages": found.waived})


def close(store: Store, policies: Policies, run_id: str, waive: Mapping[str, str] | None = None) -> Closure:
    """The closing record of a run with its witnesses: judged by the fastest of its executions, then published.

    Raises InputError E_PERF_NO_WITNESS without two executions of the identity that made every state, and what
    `check` raises.
    """
    told = witnesses_of(store, run_id)
    full = []
    for one in (run_id, *(other for other, _ in told)):
        if not store.receipts.telemetry(one):
            continue
        timings = timings_of(store, one)
        try:
            require_complete(timings)
        except InputError:
            continue
        full.append(timings)
    if not told or len(full) < 2:
        raise InputError(
            "E_PERF_NO_WITNESS",
            f"{len(full)} execution{'' if len(full) == 1 else 's'} of this identity made every state, and "
            f"{len(told)} witness{'' if len(told) == 1 else 'es'} compared digests; two executions and one are needed",
            where=f"run {run_id}",
            next_step=f"`seg1b witness {run_id[:12]}` (once, or twice if the run itself reused states)",
        )
    best = dataclasses.replace(fastest(full), run_id=run_id)
    top = {one.run_id: [stage for stage, _ in hotspots(one, policies.budgets)] for one in full}
    closure = Closure(
        _judged(store, policies, best, waive or {}),
        tuple(one.run_id for one in full),
        tuple((other, bool(lineage.get("same"))) for other, lineage in told),
        top,
        len({frozenset(stages) for stages in top.values()}) == 1,
    )
    with store.exclusive("closing a performance phase"):
        _keep(store, policies, closure.check)
        store.performance.write(closure.name, closure.facts())
        store.performance.attach(closure.name, "md", markdown(closure).encode())
        store.ledger.append({"event": "perf_closure", "run_id": run_id, "decision": closure.decision})
    return closure


def require_not_red(store: Store, waive: str | None = None) -> None:
    """Refuse a statistical change while a check's finding is open: a stage RED, or slower than the baseline.

    `waive`: a reason, which goes to the ledger. Raises InputError E_PERF_RED, or E_PERF_WAIVER for an empty one.
    """
    if waive is not None and not waive.strip():
        raise InputError(
            "E_PERF_WAIVER", "the waiver gives no reason", where="--waive-perf",
            next_step="say why it may wait: `--waive-perf REASON`, or leave the option out",
        )  # fmt: skip
    found = open_stages(store)
    if not found:
        return
    if waive is not None:
        store.ledger.append({"event": "perf_waived_for_tune", "stages": list(found), "reason": waive})
        return
    told = ", ".join(
        f"{stage} of run {entry['run_id'][:12]} is "
        + ("RED" if entry["why"] == RED else "slower than the baseline")
        for stage, entry in found.items()
    )
    raise InputError(
        "E_PERF_RED",
        f"{told}; no statistical change before that is settled",
        where=str(store.layout.performance / f"{CHECK}.json"),
        next_step="make it faster and `seg1b perf check` a run that made it again, waive it there by name, or say "
        "why it may wait with --waive-perf REASON",
    )


def markdown(closure: Closure) -> str:
    """The closing record for people."""
    check = closure.check
    lines = [
        f"# Performance closure of run {check.run_id}",
        "",
        f"Decision: **{closure.decision}**. Status {check.status}; seed {check.seed}, {check.sites:,} sites.",
        f"Baseline: {check.baseline or 'none pinned'}.",
        "",
        f"| stage | {check.clocks[0]} | target | stretch | colour | {check.clocks[1]} | baseline | change |",
        "|---|---:|---:|---:|---|---:|---:|---:|",
    ]
    for row in check.stages:
        change = "" if row.change is None else f"{row.change:+.1%}" + (" SLOWER" if row.slower else "")
        cells = [_seconds(row.seconds), _seconds(row.target_s), _seconds(row.stretch_s), row.colour or "",
                 _seconds(row.compared_s), _seconds(row.before_s), change]  # fmt: skip
        lines.append(f"| {row.stage} | " + " | ".join(cells) + " |")
    lines += ["", "## Determinism", ""]
    lines += [
        f"- witness {run_id}: {'same digests' if same else 'DIFFERS'}" for run_id, same in closure.witnesses
    ]
    lines += ["", "## Hotspots", ""]
    lines += [f"- {run_id}: {', '.join(stages)}" for run_id, stages in closure.hotspots.items()]
    lines += ["", f"{'Stable' if closure.hotspots_stable else 'NOT STABLE'} across executions.", ""]
    if check.waived:
        lines += ["## Waived", "", *(f"- {stage}: {reason}" for stage, reason in check.waived.items()), ""]
    return "\n".join(lines)


def _seconds(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"
