"""Verification believes nothing: an honest copy passes without the store, and every lie yields a finding."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from forger import Forger
from lane_cases import Certified, WorldCache, copied, run_small, small_policies

from seg1b.catalogue.synthesise import synthesise
from seg1b.errors import InputError
from seg1b.lanes import seed_tasks
from seg1b.lanes.verify import verify
from seg1b.lanes.verify_report import VerifyReport
from seg1b.policy.load import default_policies, set_values
from seg1b.states import s4_allocation, s5_assignment, s6_jitter
from seg1b.states.seed_tables import SeedTables
from seg1b.world.content import World

pytestmark = pytest.mark.usefixtures("quick")
FRANCE = "seeds/42/site_locations/legal_country_iso=FR"
GERMANY = "seeds/42/site_locations/legal_country_iso=DE"


@pytest.fixture
def forger(folder: Path, small: Certified, world_cache: WorldCache, real_world: World) -> Forger:
    """A forger at work in a copy."""
    return Forger(folder, world_cache.compute(small.policies, real_world), small.policies)


def codes(report: VerifyReport) -> set[str]:
    """Codes of the findings."""
    return {finding.code for finding in report.findings}


def check(folder: Path, small: Certified) -> VerifyReport:
    """Verify, trusting the gates with which the small certification was made."""
    return verify(folder, small.policies)


def only_file(folder: Path) -> Path:
    """The one Parquet file of a folder."""
    (file,) = folder.glob("*.parquet")
    return file


def unchanged(_: int, tables: SeedTables) -> SeedTables:
    """No mutation."""
    return tables


# -- honest --------------------------------------------------------------------------------------------------------


def test_a_copy_elsewhere_verifies_without_the_store(folder: Path, small: Certified, tmp_path: Path) -> None:
    """Also below a folder that looks like a Hive partition."""
    moved = tmp_path / "legal_country_iso=XX" / "cert"
    moved.parent.mkdir()
    folder.rename(moved)
    report = check(moved, small)
    assert report.findings == []
    assert report.ok
    assert report.grade == small.result.grade
    assert report.cert_id == small.result.certificate["cert_id"]
    assert not report.partially
    assert len(report.checked) >= 5
    assert any("the embedded one" in line for line in report.checked)
    assert report.packaged == {
        "gates_are_the_packaged_ones": False,
        "parameters_are_the_packaged_ones": False,
        "seeds_are_the_packaged_ones": False,
        "world_is_the_packaged_one": True,
    }


def test_the_forger_without_a_lie_makes_the_same_certificate(forger: Forger, small: Certified) -> None:
    """Otherwise the tests below would find the forger's slips instead of its lies."""
    forger.forge(unchanged)
    assert forger.document["cert_id"] == small.result.certificate["cert_id"]
    assert check(forger.folder, small).findings == []


def test_other_gates_are_trusted_only_when_the_verifier_names_them(folder: Path) -> None:
    """The small certification's gates are not the package's."""
    report = verify(folder, default_policies())
    assert "E_VERIFY_GATES" in codes(report)
    assert not report.ok


# -- careless lies -------------------------------------------------------------------------------------------------


def move_a_shop(forger: Forger) -> None:
    """One coordinate of one file, geometry with it."""
    file = only_file(forger.folder / FRANCE)
    table = pq.read_table(file, partitioning=None)
    lon = table.column("lon_deg").to_numpy().copy()
    lon[0] = np.nextafter(lon[0], 400)
    pq.write_table(table.set_column(2, table.schema.field(2), pa.array(lon)), file)


def truncate_a_file(forger: Forger) -> None:
    """Half of a Parquet file."""
    file = only_file(forger.folder / FRANCE)
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def delete_a_file(forger: Forger) -> None:
    """A country disappears."""
    shutil.rmtree(forger.folder / FRANCE)


def change_a_policy(forger: Forger) -> None:
    """Another standard deviation than the one that was used."""
    forger.edit_json("config/policy/s6.jitter.json", lambda d: d["cluster_v3"].update(core_sd_tile=0.2))


