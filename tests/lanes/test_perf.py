"""Budgets, baseline, waivers and closing records, on runs whose times are written by hand."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from seg1b.errors import InputError, StoreError
from seg1b.lanes import perf
from seg1b.lanes.perf_times import judge, timings_of
from seg1b.policy.budgets import BUDGETED_STATES
from seg1b.policy.load import default_policies, set_values
from seg1b.store.receipts import Receipt
from seg1b.store.store import Store

sys.path.insert(0, str(Path(__file__).parents[1] / "store"))
from store_cases import key

_TARGETS = {"S1": 5.0, "S2w": 6.0, "S2s": 3.0, "CAT": 4.0, "S0c": 3.0, "S3": 1.5, "S4": 3.0, "S5": 2.0, "S6": 3.0,
            "S7": 1.0, "S8": 4.0, "S9": 6.0, "S4.substages.allocate": 1.5, "S5.substages.assign": 1.0,
            "S6.substages.jitter": 1.5, "S8.substages.write": 3.0, "S9.substages.replay": 3.0}  # fmt: skip
POLICIES = set_values(
    default_policies(),
    {"budgets.noise_floor_s": 0.25}
    | {f"budgets.budgets.{stage}.target_s": target for stage, target in _TARGETS.items()}
    | {f"budgets.budgets.{stage}.stretch_s": 2.0 * target for stage, target in _TARGETS.items()},
)
"""Budgets of their own: what is shipped may change."""
WORLD_STATES = ("S1", "S2w", "S2s")
RUN, OTHER, WITNESS = (f"{n:032x}" for n in (1, 2, 3))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """An empty one."""
    return Store.open(tmp_path / "runs")


def publish(
    store: Store,
    run_id: str,
    *,
    reused: tuple[str, ...] = (),
    sites: int = 1000,
    keys: dict[str, str] | None = None,
    kind: str = "serial",
    workers: int = 1,
    lineage: dict[str, Any] | None = None,
    **seconds: float,
) -> None:
    """A run whose states took a second each, a substage half of it, but for `seconds` (`S4=7`, `S4__allocate=5`)."""
    told = {name.replace("__", "."): value for name, value in seconds.items()}
    times: dict[str, float] = dict.fromkeys(BUDGETED_STATES, 1.0)
    times |= {f"{state}.main": 0.5 for state in BUDGETED_STATES} | told
    states = {stage: {"wall_s": value, "cpu_s": value} for stage, value in times.items()}
    every = {state.lower(): key(state) for state in BUDGETED_STATES} | (keys or {})
    store.receipts.publish(
        Receipt(run_id, {"seed": 42}, every, lineage or {"lane": "certify"}, {"name": "serial"})
    )
    store.receipts.write_telemetry(
        run_id,
        {
            "wall_s": 12.0,
            "executor": ran_on(kind, workers),
            "world": {
                "states": {n: v for n, v in states.items() if n.split(".")[0] in WORLD_STATES},
                "reused": [name for name in reused if name in WORLD_STATES],
            },
            "seeds": {
                "42": {
                    "run_id": run_id,
                    "reused": [name for name in reused if name not in WORLD_STATES],
                    "states": {n: v for n, v in states.items() if n.split(".")[0] not in WORLD_STATES},
                    "shards": {"part-00000": sites},
                }
            },
        },
    )


def ran_on(kind: str, workers: int) -> dict[str, Any]:
    """As executors describe themselves: Ray counts the processes that got a task, here the driver, too."""
    if kind == "ray":
        return {"executor": "ray", "workers": workers + 1, "cpus": float(workers)}
    return {"executor": kind, "workers": workers}


def again(store: Store, run_id: str, of: str = RUN, **told: Any) -> None:
    """A witness with times, of a run that `publish` made."""
    publish(store, run_id, lineage={"lane": "witness", "of": of, "same": True}, **told)


def vouch(store: Store, run_id: str = RUN, same: bool = True) -> None:
    """A witness of a run, and of every other run with its keys."""
    receipt = store.receipts.load(run_id)
    lineage = {"lane": "witness", "of": run_id, "same": same}
    made = f"{len(store.receipts.run_ids()) + 100:032x}"
    store.receipts.publish(Receipt(made, dict(receipt.identity), dict(receipt.keys), lineage, {}))


def colours(check: perf.Check) -> dict[str, str | None]:
    """By stage."""
    return {row.stage: row.colour for row in check.stages}


@pytest.mark.parametrize(
    ("seconds", "colour"), [(3.0, "GREEN"), (3.001, "AMBER"), (6.0, "AMBER"), (6.001, "RED")]
)
def test_a_state_is_judged_by_its_budget(store: Store, seconds: float, colour: str) -> None:
    """Within target, within stretch, above; both ends belong to the better colour."""
    publish(store, RUN, S4=seconds)
    vouch(store)
    found = perf.check(store, POLICIES, RUN)
    assert colours(found)["S4"] == colour
    assert found.status == colour
    assert found.passed == (colour != "RED")
    assert colours(found)["S4.main"] is None


def test_a_substage_has_its_own_budget_and_larger_runs_more_time(store: Store) -> None:
    """A hundred times the reference: a hundred times the seconds, but not for the world."""
    publish(store, RUN, S4__allocate=2.0, S1=50.0)
    assert colours(perf.check(store, POLICIES, RUN))["S4.allocate"] == "AMBER"
    publish(store, OTHER, S4=290.0, S1=50.0, sites=128000 * 100)
    found = colours(perf.check(store, POLICIES, OTHER))
    assert (found["S4"], found["S1"]) == ("GREEN", "RED")


def test_what_was_read_is_not_judged(store: Store) -> None:
    """A reused state, and one with nothing but a commit; a run that made nothing has nothing to check."""
    publish(store, RUN, reused=("S1", "CAT"), S4__commit=9.0)
    assert colours(perf.check(store, POLICIES, RUN))["S1"] is None
    telemetry = store.receipts.telemetry(RUN)
    states = telemetry["seeds"]["42"]["states"]
    del states["S4.main"]
    store.receipts.write_telemetry(RUN, telemetry)
    assert colours(perf.check(store, POLICIES, RUN))["S4"] is None
    with pytest.raises(InputError, match="E_PERF_NOT_MEASURED") as error:
        perf.pin_baseline(store, POLICIES, RUN)
    assert "no S1, CAT, S4:" in error.value.message
    assert "witness" in error.value.next_step
    assert perf.pinned_baseline(store) is None
    publish(store, OTHER, reused=BUDGETED_STATES)
    with pytest.raises(InputError, match="E_PERF_NOT_MEASURED"):
        perf.check(store, POLICIES, OTHER)


@pytest.mark.parametrize(
    ("seconds", "slower"), [(0.5, False), (1.1, False), (1.2, False), (1.26, True), (2.0, True)]
)
def test_a_slow_down_beyond_a_tenth_and_beyond_noise_is_rejected(
    store: Store, seconds: float, slower: bool
) -> None:
    """A second before; the noise floor is a quarter of a second."""
    publish(store, RUN)
    publish(store, OTHER, S6=seconds)
    vouch(store)
    perf.pin_baseline(store, POLICIES, RUN)
    found = perf.check(store, POLICIES, OTHER)
    assert found.slower == (("S6",) if slower else ())
    assert found.passed != slower
    row = next(row for row in found.stages if row.stage == "S6")
    assert row.change == pytest.approx(seconds - 1.0)


def test_many_small_slow_downs_are_one(store: Store) -> None:
    """A fifth of a second each is noise; of twelve states together it is none. What is named is not counted twice."""
    publish(store, RUN)
    vouch(store)
    perf.pin_baseline(store, POLICIES, RUN)
    every: dict[str, Any] = dict.fromkeys(BUDGETED_STATES, 1.2)
    publish(store, OTHER, **every)
    found = perf.check(store, POLICIES, OTHER)
    assert found.slower == ("total",)
    assert found.stages[-1].change == pytest.approx(0.2)
    assert perf.check(store, POLICIES, OTHER, {"total": "a busy machine"}).passed
    publish(store, WITNESS, S6=9.0)
    assert perf.check(store, POLICIES, WITNESS, {"S6": "agreed"}).slower == ()


def test_large_times_need_no_noise_floor(store: Store) -> None:
    """Ten percent of twenty seconds is no noise."""
    publish(store, RUN, S9=20.0)
    publish(store, OTHER, S9=21.9)
    perf.pin_baseline(store, POLICIES, RUN)
    assert perf.check(store, POLICIES, OTHER).slower == ()
    tight = set_values(POLICIES, {"budgets.slowdown_max": 0.09})
    assert perf.check(store, tight, OTHER).slower == ("S9",)


def test_a_waiver_is_by_name_and_with_a_reason_and_stays(store: Store) -> None:
    """In the record and in the ledger; it waives that stage and no other."""
    publish(store, RUN)
    publish(store, OTHER, S6=2.0, S8=9.0, S8__write=7.0)
    vouch(store)
    perf.pin_baseline(store, POLICIES, RUN)
    for bad in ({"S66": "why"}, {"S6": "  "}):
        with pytest.raises(InputError, match="E_PERF_WAIVER"):
            perf.check(store, POLICIES, OTHER, bad)
    assert store.performance.find(perf.CHECK) is None
    found = perf.check(store, POLICIES, OTHER, {"S6": "agreed", "S8": "agreed"})
    assert (found.red, found.slower, found.passed) == (("S8.write",), (), False)
    assert found.status == "RED"
    found = perf.check(store, POLICIES, OTHER, {"S6": "agreed", "S8": "agreed", "S8.write": "agreed"})
    assert found.passed
    entry = store.ledger.entries()[-1]
    assert entry["kind"] == "perf_waived"
    assert entry["at"]
    assert entry["stages"]["S8.write"] == "agreed"


def test_a_baseline_of_other_inputs_says_so(store: Store) -> None:
    """State by state by key; none in common is an error, and so is another executor."""
    publish(store, RUN, S6=1.0, S9=1.0)
    perf.pin_baseline(store, POLICIES, RUN)
    publish(store, OTHER, keys={"s6": key("other")}, S6=5.0, S9=5.0)
    found = perf.check(store, POLICIES, OTHER)
    assert found.slower == ("S9",)
    publish(store, "a" * 32, keys={state.lower(): key(f"x{state}") for state in BUDGETED_STATES})
    with pytest.raises(InputError, match="E_PERF_BASELINE_INPUTS") as error:
        perf.check(store, POLICIES, "a" * 32)
    assert "has the inputs" in error.value.message
    assert f"`seg1b perf baseline {'a' * 12}` pins this one" in error.value.next_step
    publish(store, "b" * 32, workers=2)
    with pytest.raises(InputError, match="serial x 2"):
        perf.check(store, POLICIES, "b" * 32)
    publish(
        store, "c" * 32, reused=("S1",), kind="ray", keys={s.lower(): key(s * 2) for s in BUDGETED_STATES}
    )
    with pytest.raises(InputError, match="has the inputs") as error:
        perf.check(store, POLICIES, "c" * 32)
    assert error.value.next_step.startswith(
        f"`seg1b witness {'c' * 12} --executor ray --workers 1`, then `seg1b perf"
    )


@pytest.mark.parametrize(
    ("kind", "workers", "command"),
    [
        ("ray", 2, "`seg1b witness {run} --executor ray --workers 2` makes it"),
        ("threads", 2, "`seg1b witness {run} --executor threads` on 2 CPUs makes it"),
        ("serial", 1, "`seg1b witness {run}` makes it"),
    ],
)
def test_times_of_other_executors_are_not_compared(
    store: Store, kind: str, workers: int, command: str
) -> None:
    """A witness by another executor is told how it would be made as the baseline was, and that one is judged."""
    publish(store, RUN, kind=kind, workers=workers)
    perf.pin_baseline(store, POLICIES, RUN)
    again(store, WITNESS, kind="ray", workers=5)
    again(store, OTHER, WITNESS, kind="ray", workers=5)
    for run_id in (WITNESS, OTHER):
        with pytest.raises(InputError, match=f"ran on {kind} x {workers}, this run on ray x 5") as error:
            perf.check(store, POLICIES, run_id)
        assert error.value.code == "E_PERF_BASELINE_INPUTS"
        assert error.value.next_step.startswith(command.format(run=RUN[:12]))
    again(store, "d" * 32, kind=kind, workers=workers, S6=2.0)
    assert perf.check(store, POLICIES, "d" * 32).slower == ("S6",)
    publish(store, "e" * 32, kind="ray", workers=5, reused=BUDGETED_STATES)
    with pytest.raises(InputError, match="E_PERF_NOT_MEASURED") as error:
        perf.check(store, POLICIES, "e" * 32)
    assert error.value.next_step.startswith(command.format(run="e" * 12).removesuffix(" it"))
    publish(store, "f" * 32, kind="ray", workers=5, reused=("S1",))
    with pytest.raises(InputError, match="E_PERF_NOT_MEASURED") as error:
        perf.pin_baseline(
            store, POLICIES, "f" * 32
        )  # compared with runs like itself, whatever was pinned before
    assert f"`seg1b witness {'f' * 12} --executor ray --workers 5`" in error.value.next_step


def _no_seed(telemetry: dict[str, Any]) -> None:
    telemetry["seeds"] = {}


def _no_clock(telemetry: dict[str, Any]) -> None:
    del telemetry["seeds"]["42"]["states"]["S6"]["cpu_s"]


def _a_word(telemetry: dict[str, Any]) -> None:
    telemetry["world"]["states"]["S1"]["wall_s"] = "long"


def _a_list(telemetry: dict[str, Any]) -> None:
    telemetry["world"] = []


@pytest.mark.parametrize("spoil", [_no_seed, _no_clock, _a_word, _a_list])
def test_damaged_times_are_named(store: Store, spoil: Any) -> None:
    """By the file."""
    publish(store, RUN)
    telemetry = store.receipts.telemetry(RUN)
    spoil(telemetry)
    store.receipts.write_telemetry(RUN, telemetry)
    with pytest.raises(StoreError, match="E_STORE_DAMAGED") as error:
        perf.check(store, POLICIES, RUN)
    assert error.value.where.endswith("telemetry.json")


def test_times_that_are_missing_are_an_error(store: Store) -> None:
    """No telemetry, a missing state, no such run."""
    store.receipts.publish(Receipt(RUN, {"seed": 42}, {"s4": key("S4")}, {}, {}))
    with pytest.raises(InputError, match="E_PERF_TELEMETRY"):
        perf.check(store, POLICIES, RUN)
    with pytest.raises(InputError, match="E_STORE_UNKNOWN_ID"):
        perf.check(store, POLICIES, OTHER)
    publish(store, OTHER)
    telemetry = store.receipts.telemetry(OTHER)
    del telemetry["seeds"]["42"]["states"]["S7"]
    store.receipts.write_telemetry(OTHER, telemetry)
    with pytest.raises(InputError, match=r"E_PERF_NOT_MEASURED.*S7"):
        perf.pin_baseline(store, POLICIES, OTHER)


@pytest.mark.parametrize(
    "record", [{"red": ["S4"]}, {"open": ["S4"]}, {"open": {"S4": "RED"}}, {"open": {"S4": {}}}]
)
def test_a_damaged_check_is_an_error_and_no_free_pass(store: Store, record: dict[str, Any]) -> None:
    """What was found is not known, so it is not known to be settled."""
    store.performance.write(perf.CHECK, record)
    with pytest.raises(StoreError, match="E_STORE_DAMAGED") as error:
        perf.require_not_red(store)
    assert "perf check" in str(error.value.next_step)


def test_a_damaged_baseline_is_an_error_and_no_free_pass(store: Store) -> None:
    """Rather than no comparison."""
    publish(store, RUN)
    perf.pin_baseline(store, POLICIES, RUN)
    record = store.performance.read("baseline")
    record["seconds"] = None
    store.performance.write("baseline", record)
    with pytest.raises(StoreError, match="E_STORE_DAMAGED"):
        perf.check(store, POLICIES, RUN)


def test_tuning_is_refused_while_something_is_red(store: Store) -> None:
    """Until a check passes, or somebody says why not."""
    perf.require_not_red(store)
    publish(store, RUN, S4=7.0)
    perf.check(store, POLICIES, RUN)
    with pytest.raises(InputError, match="E_PERF_RED") as error:
        perf.require_not_red(store)
    assert "S4" in error.value.message
    assert "--waive-perf" in error.value.next_step
    before = len(store.ledger.entries())
    assert perf.require_not_red(store, "the bench is being rebuilt") == ("S4",)
    assert len(store.ledger.entries()) == before  # the lane notes it, once nothing else refuses
    publish(store, OTHER)
    perf.check(store, POLICIES, OTHER)
    with pytest.raises(InputError, match="E_PERF_RED"):
        perf.require_not_red(store)  # nobody witnessed the faster run
    vouch(store)
    perf.check(store, POLICIES, OTHER)
    perf.require_not_red(store)


@pytest.mark.parametrize("waive", ["", "  "])
def test_a_waiver_without_a_reason_is_refused_whether_it_is_needed_or_not(store: Store, waive: str) -> None:
    """Who waives something says why; nothing is written."""
    for red in (False, True):
        if red:
            publish(store, RUN, S4=7.0)
            perf.check(store, POLICIES, RUN)
        with pytest.raises(InputError, match="E_PERF_WAIVER"):
            perf.require_not_red(store, waive)
    assert store.ledger.entries() == []


def test_a_few_sites_more_than_the_reference_do_not_change_a_budget(store: Store) -> None:
    """Budgets are judged, and shown, as they are configured; a larger run gets more in proportion."""
    budgets, reference = POLICIES.budgets.budgets, POLICIES.budgets.reference_sites
    for sites, factor in ((reference + reference // 1000, 1.0), (2 * reference, 2.0)):
        publish(store, RUN, sites=sites)
        rows = {row.stage: row for row in perf.check(store, POLICIES, RUN).stages}
        found = (rows["S9"].target_s, rows["S9"].stretch_s)
        assert found == (budgets["S9"].target_s * factor, budgets["S9"].stretch_s * factor)
        assert rows["S1"].target_s == budgets["S1"].target_s


def test_only_a_run_that_made_the_stage_again_settles_it(store: Store) -> None:
    """Not one that read it, not milder budgets, and for a slow-down not one that was not compared; or a waiver."""
    publish(store, RUN, S4=7.0)
    publish(store, OTHER, reused=("S4",))
    publish(store, WITNESS)
    vouch(store)
    perf.check(store, POLICIES, RUN)
    perf.check(store, POLICIES, OTHER)
    mild = set_values(POLICIES, {"budgets.budgets.S4.target_s": 8.0, "budgets.budgets.S4.stretch_s": 9.0})
    assert colours(perf.check(store, mild, RUN))["S4"] == "GREEN"
    assert {stage: entry["why"] for stage, entry in perf.open_stages(store).items()} == {"S4": "RED"}
    with pytest.raises(InputError, match=f"S4 of run {RUN[:12]} is RED"):
        perf.require_not_red(store)
    perf.check(store, POLICIES, WITNESS)
    perf.require_not_red(store)
    perf.pin_baseline(store, POLICIES, WITNESS)
    perf.check(store, POLICIES, RUN)
    assert {entry["why"] for entry in perf.open_stages(store).values()} == {
        "RED"
    }  # RED says more than slower
    perf.check(store, POLICIES, RUN, {"S4": "agreed"})
    assert perf.open_stages(store) == {}
    publish(store, "a" * 32, S6=2.0)
    perf.check(store, POLICIES, "a" * 32)
    publish(store, "b" * 32, keys={"s6": key("other"), "s7": key("other")})
    perf.check(store, POLICIES, "b" * 32)
    assert list(perf.open_stages(store)) == ["S6"]
    perf.check(store, POLICIES, WITNESS)
    perf.require_not_red(store)


def test_no_check_passes_without_a_witness(store: Store) -> None:
    """Its times are judged and kept; the whole is AMBER; the error says what to do. A witness may be checked itself."""
    publish(store, RUN)
    found = perf.check(store, POLICIES, RUN)
    assert set(colours(found).values()) == {"GREEN", None}
    assert (found.status, found.passed, found.rejected, found.deterministic) == ("AMBER", False, False, None)
    with pytest.raises(InputError, match="E_PERF_NO_WITNESS") as error:
        perf.require_witness(found)
    assert f"seg1b witness {RUN[:12]}" in error.value.next_step
    publish(store, WITNESS, lineage={"lane": "witness", "of": RUN, "same": True})
    for run_id in (RUN, WITNESS):
        found = perf.check(store, POLICIES, run_id)
        assert (found.status, found.passed, found.witnesses) == ("GREEN", True, ((WITNESS, True),))
        perf.require_witness(found)
    vouch(store, same=False)
    found = perf.check(store, POLICIES, RUN)
    assert (found.status, found.passed, found.rejected) == ("RED", False, True)
    assert (found.red, found.slower) == ((), ())


def test_what_a_run_did_not_make_keeps_the_whole_from_green(store: Store) -> None:
    """By name; the states that it made are GREEN."""
    publish(store, RUN, reused=tuple(state for state in BUDGETED_STATES if state not in ("S6", "S9")))
    vouch(store)
    found = perf.check(store, POLICIES, RUN)
    assert colours(found)["S6"] == colours(found)["S9"] == "GREEN"
    assert (found.status, found.passed, found.made) == ("AMBER", True, ("S6", "S9"))
    assert found.facts()["not_made"] == [s for s in BUDGETED_STATES if s not in ("S6", "S9")]


def test_the_pinned_run_is_kept(store: Store) -> None:
    """And its witness, without which no check of it passes; no other."""
    publish(store, RUN)
    publish(store, OTHER)
    publish(store, WITNESS, lineage={"lane": "witness", "of": RUN, "same": True})
    publish(store, "e" * 32, lineage={"lane": "witness", "of": OTHER, "same": True})
    perf.pin_baseline(store, POLICIES, RUN)
    store.retention.prune(dry_run=False)
    assert store.receipts.run_ids() == (RUN, WITNESS)
    assert [run["run_id"] for run in store.ledger.entries()[-1]["runs"]] == [OTHER, "e" * 32]


def witnessed(store: Store, same: bool = True, **seconds: float) -> None:
    """A run and its witness."""
    publish(store, RUN, S8__write=0.9, S9__replay=0.8)
    lineage = {"lane": "witness", "of": RUN, "same": same}
    times: dict[str, Any] = {"S8__write": 0.9, "S9__replay": 0.8, **seconds}
    publish(store, WITNESS, lineage=lineage, **times)


def test_a_phase_closes_on_two_executions(store: Store) -> None:
    """GO, with records for machines and for people, which list every budgeted state."""
    witnessed(store, S4=0.7)
    closure = perf.close(store, POLICIES, RUN)
    assert closure.decision == "GO"
    assert closure.hotspots == {RUN: ["S8.write", "S9.replay"], WITNESS: ["S8.write", "S9.replay"]}
    assert next(row.seconds for row in closure.check.stages if row.stage == "S4") == 0.7
    record = json.loads((store.layout.performance / f"closure-{RUN}.json").read_bytes())
    assert record["decision"] == "GO"
    assert record["executions"] == [RUN, WITNESS]
    text = (store.layout.performance / f"closure-{RUN}.md").read_text()
    assert all(f"| {state} |" in text for state in BUDGETED_STATES)
    assert "Decision: **GO**" in text
    assert store.performance.names() == ("check", f"closure-{RUN}")


def test_a_witness_that_differs_holds_and_nothing_waives_it(store: Store) -> None:
    """Determinism is no matter of taste."""
    witnessed(store, same=False)
    closure = perf.close(store, POLICIES, RUN, {"hotspots": "x"})
    assert closure.check.deterministic is False
    assert closure.decision == "HOLD"


def test_hotspots_that_change_hold_unless_waived(store: Store) -> None:
    """By name; the order of the two does not matter."""
    witnessed(store, S8__write=0.7)
    assert perf.close(store, POLICIES, RUN).hotspots_stable
    publish(store, OTHER, lineage={"lane": "witness", "of": RUN, "same": True}, S3__main=0.95)
    closure = perf.close(store, POLICIES, RUN)
    assert not closure.hotspots_stable
    assert closure.decision == "HOLD"
    assert perf.close(store, POLICIES, RUN, {"hotspots": "a tie"}).decision == "GO"


def test_a_phase_closes_on_what_ran_as_the_baseline_did(store: Store) -> None:
    """A faster executor masks no slow-down; who was left out is told to machines and people; every witness counts."""
    publish(store, RUN, kind="ray", workers=2)
    perf.pin_baseline(store, POLICIES, RUN)
    later = "a" * 32
    publish(store, later, kind="ray", workers=2, S6=2.0)
    again(store, WITNESS, later, S6=0.1)
    found = perf.close(store, POLICIES, later)
    assert (found.executions, found.check.slower, found.decision) == ((later,), ("S6",), "HOLD")
    assert found.check.deterministic is True
    why = "it ran on serial x 1, the baseline on ray x 2"
    assert found.facts()["left_out"] == [{"run_id": WITNESS, "why": why}]
    assert f"- {WITNESS}: {why}" in (store.layout.performance / f"{found.name}.md").read_text()
    assert found.facts() == json.loads((store.layout.performance / f"{found.name}.json").read_bytes())


def test_a_phase_that_nothing_comparable_closes_is_refused(store: Store) -> None:
    """With the command that mends it; nothing is written. Another baseline's inputs are no matter of executors."""
    publish(store, RUN)
    again(store, WITNESS)
    publish(store, OTHER, kind="ray", workers=2)
    perf.pin_baseline(store, POLICIES, OTHER)
    with pytest.raises(InputError, match="ran on ray x 2, this run on serial x 1") as error:
        perf.close(store, POLICIES, RUN)
    assert error.value.next_step == (
        f"`seg1b witness {RUN[:12]} --executor ray --workers 2` makes it as the baseline was made, then "
        f"`seg1b perf closure {RUN[:12]}`"
    )
    publish(store, "b" * 32, keys={state.lower(): key(f"x{state}") for state in BUDGETED_STATES})
    with pytest.raises(InputError, match=r"E_PERF_BASELINE_INPUTS.*has the inputs") as error:
        perf.close(store, POLICIES, "b" * 32)
    assert f"`seg1b perf baseline {'b' * 12}`" in error.value.next_step
    assert store.performance.names() == ("baseline",)
    again(store, "c" * 32, kind="ray", workers=2)
    again(store, "d" * 32, kind="ray", workers=2)
    assert perf.close(store, POLICIES, RUN).decision == "GO"


