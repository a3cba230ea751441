"""Forgeries beside the numbers: links, folders, columns, forms, the page, and what a missing raster must not hide."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import rasterio
from forger import Forger
from lane_cases import Certified, WorldCache, copied, fast_world, one_seed, run_small
from rasterio.transform import from_origin

from seg1b.catalogue.bundle import write_user_catalogue
from seg1b.cli import verify_command
from seg1b.errors import InputError
from seg1b.lanes.verify import verify
from seg1b.lanes.verify_files import check_files, strict_json
from seg1b.lanes.verify_partial import DEMANDS
from seg1b.lanes.verify_report import VerifyReport
from seg1b.policy.load import set_values
from seg1b.store.digest import readable_json
from seg1b.world.bundle import EMBEDDED_DIRECTORY, load_world, manifest_bytes, world_digest
from seg1b.world.content import World
from seg1b.world.custom import build_user_world

sys.path.insert(0, str(Path(__file__).parents[1] / "states"))
from seed_cases import catalogue

pytestmark = pytest.mark.usefixtures("quick")


def found(report: VerifyReport) -> set[tuple[str, str]]:
    """Codes and places of the findings."""
    return {(finding.code, finding.where) for finding in report.findings}


def files_only(folder: Path) -> VerifyReport:
    """What the first step finds."""
    report = VerifyReport(folder, grade="B+")
    check_files(folder, report)
    return report


@pytest.fixture
def forger(folder: Path, small: Certified, world_cache: WorldCache, real_world: World) -> Forger:
    """A forger at work in a copy."""
    return Forger(folder, world_cache.compute(small.policies, real_world), small.policies)


# -- files and folders ---------------------------------------------------------------------------------------------


def link_a_country(forger: Forger) -> str:
    """Shops in a country that has none, by a link to those of France."""
    os.symlink("legal_country_iso=FR", forger.folder / "seeds/42/site_locations/legal_country_iso=AQ")
    return "seeds/42/site_locations/legal_country_iso=AQ"


def link_a_listed_file(forger: Forger) -> str:
    """The right bytes, from elsewhere."""
    file = forger.folder / "ATTRIBUTION.txt"
    elsewhere = forger.folder.parent / "elsewhere.txt"
    file.rename(elsewhere)
    file.symlink_to(elsewhere)
    return "ATTRIBUTION.txt"


def link_to_nothing(forger: Forger) -> str:
    """A link that leads nowhere today."""
    (forger.folder / "report/later.html").symlink_to("nowhere")
    return "report/later.html"


def a_pipe(forger: Forger) -> str:
    """Reading it would never end."""
    os.mkfifo(forger.folder / "seeds/42/more.parquet")
    return "seeds/42/more.parquet"


@pytest.mark.parametrize("lie", [link_a_country, link_a_listed_file, link_to_nothing, a_pipe])
def test_whatever_is_no_regular_file_is_found_and_not_read(
    forger: Forger, small: Certified, lie: Callable[[Forger], str]
) -> None:
    """Links to folders, to files, to nothing; a pipe."""
    where = lie(forger)
    report = verify(forger.folder, small.policies)
    assert ("E_VERIFY_FILE_KIND", where) in found(report)
    assert any("everything else" in line for line in report.unchecked)
    assert report.verified_grade is None


def test_a_folder_without_a_listed_file_is_found(folder: Path) -> None:
    """Empty ones, nested ones; readers of partitions take a folder for a country."""
    assert files_only(folder).findings == []
    (folder / "seeds/42/site_locations/legal_country_iso=AQ/x").mkdir(parents=True)
    assert found(files_only(folder)) == {
        ("E_VERIFY_FILE_UNLISTED", "seeds/42/site_locations/legal_country_iso=AQ"),
        ("E_VERIFY_FILE_UNLISTED", "seeds/42/site_locations/legal_country_iso=AQ/x"),
    }


# -- forms ---------------------------------------------------------------------------------------------------------


def relist(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change the list; the flag follows."""
    from seg1b.store.digest import sha256_bytes

    listing = json.loads((folder / "files.json").read_bytes())
    change(listing)
    (folder / "files.json").write_bytes(readable_json(listing))
    (folder / "_passed.flag").write_text(f"sha256_hex = {sha256_bytes(readable_json(listing))}\n")


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda d: d["files"]["ATTRIBUTION.txt"].update(bytes=1), "E_VERIFY_FILE_LENGTH"),
        (lambda d: d["files"]["ATTRIBUTION.txt"].update(bytes="1"), "E_VERIFY_FILE_LENGTH"),
        (lambda d: d["files"]["ATTRIBUTION.txt"].pop("bytes"), "E_VERIFY_FILE_LENGTH"),
        (lambda d: d["files"]["ATTRIBUTION.txt"].update(note="audited"), "E_VERIFY_FORM"),
        (lambda d: d.update(note="audited"), "E_VERIFY_FORM"),
        (lambda d: d.update(format=2), "E_VERIFY_FORM"),
    ],
)
def test_the_list_says_length_and_digest_and_nothing_else(
    folder: Path, change: Callable[[dict[str, Any]], None], code: str
) -> None:
    """Each of its entries is compared."""
    relist(folder, change)
    assert code in {code for code, _ in found(files_only(folder))}


