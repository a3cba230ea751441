"""How long a run's states took, judged by `config/budgets.yaml`: GREEN, AMBER, RED, and slower than a baseline.

Times are telemetry: they lie beside a receipt and feed no key and no digest. A state that a run read instead of made
has no time to be judged.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from seg1b.errors import InputError, StoreError
from seg1b.policy.budgets import BUDGETED_STATES, BudgetsPolicy, SubstageBudget
from seg1b.store.store import Store

Colour = Literal["GREEN", "AMBER", "RED"]
TOTAL = "total"
"""Stage that stands for the states that baseline and run have in common and that are not slower by themselves."""
_READING = frozenset({"commit", "read"})
"""Parts of a state that run even where its output is there already."""


@dataclass(frozen=True)
class Timings:
    """Seconds of one run, by state (`S4`) and substage (`S4.allocate`); `made`: states that it really ran.

    `executor`: its kind and its number of workers, such as `ray x 2`.
    """

    run_id: str
    seed: int
    sites: int
    executor: str
    keys: dict[str, str]
    seconds: dict[str, dict[str, float]]
    made: tuple[str, ...]

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Timings:
        """Inverse of `dataclasses.asdict`; raises KeyError, TypeError or ValueError."""
        seconds = {
            str(stage): {str(clock): float(s) for clock, s in clocks.items()}
            for stage, clocks in value["seconds"].items()
        }
        return cls(
            str(value["run_id"]), int(value["seed"]), int(value["sites"]), str(value["executor"]),
            {str(state): str(key) for state, key in value["keys"].items()}, seconds, tuple(map(str, value["made"])),
        )  # fmt: skip


@dataclass(frozen=True)
class StageVerdict:
    """One state or substage. `colour` None: no budget, or the state was not made by this run.

    The `total` has no budget.
    `seconds` by the budgets' clock, `compared_s` and `before_s` (the baseline's, where it had the same inputs) by the
    clock of comparisons; `slower`: beyond what passes.
    """

    stage: str
    seconds: float | None
    target_s: float | None
    stretch_s: float | None
    colour: Colour | None
    compared_s: float | None
    before_s: float | None
    slower: bool

    @property
    def change(self) -> float | None:
        """Relative to the baseline."""
        if self.compared_s is None or not self.before_s:
            return None
        return self.compared_s / self.before_s - 1.0


def timings_of(store: Store, run_id: str) -> Timings:
    """A run's times. Raises InputError E_PERF_TELEMETRY for a run without, StoreError E_STORE_DAMAGED."""
    receipt, telemetry = store.receipts.load(run_id), store.receipts.telemetry(run_id)
    where = str(store.layout.runs / run_id / "telemetry.json")
    if (
        not telemetry.get("seeds") and "world" not in telemetry
    ):  # a threshold that was judged again ran no state
        raise InputError(
            "E_PERF_TELEMETRY",
            f"run {run_id[:12]} kept no times of states",
            where=where,
            next_step=f"`seg1b witness {run_id[:12]}` makes it again and times every state",
        )
    try:
        seed = int(receipt.identity["seed"])
        entry = telemetry["seeds"][str(seed)]
        seconds = {
            str(stage): {clock: float(times[clock]) for clock in ("wall_s", "cpu_s")}
            for part in (telemetry["world"]["states"], entry["states"])
            for stage, times in part.items()
        }
        reused = {*telemetry["world"]["reused"], *entry["reused"]}
        sites = int(entry["sites"]) if "sites" in entry else sum(map(int, entry["shards"].values()))
        executor = telemetry["executor"]
        # a Ray's `workers` are the processes that got a task, the driver perhaps among them; its size is its CPUs
        name = f"{executor['executor']} x {int(executor.get('cpus', executor.get('workers', 1)))}"
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise StoreError(
            "E_STORE_DAMAGED",
            f"the times of this run are not consistent ({type(error).__name__}: {error})",
            where=where,
            next_step=f"`seg1b witness {run_id[:12]}` makes the run again and times it",
        ) from error
    made = tuple(state for state in BUDGETED_STATES if state not in reused and _was_made(state, seconds))
    return Timings(run_id, seed, sites, name, dict(receipt.keys), seconds, made)


def _was_made(state: str, seconds: Mapping[str, Any]) -> bool:
    """A state whose only parts are reading and committing was there already."""
    parts = {stage.partition(".")[2] for stage in seconds if stage.startswith(f"{state}.")}
    return state in seconds and (not parts or bool(parts - _READING))


def require_complete(timings: Timings, like: Timings | None = None) -> None:
    """Raise InputError E_PERF_NOT_MEASURED unless the run made every budgeted state.

    `like`: what the next step's execution is to be compared with, if not with the run itself.
    """
    missing = [state for state in BUDGETED_STATES if state not in timings.made]
    if missing:
        raise InputError(
            "E_PERF_NOT_MEASURED",
            f"run {timings.run_id[:12]} made no {', '.join(missing)}: they were read from the store, or not timed",
            where=f"run {timings.run_id}",
            next_step=witness_command(timings.run_id, (like or timings).executor)
            + " makes every state again; take the run that it leaves",
        )