def raise_the_grade(forger: Forger) -> None:
    """The word alone."""
    forger.edit_certificate(lambda d: d.update(grade="B+"))


def change_a_metric(forger: Forger) -> None:
    """In the metrics and in the gate's row."""

    def edit(document: dict[str, Any]) -> None:
        document["seeds"][0]["metrics"]["country_gini"] = 0.5
        row = next(gate for gate in document["seeds"][0]["gates"] if gate["name"] == "country_gini")
        row["observed"] = 0.5

    forger.edit_certificate(edit)


def drop_a_seed(forger: Forger) -> None:
    """The worse of the two, everywhere it is named; its files too."""

    def edit(document: dict[str, Any]) -> None:
        document["seeds"] = [entry for entry in document["seeds"] if entry["seed"] == 42]
        document["identity"]["seeds"] = [42]
        document["identity"]["catalogue_digests"].pop("7")

    forger.edit_certificate(edit)
    shutil.rmtree(forger.folder / "seeds/7")


def an_extra_column(forger: Forger) -> None:
    """The country in the file as well: GeoPandas would refuse the folder."""
    file = only_file(forger.folder / FRANCE)
    table = pq.read_table(file, partitioning=None)
    pq.write_table(table.append_column("legal_country_iso", pa.array(["FR"] * table.num_rows)), file)


def another_attribution(forger: Forger) -> None:
    """The licence asks for a sentence; here another one stands."""
    file = only_file(forger.folder / FRANCE)
    table = pq.read_table(file, partitioning=None)
    pq.write_table(table.replace_schema_metadata({**table.schema.metadata, b"attribution": b"me"}), file)


def another_projection(forger: Forger) -> None:
    """Readers that honour the metadata would draw every shop elsewhere."""
    file = only_file(forger.folder / GERMANY)
    table = pq.read_table(file, partitioning=None)
    geo = json.loads(table.schema.metadata[b"geo"])
    geo["columns"]["geometry"]["edges"] = "spherical"
    pq.write_table(table.replace_schema_metadata({**table.schema.metadata, b"geo": json.dumps(geo)}), file)


def a_stray_parquet(forger: Forger) -> None:
    """A file that a glob over the folder would read as data."""
    target = forger.folder / "seeds/42/site_locations/more.parquet"
    shutil.copy(only_file(forger.folder / FRANCE), target)


def a_stray_file_in_the_catalogue(forger: Forger) -> None:
    """Beside the bundle's datasets."""
    (forger.folder / "seeds/42/catalogue/data/notes.txt").write_text("trust me")


def edit_the_attribution(forger: Forger) -> None:
    """The text for people."""
    (forger.folder / "ATTRIBUTION.txt").write_text("all mine\n")


def a_validation_that_says_more(forger: Forger) -> None:
    """A line in S9's summary."""
    forger.edit_json("seeds/7/validation/s9_summary.json", lambda d: d.update(decision="PASS, really"))


def a_hidden_fact(forger: Forger) -> None:
    """Something that a reader would believe though nobody computed it."""
    forger.edit_certificate(lambda d: d.update(audited_by="a big firm"))


def another_policy_digest(forger: Forger) -> None:
    """The digest of a policy file that was not the one."""
    path = "policy/s6.jitter.yaml"
    forger.edit_certificate(lambda d: d["identity"]["policy_digests"].update({path: "0" * 64}))


def packaged_after_all(forger: Forger) -> None:
    """Gates of one's own, called the packaged ones."""
    forger.edit_certificate(lambda d: d.update(gates_are_the_packaged_ones=True))


