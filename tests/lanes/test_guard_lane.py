"""Verdicts of the guard last: certify and tune refuse what failed, and what falls below a pinned authority."""

from __future__ import annotations

import dataclasses
import json
import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest
from lane_cases import Certified, linked, one_seed, run_small, world_only
from resealing import reseal, with_column

from seg1b.catalogue.bundle import write_user_catalogue
from seg1b.catalogue.guard import GuardMeasurement
from seg1b.catalogue.guard_authority import CHECKS, GuardAuthority
from seg1b.catalogue.guard_evidence import EVIDENCE
from seg1b.catalogue.verify import read_catalogue, verify_bundle
from seg1b.errors import InputError, StoreError
from seg1b.lanes import guard
from seg1b.lanes.tune import tune
from seg1b.policy.load import Policies, default_policies
from seg1b.store.store import Store
from seg1b.world.content import World

POLICIES = default_policies()


@pytest.fixture(scope="module")
def bundle(small: Certified) -> Path:
    """The catalogue that seed 42 of the small certification synthesised: a 1A bundle with its evidence."""
    return small.result.path / "seeds/42/catalogue"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """An empty one."""
    return Store.open(tmp_path / "runs")


def strict(bundle: Path) -> GuardAuthority:
    """An authority that was far less concentrated than the bundle."""
    found, _ = guard.find_authority(bundle, POLICIES, None)
    return dataclasses.replace(found, concentration=dict.fromkeys(found.concentration, 0.1))


def judged(bundle: Path, authority: GuardAuthority, tmp_path: Path) -> guard.Judged:
    """The bundle against this authority, through a file."""
    path = tmp_path / "authority.json"
    path.write_text(json.dumps(authority.to_json()))
    return guard.judge(bundle, POLICIES, path, None)


def measurement(bundle: Path) -> Any:
    """Its values, as S0c keeps them."""
    _, report = guard.measured(bundle, POLICIES)
    values = {name: metric.value for name, metric in report.metrics.items()}
    return GuardMeasurement(values, "x", True, report.realised_ratio_median)


def test_a_verdict_is_an_authority_for_later(bundle: Path, tmp_path: Path) -> None:
    """What `guard --json` prints can be given to `--authority`; a bundle judged against itself passes."""
    first = guard.judge(bundle, POLICIES, bundle, None)
    assert first.passed
    path = tmp_path / "frozen.json"
    path.write_text(json.dumps(first.facts()))
    again = guard.judge(bundle, POLICIES, path, None)
    assert again.passed
    assert again.authority == first.authority
    facts = again.facts()
    assert facts["status"] == "PASS"
    assert len(facts["checks"]) == 5
    assert len(facts["metrics"]) == 14
    assert {"metric", "value", "b_pass", "b_plus_pass"} <= set(facts["metrics"][0])
    assert facts["bands_not_nested"] == ["single_site_share", "phi_cv", "phi_p95_p05_ratio"]


def test_a_fail_blocks_and_only_the_same_authority_or_a_name_unblocks(
    bundle: Path, store: Store, tmp_path: Path
) -> None:
    """A milder authority does not lift it; the ledger has the whole story."""
    failed = judged(bundle, strict(bundle), tmp_path)
    assert not failed.passed
    assert "more concentrated" in failed.reasons()[0]
    guard.record(store, failed)
    guard.record(store, failed)
    guard.record(store, guard.judge(bundle, POLICIES, bundle, None))
    with pytest.raises(InputError, match="E_GUARD_FAIL") as error:
        guard.require_guard(store, POLICIES, failed.catalogue_digest, measurement(bundle))
    assert "more concentrated" in error.value.message
    assert failed.authority.digest[:12] in error.value.next_step
    assert guard.require_guard(store, POLICIES, "f" * 64, measurement(bundle)).grade != "below_B"
    assert guard.lift(store, failed.catalogue_digest, approved_by="A. Person", reason="mistake") == 1
    guard.require_guard(store, POLICIES, failed.catalogue_digest, measurement(bundle))
    with pytest.raises(InputError, match="E_STORE_UNKNOWN_ID"):
        guard.lift(store, failed.catalogue_digest, approved_by="A. Person", reason="twice")
    kinds = [(entry["kind"], bool(entry["at"])) for entry in store.ledger.entries()]
    assert kinds == [("guard_verdict", True), ("guard_verdict", True), ("guard_verdict_lifted", True)]