@pytest.mark.parametrize(
    ("old", "new"),
    [('"format": 1', '"format": 2, "format": 1'), ("{", "{ "), ('"format": 1', '"format": 1.0')],
)
def test_a_list_in_another_form_is_found(folder: Path, old: str, new: str) -> None:
    """A name twice, a space, another number form."""
    file = folder / "files.json"
    file.write_text(file.read_text().replace(old, new, 1))
    assert ("E_VERIFY_FORM", "files.json") in found(files_only(folder))


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("config/gates.json", '"replicates": 100', '"replicates": 1,\n"replicates": 100'),
        ("config/policy/s2.country_shares.json", '"gdp_exponent": 0.5', '"gdp_exponent": 0.50'),
        ("config/policy/s6.jitter.json", "0.15", "1.5e-1"),
    ],
)
def test_a_policy_in_another_form_is_found(
    forger: Forger, small: Certified, monkeypatch: pytest.MonkeyPatch, name: str, old: str, new: str
) -> None:
    """Two readers might read two policies."""
    monkeypatch.setattr(
        "seg1b.lanes.verify.checked_world", lambda *_: (_ for _ in ()).throw(ValueError("later"))
    )
    file = forger.folder / name
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new, 1))
    forger.rehash()
    assert ("E_VERIFY_FORM", name) in found(verify(forger.folder, small.policies))


@pytest.mark.parametrize(
    ("text", "why"),
    [("NaN", "no JSON number"), ("[-Infinity]", "no JSON"), ("1e999", "large"), ("[" * 100_000, "nested")],
)
def test_numbers_that_are_none_are_refused(text: str, why: str) -> None:
    """A file that somebody wrote with intent ends in one kind of error."""
    with pytest.raises(ValueError, match=why):
        strict_json(text.encode())


# -- tables and the page -------------------------------------------------------------------------------------------


def test_foreign_columns_other_types_and_the_page_are_found(forger: Forger, small: Certified) -> None:
    """All three tables of the states, rehashed; and a page that says more than was computed."""

    def rewrite(name: str, change: Callable[[pa.Table], pa.Table]) -> str:
        (file,) = (forger.folder / "seeds/42" / name).glob("*.parquet")
        pq.write_table(change(pq.read_table(file, partitioning=None)), file)
        return f"42/{name}/{file.name}"

    places = {
        rewrite("s4_alloc_plan", lambda t: t.append_column("revenue", pa.array(np.ones(len(t))))),
        rewrite(
            "s5_site_tile_assignment",
            lambda t: t.set_column(2, "site_order", t.column("site_order").cast(pa.int64())),
        ),
        rewrite("s6_site_jitter", lambda t: t.replace_schema_metadata({"crs": "EPSG:3857"})),
    }
    page = forger.folder / "report/index.html"
    page.write_text(page.read_text().replace("</main>", "<p>Audited.</p></main>"))
    forger.rehash()
    findings = found(verify(forger.folder, small.policies))
    assert {("E_VERIFY_TABLE_SCHEMA", place) for place in places} <= findings
    assert ("E_VERIFY_REPORT", "report/index.html") in findings