@pytest.mark.parametrize(
    ("lie", "rehashed"),
    [
        (move_a_shop, "E_VERIFY_BUNDLE"),
        (truncate_a_file, "E_VERIFY_UNREADABLE"),
        (delete_a_file, "E901_ROW_MISSING"),
        (change_a_policy, "E_VERIFY_FACT"),
        (drop_a_seed, "E_VERIFY_FACT"),
        (an_extra_column, "E_VERIFY_EGRESS_SCHEMA"),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_a_lie_is_found_even_when_files_flag_and_id_follow(
    forger: Forger, small: Certified, lie: Callable[[Forger], None], rehashed: str
) -> None:
    """The digests of the folder are those of the lie; what is recomputed is not."""
    lie(forger)
    forger.rehash()
    report = check(forger.folder, small)
    assert rehashed in codes(report), report.findings
    assert not {"E_VERIFY_FILE_DIGEST", "E_VERIFY_FLAG", "E_VERIFY_CERT_ID"} & codes(report)


def test_each_of_many_lies_has_its_own_finding(forger: Forger, small: Certified) -> None:
    """Lies that do not hide each other, told together; each is named by its code and its place, and nothing else is."""
    for lie in (
        raise_the_grade, change_a_metric, another_attribution, another_projection, a_stray_parquet,
        a_stray_file_in_the_catalogue, edit_the_attribution, a_validation_that_says_more, a_hidden_fact,
        another_policy_digest, packaged_after_all,
    ):  # fmt: skip
        lie(forger)
    forger.rehash()
    report = check(forger.folder, small)
    notes = str(forger.folder / "seeds/42/catalogue/data/notes.txt")
    assert {(finding.code, finding.where) for finding in report.findings} == {
        ("E_VERIFY_FACT", "cert_id"),
        ("E_VERIFY_FACT", "grade"),
        ("E_VERIFY_FACT", "audited_by"),
        ("E_VERIFY_FACT", "gates_are_the_packaged_ones"),
        ("E_VERIFY_FACT", "identity.policy_digests.policy/s6.jitter.yaml"),
        ("E_VERIFY_FACT", "seeds[0].metrics.country_gini"),
        ("E_VERIFY_FACT", f"seeds[0].gates[{gate_number(small, 'country_gini')}].observed"),
        ("E_VERIFY_EGRESS_SCHEMA", "42/site_locations/legal_country_iso=FR"),
        ("E_VERIFY_EGRESS_SCHEMA", "42/site_locations/legal_country_iso=DE"),
        ("E_VERIFY_FILE_UNKNOWN", "seeds/42/site_locations/more.parquet"),
        ("E_VERIFY_FILE_UNKNOWN", notes),
        ("E_VERIFY_ATTRIBUTION", "ATTRIBUTION.txt"),
        ("E_VERIFY_BUNDLE", "seed 7, s9_summary.json"),
    }


def gate_number(small: Certified, name: str) -> int:
    """Where a gate stands in the first seed's list."""
    return [gate["name"] for gate in small.result.certificate["seeds"][0]["gates"]].index(name)


def test_without_rehashing_the_digests_say_so_at_once(
    folder: Path, small: Certified, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A changed, a missing and an unlisted file, by name; and a flag that went."""
    monkeypatch.setattr(
        "seg1b.lanes.verify.compute_world", lambda *_: (_ for _ in ()).throw(ValueError("later"))
    )
    (folder / "ATTRIBUTION.txt").write_text("mine")
    (folder / "report/index.html").unlink()
    (folder / "seeds/42/extra.parquet").write_bytes(b"")
    (folder / "_passed.flag").unlink()
    found = {(finding.code, finding.where) for finding in check(folder, small).findings}
    assert ("E_VERIFY_FILE_DIGEST", "ATTRIBUTION.txt") in found
    assert ("E_VERIFY_FILE_MISSING", "report/index.html") in found
    assert ("E_VERIFY_FILE_UNLISTED", "seeds/42/extra.parquet") in found
    assert "E_VERIFY_FLAG" in {code for code, _ in found}


@pytest.mark.parametrize(
    ("edit", "code"),
    [
        (lambda d: d.update(cert_id="0" * 64), "E_VERIFY_CERT_ID"),
        (lambda d: d.update(grade="below_B"), "E_VERIFY_FLAG"),
        (lambda d: d.update(seeds=5), "E_VERIFY_UNREADABLE"),
        (lambda d: d.update(seeds=[[1]]), "E_VERIFY_UNREADABLE"),
        (lambda d: d.update(identity="x"), "E_VERIFY_UNREADABLE"),
    ],
    ids=["another id", "below B with a flag", "seeds a number", "a seed a list", "identity a word"],
)
def test_a_certificate_of_another_shape_is_a_finding_not_a_crash(
    folder: Path,
    small: Certified,
    monkeypatch: pytest.MonkeyPatch,
    edit: Callable[[dict[str, Any]], None],
    code: str,
) -> None:
    """The world is not even looked at."""
    monkeypatch.setattr(
        "seg1b.lanes.verify.compute_world", lambda *_: (_ for _ in ()).throw(ValueError("later"))
    )
    path = folder / "certificate.json"
    document = json.loads(path.read_bytes())
    edit(document)
    path.write_text(json.dumps(document))
    found = codes(check(folder, small))
    assert code in found
    assert "E_VERIFY_FORM" in found


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("{", "E_VERIFY_NO_CERTIFICATE"),
        ("[]", "E_VERIFY_NO_CERTIFICATE"),
        ('{"format": 1, "grade": NaN}', "E_VERIFY_NO_CERTIFICATE"),
        ('{"format": 99}', "E_VERIFY_FORMAT"),
    ],
)
def test_no_certificate_to_check_is_an_input_error(tmp_path: Path, text: str, code: str) -> None:
    """Not JSON, no object, no number, or of a later format."""
    (tmp_path / "certificate.json").write_text(text)
    with pytest.raises(InputError) as caught:
        verify(tmp_path, default_policies())
    assert caught.value.code == code
    with pytest.raises(InputError, match="E_VERIFY_NO_CERTIFICATE"):
        verify(tmp_path / "nothing", default_policies())


def test_a_name_twice_in_the_certificate_is_found(
    folder: Path, small: Certified, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Readers differ in which of two they believe."""
    monkeypatch.setattr(
        "seg1b.lanes.verify.compute_world", lambda *_: (_ for _ in ()).throw(ValueError("later"))
    )
    path = folder / "certificate.json"
    path.write_text(path.read_text().replace('"grade":', '"grade": "B+",\n "grade":', 1))
    assert "E_VERIFY_FORM" in codes(check(folder, small))


# -- careful lies --------------------------------------------------------------------------------------------------


def test_a_moved_shop_with_everything_rehashed_and_b_plus_lowered(
    forger: Forger, small: Certified, world_cache: WorldCache, real_world: World
) -> None:
    """The issue's own example: gates that it passes, all digests, flag and id its own."""

    def move(seed: int, tables: SeedTables) -> SeedTables:
        lon = np.array(tables.lon_deg)
        lon[3] = np.nextafter(lon[3], 400)
        placement = dataclasses.replace(tables.placement, lon_deg=lon)
        return dataclasses.replace(tables, lon_deg=lon, placement=placement) if seed == 7 else tables

    lowered = set_values(
        small.policies,
        {
            "gates.hard_gates.country_gini.b_plus": 0.67,
            "gates.hard_gates.top10_share.b_plus": 0.49,
            "gates.hard_gates.eligible_country_nonzero_share.b_plus": 0.86,
        },
    )
    forger.stage = world_cache.compute(lowered, real_world)
    forger.forge(move, claimed=lowered)
    assert forger.document["grade"] == "B+"
    report = check(forger.folder, small)
    assert {"E_VERIFY_GATES", "E_VERIFY_FACT", "E_VERIFY_BUNDLE"} <= codes(report)
    assert not {"E_VERIFY_FILE_DIGEST", "E_VERIFY_FLAG", "E_VERIFY_CERT_ID"} & codes(report)
    trusting = verify(forger.folder, lowered)  # even who trusts those gates learns of the shop
    assert "E_VERIFY_GATES" not in codes(trusting)
    assert "E_VERIFY_FACT" in codes(trusting)
    assert any("seeds[1].checks" in finding.where for finding in trusting.findings)


def test_two_shops_that_exchanged_places_are_found(forger: Forger, small: Certified) -> None:
    """No metric changes: sums, distances and tiles of the set stay."""

    def swap(seed: int, tables: SeedTables) -> SeedTables:
        pair = np.flatnonzero(
            (tables.assigned.country[1:] == tables.assigned.country[:-1])
            & (tables.assigned_tile[1:] == tables.assigned_tile[:-1])
        )
        if seed != 7 or not len(pair):
            return tables
        one = int(pair[0])
        lon, lat = np.array(tables.lon_deg), np.array(tables.lat_deg)
        for values in (lon, lat):
            values[[one, one + 1]] = values[[one + 1, one]]
        return dataclasses.replace(
            tables, lon_deg=lon, lat_deg=lat,
            placement=dataclasses.replace(tables.placement, lon_deg=lon, lat_deg=lat),
        )  # fmt: skip

    forger.forge(swap)
    report = check(forger.folder, small)
    assert "E_VERIFY_FACT" in codes(report)
    assert any("seeds[1].checks" in finding.where for finding in report.findings)


def test_a_country_drawn_again_from_another_seed_is_found(forger: Forger, small: Certified) -> None:
    """All of France in other valid tiles, consistently in S4, S5, S6 and S8, by the product's own code."""
    world = forger.stage.world
    france = world.country_index["FR"]

    def redraw(seed: int, tables: SeedTables) -> SeedTables:
        if seed != 7:
            return tables
        pairs = tables.pairs.only([france])
        plan = s4_allocation.run(world, pairs, small.policies.allocation, 1007).plan
        tile = s5_assignment.run(world.iso, pairs, plan, small.policies.assignment, 1007, "0" * 64)
        placed = s6_jitter.run(world, pairs, tile, small.policies.jitter, 1007, "0" * 64)
        sites = tables.assigned.country == france
        rest = tables.plan.country != france
        at = int(np.searchsorted(tables.plan.country, france))

        def planned(name: str) -> Any:
            old = getattr(tables.plan, name)
            return np.insert(old[rest], [at] * len(plan.tile_id), getattr(plan, name))

        def put(old: Any, new: Any) -> Any:
            changed = np.array(old)
            changed[sites] = new
            return changed

        names = ("tile_id", "lon_deg", "lat_deg", "attempts", "component")
        placement = type(placed)(*(put(getattr(tables.placement, n), getattr(placed, n)) for n in names))
        columns = ("country", "merchant_id", "tile_id", "n_sites_tile")
        return dataclasses.replace(
            tables, plan=type(plan)(*(planned(name) for name in columns)), assigned_tile=placement.tile_id,
            placement=placement, lon_deg=placement.lon_deg, lat_deg=placement.lat_deg,
        )  # fmt: skip

    forger.forge(redraw)
    report = check(forger.folder, small)
    assert "E_VERIFY_FACT" in codes(report)
    named = [finding.where for finding in report.findings]
    assert any(where.startswith("seeds[1].checks") for where in named)
    assert not any(where.startswith("seeds[0]") for where in named)


def test_a_false_component_of_a_seed_without_witness_is_found(forger: Forger, small: Certified) -> None:
    """A column that no metric reads."""

    def relabel(seed: int, tables: SeedTables) -> SeedTables:
        component = np.array(tables.placement.component)
        component[0] = (component[0] + 1) % 3
        placement = dataclasses.replace(tables.placement, component=component)
        return dataclasses.replace(tables, placement=placement) if seed == 7 else tables

    forger.forge(relabel)
    assert "E_VERIFY_FACT" in codes(check(forger.folder, small))


@pytest.fixture(scope="module")
def edited_catalogue(
    small: Certified, real_world: World, world_cache: WorldCache, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A certification that is true in all but one thing: two merchants' counts in a country were exchanged."""
    from lane_cases import fast_world

    honest = synthesise

    def edited(*arguments: Any) -> Any:
        synthesis = honest(*arguments)
        catalogue = synthesis.catalogue
        n_sites = np.array(catalogue.n_sites)
        rows = np.flatnonzero(
            catalogue.country == world_cache.compute(small.policies, real_world).world.country_index["FR"]
        )
        other = rows[n_sites[rows] != n_sites[rows[0]]][0]
        n_sites[[rows[0], other]] = n_sites[[other, rows[0]]]
        candidates, counts = synthesis.candidates, np.array(synthesis.member_sites)
        for row in (rows[0], other):  # the evidence follows, or the guard would not let the catalogue in
            own = candidates.merchant_id == catalogue.merchant_id[row]
            counts[own & (candidates.country == catalogue.country[row])] = n_sites[row]
        catalogue = dataclasses.replace(catalogue, n_sites=n_sites)
        return dataclasses.replace(synthesis, catalogue=catalogue, member_sites=counts)

    patch = pytest.MonkeyPatch()
    patch.setattr(seed_tasks, "synthesise", edited)
    try:
        with fast_world(world_cache):
            root = tmp_path_factory.mktemp("edited") / "runs"
            return run_small(root, real_world, small.policies).path
    finally:
        patch.undo()


def test_an_edited_catalogue_is_found_though_all_else_follows_from_it(
    edited_catalogue: Path, small: Certified
) -> None:
    """Bundle, flag, requirements, draws and scores are those of the edited catalogue."""
    report = check(edited_catalogue, small)
    assert codes(report) == {"E_VERIFY_CATALOGUE"}
    assert len(report.findings) == 2


def test_calling_edited_catalogues_a_users_own_is_found(
    edited_catalogue: Path, small: Certified, tmp_path: Path, world_cache: WorldCache, real_world: World
) -> None:
    """A user brings one catalogue for all seeds; picking one per seed is no user's."""
    folder = copied(edited_catalogue, tmp_path / "copy")
    forger = Forger(folder, world_cache.compute(small.policies, real_world), small.policies)
    forger.forge(unchanged, origin="user")
    assert codes(check(folder, small)) == {"E_VERIFY_CATALOGUE"}
    forger.forge(unchanged, origin="found in the street")
    assert "E_VERIFY_CATALOGUE" in codes(check(folder, small))


def test_hostile_numbers_in_a_table_are_findings(forger: Forger, small: Certified) -> None:
    """Tiles past the last one, a huge count, a null country."""

    def hostile(_: int, tables: SeedTables) -> SeedTables:
        return tables

    forger.forge(hostile)
    root = forger.folder / "seeds/42"
    for name, column, value in (
        ("s4_alloc_plan", "n_sites_tile", 2**62),
        ("s4_alloc_plan", "n_sites_tile", -1),
        ("s5_site_tile_assignment", "tile_id", 2**63),
        ("s5_site_tile_assignment", "legal_country_iso", "ZZ"),
    ):
        file = only_file(root / name)
        honest = file.read_bytes()
        table = pq.read_table(file)
        values = table.column(column).to_pylist()
        values[0] = value
        position = table.schema.names.index(column)
        pq.write_table(
            table.set_column(
                position, table.schema.field(column), pa.array(values, table.schema.field(column).type)
            ),
            file,
        )
        forger.rehash()
        report = check(forger.folder, small)
        assert report.findings, (name, column, value)
        file.write_bytes(honest)


def test_a_weaker_policy_of_seeds_is_not_taken_from_the_folder(forger: Forger, small: Certified) -> None:
    """Which seeds a grade needs is the verifier's to say."""
    from lane_cases import one_seed

    forger.forge(unchanged, claimed=one_seed())
    assert "E_VERIFY_GATES" in codes(check(forger.folder, small))
    assert small_policies().certification.seeds == (42, 7)