def test_a_fail_that_stands_is_known_without_a_measurement(
    bundle: Path, store: Store, tmp_path: Path
) -> None:
    """Before anything is sealed; by digest, whatever else passed, until it is lifted. The next step is a command."""
    failed = judged(bundle, strict(bundle), tmp_path)
    guard.require_no_fail(store, failed.catalogue_digest)
    guard.record(store, guard.judge(bundle, POLICIES, bundle, None))
    guard.require_no_fail(store, failed.catalogue_digest)
    guard.record(store, failed)
    guard.require_no_fail(store, "f" * 64)
    for brought, named in (
        (None, "CATALOGUE"),
        (Path("a bundle"), "'a bundle'"),
        (tmp_path / "b", str(tmp_path / "b")),
    ):
        with pytest.raises(
            InputError, match=r"E_GUARD_FAIL: an earlier guard verdict .*more concentrated"
        ) as error:
            guard.require_no_fail(store, failed.catalogue_digest, brought)
        assert error.value.next_step == (
            f"`seg1b guard {named} --authority FILE` judges it again, FILE being the same authority "
            f'({failed.authority.digest[:12]}), or `seg1b guard {named} --lift --approved-by "NAME" --reason '
            '"WHY"` takes the verdict back'
        )
    with pytest.raises(InputError) as asked:
        guard.require_guard(store, POLICIES, failed.catalogue_digest, measurement(bundle))
    with pytest.raises(InputError) as known:
        guard.require_no_fail(store, failed.catalogue_digest)
    assert vars(asked.value) == vars(known.value)
    guard.lift(store, failed.catalogue_digest, approved_by="A. Person", reason="mistake")
    guard.require_no_fail(store, failed.catalogue_digest)


@pytest.mark.usefixtures("quick")
def test_a_synthesised_catalogue_that_is_refused_is_named_by_where_the_store_has_it(
    small: Certified, bundle: Path, tmp_path: Path, real_world: World
) -> None:
    """So that it can be judged, checked and lifted, though nobody brought it."""
    root = linked(small.root, tmp_path / "my runs")
    overrides = {"gates.cv.b": 0.29}
    with Store.open(root) as store:
        guard.pin(store, strict(bundle), "test", approved_by="A. Person")
        with pytest.raises(InputError, match="falls below the pinned authority") as error:
            tune(store, one_seed(), real_world, seed=42, overrides=overrides)
        command = error.value.next_step.split("`")[1]
        seg1b, name, path = shlex.split(command)
        assert (seg1b, name) == ("seg1b", "guard")
        found = guard.judge(Path(path), POLICIES, None, store)
        assert not found.passed
        guard.record(store, found)
        with pytest.raises(InputError, match="an earlier guard verdict") as error:
            tune(store, one_seed(), real_world, seed=42, overrides=overrides)
        again, lift = (shlex.split(error.value.next_step.split("`")[part]) for part in (1, 3))
        assert again == ["seg1b", "guard", path]  # the pinned authority is the default
        assert lift == [*again, "--lift", "--approved-by", "NAME", "--reason", "WHY"]
        assert guard.lift(store, guard.measured(Path(path), POLICIES)[0], approved_by="x", reason="y") == 1
        for manifest in (root / "objects/s0c").glob("*/manifest.json"):
            manifest.rename(manifest.with_name("gone"))
        with pytest.raises(InputError) as error:
            guard.require_guard(store, POLICIES, found.catalogue_digest, measurement(bundle))
        assert "`seg1b guard CATALOGUE` compares" in error.value.next_step


def test_a_grade_below_b_names_what_can_be_checked(small: Certified, bundle: Path) -> None:
    """The command has the path that it takes."""
    digest = verify_bundle(bundle).content_sha256_hex
    worse = dataclasses.replace(measurement(bundle), values=dict.fromkeys(measurement(bundle).values, 99.0))
    with Store.open(small.root) as store, pytest.raises(InputError, match="below B") as error:
        guard.require_guard(store, POLICIES, digest, worse)
    path = error.value.next_step.split("`")[1].removeprefix("seg1b catalogue check ")
    assert verify_bundle(Path(shlex.split(path)[0])).content_sha256_hex == digest