def witness_command(run_id: str, executor: str) -> str:
    """What makes a run again with times that are compared with those of `executor` (`ray x 2`), for people."""
    kind, _, workers = executor.partition(" x ")
    chosen = "" if kind == "serial" else f" --executor {kind}"
    if kind == "ray":
        chosen += f" --workers {workers}"
    on = f" on {workers} CPUs" if kind == "threads" else ""
    return f"`seg1b witness {run_id[:12]}{chosen}`{on}"


def fastest(runs: Iterable[Timings]) -> Timings:
    """Several executions of one identity as one: the smallest times of each stage, of those that made it."""
    several = list(runs)
    seconds: dict[str, dict[str, float]] = {}
    for one in several:
        for stage, times in one.seconds.items():
            state = stage.partition(".")[0]
            if state in BUDGETED_STATES and state not in one.made:
                continue
            least = seconds.setdefault(stage, dict(times))
            seconds[stage] = {clock: min(least[clock], times[clock]) for clock in least}
    made = tuple(state for state in BUDGETED_STATES if any(state in one.made for one in several))
    first = several[0]
    return Timings(first.run_id, first.seed, first.sites, first.executor, first.keys, seconds, made)


def judge(timings: Timings, policy: BudgetsPolicy, baseline: Timings | None) -> list[StageVerdict]:
    """Every state, then its substages, in the order of the chain; those of `comparable_states` beside the baseline."""
    comparable = () if baseline is None else comparable_states(timings, baseline)
    rows = []
    for state in BUDGETED_STATES:
        budget = policy.budgets[state]
        sites_ratio = round(
            timings.sites / policy.reference_sites, 2
        )  # a few sites more do not change a budget
        scale = max(1.0, sites_ratio) if budget.per_site else 1.0
        made = state in timings.made
        stages = [stage for stage in sorted(timings.seconds) if stage.startswith(f"{state}.")] if made else []
        before = baseline.seconds if baseline is not None and state in comparable else {}
        for stage in (state, *stages):
            limits: SubstageBudget | None = (
                budget if stage == state else budget.substages.get(stage.partition(".")[2])
            )
            now = timings.seconds[stage] if made else None
            rows.append(_row(stage, now, limits, scale, before.get(stage), policy))
    if baseline is not None and comparable:
        named = {row.stage for row in rows if row.slower}
        rest = [state for state in comparable if state not in named]
        sums = [_total(one, rest, policy.comparison_clock) for one in (timings, baseline)]
        rows.append(_row(TOTAL, sums[0], None, 1.0, sums[1], policy))
    return rows


def _total(timings: Timings, states: Iterable[str], clock: str) -> dict[str, float]:
    """The states together: where each is short, a slow-down that is noise in one is none in their sum."""
    return {clock: sum(timings.seconds[state][clock] for state in states)}


def _row(
    stage: str,
    now: Mapping[str, float] | None,
    limits: SubstageBudget | None,
    scale: float,
    before: Mapping[str, float] | None,
    policy: BudgetsPolicy,
) -> StageVerdict:
    target = None if limits is None else limits.target_s * scale
    stretch = None if limits is None else limits.stretch_s * scale
    colour: Colour | None = None
    now_s = None if now is None else now.get(policy.budget_clock)
    compared_s = None if now is None else now[policy.comparison_clock]
    before_s = None if before is None else before[policy.comparison_clock]
    if now_s is not None and target is not None and stretch is not None:
        colour = "GREEN" if now_s <= target else "AMBER" if now_s <= stretch else "RED"
    slower = (
        compared_s is not None
        and before_s is not None
        and compared_s > before_s * (1.0 + policy.slowdown_max)
        and compared_s - before_s > policy.noise_floor_s
    )
    return StageVerdict(stage, now_s, target, stretch, colour, compared_s, before_s, slower)


def comparable_states(timings: Timings, baseline: Timings) -> tuple[str, ...]:
    """States whose times may be compared: both runs made them from the same inputs with the same code, by the same kind
    of executor with as many workers.
    """
    if timings.executor != baseline.executor:
        return ()
    return tuple(state for state in shared_states(timings, baseline) if state in timings.made)


def shared_states(timings: Timings, baseline: Timings) -> tuple[str, ...]:
    """States that the baseline made from this run's inputs with the same code, whether this run made them or not."""
    keys, theirs = timings.keys, baseline.keys
    return tuple(state for state in baseline.made if keys.get(state.lower()) == theirs.get(state.lower()))


def why_incomparable(timings: Timings, baseline: Timings) -> str:
    """Why there are no `comparable_states`, in words; empty if there are any."""
    if not shared_states(timings, baseline):
        return "no state of this run has the inputs that the baseline's had (seed, world, catalogue, policies, code)"
    if timings.executor != baseline.executor:
        return f"the baseline ran on {baseline.executor}, this run on {timings.executor}"
    if not comparable_states(timings, baseline):
        return "this run made no state of those that have the inputs of the baseline's"
    return ""


def hotspots(timings: Timings, policy: BudgetsPolicy) -> list[tuple[str, float]]:
    """The largest substages of states that the run made, with their seconds."""
    parts = [
        (stage, times[policy.comparison_clock])
        for stage, times in timings.seconds.items()
        if "." in stage and stage.partition(".")[0] in timings.made
    ]
    return sorted(parts, key=lambda part: (-part[1], part[0]))[: policy.hotspots]
