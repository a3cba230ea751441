"""A shard's way through S4 to S8: in blocks of any size, resumed anywhere, or not at all."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from seed_cases import FINGERPRINT, catalogue

from seg1b.lanes.world_stage import WorldStage
from seg1b.policy.load import Policies, default_policies, set_values
from seg1b.states import s4_allocation, s6_jitter, shard
from seg1b.states.plan import SeedIdentity
from seg1b.states.required_pairs import required_pairs
from seg1b.states.shard import ShardRun, units
from seg1b.states.tables import ASSIGNMENT_TABLE, JITTER_TABLE, PLAN_TABLE, Pairs
from seg1b.store.store import Store

DEFAULTS = default_policies()
KEYS = {state: digit * 64 for state, digit in (("S4", "4"), ("S5", "5"), ("S6", "6"), ("S8", "8"))}
TABLES = {
    "S4": PLAN_TABLE,
    "S5": ASSIGNMENT_TABLE,
    "S6": JITTER_TABLE,
    "S8": "site_locations",
}
PART = "part-00000"


def pairs_of(stage: WorldStage) -> Pairs:
    """Four countries of 210 sites and Monaco's 24; ids up to 2^64 - 1, pairs of 1 to 34 sites."""
    countries = stage.world.countries
    return required_pairs(catalogue(countries), countries, DEFAULTS.requirements)[0]


def run_shard(store: Store, stage: WorldStage, policies: Policies = DEFAULTS) -> ShardRun:
    """The shard, published."""
    identity = SeedIdentity(42, KEYS, FINGERPRINT)
    run = ShardRun(store, stage.world, policies, identity, PART, pairs_of(stage), "nobody")
    run.run()
    return run


def published(store: Store) -> dict[str, Any]:
    """Rows and logical digests of every country and table, and what S4 tells."""
    found: dict[str, Any] = {}
    for state, table in TABLES.items():
        entry = store.part_receipt(state.lower(), KEYS[state], PART).tables[table]
        found[state] = [(item.key, item.rows, item.digest) for item in entry.partitions]
    folder = store.layout.part("s4", KEYS["S4"], PART)
    return {**found, "diagnostics": (folder / "diagnostics.json").read_bytes()}


def parts(store: Store) -> set[str]:
    """States that have published the part."""
    return {state for state in TABLES if store.parts(state.lower(), KEYS[state])}


class Counted:
    """Counts calls; raises at one of them."""

    def __init__(self, function: Callable[..., Any], fail_at: int = -1) -> None:
        self.function, self.fail_at, self.calls = function, fail_at, 0

    def __call__(self, *arguments: Any) -> Any:
        """Pass on."""
        self.calls += 1
        if self.calls == self.fail_at:
            raise ZeroDivisionError("a bug")
        return self.function(*arguments)


# -- how pairs are cut ---------------------------------------------------------------------------------------------

sizes_by_country = st.lists(st.lists(st.integers(1, 40), min_size=1, max_size=8), min_size=1, max_size=12)


@given(sizes_by_country, st.integers(1, 60))
def test_units_are_whole_countries_and_blocks_whole_pairs(sizes: list[list[int]], block_sites: int) -> None:
    """In order and complete; no block is larger than it must be, and none could have taken the next pair too."""
    country = np.repeat(np.arange(len(sizes), dtype=np.int16), [len(own) for own in sizes])
    merchant = np.concatenate([np.arange(len(own), dtype=np.uint64) for own in sizes])
    pairs = Pairs(country, merchant, np.array([n for own in sizes for n in own], np.int64))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shard, "BLOCK_SITES", block_sites)
        found = list(units(pairs))
    for name in ("country", "merchant_id", "n_sites"):
        joined = np.concatenate([getattr(unit.pairs, name) for unit in found])
        assert np.array_equal(joined, getattr(pairs, name))
    inside = [set(unit.pairs.country.tolist()) for unit in found]
    assert sum(map(len, inside)) == len(sizes)
    loads = [int(unit.pairs.n_sites.sum()) for unit in found]
    totals = [sum(own) for own in sizes]
    for i, unit in enumerate(found):
        assert loads[i] <= block_sites or len(inside[i]) == 1
        if i + 1 < len(found):
            assert loads[i] + totals[min(inside[i + 1])] > block_sites
        bounds = [part.start for part in unit.blocks] + [len(unit.pairs.n_sites)]
        assert [(part.start, part.stop) for part in unit.blocks] == list(itertools.pairwise(bounds))
        assert bounds[0] == 0
        for part in unit.blocks:
            own = int(unit.pairs.n_sites[part].sum())
            assert own <= block_sites or part.stop - part.start == 1
            if part.stop < len(unit.pairs.n_sites):
                assert own + int(unit.pairs.n_sites[part.stop]) > block_sites