def test_an_honest_one_has_its_page_compared(folder: Path, small: Certified) -> None:
    """And its grade is verified."""
    report = verify(folder, small.policies)
    assert report.findings == []
    assert report.verified_grade == report.grade == small.result.grade
    assert "the report page, byte by byte" in report.checked
    assert not any(line.startswith("report") for line in report.unchecked)
    facts = verify_command.facts(report)
    assert (facts["partially"], facts["verified_grade"]) == (False, small.result.grade)


# -- worlds --------------------------------------------------------------------------------------------------------


def embed(folder: Path, change: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """Put the embedded data into the folder's world/, with another world.json."""
    manifest = json.loads((EMBEDDED_DIRECTORY / "world.json").read_bytes())
    change(manifest)
    (folder / "world").mkdir(exist_ok=True)
    for name in manifest["files"]:
        (folder / "world" / name).write_bytes((EMBEDDED_DIRECTORY / name).read_bytes())
    (folder / "world/world.json").write_bytes(manifest_bytes(manifest))
    return dict(manifest)


def test_another_story_about_the_embedded_world_is_found(forger: Forger, small: Certified) -> None:
    """Another licence for the same data; the digest of a world does not cover its story."""
    embed(forger.folder, lambda manifest: None)
    forger.rehash()
    assert verify(forger.folder, small.policies).findings == []  # a needless copy is no lie
    embed(forger.folder, lambda manifest: manifest.update(title="surveyed by hand"))
    forger.rehash()
    assert ("E_VERIFY_WORLD", "world/world.json") in found(verify(forger.folder, small.policies))


def test_an_invented_raster_does_not_hide_the_embedded_world(forger: Forger, small: Certified) -> None:
    """A header of a raster that nobody has would make every check of a draw impossible."""
    header: dict[str, Any] = {
        "file_name": "people.tif", "sha256": "0" * 64, "bytes": 10, "rows": 10, "cols": 10, "row0": 0,
        "col0": 0, "resolution_arcsec": 30, "nodata": "-1", "dtype": "float32",
    }  # fmt: skip

    def invent(manifest: dict[str, Any]) -> None:
        from seg1b.world.content import RasterReference

        manifest["raster"] = header
        files = {name: entry["sha256"] for name, entry in manifest["files"].items()}
        manifest["digest"] = world_digest(files, RasterReference(**header))

    digest = embed(forger.folder, invent)["digest"]
    forger.edit_certificate(lambda d: d["identity"].update(world_digest=digest))
    forger.rehash()
    report = verify(forger.folder, small.policies)
    assert ("E_VERIFY_WORLD", "world/world.json") in found(report)
    assert report.verified_grade is None


def test_a_world_that_names_the_place_of_its_raster_is_none(tmp_path: Path) -> None:
    """A path in the header would be read without its digest."""
    embed(tmp_path, lambda manifest: manifest.update(raster={"path": "people.tif"}))
    with pytest.raises(InputError, match="W102"):
        load_world(tmp_path / "world", raster_required=False)


# -- without the raster --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def raster_world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """People on 8 x 6 degrees of southern Africa, more to the east."""
    root = tmp_path_factory.mktemp("raster")
    values = np.tile(np.arange(960, dtype=np.float32) / 100.0, (720, 1))
    values[:, ::5] = 0.0
    with rasterio.open(
        root / "people.tif", "w", driver="GTiff", height=720, width=960, count=1, dtype="float32",
        crs="EPSG:4326", transform=from_origin(26.0, -25.0, 1 / 120, 1 / 120), nodata=-99999.0,
        compress="deflate",
    ) as dataset:  # fmt: skip
        dataset.write(values, 1)
    return build_user_world(None, root / "people.tif", root / "world")


@pytest.fixture(scope="module")
def certified(
    raster_world: World, world_cache: WorldCache, tmp_path_factory: pytest.TempPathFactory
) -> Certified:
    """Two countries' sites placed by the raster."""
    root = tmp_path_factory.mktemp("user")
    write_user_catalogue(root / "bundle", catalogue(raster_world.countries, ("LS", "SZ"), 8))
    with fast_world(world_cache):
        result = run_small(root / "runs", raster_world, one_seed(), bundle=root / "bundle")
    return Certified(result, root / "runs", one_seed())


@pytest.fixture
def partial(certified: Certified, world_cache: WorldCache, raster_world: World, tmp_path: Path) -> Forger:
    """A forger who has the raster; the verifier has not."""
    stage = world_cache.compute(certified.policies, raster_world)
    return Forger(copied(certified.result.path, tmp_path / "copy"), stage, certified.policies)


def test_an_honest_one_is_partially_verifiable_and_no_grade_is_verified(
    partial: Forger, certified: Certified, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also by the words of the command; and the checks whose demands are written down again are S9's."""
    report = verify(partial.folder, certified.policies)
    assert report.findings == []
    assert (report.ok, report.partially, report.verified_grade) == (True, True, None)
    assert any(line.startswith("report/") for line in report.unchecked)
    facts = verify_command.facts(report)
    assert (facts["partially"], facts["verified_grade"]) == (True, None)
    lines: list[str] = []

    class Shown:
        def line(self, text: str = "", style: str = "") -> None:
            lines.append(text)

    verify_command.show(Shown(), report)  # type: ignore[arg-type]
    assert any("PARTIALLY VERIFIABLE" in line for line in lines)
    assert not any(line.startswith("verified") for line in lines)
    (entry,) = partial.document["seeds"]
    assert [check["name"] for check in entry["checks"]] == list(DEMANDS)
    assert all(DEMANDS[c["name"]] in (None, c["demand"]) for c in entry["checks"])


def row(entry: dict[str, Any], kind: str, name: str, surface: str | None = None) -> dict[str, Any]:
    """A gate's or counter-metric's row."""
    rows: list[dict[str, Any]] = entry[kind]
    return next(row for row in rows if row["name"] == name and row.get("surface") == surface)


def raise_the_grade(document: dict[str, Any]) -> None:
    """The word and its reasons."""
    document.update(grade="B+", reasons_against_b=[], reasons_against_b_plus=[])


def lower_a_gate(document: dict[str, Any]) -> None:
    """A threshold in its row, and that the row passes."""
    gate = row(document["seeds"][0], "gates", "country_gini")
    gate.update(b=1.0, b_plus=1.0, pass_b=True, pass_b_plus=True)


def widen_a_band(document: dict[str, Any]) -> None:
    """Of a metric that nobody can check."""
    counter = row(document["seeds"][0], "counter_metrics", "population_pit_ks", "placement")
    counter.update({"max": 1.0})


def pass_what_fails(document: dict[str, Any]) -> None:
    """A row that contradicts its own number."""
    counter = row(document["seeds"][0], "counter_metrics", "population_pit_mean", "placement")
    counter.update({"observed": 0.9, "pass": True, "reason": ""})
    document["seeds"][0]["metrics"]["population_pit_mean@placement"] = 0.9


def another_bundled_metric(document: dict[str, Any]) -> None:
    """It needs no raster."""
    counter = row(document["seeds"][0], "counter_metrics", "population_pit_mean", "bundled")
    counter.update({"observed": 0.5, "pass": True, "reason": ""})
    document["seeds"][0]["metrics"]["population_pit_mean@bundled"] = 0.5


def another_surface_free_metric(document: dict[str, Any]) -> None:
    """In the pool, metric and row alike."""
    counter = row(document["pooled"], "counter_metrics", "nn_p50_km")
    counter["observed"] = 1.25
    document["pooled"]["metrics"]["nn_p50_km"] = 1.25


def another_status(document: dict[str, Any]) -> None:
    """GREEN, whatever the rows say."""
    document["seeds"][0]["status"] = "GREEN_B"


def another_variation(document: dict[str, Any]) -> None:
    """A CV that would pass."""
    document["cv"]["country_gini"] = 0.01


def an_impossible_claim(document: dict[str, Any]) -> None:
    """A share of more than all."""
    counter = row(document["seeds"][0], "counter_metrics", "unpopulated_tile_share", "placement")
    counter.update({"observed": -0.5})
    document["seeds"][0]["metrics"]["unpopulated_tile_share@placement"] = -0.5


def a_check_that_was_not_made(document: dict[str, Any]) -> None:
    """The replay of S6's points, left out."""
    checks = document["seeds"][0]["checks"]
    document["seeds"][0]["checks"] = [check for check in checks if check["name"] != "s6_points"]


def a_word_in_the_evidence(document: dict[str, Any]) -> None:
    """Where only numbers are claims."""
    document["seeds"][0]["evidence"]["neighbour_tests"][0]["statistic"] = "excellent"


PARTIAL_LIES: dict[Callable[[dict[str, Any]], None], str] = {
    raise_the_grade: "grade",
    lower_a_gate: "seeds[0].gates",
    widen_a_band: "seeds[0].counter_metrics",
    pass_what_fails: "seeds[0].counter_metrics",
    another_bundled_metric: "seeds[0].metrics.population_pit_mean@bundled",
    another_surface_free_metric: "pooled.metrics.nn_p50_km",
    another_status: "seeds[0].status",
    another_variation: "cv.country_gini",
    an_impossible_claim: "seeds[0].metrics.unpopulated_tile_share@placement",
    a_check_that_was_not_made: "seeds[0].checks",
    a_word_in_the_evidence: "seeds[0].evidence",
}


@pytest.mark.parametrize("lie", list(PARTIAL_LIES), ids=lambda lie: lie.__name__)
def test_what_follows_from_a_claim_cannot_be_claimed(
    partial: Forger, certified: Certified, lie: Callable[[dict[str, Any]], None]
) -> None:
    """Each is found without the raster, all digests being those of the lie."""
    partial.edit_certificate(lie)
    partial.rehash()
    report = verify(partial.folder, certified.policies)
    assert report.partially
    facts = [where for code, where in found(report) if code == "E_VERIFY_FACT"]
    assert any(where.startswith(PARTIAL_LIES[lie]) for where in facts), report.findings
    assert not {"E_VERIFY_FILE_DIGEST", "E_VERIFY_CERT_ID"} & {code for code, _ in found(report)}


def test_other_gates_in_every_row_are_found(
    partial: Forger, certified: Certified, world_cache: WorldCache, raster_world: World
) -> None:
    """The whole certificate follows from lowered gates, consistently."""
    lowered = set_values(certified.policies, {"gates.hard_gates.top1_share.b": 1.0})
    partial.stage = world_cache.compute(lowered, raster_world)
    partial.forge(lambda _, tables: tables, claimed=lowered, origin="user")
    findings = found(verify(partial.folder, certified.policies))
    assert "E_VERIFY_GATES" in {code for code, _ in findings}
    assert any(where.startswith("seeds[0].gates") and where.endswith(".b") for _, where in findings)


def test_a_synthesised_catalogue_on_a_raster_is_not_called_a_lie(
    partial: Forger, certified: Certified, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Shares depend on the raster; what was not compared is said. With a raster it would be compared."""
    monkeypatch.setattr("seg1b.lanes.verify_seed._compare_synthesis", lambda *_: pytest.fail("compared"))
    partial.forge(lambda _, tables: tables, origin="synthesised")
    report = verify(partial.folder, certified.policies)
    assert report.findings == []
    assert report.partially
    assert any("catalogues" in line and "raster" in line for line in report.unchecked)


def test_the_story_of_a_raster_world_is_that_of_its_parts(partial: Forger, certified: Certified) -> None:
    """Another source for the embedded polygons."""
    file = partial.folder / "world/world.json"
    manifest = json.loads(file.read_bytes())
    manifest["sources"]["population"]["file"] = "census.tif"
    file.write_bytes(manifest_bytes(manifest))
    partial.rehash()
    assert ("E_VERIFY_WORLD", "world/world.json") in found(verify(partial.folder, certified.policies))


def test_a_point_in_another_tile_than_s5s_is_found_without_the_raster(
    partial: Forger, certified: Certified
) -> None:
    """S6's tiles need no surface."""

    def shift(_: int, tables: Any) -> Any:
        tile = np.array(tables.placement.tile_id)
        tile[0] += 1
        return dataclasses.replace(tables, placement=dataclasses.replace(tables.placement, tile_id=tile))

    partial.forge(shift, origin="user")
    report = verify(partial.folder, certified.policies)
    assert any(where.startswith("seeds[0].checks") for _, where in found(report))