def test_a_pinned_authority_holds_for_every_catalogue_with_evidence(bundle: Path, store: Store) -> None:
    """And not for one without; a damaged pin stops everything rather than nothing."""
    guard.pin(store, strict(bundle), "test", approved_by="A. Person")
    assert store.ledger.entries()[-1]["approved_by"] == "A. Person"
    with pytest.raises(InputError, match="falls below the pinned authority"):
        guard.require_guard(store, POLICIES, "f" * 64, measurement(bundle))
    plain = dataclasses.replace(measurement(bundle), has_evidence=False)
    assert guard.require_guard(store, POLICIES, "f" * 64, plain).status == "not_applicable"
    assert not guard.judge(bundle, POLICIES, None, store).passed
    record = store.guards.read(guard.PINNED)
    record["authority"]["metrics"][2]["value"] = 0.99
    store.guards.write(guard.PINNED, record)
    with pytest.raises(StoreError, match="not what was pinned"):
        guard.require_guard(store, POLICIES, "f" * 64, measurement(bundle))


def test_what_cannot_be_judged_is_an_error(
    bundle: Path, store: Store, tmp_path: Path, real_world: World
) -> None:
    """No authority, no folder, a file, a folder without a bundle, a bundle without evidence."""
    (tmp_path / "outlets.csv").write_text("a\n")
    (tmp_path / "nothing").mkdir()
    write_user_catalogue(tmp_path / "plain", read_catalogue(verify_bundle(bundle), real_world.countries.iso))
    cases = [
        (bundle, None, "E_GUARD_NO_AUTHORITY"),
        (tmp_path / "gone", bundle, "E_GUARD_NO_EVIDENCE"),
        (tmp_path / "outlets.csv", bundle, "E_GUARD_NO_EVIDENCE"),
        (tmp_path / "nothing", bundle, "E_BUNDLE_MISSING"),
        (tmp_path / "plain", bundle, "E_GUARD_NO_EVIDENCE"),
        (bundle, tmp_path / "plain", "E_GUARD_AUTHORITY"),
        (bundle, tmp_path / "gone.json", "E_GUARD_AUTHORITY"),
    ]
    for catalogue, authority, code in cases:
        with pytest.raises(InputError) as error:
            guard.judge(catalogue, POLICIES, authority, store)
        assert error.value.code == code
        assert error.value.next_step
        if "synth" in error.value.next_step:
            assert "`seg1b catalogue synth --seed 42 --out DIR`" in error.value.next_step
    assert store.guards.names() == ()
    assert store.ledger.entries() == []