# -- what is published ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["two_stage_pps", "systematic_pps", "largest_remainder_v1"])
def test_blocks_of_any_size_publish_the_same(
    world_stage: WorldStage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    """A country in one block or in twelve, a pair to itself: the same rows, digests and diagnostics."""
    policies = set_values(DEFAULTS, {"s4.mode": mode})
    found = []
    for block_sites in (1 << 20, 60, 1):
        monkeypatch.setattr(shard, "BLOCK_SITES", block_sites)
        blocks = [len(unit.blocks) for unit in units(pairs_of(world_stage))]
        assert max(blocks) == {1 << 20: 1, 60: 5, 1: 12}[block_sites]
        with Store.open(tmp_path / f"{block_sites}") as store:
            run_shard(store, world_stage, policies)
            found.append(published(store))
    assert found[1] == found[0]
    assert found[2] == found[0]
    assert sum(rows for _, rows, _ in found[0]["S8"]) == 4 * 210 + 24


@pytest.fixture(scope="module")
def whole(world_stage: WorldStage, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a shard in it that nobody disturbed."""
    root = tmp_path_factory.mktemp("whole") / "runs"
    with Store.open(root) as store:
        run_shard(store, world_stage)
    return root


@pytest.mark.parametrize(
    "lacking", [set(some) for n in range(5) for some in itertools.combinations(TABLES, n)], ids=sorted
)
def test_only_what_lacks_is_made(
    world_stage: WorldStage, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lacking: set[str]
) -> None:
    """Any of the four states may be there: the others come out the same, and what was there is left alone."""
    monkeypatch.setattr(shard, "BLOCK_SITES", 60)
    shutil.copytree(whole, tmp_path / "runs")
    plan, points = Counted(s4_allocation.run), Counted(s6_jitter.run)
    monkeypatch.setattr("seg1b.states.shard.s4_allocation.run", plan)
    monkeypatch.setattr("seg1b.states.shard.s6_jitter.run", points)
    with Store.open(tmp_path / "runs") as store:
        before = published(store)
        for state in lacking:
            shutil.rmtree(store.layout.part(state.lower(), KEYS[state], PART))
        left = {path: path.stat().st_mtime_ns for path in store.layout.objects.rglob("*.*")}
        run = run_shard(store, world_stage)
        assert published(store) == before
        assert {path: path.stat().st_mtime_ns for path in left} == left
    written = {name.split(".")[0] for name in run.times.seconds if name.endswith(".write")}
    assert written == lacking
    assert bool(plan.calls) == bool(lacking & {"S4", "S5"})
    assert bool(points.calls) == ("S6" in lacking)


@pytest.mark.parametrize(
    ("function", "at"), [("s4_allocation.run", 3), ("s5_assignment.run", 4), ("s6_jitter.run", 7),
                         ("s8_egress.country_tables", 9)],
)  # fmt: skip
def test_an_error_in_the_middle_leaves_nothing(
    world_stage: WorldStage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, function: str, at: int
) -> None:
    """No state's part, no temporary folder; the next run makes it all."""
    monkeypatch.setattr(shard, "BLOCK_SITES", 60)
    module, name = function.split(".")
    honest = getattr(getattr(shard, module), name)
    with Store.open(tmp_path / "runs") as store:
        monkeypatch.setattr(f"seg1b.states.shard.{function}", Counted(honest, at))
        with pytest.raises(ZeroDivisionError, match="a bug"):
            run_shard(store, world_stage)
        assert parts(store) == set()
        assert list(store.layout.staging.glob("*/*")) == []
        monkeypatch.setattr(f"seg1b.states.shard.{function}", honest)
        run_shard(store, world_stage)
        assert parts(store) == set(TABLES)


def test_states_are_published_in_the_order_of_the_chain(
    world_stage: WorldStage, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If S6 cannot be published, S4 and S5 are there and S8 is not; nothing temporary stays."""
    close = shard._Sink.close
    closed: list[int] = []

    def fail_third(sink: Any) -> None:
        closed.append(1)
        if len(closed) == 3:
            raise OSError("no space left")
        close(sink)

    with Store.open(tmp_path / "runs") as store:
        monkeypatch.setattr(shard._Sink, "close", fail_third)
        with pytest.raises(OSError, match="no space left"):
            run_shard(store, world_stage)
        assert parts(store) == {"S4", "S5"}
        assert list(store.layout.staging.glob("*/*")) == []
        monkeypatch.setattr(shard._Sink, "close", close)
        run_shard(store, world_stage)
        with Store.open(whole) as other:
            assert published(store) == published(other)
