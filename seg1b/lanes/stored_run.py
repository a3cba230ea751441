"""A run as the store remembers it: its identity, its policies, its keys and what S9 said of it.

Lanes compare runs by this, so that a reference is read and never made again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from seg1b.errors import InputError
from seg1b.lanes.pruned import resolve_run
from seg1b.policy.gates import GatesPolicy
from seg1b.policy.load import Policies, default_policies, knobs, set_values
from seg1b.scoring.gates import GateReport, neighbours_scale, no_regression_rows
from seg1b.scoring.measured import core_from_json, report_from_facts
from seg1b.states.plan import STATES
from seg1b.store.receipts import Receipt
from seg1b.store.store import Store

WITNESS_LANE = "witness"
POLICIES = "policies"
"""Entry of a receipt's lineage: every knob of the run by dotted path."""

NAMES = ("baseline", "last_good", "candidate")
_POINTERS = {"baseline": "baseline_authority", "last_good": "last_good", "candidate": "current_candidate"}
_STORE_NAMES = {state.store_name: state.name for state in STATES}
_NEEDED = ("S3", "S4", "S6", "S8", "S9")


@dataclass(frozen=True)
class StoredScore:
    """What S9 published of a run: `facts` is its gates.json, `report` the verdicts in it."""

    facts: Mapping[str, Any]
    report: GateReport

    @property
    def metrics(self) -> dict[str, float | None]:
        """The seven core metrics."""
        return {name: metric["value"] for name, metric in self.facts["core"]["metrics"].items()}

    @property
    def sites(self) -> int:
        """Outlets of the seed."""
        return int(self.facts["core"]["site_count"])

    def scale_for(self, other: StoredScore, gates: GatesPolicy) -> float:
        """What a bound that `gates` set for this many sites is multiplied by for the sites of another score."""
        return neighbours_scale(other.sites, gates) / neighbours_scale(self.sites, gates)

    def against_lock(self, lock: Mapping[str, float], gates: GatesPolicy) -> GateReport:
        """The verdicts with the no-regression rows of a lock besides."""
        rows = no_regression_rows(core_from_json(self.facts["core"]), lock, gates)
        return GateReport((*self.report.gates, *rows), self.report.counters)


@dataclass(frozen=True)
class StoredRun:
    """One run with a receipt, its outputs all there."""

    receipt: Receipt
    keys: Mapping[str, str]
    score: StoredScore

    @property
    def run_id(self) -> str:
        """Its id."""
        return self.receipt.run_id

    @property
    def seed(self) -> int:
        """Its seed."""
        return int(self.receipt.identity["seed"])

    @property
    def world_digest(self) -> str:
        """Digest of the world that it was made in."""
        return str(self.receipt.identity["world_digest"])

    @property
    def policy_digests(self) -> dict[str, str]:
        """Digest of every policy file that its result depends on."""
        return dict(self.receipt.identity["policy_digests"])

    def knobs(self) -> dict[str, Any] | None:
        """Every knob by dotted path; None for a run whose receipt does not have them."""
        found = self.receipt.lineage.get(POLICIES)
        return None if found is None else dict(found)

    def policies(self) -> Policies:
        """The policies that it was made with. Raises InputError E_RUN_POLICIES where the receipt lacks them."""
        found = self.knobs()
        if found is None:
            raise InputError(
                "E_RUN_POLICIES", f"the receipt of run {self.run_id[:12]} does not say its knobs",
                where=f"run {self.run_id}, receipt.json",
                next_step="make the run again with this version",
            )  # fmt: skip
        known = knobs(default_policies())
        return set_values(default_policies(), {name: found[name] for name in known if name in found})

    def gates(self) -> GatesPolicy:
        """The gates that it was judged by; the packaged ones where its receipt does not say its knobs."""
        return (default_policies() if self.knobs() is None else self.policies()).gates


def lineage_policies(policies: Policies) -> dict[str, Any]:
    """Every knob, as a receipt keeps them."""
    return {
        name: list(value) if isinstance(value, tuple) else value for name, value in knobs(policies).items()
    }


def read_score(store: Store, s9_key: str) -> StoredScore:
    """The verdicts that S9 published under a key. Raises InputError E_RUN_VERSION for those of another version."""
    facts = store.read_json("s9", s9_key, "validation/gates.json")
    try:
        return StoredScore(facts, report_from_facts(facts))
    except (KeyError, TypeError) as error:
        raise InputError(
            "E_RUN_VERSION", f"what S9 said of this run is of another version of seg1b ({error})",
            where=str(store.layout.object("s9", s9_key)), next_step="make the run again",
        ) from error  # fmt: skip