def test_hotspots_of_one_comparable_execution_hold(store: Store) -> None:
    """Without a baseline the run itself says what is comparable; what would make another execution is told."""
    publish(store, RUN, kind="ray", workers=2)
    again(store, WITNESS)
    found = perf.close(store, POLICIES, RUN)
    assert (found.executions, found.hotspots_stable, found.decision) == ((RUN,), False, "HOLD")
    assert found.left_out == ((WITNESS, f"it ran on serial x 1, run {RUN[:12]} on ray x 2"),)
    assert f"`seg1b witness {RUN[:12]} --executor ray --workers 2` makes another" in found.stability
    assert perf.close(store, POLICIES, RUN, {"hotspots": "one will do"}).decision == "GO"
    again(store, OTHER, kind="ray", workers=2)
    found = perf.close(store, POLICIES, RUN)
    assert (found.executions, found.decision, found.stability) == (
        (RUN, OTHER),
        "GO",
        "stable across executions",
    )


def test_a_run_without_all_its_times_closes_on_its_witnesses(store: Store) -> None:
    """It is left out by name: for states that it read, and where it kept no times at all."""
    publish(store, RUN, reused=("S1",))
    again(store, WITNESS)
    with pytest.raises(InputError, match="E_PERF_NO_WITNESS") as error:
        perf.close(store, POLICIES, RUN)
    assert error.value.next_step == f"`seg1b witness {RUN[:12]}`, then `seg1b perf closure {RUN[:12]}`"
    again(store, OTHER)
    assert perf.close(store, POLICIES, RUN).left_out[0][0] == RUN
    store.receipts.write_telemetry(RUN, {"wall_s": 1.0})
    found = perf.close(store, POLICIES, RUN)
    assert found.left_out == ((RUN, f"run {RUN[:12]} kept no times of states"),)
    assert sorted(found.executions) == [OTHER, WITNESS]


