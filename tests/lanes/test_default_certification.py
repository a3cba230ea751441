"""The product's main job, end to end: the default workload on the real Earth, and strangers' readers on it."""

from __future__ import annotations

import json
from pathlib import Path

import duckdb
import geopandas
import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest
from lane_cases import Certified

from seg1b.lanes.verify import verify
from seg1b.policy.load import default_policies
from seg1b.report.wording import PACKAGED
from seg1b.scoring.grading import RunStatus

pytestmark = pytest.mark.end_to_end

SEEDS = (42, 7, 101, 202)
CORE = {
    "country_gini", "top10_share", "top5_share", "top1_share", "eligible_country_nonzero_share",
    "southern_hemisphere_share", "nn_p99_p50_ratio",
}  # fmt: skip
REGIONS = {"Africa", "Asia", "Europe", "North America", "South America", "Oceania"}


def sites(certified: Certified, seed: int) -> Path:
    """The egress of a seed, as the certificate names it."""
    entry = next(entry for entry in certified.result.certificate["seeds"] if entry["seed"] == seed)
    return certified.result.path / str(entry["site_locations"])


def test_all_four_seeds_earn_a_b_plus(default_certification: Certified) -> None:
    """Every gate, every counter-metric, per seed and pooled, with the packaged thresholds."""
    document = default_certification.result.certificate
    assert document["grade"] == "B+"
    assert document["reasons_against_b_plus"] == []
    assert [document[name] for name in PACKAGED] == [True] * 4
    green: RunStatus = "GREEN_B"
    for entry in [*document["seeds"], document["pooled"]]:
        assert entry["status"] == green
        assert all(gate["pass_b"] and gate["pass_b_plus"] for gate in entry["gates"])
        assert all(row["pass"] for row in entry["counter_metrics"])
        named = {row["name"] for row in entry["counter_metrics"]}
        assert named >= set(default_policies().gates.counter_metrics)
        gates = {gate["name"] for gate in entry["gates"]}
        assert gates >= CORE
        assert sum(any(region in name for region in REGIONS) for name in gates) == len(REGIONS)
    assert (default_certification.result.path / "_passed.flag").is_file()


def test_the_certificate_has_the_keys_that_outside_checks_rely_on(default_certification: Certified) -> None:
    """Exactly as the issue's interface says."""
    document = json.loads((default_certification.result.path / "certificate.json").read_bytes())
    assert set(document) >= {"cert_id", "grade", "identity", "world", "seeds", "cv", "pooled"}
    assert [entry["seed"] for entry in document["seeds"]] == list(SEEDS)
    for entry in document["seeds"]:
        assert set(entry) >= {
            "seed", "status", "run_id", "site_locations", "logical_digest", "metrics", "gates", "counter_metrics",
        }  # fmt: skip
        assert set(entry["metrics"]) >= CORE
        for gate in entry["gates"]:
            assert {"name", "observed", "op", "b", "b_plus", "pass_b", "pass_b_plus", "ci95"} <= set(gate)
            assert gate["op"] in ("<=", ">=")
        for row in entry["counter_metrics"]:
            assert {"name", "observed", "min", "max", "pass"} <= set(row)
        assert not Path(entry["site_locations"]).is_absolute()
        assert (default_certification.result.path / entry["site_locations"]).is_dir()
    assert set(document["cv"]) == CORE
    assert all(
        0.0 < cv <= 0.2 for name, cv in document["cv"].items() if name != "eligible_country_nonzero_share"
    )
    assert (default_certification.result.path / "telemetry.json").is_file()
    assert min(entry["sites"] for entry in document["seeds"]) > 115_000


def test_the_egress_opens_in_geopandas_duckdb_and_polars(default_certification: Certified) -> None:
    """The same rows in each; the country comes from the path; NA is Namibia."""
    folder = sites(default_certification, 42)
    total = next(e["sites"] for e in default_certification.result.certificate["seeds"] if e["seed"] == 42)
    frame = pl.read_parquet(
        f"{folder}/**/*.parquet", hive_partitioning=True, hive_schema={"legal_country_iso": pl.String}
    )
    assert frame.height == total
    assert frame["legal_country_iso"].null_count() == 0
    namibia = frame.filter(pl.col("legal_country_iso") == "NA").height
    assert namibia > 0
    source = f"read_parquet('{folder}/**/*.parquet', hive_partitioning = true, hive_types_autocast = false)"
    query = f"SELECT count(*), count(legal_country_iso), sum((legal_country_iso = 'NA')::INT) FROM {source}"
    rows = duckdb.connect().execute(query).fetchall()
    assert rows == [(total, total, namibia)]
    shapes = geopandas.read_parquet(folder)
    assert len(shapes) == total
    assert set(shapes.columns) == {
        "merchant_id",
        "site_order",
        "lon_deg",
        "lat_deg",
        "geometry",
        "legal_country_iso",
    }
    assert (shapes["legal_country_iso"].astype(str) == "NA").sum() == namibia
    assert np.array_equal(shapes.geometry.x.to_numpy(), shapes["lon_deg"].to_numpy())
    assert shapes.crs is not None
    assert shapes.crs.to_string() == "OGC:CRS84"


def test_every_file_carries_the_attribution_and_no_country(default_certification: Certified) -> None:
    """In each of some 240 files of a seed."""
    sentence = (default_certification.result.path / "ATTRIBUTION.txt").read_text().strip()
    assert "GeoNames" in sentence
    files = sorted(sites(default_certification, 7).glob("*/*.parquet"))
    assert len(files) > 220
    for file in files:
        schema = pq.read_schema(file)
        assert schema.names == ["merchant_id", "site_order", "lon_deg", "lat_deg", "geometry"]
        assert schema.metadata[b"attribution"].decode() == sentence
        assert json.loads(schema.metadata[b"geo"])["version"] == "1.1.0"


def test_seeds_differ_and_the_witness_does_not(default_certification: Certified) -> None:
    """Four digests, and seed 42 twice the same."""
    document = default_certification.result.certificate
    assert len({entry["logical_digest"] for entry in document["seeds"]}) == 4
    (witness,) = document["reproducibility_witness"]
    assert witness["seed"] == 42
    assert witness["same"] is True
    assert len(witness["logical_digests"]) == 4


def test_a_stranger_can_verify_it(default_certification: Certified) -> None:
    """Everything recomputed, world included, with the packaged gates."""
    report = verify(default_certification.result.path)
    assert report.findings == []
    assert not report.partially
    assert report.grade == "B+"
