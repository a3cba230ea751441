"""What a performance check and a closure say, for machines and for people. Nothing is read or written here."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from seg1b.lanes.perf_times import StageVerdict
from seg1b.policy.budgets import BUDGETED_STATES

RED, SLOWER = "RED", "slower"
HOTSPOTS = "hotspots"
"""Name under which a change of the hotspots is waived."""


@dataclass(frozen=True)
class Check:
    """A run judged. `waived`: reason by stage; `red` and `slower`: what is left without a waiver.

    `witnesses`: (run id, whether every digest agreed) of every time that the run's identity was made again.
    """

    run_id: str
    seed: int
    sites: int
    clocks: tuple[str, str]
    baseline: str | None
    stages: tuple[StageVerdict, ...]
    waived: dict[str, str]
    witnesses: tuple[tuple[str, bool], ...]

    @property
    def deterministic(self) -> bool | None:
        """Whether every witness gave the published digests; None without a witness. No waiver helps."""
        return all(same for _, same in self.witnesses) if self.witnesses else None

    @property
    def made(self) -> tuple[str, ...]:
        """States that the run made, and that are judged therefore."""
        timed = {row.stage for row in self.stages if row.seconds is not None}
        return tuple(state for state in BUDGETED_STATES if state in timed)

    @property
    def not_made(self) -> tuple[str, ...]:
        """States that the run read from the store instead of making them."""
        return tuple(state for state in BUDGETED_STATES if state not in self.made)

    @property
    def red(self) -> tuple[str, ...]:
        """Stages above their stretch budget, not waived."""
        return tuple(row.stage for row in self.stages if row.colour == "RED" and row.stage not in self.waived)

    @property
    def slower(self) -> tuple[str, ...]:
        """Stages slower than the baseline allows, not waived."""
        return tuple(row.stage for row in self.stages if row.slower and row.stage not in self.waived)

    @property
    def rejected(self) -> bool:
        """Whether something is RED or slower, or a witness differs: more times or another witness mend nothing."""
        return bool(self.red or self.slower) or self.deterministic is False

    @property
    def passed(self) -> bool:
        """Nothing RED, nothing slower, and witnessed as the same."""
        return not self.rejected and self.deterministic is True

    @property
    def status(self) -> str:
        """The worst colour of any state; `AMBER` at best where a state was not made, or nobody witnessed the run.

        A waiver does not change it, and a witness that differs is `RED`.
        """
        found = {row.colour for row in self.stages}
        if "RED" in found or self.deterministic is False:
            return "RED"
        return "AMBER" if "AMBER" in found or self.not_made or self.deterministic is None else "GREEN"

    def settles(self, stage: str, why: str) -> bool:
        """Whether this run made the stage and what was found of it (`RED` or `slower`) is so no more.

        An execution that is not witnessed settles nothing: faster and different is no improvement.
        """
        row = next((row for row in self.stages if row.stage == stage), None)
        if stage in self.waived:
            return True
        if row is None or self.deterministic is not True:
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
            "not_made": list(self.not_made),
            "witnesses": [{"run_id": run_id, "same": same} for run_id, same in self.witnesses],
            "deterministic": self.deterministic,
        }


@dataclass(frozen=True)
class Closure:
    """A phase's closing record: the check with its witnesses, the executions it rests on, and hotspots.

    `left_out`: (run id, why) of the identity's other executions, whose times are not comparable or not all there.
    `another`: the command that makes a further execution. One alone shows no stable hotspots.
    """

    check: Check
    executions: tuple[str, ...]
    left_out: tuple[tuple[str, str], ...]
    hotspots: dict[str, list[str]]
    another: str

    @property
    def hotspots_stable(self) -> bool:
        """Whether several executions have the same hotspots, in whatever order."""
        return len(self.hotspots) > 1 and len({frozenset(stages) for stages in self.hotspots.values()}) == 1

    @property
    def stability(self) -> str:
        """The same in words."""
        if len(self.hotspots) == 1:
            return (
                f"of one execution, so whether they are stable cannot be seen: {self.another} makes another"
            )
        return f"{'stable' if self.hotspots_stable else 'NOT STABLE'} across executions"

    @property
    def decision(self) -> str:
        """`GO` or `HOLD`."""
        stable = self.hotspots_stable or HOTSPOTS in self.check.waived
        return "GO" if self.check.passed and stable else "HOLD"

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
            "left_out": [{"run_id": run_id, "why": why} for run_id, why in self.left_out],
            "hotspots": self.hotspots,
            "hotspots_stable": self.hotspots_stable,
        }


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
        f"- witness {run_id}: {'same digests' if same else 'DIFFERS'}" for run_id, same in check.witnesses
    ]
    lines += ["", "## Hotspots", ""]
    lines += [f"- {run_id}: {', '.join(stages)}" for run_id, stages in closure.hotspots.items()]
    lines += ["", f"{closure.stability[0].upper()}{closure.stability[1:]}.", ""]
    if closure.left_out:
        lines += ["## Left out", "", *(f"- {run_id}: {why}" for run_id, why in closure.left_out), ""]
    if check.waived:
        lines += ["## Waived", "", *(f"- {stage}: {reason}" for stage, reason in check.waived.items()), ""]
    return "\n".join(lines)


def _seconds(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"