def test_one_execution_is_not_enough(store: Store) -> None:
    """Nor are two without a comparison of digests."""
    publish(store, RUN)
    publish(store, OTHER)
    with pytest.raises(InputError, match="E_PERF_NO_WITNESS") as error:
        perf.close(store, POLICIES, RUN)
    assert "seg1b witness" in error.value.next_step
    reused_run = "c" * 32
    publish(store, reused_run, reused=("S1",), keys={"s9": key("again")})
    publish(
        store,
        "d" * 32,
        keys={"s9": key("again")},
        lineage={"lane": "witness", "of": reused_run, "same": True},
    )
    with pytest.raises(InputError, match="1 execution of this identity"):
        perf.close(store, POLICIES, reused_run)
    assert [name for name in store.performance.names() if name.startswith("closure")] == []


def test_elapsed_budgets_and_cpu_comparisons_do_not_mix(store: Store) -> None:
    """A busy machine: elapsed time doubles, CPU time stays; nothing is slower."""
    publish(store, RUN)
    publish(store, OTHER, S4=2.0)
    telemetry = store.receipts.telemetry(OTHER)
    telemetry["seeds"]["42"]["states"]["S4"]["cpu_s"] = 1.0
    store.receipts.write_telemetry(OTHER, telemetry)
    rows = judge(timings_of(store, OTHER), POLICIES.budgets, timings_of(store, RUN))
    row = next(row for row in rows if row.stage == "S4")
    assert (row.seconds, row.compared_s, row.before_s, row.slower) == (2.0, 1.0, 1.0, False)
