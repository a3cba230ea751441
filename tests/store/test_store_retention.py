"""Pruning never removes what can be reached, and removes all the rest."""

from __future__ import annotations

import json
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from faulty_filesystem import UnsyncedFileSystem
from hypothesis import Phase, find, given, settings
from hypothesis import strategies as st
from store_cases import fixed_clock, key, open_store

from seg1b.errors import InputError, StoreError
from seg1b.store.receipts import Receipt
from seg1b.store.retention import tree_bytes
from seg1b.store.roots import ROOTS
from seg1b.store.store import Store
from seg1b.store.usage import usage

OBJECTS, RUNS = 8, 5
HOLDERS = (
    "pointer",
    "lock",
    "phase",
    "wave",
    "closed wave",
    "abandoned wave",
    "certification",
    "lease",
    "expired lease",
    "performance baseline",
    "timing closure",
    "guard verdict",
    "ledger",
)
DEAD = {"closed wave", "abandoned wave", "expired lease", "timing closure", "guard verdict", "ledger"}
"""What names things without keeping them."""


def _run_id(number: int) -> str:
    return f"{number + 1:032x}"


@dataclass(frozen=True)
class World:
    """A random store: what each object was made from, what each run used, and who names what."""

    inputs: tuple[tuple[int, ...], ...]
    partial: tuple[bool, ...]
    runs: tuple[tuple[int, ...], ...]
    named_runs: tuple[tuple[str, int], ...]
    named_objects: tuple[tuple[str, int], ...]
    half_runs: int
    leftovers: int
    keep_newest: int
    keep_runs: tuple[int, ...]


@st.composite
def _worlds(draw: st.DrawFn, holders: tuple[str, ...] = HOLDERS) -> World:
    indices = st.integers(0, OBJECTS - 1)
    inputs = tuple(
        tuple(draw(st.lists(st.integers(0, i - 1), max_size=2))) if i else () for i in range(OBJECTS)
    )
    runs = tuple(tuple(draw(st.lists(indices, max_size=3, unique=True))) for _ in range(RUNS))
    of_objects = [holder for holder in holders if holder != "pointer"]  # that names a run
    return World(
        inputs,
        tuple(draw(st.lists(st.booleans(), min_size=OBJECTS, max_size=OBJECTS))),
        runs,
        tuple(draw(st.lists(st.tuples(st.sampled_from(holders), st.integers(0, RUNS - 1)), max_size=4))),
        tuple(draw(st.lists(st.tuples(st.sampled_from(of_objects), indices), max_size=4)))
        if of_objects
        else (),
        draw(st.integers(0, 2)),
        draw(st.integers(0, 2)),
        draw(st.sampled_from((0, 0, 1, 2))),
        tuple(draw(st.lists(st.integers(0, RUNS - 1), max_size=1))),
    )


def _build(world: World, store: Store) -> None:
    for i in range(OBJECTS):
        if world.partial[i]:
            with store.part("s4", key(f"o{i}"), "p") as publication:
                publication.facts["i"] = i
        else:
            named = {f"input{j}": key(f"o{j}") for j in world.inputs[i]}
            with store.transaction("s4", key(f"o{i}"), inputs=named) as publication:
                publication.facts["i"] = i
    for number, used in enumerate(world.runs):
        store.receipts.publish(Receipt(_run_id(number), {}, {"s4": key("none"), **_keys(used)}))
        store.receipts.write_telemetry(_run_id(number), {"names": key("o0")})  # clocks keep nothing
    for number in range(world.half_runs):  # killed between the folder and its receipt
        (store.layout.runs / f"{number + 100:032x}").mkdir()
    for number in range(world.leftovers):  # killed while staging
        grave = store.layout.staging / f"dead-{number}"
        grave.mkdir(parents=True)
        (grave / "file").write_bytes(b"x")
    for position, (holder, number) in enumerate(world.named_runs):
        _name(store, holder, position, run_id=_run_id(number))
    for position, (holder, number) in enumerate(world.named_objects):
        _name(store, holder, 10 + position, state_key=key(f"o{number}"))


def _keys(used: tuple[int, ...]) -> dict[str, str]:
    return {f"s4-{i}": key(f"o{i}") for i in used}