def copy_of(bundle: Path, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    shutil.rmtree(tmp_path / "copy", ignore_errors=True)
    return Path(shutil.copytree(bundle, tmp_path / "copy", copy_function=shutil.copyfile))


def one_phi(table: Any) -> Any:
    """The same dispersion for everybody."""
    return with_column(table, "dispersion_k", [2.0] * table.num_rows)


def test_a_verdict_is_never_filed_under_anothers_digest(bundle: Path, store: Store, tmp_path: Path) -> None:
    """An altered bundle that keeps the honest digests is refused, by file and both digests; one that states its own
    has a verdict of its own, which no PASS of the honest one lifts.
    """
    honest = guard.judge(bundle, POLICIES, bundle, None)
    altered = reseal(copy_of(bundle, tmp_path), {"nb_dispersion": one_phi}, restate=False)
    with pytest.raises(InputError, match="E_EGRESS_HASH_MISMATCH: the rows of nb_dispersion give") as error:
        guard.judge(altered, POLICIES, bundle, store)
    assert "nb_dispersion" in error.value.where
    altered = reseal(altered, {"nb_dispersion": one_phi})
    failed = guard.judge(altered, POLICIES, bundle, None)
    assert not failed.passed
    assert failed.catalogue_digest != honest.catalogue_digest
    for verdict in (failed, honest):
        guard.record(store, verdict)
    with pytest.raises(InputError, match="E_GUARD_FAIL"):
        guard.require_guard(store, POLICIES, failed.catalogue_digest, measurement(bundle))
    guard.require_guard(store, POLICIES, honest.catalogue_digest, measurement(bundle))


@pytest.mark.parametrize("lost", [EVIDENCE, *((name,) for name in EVIDENCE), ("s3_integerised_counts",)])
def test_a_stripped_bundle_fails_and_that_is_kept(
    bundle: Path, store: Store, tmp_path: Path, lost: tuple[str, ...]
) -> None:
    """All evidence, or some of it, or a required output: FAIL with a reason; nothing is not applicable."""
    stripped = reseal(copy_of(bundle, tmp_path), dict.fromkeys(lost))
    failed = guard.judge(stripped, POLICIES, bundle, None)
    facts = failed.facts()
    assert (facts["status"], facts["grade"]) == ("FAIL", "below_B")
    assert not facts["checks"][CHECKS[0]]
    if lost != ("s3_integerised_counts",):
        assert facts["checks"] == dict.fromkeys(CHECKS, False)
        assert failed.reasons() == [f"the 1A evidence is incomplete: the bundle has no {', '.join(lost)}"]
    guard.record(store, failed)
    assert store.guards.read(failed.catalogue_digest)["verdicts"][failed.authority.digest]["status"] == "FAIL"


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("kind", ["synthesis", "user_catalogue"])
def test_certify_and_tune_refuse_a_stripped_bundle(
    small: Certified, bundle: Path, tmp_path: Path, real_world: World, kind: str
) -> None:
    """Whatever it says that it is: only what has the identity of its outlets alone owes no evidence."""
    root = linked(small.root, tmp_path / "runs")
    everything = [p.name for p in (bundle / "data/layer1/1A").iterdir()]
    kept = ("outlet_catalogue", "s3_site_sequence", "validation")
    stripped = reseal(
        copy_of(bundle, tmp_path), {name: None for name in everything if name not in kept}, kind=kind
    )
    with Store.open(root) as store:
        with pytest.raises(InputError, match="E_GUARD_FAIL") as error:
            run_small(root, real_world, one_seed(), bundle=stripped)
        assert "the bundle has no s3_candidate_set, s6_membership, nb_dispersion" in error.value.message
        with pytest.raises(InputError, match="E_GUARD_FAIL"):
            tune(
                store, one_seed(), real_world, seed=42, overrides={"gates.cv.b": 0.29}, bundle=stripped
            )  # fmt: skip


@pytest.mark.usefixtures("quick")
def test_what_is_sealed_is_not_reused_for_a_bundle_with_stale_digests(
    small: Certified, bundle: Path, tmp_path: Path, real_world: World
) -> None:
    """The store holds the honest catalogue under the digest that the altered one claims."""
    root = linked(small.root, tmp_path / "runs")
    altered = reseal(copy_of(bundle, tmp_path), {"nb_dispersion": one_phi}, restate=False)
    with Store.open(root) as store, pytest.raises(InputError, match="E_EGRESS_HASH_MISMATCH"):
        tune(store, one_seed(), real_world, seed=42, overrides={"gates.cv.b": 0.29}, bundle=altered)
    with pytest.raises(InputError, match="E_EGRESS_HASH_MISMATCH"):
        run_small(root, real_world, one_seed(), bundle=altered)


@pytest.mark.usefixtures("quick")
def test_certify_and_tune_refuse_a_failed_catalogue(
    small: Certified, bundle: Path, tmp_path: Path, real_world: World
) -> None:
    """The same catalogue, synthesised or brought; nothing is placed, no run is published, no pointer moves."""
    root = linked(small.root, tmp_path / "runs")
    policies: Policies = one_seed()
    before = {p for name in ("runs", "certifications", "pointers") for p in (root / name).iterdir()}
    with Store.open(root) as store:
        failed = judged(bundle, strict(bundle), tmp_path)
        guard.record(store, failed)
        for brought in (None, bundle):
            with pytest.raises(InputError, match="E_GUARD_FAIL") as error:
                run_small(root, real_world, policies, bundle=brought)
            assert error.value.exit_code == 2
            with pytest.raises(InputError, match="E_GUARD_FAIL"):
                tune(
                    store, policies, real_world, seed=42, overrides={"gates.cv.b": 0.29}, bundle=brought
                )  # fmt: skip
        assert not store.retention.plan().live or all(
            item.kind != "lease" for item in store.retention.plan().live
        )
        guard.lift(store, failed.catalogue_digest, approved_by="A. Person", reason="test")
    after = {p for name in ("runs", "certifications", "pointers") for p in (root / name).iterdir()}
    assert after == before
    assert run_small(root, real_world, policies).certificate["seeds"][0]["guard"]["status"] == "graded"


@pytest.mark.usefixtures("quick")
def test_a_catalogue_that_is_known_to_fail_is_not_even_sealed(
    small: Certified, bundle: Path, tmp_path: Path, real_world: World
) -> None:
    """Neither lane copies a bundle that it will not use."""
    root = world_only(small.root, tmp_path / "runs")
    with Store.open(root) as store:
        guard.record(store, judged(bundle, strict(bundle), tmp_path))
        with pytest.raises(InputError, match="E_GUARD_FAIL"):
            run_small(root, real_world, one_seed(), bundle=bundle)
        with pytest.raises(InputError, match="E_GUARD_FAIL") as error:
            tune(store, one_seed(), real_world, seed=42, overrides={"s6.max_attempts": 63}, bundle=bundle)
    assert str(bundle) in error.value.next_step
    assert not (root / "objects" / "s0c").exists()
