"""seg1b as a library: typed, imported lazily, and able to read what it published."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import polars as pl
import pyarrow as pa
import pytest

import seg1b
from seg1b.errors import InputError
from seg1b.lanes.certify import CertifyResult, Event
from seg1b.policy.load import defaults_directory


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small synthesis."""
    folder = Path(shutil.copytree(defaults_directory(), tmp_path_factory.mktemp("api") / "config"))
    path = folder / "policy" / "catalogue.synthesis.yaml"
    path.write_text(path.read_text().replace("merchants: 10000", "merchants: 600"))
    return folder


@pytest.fixture(scope="module")
def events() -> list[Event]:
    """What the observer saw."""
    return []


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory, config: Path, events: list[Event]) -> CertifyResult:
    """A certification of a user's catalogue, one seed."""
    root = tmp_path_factory.mktemp("certified")
    rows = ["1,NA,40", "2,FR,30", "2,IN,25", "3,BR,20"]
    (root / "mine.csv").write_text("merchant_id,country,n_sites\n" + "\n".join(rows) + "\n")
    return seg1b.certify(
        runs=root / "runs", config=config, catalogue=root / "mine.csv", seeds=[7], observer=events.append
    )


def test_importing_seg1b_imports_nothing_else() -> None:
    """The functions come when first used."""
    code = "import sys, seg1b; assert seg1b.__version__; assert 'seg1b.api' not in sys.modules; seg1b.certify"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
    assert set(seg1b._FUNCTIONS) <= set(dir(seg1b))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        seg1b.nothing  # noqa: B018


def test_certify_returns_grade_path_and_certificate(result: CertifyResult, events: list[Event]) -> None:
    """And the observer saw every stage."""
    assert result.grade == "below_B"
    assert seg1b.load_certificate(result.path) == result.certificate
    assert result.certificate["identity"]["catalogue_origin"] == "user"
    assert {"world", "prepare", "place", "validate", "publish"} <= {event.stage for event in events}


def test_site_locations_as_arrow(result: CertifyResult) -> None:
    """One row per outlet of the catalogue, ascending; Namibia stays Namibia."""
    table = seg1b.load_site_locations(result.path, 7)
    assert isinstance(table, pa.Table)
    assert table.num_rows == 115
    keys = list(zip(*(table.column(name).to_pylist() for name in table.column_names[:3]), strict=True))
    assert keys == sorted(keys)
    assert set(table.column("legal_country_iso").to_pylist()) == {"BR", "FR", "IN", "NA"}
    assert table.column("legal_country_iso").null_count == 0


def test_site_locations_of_some_columns_and_countries_as_polars(result: CertifyResult) -> None:
    """By id in the store, in the order asked for."""
    runs = result.path.parent.parent
    frame = seg1b.load_site_locations(
        result.path.name[:8],
        7,
        columns=["lat_deg", "legal_country_iso"],
        countries=["NA"],
        runs=runs,
        as_="polars",
    )
    assert isinstance(frame, pl.DataFrame)
    assert frame.columns == ["lat_deg", "legal_country_iso"]
    assert frame.height == 40
    assert frame["lat_deg"].max() < 0  # type: ignore[operator]
    points = seg1b.load_site_locations(result.path, 7, columns=["geometry"])
    assert len(points.column("geometry")[0].as_py()) == 21


def test_the_certificate_verifies(result: CertifyResult) -> None:
    """With the package's own gates."""
    assert seg1b.verify(result.path).findings == []


def test_tune_compares_one_seed(result: CertifyResult, config: Path) -> None:
    """With the user's catalogue; the reference is read from the store."""
    store = result.path.parent.parent
    tuned = seg1b.tune(
        {"s6.cluster_v3.core_sd_tile": 0.2},
        seed=7, runs=store, config=config, catalogue=store.parent / "mine.csv",
    )  # fmt: skip
    assert tuned.reran == ("S6", "S7", "S8", "S9")


@pytest.mark.parametrize(
    ("keywords", "code"),
    [
        ({"seed": 8}, "E_CERTIFICATE_SEED"),
        ({"seed": 7, "columns": ["tile"]}, "E_SITES_COLUMN"),
        ({"seed": 7, "countries": ["DE"]}, "E_SITES_COUNTRY"),
    ],
)
def test_what_is_not_there_is_named(result: CertifyResult, keywords: dict[str, object], code: str) -> None:
    """A seed, a column, a country."""
    with pytest.raises(InputError) as error:
        seg1b.load_site_locations(result.path, **keywords)  # type: ignore[call-overload]
    assert error.value.code == code
    assert error.value.next_step


def test_a_damaged_certificate_is_not_read(tmp_path: Path) -> None:
    """Neither a broken file nor a folder without one."""
    for text in ("{", "[]"):
        (tmp_path / "certificate.json").write_text(text)
        with pytest.raises(InputError, match="E_CERTIFICATE_UNREADABLE"):
            seg1b.load_certificate(tmp_path)
    (tmp_path / "certificate.json").unlink()
    with pytest.raises(InputError, match="E_CERTIFICATE_MISSING"):
        seg1b.load_certificate(tmp_path)
