"""The pinned baseline, its artifacts, and the promotion of a candidate."""

from __future__ import annotations

import csv
import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path

import pytest
from lane_cases import Certified, one_seed, world_only
from tune_cases import AMBER, LOSING, candidate, contents, kept, opened, tried

from seg1b.errors import InputError, VetoError
from seg1b.lanes import baseline, waves
from seg1b.lanes.comparison import lost_gates
from seg1b.lanes.integrate import integrate, recommendation
from seg1b.lanes.lock_phase import lock_phase
from seg1b.lanes.phase_locks import phase_named, reopen
from seg1b.lanes.standing import pinned_baseline
from seg1b.lanes.status import status
from seg1b.lanes.witness import digests_of
from seg1b.policy.load import set_values
from seg1b.store.store import Store
from seg1b.world.content import World

pytestmark = pytest.mark.usefixtures("quick")


@pytest.fixture(scope="module")
def root(small: Certified, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One store for all, with the world's states."""
    return world_only(small.root, tmp_path_factory.mktemp("baseline") / "runs")


@pytest.fixture
def pinned(root: Path, real_world: World) -> str:
    """A run that is the baseline."""
    run_id = kept(root, real_world, {"gates.hard_gates.top1_share.b": 0.29})
    with opened(root) as store:
        baseline.pin(store, run_id, real_world, one_seed().gates)
    return run_id


def test_pinning_publishes_scorecard_tables_and_checkpoints(
    root: Path, real_world: World, pinned: str
) -> None:
    """Shares add up to the egress; CSV and JSON agree; the four states have their checkpoints."""
    with opened(root) as store:
        found = baseline.show(store)
        folder = Path(found["folder"])
        rows = store.open_table("s8", store.receipts.load(pinned).keys["s8"], "site_locations").rows
    countries = json.loads((folder / "country_share.json").read_bytes())
    assert sum(row["sites"] for row in countries) == rows == found["scorecard"]["sites"]
    assert len(countries) == len(real_world.countries)
    shares = [row["share"] for row in countries]
    assert shares == sorted(shares, reverse=True)
    assert sum(shares) == pytest.approx(1.0)
    regions = json.loads((folder / "region_share.json").read_bytes())
    assert sum(row["sites"] for row in regions) == rows
    for name in ("country_share", "region_share", "nn_quantiles"):
        with (folder / f"{name}.csv").open(newline="") as file:
            read = list(csv.DictReader(file))
        told = json.loads((folder / f"{name}.json").read_bytes())
        assert [{k: str(v) for k, v in row.items()} for row in told] == read
    assert "NA" in {row["country_iso"] for row in countries}  # Namibia
    card = json.loads((folder / "scorecard.json").read_bytes())
    assert set(card["metrics"]) == set(one_seed().gates.baseline.metrics)
    assert card["metrics"]["country_gini"]["published_baseline"] == 0.75282
    s4 = json.loads((folder / "checkpoints/s4.json").read_bytes())
    assert s4["conserves_egress"]
    assert sum(row["sites"] for row in s4["countries"]) == rows
    s2 = json.loads((folder / "checkpoints/s2.json").read_bytes())
    assert sum(row["sites"] for row in s2["country_mass"]) == 10**6  # parts per million
    for state in ("s6", "s8"):
        geometry = json.loads((folder / f"checkpoints/{state}.json").read_bytes())
        assert geometry["nn_quantiles_m"]["q50"] < geometry["nn_quantiles_m"]["q99"]


def test_pruning_spares_the_baseline_and_its_artifacts(root: Path, real_world: World, pinned: str) -> None:
    """They are reachable from the pointer; pinned again, the same artifacts are found."""
    with opened(root) as store:
        key = store.pointers.read("baseline_authority")["artifacts"]
        store.retention.prune(dry_run=False)
        assert store.has("p0", key)
        assert store.has("s8", store.receipts.load(pinned).keys["s8"])
        again = baseline.pin(store, pinned, real_world, one_seed().gates)
    assert again["artifacts"] == key


def test_what_the_baseline_holds_and_a_candidate_lost_is_a_veto(
    root: Path, real_world: World, pinned: str
) -> None:
    """Also where the reference has lost it as well, so that nothing is lost against that."""
    strict = set_values(one_seed(), LOSING)
    found = tried(root, real_world, {"s6.cluster_v3.core_sd_tile": 0.3}, policies=strict)
    assert lost_gates(found.standing_before.report, found.standing.report) == ()
    assert {change.name for change in found.gates if change.lost} == set(found.standing.lost_to_baseline)
    assert "top1_share" in found.standing.lost_to_baseline
    assert found.standing.status == "RED_REOPEN_REQUIRED"
    assert found.vetoed


def test_a_baseline_of_another_world_is_refused(root: Path, real_world: World, pinned: str) -> None:
    """When it is pinned and when it would veto."""
    other = dataclasses.replace(real_world, digest="0" * 64)
    before = contents(root)
    with opened(root) as store:
        with pytest.raises(InputError, match="E_BASELINE_WORLD"):
            baseline.pin(store, pinned, other, one_seed().gates)
        with pytest.raises(InputError, match="E_BASELINE_WORLD"):
            pinned_baseline(store, other.digest, 42)
        with pytest.raises(InputError, match="E_STORE_UNKNOWN_ID"):
            baseline.pin(store, pinned[:6] + "x", real_world, one_seed().gates)
    with pytest.raises(InputError, match="E_BASELINE_WORLD"):
        candidate(root, other, {"s6.cluster_v3.core_sd_tile": 0.3})
    assert contents(root) == before


def test_promotion_is_refused_for_what_was_lost(root: Path, real_world: World, pinned: str) -> None:
    """The pointer stays; a run that lost nothing becomes the last good one."""
    good = kept(root, real_world, {"s6.cluster_v3.core_sd_tile": 0.3})
    bad = tried(root, real_world, LOSING).run_id
    with opened(root) as store:
        done = baseline.promote(store)
        assert done["run_id"] == good == store.pointers.get("last_good")
        assert done["compared_with"] == {"baseline": pinned}
        before = contents(root)
        with pytest.raises(VetoError, match=r"E_PROMOTE_VETO.*top1_share.*baseline"):
            baseline.promote(store, bad)
        assert contents(root) == before
        assert baseline.last_good(store)["run_id"] == good
        assert store.ledger.entries()[-1]["kind"] == "promoted"


def test_gates_of_its_own_do_not_get_a_run_past_the_baseline(
    root: Path, real_world: World, pinned: str
) -> None:
    """Placed worse, and judged by gates that do not mind: refused by what the baseline was held to, and shown."""
    bands = {"nn_p50_km": 50.0, "nn_p90_km": 200.0, "nn_isolated_10km_share": 1.0, "population_pit_ks": 1.0}
    bands |= dict.fromkeys(
        ("unpopulated_tile_share", "near_city_share_difference", "population_pit_mean"), 1.0
    )
    gates = {f"gates.counter_metrics.{name}.max": value for name, value in bands.items()}
    gates |= {"gates.counter_metrics.population_correlation_1deg.min": 0.0}
    gates |= {f"gates.hard_gates.nn_p99_p50_ratio.{grade}": 1e6 for grade in ("b", "b_plus")}
    worse = {"s2w.mix.uniform": 1.0, "s2w.mix.area": 0.0, "s2w.mix.population": 0.0}
    alone = tried(root, real_world, gates)
    assert not alone.vetoed
    assert "status and room are by the changed gates" in "".join(alone.notes)
    both = candidate(root, real_world, {**worse, **gates})
    held_to = {row.name for row in both.gates if row.held_to is not None}
    assert held_to
    assert held_to <= set(both.lost)
    with opened(root) as store:
        shown = status(store)["wave"]
        assert shown["best"] is None
        with pytest.raises(VetoError, match="E_WAVE_VETOED"):
            waves.keep(store, both.run_id)
        waves.drop(store)
        with pytest.raises(VetoError, match=r"E_PROMOTE_VETO.*baseline"):
            baseline.promote(store, both.run_id)
        assert integrate(store, one_seed(), both.run_id)["status"] == "RED_REOPEN_REQUIRED"


def test_an_attempt_starts_from_the_integrated_run(root: Path, real_world: World, pinned: str) -> None:
    """Its other knobs stay, whatever the session's policies say; a folder that says otherwise is refused."""
    policies = one_seed()
    mine = {"s4.two_stage.sites_per_area": 9, **AMBER}
    with opened(root) as store:
        phase = store.phases.find("P4")
        assert phase is None or phase["status"] != "AMBER_NEAR_BPLUS"
    amber = kept(root, real_world, mine)
    with opened(root) as store:
        assert integrate(store, policies, amber)["status"] == "AMBER_NEAR_BPLUS"
    found = tried(root, real_world, {"s6.core_sd_tile": 0.2}, recover=True)
    assert found.reran == ("S6", "S7", "S8", "S9")
    assert not found.besides
    assert found.standing.status == "AMBER_NEAR_BPLUS"  # its stricter gate stays as well
    path = "policy/s4.alloc_plan.yaml"
    sources = {**policies.sources, path: dataclasses.replace(policies.sources[path], path=f"/mine/{path}")}
    with pytest.raises(InputError, match=r"E_RECOVERY_CONFIG.*s4\.alloc_plan"):
        candidate(
            root,
            real_world,
            {"s6.core_sd_tile": 0.2},
            dataclasses.replace(policies, sources=sources),
            recover=True,
        )
    other = tried(root, real_world, {"s6.core_sd_tile": 0.2}, against=amber)
    assert set(other.besides) == set(mine)
    assert "differs in more than was set: s4.two_stage.sites_per_area 9 -> 8" in "".join(other.notes)
    with opened(root) as store:
        integrate(store, policies, tried(root, real_world, LOSING).run_id)


def test_what_a_candidate_loses_later_it_has_lost(root: Path, real_world: World, pinned: str) -> None:
    """Compared again with another reference: the wave and the ledger know."""
    losing = set_values(one_seed(), LOSING)
    first = candidate(root, real_world, {"s6.core_sd_tile": 0.21}, losing)
    with opened(root) as store:
        before = len(store.ledger.entries())
    again = candidate(root, real_world, {"s6.core_sd_tile": 0.21}, losing, against=pinned)
    assert again.run_id == first.run_id
    assert "top1_share" in again.lost
    with opened(root) as store:
        (entry,) = store.ledger.entries()[before:]
        assert (entry["kind"], entry["run_id"]) == ("compared_again", first.run_id)
        assert entry["lost"] == list(again.lost)
        (one,) = status(store)["wave"]["candidates"]
        assert one["vetoed"]
        with pytest.raises(VetoError, match="E_WAVE_VETOED"):
            waves.keep(store)
        waves.drop(store)


def test_integrated_status_blockers_and_the_recovery_loop(root: Path, real_world: World, pinned: str) -> None:
    """RED, AMBER and GREEN; attempts are for AMBER only, one group of knobs, and counted to the last."""
    policies = set_values(one_seed(), {"lanes.recovery_attempts_max": 2})
    wide = set_values(policies, AMBER)
    red = tried(root, real_world, LOSING).run_id
    green = kept(root, real_world, {"gates.hard_gates.top1_share.b": 0.295})
    amber = kept(root, real_world, AMBER)
    with opened(root) as store:
        found = integrate(store, policies, red)
        assert found["status"] == "RED_REOPEN_REQUIRED"
        assert {"top1_share", "bootstrap_upper.top1_share"} <= {row["name"] for row in found["blockers"]}
        assert found["reopen"][0]["phase"] == "P1"
    with pytest.raises(InputError, match=r"E_RECOVERY_STATUS.*RED"):
        candidate(root, real_world, {"s6.core_sd_tile": 0.2}, policies=wide, recover=True)
    with opened(root) as store:
        assert integrate(store, policies, green)["status"] in ("GREEN_B", "AMBER_NEAR_BPLUS")
        found = integrate(store, policies, amber)
        assert found["status"] == "AMBER_NEAR_BPLUS"
        assert found["envelope"]["not_locked"] == ["P1", "P2", "P3"]
        assert status(store)["phases"][4]["integrated"] == "AMBER_NEAR_BPLUS"
        store.retention.prune(dry_run=False)
        assert store.has("p4", found["artifact"])
    both = {"s6.core_sd_tile": 0.2, "s4.sites_per_area": 6}
    with pytest.raises(InputError, match="E_RECOVERY_GROUPS"):
        candidate(root, real_world, both, policies=wide, recover=True)
    for value in (0.2, 0.25):
        attempt = tried(root, real_world, {"s6.core_sd_tile": value}, policies=wide, recover=True)
        assert attempt.against.run_id == amber
        assert not attempt.besides  # but for the rules of lanes, which no outlet feels
    with pytest.raises(InputError, match="E_RECOVERY_SPENT"):
        candidate(root, real_world, {"s6.core_sd_tile": 0.26}, policies=wide, recover=True)
    with opened(root) as store:
        spent = integrate(store, policies, amber)
        assert (spent["status"], spent["recovery_allowed"]) == ("AMBER_NEAR_BPLUS", False)
        assert status(store)["phases"][4]["recovery_spent"]


@pytest.mark.parametrize(
    ("failed", "phases"),
    [
        (["country_gini", "bootstrap_upper.top1_share"], ["P1"]),
        (["region_floor.Asia"], ["P1"]),
        (["nn_p99_p50_ratio"], ["P3"]),
        (["no_regression.nn_p99_p50_ratio"], ["P3"]),
        (["population_pit_mean@placement"], ["P2"]),
        (["nn_p50_km", "country_gini", "structural.parity_mismatches"], ["code", "P1", "P3"]),
        ([], []),
    ],
)
def test_the_phase_to_reopen_follows_the_plan(failed: list[str], phases: list[str]) -> None:
    """Structure before all, country mass before geometry."""
    found = recommendation(failed, {"P1"})
    assert [entry["phase"] for entry in found] == phases
    actions = {"code": "mend", "P1": "reopen", "P2": "tune", "P3": "tune"}
    assert [entry["action"] for entry in found] == [actions[phase] for phase in phases]


def test_status_says_what_to_do_next(root: Path, real_world: World, pinned: str) -> None:
    """An open wave comes first; then the phases in order."""
    found = candidate(root, real_world, {"s6.cluster_v3.core_sd_tile": 0.29})
    with opened(root) as store:
        before = contents(root)
        told = status(store)
        assert contents(root) == before
        assert f"seg1b wave keep {found.run_id[:12]}" in told["next"]
        from seg1b.lanes import waves

        waves.drop(store)
        told = status(store)
    assert "seg1b lock P1 --run" in told["next"]
    assert told["phases"][0]["status"] == "closed"
    assert told["pointers"]["baseline_authority"]["run_id"] == pinned
    assert phase_named("P1").title in told["next"]


def test_promotion_and_integration_of_a_run_of_another_world_are_refused(
    root: Path, real_world: World, pinned: str
) -> None:
    """Its numbers say nothing against the pinned baseline."""
    other = tried(root, real_world, {"gates.hard_gates.top1_share.b": 0.294}).run_id
    path = root / "runs" / other / "receipt.json"
    text = path.read_bytes()
    document = json.loads(text)
    document["identity"]["world_digest"] = "0" * 64
    path.chmod(0o644)
    path.write_text(json.dumps(document))
    before = contents(root)
    with opened(root) as store:
        with pytest.raises(InputError, match="E_BASELINE_WORLD"):
            baseline.promote(store, other)
        with pytest.raises(InputError, match="E_BASELINE_WORLD"):
            integrate(store, one_seed(), other)
    assert contents(root) == before
    path.write_bytes(text)


def test_p1_is_witnessed_by_what_it_freezes(
    root: Path, real_world: World, pinned: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S1 and S2 are made again too, and one digest that differs forbids the lock."""
    with opened(root) as store:
        record = lock_phase(store, phase_named("P1"), pinned, real_world)
        keys = store.receipts.load(pinned).keys
        for state in ("s1", "s2w", "s2s"):
            for name, table in store.manifest(state, keys[state]).tables.items():
                at = f"{'S' + state[1:]}.{name}"
                assert record["witness"][at] == table.logical_digest
        assert {"site_locations"} < set(record["witness"])
        reopen(store, phase_named("P1"), pinned, "Ada")
        told = {phase["phase"]: phase["status"] for phase in status(store)["phases"]}
        assert told["P1"] == "reopened"

        def otherwise(looked: Store, asked: Mapping[str, str]) -> dict[tuple[str, str], str]:
            """As if S2 came out otherwise the second time."""
            changed = {("S2s", "country_shares"): "0" * 64} if looked.root != store.root else {}
            return {**digests_of(looked, asked), **changed}

        monkeypatch.setattr("seg1b.lanes.lock_phase.digests_of", otherwise)
        with pytest.raises(VetoError, match=r"E_LOCK_WITNESS.*S2s\.country_shares"):
            lock_phase(store, phase_named("P1"), pinned, real_world)