def named_run(store: Store, text: str) -> str:
    """A run's id, from it, a unique prefix of it, or `baseline`, `last_good`, `candidate`.

    Raises InputError E_STORE_UNKNOWN_ID, E_POINTER_UNSET or E_RUN_PRUNED.
    """
    return pointed(store, text) if text in _POINTERS else resolve_run(store, text, NAMES)


def load_run(store: Store, text: str) -> StoredRun:
    """A run from its id, a unique prefix of it, or `baseline`, `last_good`, `candidate`.

    Raises InputError E_STORE_UNKNOWN_ID, E_POINTER_UNSET, or E_RUN_PRUNED if it or outputs that it names are gone.
    """
    run_id = named_run(store, text)
    receipt = store.receipts.load(run_id)
    keys = {_STORE_NAMES[name]: key for name, key in receipt.keys.items() if name in _STORE_NAMES}
    require_outputs(store, run_id, keys, _NEEDED)
    return StoredRun(receipt, keys, read_score(store, keys["S9"]))


def require_outputs(store: Store, run_id: str, keys: Mapping[str, str], states: Sequence[str]) -> None:
    """Raise InputError E_RUN_PRUNED if an output of `states` that a run names is gone."""
    gone = [n for n in states if n not in keys or not store.has(n.lower(), keys[n])]
    if gone:
        raise InputError(
            "E_RUN_PRUNED", f"run {run_id[:12]} has lost its outputs of {', '.join(gone)}",
            where=str(store.layout.runs / run_id),
            next_step="make it again, or choose another run of `seg1b runs list`",
        )  # fmt: skip


def pointed(store: Store, name: str) -> str:
    """The run that `baseline`, `last_good` or `candidate` points to. Raises InputError E_POINTER_UNSET."""
    run_id = store.pointers.get(_POINTERS[name])
    if run_id is None:
        how = {
            "baseline": "`seg1b baseline pin RUN` pins one",
            "last_good": "`seg1b promote RUN` or a certification with a grade sets it",
            "candidate": "a certification or `seg1b wave keep` sets it",
        }
        raise InputError(
            "E_POINTER_UNSET", f"no run is the {name.replace('_', ' ')} of this store yet",
            where=str(store.layout.pointers), next_step=how[name],
        )  # fmt: skip
    return run_id


def same_seed(store: Store, run: StoredRun, seed: int) -> StoredRun:
    """The run of `seed` that was certified together with `run`. Raises InputError E_REFERENCE_SEED."""
    if run.seed == seed:
        return run
    for cert_id in store.certifications.ids():
        entries = store.certifications.read_json(cert_id, "certificate.json")["seeds"]
        ids = {int(entry["seed"]): str(entry["run_id"]) for entry in entries}
        if run.run_id in ids.values() and seed in ids:
            return load_run(store, ids[seed])
    raise InputError(
        "E_REFERENCE_SEED", f"run {run.run_id[:12]} is of seed {run.seed}, and seed {seed} is asked for",
        where=str(store.layout.runs / run.run_id),
        next_step=f"compare with --seed {run.seed}, or name a run of seed {seed}",
    )  # fmt: skip


def require_world(
    store: Store, run: StoredRun, world_digest: str, what: str, code: str = "E_REFERENCE_WORLD"
) -> None:
    """Raise InputError for a run that was made in another world."""
    if run.world_digest != world_digest:
        raise InputError(
            code,
            f"{what} {run.run_id[:12]} was made in another world ({run.world_digest[:12]}, not {world_digest[:12]})",
            where=str(store.layout.runs / run.run_id),
            next_step="name that world with --world, or choose a run of this one",
        )


def witnesses_of(store: Store, run_id: str) -> list[tuple[str, dict[str, Any]]]:
    """(run id, lineage) of every witness of this run or of another run with the same keys, the newest first."""
    keys = dict(store.receipts.load(run_id).keys)
    found = []
    for other in store.receipts.newest_first():
        receipt = store.receipts.load(other)
        if receipt.lineage.get("lane") == WITNESS_LANE and dict(receipt.keys) == keys and other != run_id:
            found.append((other, dict(receipt.lineage)))
    return found