def _name(store: Store, holder: str, position: int, run_id: str = "", state_key: str = "") -> None:
    named = {"deep": [{"in": {"a": run_id or state_key}}]}
    if holder == "pointer":
        store.pointers.set(("baseline_authority", "current_candidate", "last_good")[position % 3], run_id)
    elif holder == "lock":
        store.phase_locks.write(f"p{position}", named)
    elif holder == "phase":
        store.phases.write(f"p{position}", named)
    elif holder.endswith("wave"):
        status = "open" if holder == "wave" else holder.removesuffix(" wave")
        store.waves.write(f"w{position}", {**named, "status": status})
    elif holder == "performance baseline":
        store.performance.write(
            "baseline", {**(store.performance.find("baseline") or {}), f"n{position}": named}
        )
    elif holder == "timing closure":
        store.performance.write(f"closure-{position}", named)
    elif holder == "guard verdict":
        store.guards.write(f"{position:064x}", named)
    elif holder == "ledger":
        store.ledger.append(named)
    elif holder == "certification":
        with store.certifications.publish(f"{position + 1:064x}") as folder:
            folder.add_json("evidence/receipts.json", named)
    else:
        clock = fixed_clock if holder == "lease" else lambda: 1.0
        other = Store(store.layout, UnsyncedFileSystem(), clock)
        lease = other.lease("driver", ttl_s=100)
        lease.hold(run_ids=[run_id] if run_id else [], keys=[state_key] if state_key else [])


def _expected(world: World) -> tuple[set[int], set[int]]:
    """(objects, runs) that must stay, by the definition."""
    pointers = {position % 3: number for position, (holder, number) in enumerate(world.named_runs)
                if holder == "pointer"}  # fmt: skip
    runs = {number for holder, number in world.named_runs if holder not in {*DEAD, "pointer"}} | {
        *pointers.values(),
        *world.keep_runs,
        *range(RUNS - world.keep_newest, RUNS),
    }
    reached = {number for holder, number in world.named_objects if holder not in DEAD}
    reached |= {i for number in runs for i in world.runs[number]}
    todo = list(reached)
    while todo:
        i = todo.pop()
        for j in () if world.partial[i] else world.inputs[i]:
            if j not in reached:
                reached.add(j)
                todo.append(j)
    return reached, runs


def _held_bytes(store: Store) -> int:
    """Bytes of everything that can be pruned."""
    layout = store.layout
    return sum(tree_bytes(folder) for folder in (layout.objects, layout.runs, layout.leases))


@settings(max_examples=60)
@given(_worlds())
def test_pruning_keeps_exactly_what_can_be_reached(world: World) -> None:
    """The kept set is the reachable set; a dry run changes nothing, a second run finds nothing."""
    _require_exact(world)


def test_the_random_stores_have_every_kind_of_holder() -> None:
    """A new kind has to be added to them."""
    assert set(HOLDERS) - DEAD == set(ROOTS)


