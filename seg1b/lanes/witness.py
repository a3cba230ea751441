"""The witness lane: make a published run again from its identity and compare every digest.

Nothing of the first run is read but its receipt and, where a user brought one, the sealed catalogue. The second run
has a store of its own, which goes when it is done; what stays is a receipt that says what was compared, and times of
a run that reused nothing.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from seg1b.errors import InputError
from seg1b.lanes.certify import Certification, Observer
from seg1b.lanes.executor import Executor, SerialExecutor
from seg1b.lanes.identity import externals_of
from seg1b.lanes.knob_effect import own_values
from seg1b.lanes.pruned import OWN_VALUES
from seg1b.lanes.retention import anticipated_keys, leased
from seg1b.lanes.seed_tasks import Finish, Preparation
from seg1b.lanes.stored_run import POLICIES, WITNESS_LANE, lineage_policies
from seg1b.lanes.world_stage import WorldStage
from seg1b.policy.load import Policies, parse_value, policy_digests, set_values
from seg1b.states.plan import STATES, keys_for
from seg1b.store.filesystem import FileSystem
from seg1b.store.receipts import Receipt, new_run_id
from seg1b.store.store import Store
from seg1b.world.content import World


@dataclass(frozen=True)
class Difference:
    """One digest that is not the same."""

    state: str
    name: str
    published: str
    again: str


@dataclass(frozen=True)
class WitnessResult:
    """The second run, by its own id: which digests were compared and which differ."""

    run_id: str
    of: str
    seed: int
    compared: int
    differences: tuple[Difference, ...]
    wall_s: float

    @property
    def same(self) -> bool:
        """Whether every digest agrees."""
        return not self.differences


def witness(
    store: Store,
    policies: Policies,
    world: World,
    run_id: str,
    *,
    executor: Executor | None = None,
    observer: Observer = lambda _: None,
) -> WitnessResult:
    """Run again what the receipt of `run_id` identifies, in a scratch store, and compare.

    Raises InputError E_STORE_UNKNOWN_ID, E_WITNESS_IDENTITY (these policies, this world or this code would make
    something else) or E_WITNESS_PRUNED.
    """
    started = time.perf_counter()
    receipt = store.receipts.load(run_id)
    policies = with_overrides(policies, receipt)
    keys = required_keys(policies, world, receipt)
    seed, chosen, made = int(receipt.identity["seed"]), executor or SerialExecutor(), new_run_id()
    bundle = _sealed_bundle(store, receipt, keys)
    with leased(store, WITNESS_LANE, set(keys.values())) as lease:
        lease.hold(run_ids=[run_id, made])
        _require_there(store, run_id, keys)
        try:
            with scratch_store("seg1b-witness-") as other:
                stage, preparation, finish = _again(other, policies, world, seed, bundle, chosen, observer)
                published, again = digests_of(store, keys), digests_of(other, preparation.identity.keys)
        finally:
            chosen.close()
        differences = compare(published, again)
        wall_s = time.perf_counter() - started
        lineage = {
            "lane": WITNESS_LANE,
            "of": run_id,
            "same": not differences,
            "compared": len(published),
            "differences": [f"{one.state} {one.name}" for one in differences],
            POLICIES: lineage_policies(policies),
            OWN_VALUES: own_values(policies),
        }
        store.receipts.publish(
            Receipt(made, dict(receipt.identity), dict(receipt.keys), lineage, {"name": chosen.name})
        )
        store.receipts.write_telemetry(
            made,
            {
                "wall_s": wall_s,
                "executor": chosen.describe(),
                "world": {"states": stage.times.seconds, "reused": list(stage.reused)},
                "seeds": {str(seed): {
                    "run_id": made,
                    "reused": list(preparation.reused),
                    "states": preparation.times.joined(finish.times).seconds,
                    "sites": int(preparation.sites_per_country.sum()),
                }},
            },
        )  # fmt: skip
    return WitnessResult(made, run_id, seed, len(published), differences, wall_s)


@contextmanager
def scratch_store(prefix: str) -> Iterator[Store]:
    """An empty store of its own, which goes with the block."""
    scratch = Path(tempfile.mkdtemp(prefix=prefix))
    try:
        with Store.open(scratch / "runs") as other:
            yield other
    finally:
        FileSystem().remove_tree(scratch)


def _require_there(store: Store, run_id: str, keys: Mapping[str, str]) -> None:
    """Raise InputError E_WITNESS_PRUNED if an output of the run is gone."""
    pruned = [state for state, key in keys.items() if not store.has(state.lower(), key)]
    if pruned:
        raise InputError(
            "E_WITNESS_PRUNED", f"outputs of {', '.join(pruned)} of this run were pruned", where=f"run {run_id}",
            next_step="run it again with the same command; the same outputs come back under the same keys",
        )  # fmt: skip


def with_overrides(policies: Policies, receipt: Receipt) -> Policies:
    """The policies with the knobs that a tune run had set."""
    overrides = receipt.lineage.get("overrides", {})
    return set_values(policies, {name: parse_value(str(value)) for name, value in overrides.items()})


def required_keys(policies: Policies, world: World, receipt: Receipt) -> dict[str, str]:
    """Keys of all states, which must be the receipt's.

    Raises InputError E_WITNESS_IDENTITY, naming the states and what they differ by.
    """
    identity = receipt.identity
    seed = int(identity["seed"])
    externals = {**externals_of(world), "catalogue": str(identity["catalogue_digests"][str(seed)])}
    keys = keys_for(policies, externals, seed)
    differing = [name for name, key in keys.items() if receipt.keys.get(name.lower()) != key]
    if not differing:
        return keys
    digests = policy_digests(policies)
    causes = [path for path, digest in identity["policy_digests"].items() if digests.get(path) != digest]
    causes += ["the world"] if identity["world_digest"] != world.digest else []
    causes += [
        f"the code of {state.name} (revision {state.revision}, then {identity['state_revisions'].get(state.name)})"
        for state in STATES
        if identity["state_revisions"].get(state.name) != state.revision
    ]
    raise InputError(
        "E_WITNESS_IDENTITY",
        f"this is not what the run was made with: {', '.join(causes) or 'unknown'}; "
        f"so {', '.join(differing)} would differ",
        where=f"run {receipt.run_id}",
        next_step="name the folder of policies that the run had with --config, and its world with --world",
    )


def _sealed_bundle(store: Store, receipt: Receipt, keys: Mapping[str, str]) -> Path | None:
    if receipt.identity["catalogue_origin"] == "synthesised":
        return None
    return store.layout.object("s0c", keys["S0c"]) / "bundle"


def _again(
    store: Store,
    policies: Policies,
    world: World,
    seed: int,
    bundle: Path | None,
    executor: Executor,
    observer: Observer,
) -> tuple[WorldStage, Preparation, Finish]:
    """The whole chain of one seed in an empty store."""
    with leased(store, WITNESS_LANE, anticipated_keys(store, policies, world, (seed,), None)) as lease:
        run = Certification(store, policies, world, executor, (seed,), bundle, observer)
        run.hold, run.lease_id = lambda keys: lease.hold(keys=keys), lease.record.lease_id
        stage, progress = run.run()
        return stage, *progress[seed].results()


def digests_of(store: Store, keys: Mapping[str, str]) -> dict[tuple[str, str], str]:
    """(state, table or document) -> digest of everything that a run's states put out.

    The files of a catalogue's bundle are left out: their bytes embed the version of whoever wrote them, and the
    catalogue's own digest covers what they mean.
    """
    found: dict[tuple[str, str], str] = {}
    for state, key in keys.items():
        if not store.has(state.lower(), key):
            continue
        manifest = store.manifest(state.lower(), key)
        found |= {(state, name): entry.logical_digest for name, entry in manifest.tables.items()}
        if state == "CAT":
            found[state, "catalogue_digest"] = str(manifest.facts["catalogue_digest"])
        else:
            documents = manifest.documents.items()
            found |= {(state, name): digest for name, digest in documents if not name.startswith("bundle/")}
    return found


def compare(
    published: Mapping[tuple[str, str], str], again: Mapping[tuple[str, str], str]
) -> tuple[Difference, ...]:
    """Digests that are not the same, or only on one side."""
    names = list(dict.fromkeys((*published, *again)))
    return tuple(
        Difference(state, name, published.get((state, name), "nothing"), again.get((state, name), "nothing"))
        for state, name in names
        if published.get((state, name)) != again.get((state, name))
    )
