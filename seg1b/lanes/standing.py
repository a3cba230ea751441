"""Where a run stands: by its own gates, by the locks' metrics and by what the pinned baseline holds.

Whoever tunes, promotes, locks, integrates, certifies or asks for the status comes here, so a run has one status.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from seg1b.errors import InputError
from seg1b.lanes.comparison import lost_gates
from seg1b.lanes.phase_locks import contradicted, locked
from seg1b.lanes.stored_run import StoredRun, StoredScore, load_run, require_world, same_seed
from seg1b.policy.gates import GatesPolicy
from seg1b.policy.load import default_policies
from seg1b.scoring.feasibility import Feasibility
from seg1b.scoring.gates import GateReport
from seg1b.scoring.grading import RunStatus, run_status
from seg1b.store.store import Store

BASELINE = "baseline_authority"
NO_REGRESSION = "no_regression."
"""What the rows of a lock's metrics are called by, before the metric's name."""

Rank = tuple[int, tuple[int, float], tuple[int, float], tuple[float, ...]]
_ORDER: dict[RunStatus, int] = {"GREEN_B": 0, "AMBER_NEAR_BPLUS": 1, "RED_REOPEN_REQUIRED": 2}


@dataclass(frozen=True)
class Standing:
    """A run's verdicts, the no-regression rows of the locks among them, and what it lost to the pinned baseline.

    `contradicts`: the locked phases whose policies it does not have.
    """

    report: GateReport
    lost_to_baseline: tuple[str, ...]
    contradicts: tuple[str, ...] = ()

    @property
    def lost_to_locks(self) -> tuple[str, ...]:
        """No-regression rows that fail."""
        return tuple(
            row.name for row in self.report.gates if row.name.startswith(NO_REGRESSION) and not row.pass_b
        )

    @property
    def lost(self) -> tuple[str, ...]:
        """Everything that forbids the run: what is lost to a lock or to the baseline."""
        return tuple(dict.fromkeys((*self.lost_to_locks, *self.lost_to_baseline)))

    @property
    def forbidden(self) -> tuple[str, ...]:
        """Why it cannot be kept, promoted or locked: what is lost, and the locks that it contradicts."""
        return (*self.lost, *(f"the lock of {phase}" for phase in self.contradicts))

    @property
    def status(self) -> RunStatus:
        """RED: a B gate or counter-metric fails, or something forbids it. AMBER: only B+ gates fail. Else GREEN_B."""
        return "RED_REOPEN_REQUIRED" if self.forbidden else run_status(self.report)

    @property
    def rank(self) -> Rank:
        """Ascending from the best: status, distance to B+ and to B, then the tightest margins (as `screen` ranks)."""
        found = Feasibility(self.report.gates, self.report.counters, None)
        distances = found.shortfall("B+"), found.shortfall("B")
        return _ORDER[self.status], *distances, tuple(-margin for margin, _ in found.margins("B+"))


@dataclass(frozen=True)
class Authorities:
    """What a run of one seed and world is held to besides its own gates.

    `metrics` and `tolerance` are those of a lock (`phase`): a run cannot bring a tolerance of its own.
    """

    metrics: Mapping[str, float] = field(default_factory=dict)
    tolerance: float = 0.0
    phase: str = ""
    baseline: StoredRun | None = None

    def judge(self, score: StoredScore, gates: GatesPolicy, contradicts: tuple[str, ...] = ()) -> Standing:
        """Where a run with this score stands. `gates`: those that it was judged by; `contradicts`: the locked phases
        whose policies it does not have.
        """
        lost = () if self.baseline is None else lost_to(self.baseline, score)
        rules = gates.model_copy(update={"no_regression_tolerance": self.tolerance})
        return Standing(score.against_lock(self.metrics, rules), lost, contradicts)


def lost_to(reference: StoredRun, score: StoredScore) -> tuple[str, ...]:
    """Names of what holds for B in a run, and does not in a score held to that run's thresholds as well."""
    scale = reference.score.scale_for(score, reference.gates())
    return lost_gates(reference.score.report, score.report, neighbours_scale=scale)


def authorities(store: Store, world_digest: str, seed: int) -> Authorities:
    """The locks and the pinned baseline of this store, for a run of `seed`.

    Metrics are those of the latest phase that was locked with the seed.
    Raises InputError E_LOCK_WORLD or E_BASELINE_WORLD for those of another world, E_RUN_PRUNED.
    """
    metrics: dict[str, float] = {}
    tolerance, phase = 0.0, ""
    for name, record in locked(store).items():
        if record["world_digest"] != world_digest:
            raise InputError(
                "E_LOCK_WORLD",
                f"phase {name} is locked with run {record['run_id'][:12]} of another world "
                f"({record['world_digest'][:12]}, not {world_digest[:12]})",
                where=str(store.layout.phase_locks / f"{name.lower()}.json"),
                next_step="name that world with --world, choose a run of it, or use another store with --runs",
            )
        if record["seed"] == seed:
            phase = name
            metrics = {metric: value for metric, value in record["metrics"].items() if value is not None}
            packaged = default_policies().gates.no_regression_tolerance  # earlier versions did not say theirs
            tolerance = float(record.get("no_regression_tolerance", packaged))
    return Authorities(metrics, tolerance, phase, pinned_baseline(store, world_digest, seed))


def standing_of(store: Store, run: StoredRun) -> Standing:
    """Where a stored run stands. Raises InputError as `authorities`."""
    contradicts = () if run.knobs() is None else contradicted(store, run.policies())
    return authorities(store, run.world_digest, run.seed).judge(run.score, run.gates(), contradicts)


def pinned_baseline(store: Store, world_digest: str, seed: int) -> StoredRun | None:
    """The pinned baseline, of `seed` if it was certified with it; None if nothing is pinned.

    Raises InputError E_BASELINE_WORLD for one of another world, E_RUN_PRUNED for one that lost its outputs.
    """
    if store.pointers.get(BASELINE) is None:
        return None
    run = load_run(store, "baseline")
    require_world(store, run, world_digest, "the pinned baseline", "E_BASELINE_WORLD")
    return of_seed_if_any(store, run, seed)


def of_seed_if_any(store: Store, run: StoredRun, seed: int) -> StoredRun:
    """The run of `seed` that was certified together with `run`, else `run` itself."""
    try:
        return same_seed(store, run, seed)
    except InputError as error:
        if error.code != "E_REFERENCE_SEED":
            raise
        return run