@pytest.mark.parametrize("kind", sorted(ROOTS))
def test_no_kind_of_holder_can_be_left_out(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without it, the test above fails for some store that has such holders."""
    monkeypatch.delitem(ROOTS, kind)
    search = settings(
        max_examples=50, deadline=None, derandomize=True, database=None, phases=(Phase.generate,)
    )
    find(_worlds((kind,)), _goes_wrong, settings=search)


def _goes_wrong(world: World) -> bool:
    try:
        _require_exact(world)
    except AssertionError:
        return True
    return False


def _require_exact(world: World) -> None:
    root = Path(tempfile.mkdtemp())
    try:
        store = open_store(root / "runs", UnsyncedFileSystem())
        _build(world, store)
        kept: dict[str, Any] = {
            "keep_newest_runs": world.keep_newest,
            "keep_runs": [_run_id(n) for n in world.keep_runs],
        }
        before = sorted(store.root.rglob("*"))
        dry = store.retention.prune(**kept)
        assert sorted(path for path in store.root.rglob("*")) == before
        shown = usage(dry, store.root)
        size = sum(p.stat().st_size for p in store.root.rglob("*") if p.is_file())
        assert shown.total_bytes == size
        held = _held_bytes(store)
        assert sum(row.held_bytes for row in shown.states) == dry.live_bytes
        assert sum(row.free_bytes for row in shown.states) == dry.collectable_bytes
        done = store.retention.prune(dry_run=False, **kept)
        assert (done.collectable, done.live) == (dry.collectable, dry.live)
        assert held - _held_bytes(store) == dry.collectable_bytes
        store.close()
        assert not list(store.layout.staging.glob("dead-*"))
        objects, runs = _expected(world)
        assert {path.name for path in store.layout.objects.glob("*/*")} == {key(f"o{i}") for i in objects}
        assert set(store.receipts.run_ids()) == {_run_id(number) for number in runs}
        assert store.retention.prune(dry_run=False, **kept).collectable == ()
        for i in objects:
            if not world.partial[i]:
                store.verify_object("s4", key(f"o{i}"))
    finally:
        shutil.rmtree(root)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Three runs that nobody names."""
    store = open_store(tmp_path / "runs", UnsyncedFileSystem())
    for number in range(3):
        with store.transaction("s4", key(f"o{number}")) as publication:
            publication.facts["n"] = number
        store.receipts.publish(Receipt(_run_id(number), {}, {"s4": key(f"o{number}")}))
    return store


def test_the_newest_runs_may_be_kept(store: Store) -> None:
    """And a run that is named."""
    plan = store.retention.plan(keep_newest_runs=1, keep_runs=[_run_id(0)])
    assert {item.name for item in plan.live if item.kind == "run"} == {_run_id(0), _run_id(2)}
    assert {item.name for item in plan.collectable} == {_run_id(1), key("o1")}
    assert plan.collectable_bytes > 0


def test_a_mistyped_run_never_means_an_empty_keep_set(store: Store) -> None:
    """Nothing is removed."""
    with pytest.raises(InputError, match="E_STORE_UNKNOWN_ID"):
        store.retention.prune(dry_run=False, keep_runs=[_run_id(0)[:-1] + "f"])
    assert len(store.receipts.run_ids()) == 3


def test_an_unreadable_holder_stops_pruning(store: Store) -> None:
    """A damaged lease or wave might hold something: better an error than a loss."""
    store.layout.leases.mkdir(exist_ok=True)
    (store.layout.leases / "x.json").write_text("{")
    with pytest.raises(StoreError, match="E_STORE_DAMAGED"):
        store.retention.prune(dry_run=False)
    (store.layout.leases / "x.json").unlink()
    store.layout.waves.mkdir(exist_ok=True)
    (store.layout.waves / "w.json").write_text("{")
    with pytest.raises(StoreError, match="E_STORE_DAMAGED"):
        store.retention.prune(dry_run=False)
    assert len(store.receipts.run_ids()) == 3


def test_an_output_has_the_bytes_of_its_files_whether_its_manifest_can_be_read_or_not(store: Store) -> None:
    """A published one is not looked at file by file."""
    folder = store.layout.object("s4", key("o0"))
    for spoiled in (False, True):
        if spoiled:
            (folder / "manifest.json").chmod(0o644)
            (folder / "manifest.json").write_text("{")
        sizes = {item.name: item.length_bytes for item in store.retention.plan().collectable}
        assert sizes[key("o0")] == tree_bytes(folder)


def test_more_than_may_stay_means_that_nothing_goes(store: Store) -> None:
    """Whoever asked can keep less and ask again."""
    store.pointers.set("last_good", _run_id(0))
    whole = store.retention.plan()
    refused = store.retention.prune(dry_run=False, at_most_bytes=whole.live_bytes - 1)
    assert not refused.removed
    assert refused.live_bytes == whole.live_bytes
    assert store.retention.plan() == whole
    assert store.retention.prune(dry_run=False, at_most_bytes=whole.live_bytes).removed
    assert store.retention.plan().collectable == ()


def test_an_output_whose_inputs_were_altered_stops_pruning(store: Store) -> None:
    """It may have been made from something else than it names now."""
    path = store.layout.object("s4", key("o0")) / "manifest.json"
    told = json.loads(path.read_bytes())
    path.write_text(json.dumps({**told, "inputs": {"s3": key("another")}}))
    store.pointers.set("last_good", _run_id(0))
    with pytest.raises(StoreError, match=r"E_STORE_DAMAGED.*its digest does not follow"):
        store.retention.prune(dry_run=False)
    assert len(store.receipts.run_ids()) == 3


def test_a_certification_holds_its_runs_and_is_never_collected(store: Store) -> None:
    """Until it is removed by name."""
    with store.certifications.publish("c" * 64) as folder:
        folder.add_json("telemetry.json", {"run_ids": [_run_id(1)]})
    plan = store.retention.prune(dry_run=False)
    assert {item.name for item in plan.live} == {_run_id(1), key("o1")}
    assert plan.live[0].held_by == ("certification cccccccccccc",)
    store.certifications.remove("c" * 64)
    assert {item.name for item in store.retention.plan().collectable} == {_run_id(1), key("o1")}


def test_usage_says_what_would_go_if_a_holder_let_go(store: Store) -> None:
    """Two pointers share an object; each has a run of its own."""
    store.receipts.publish(Receipt(_run_id(7), {}, {"s4": key("o1")}))
    store.pointers.set("last_good", _run_id(1))
    store.pointers.set("current_candidate", _run_id(7))
    plan = store.retention.plan()
    found = {row.name: row for row in usage(plan, store.root).holders}
    sizes = {item.name: item.length_bytes for item in plan.live}
    assert set(found) == {"pointer last_good", "pointer current_candidate"}
    assert found["pointer last_good"].reached_bytes == sizes[_run_id(1)] + sizes[key("o1")]
    assert found["pointer last_good"].own_bytes == sizes[_run_id(1)]
    states = {row.name: row for row in usage(plan, store.root).states}
    assert (states["s4"].held, states["s4"].free) == (1, 2)
    assert (states["runs"].held, states["runs"].free) == (2, 2)
