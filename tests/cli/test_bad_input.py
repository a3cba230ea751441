"""Every bad input of a user has a code, exit code 2, and leaves nothing behind."""

from __future__ import annotations

import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from cli_cases import Command

from seg1b.catalogue.bundle import write_user_catalogue
from seg1b.catalogue.user import load_user_catalogue
from seg1b.policy.load import defaults_directory
from seg1b.world.bundle import load_world

HEAD = "merchant_id,legal_country_iso,site_order,final_country_outlet_count\n"
GOOD = HEAD + "1,NA,1,2\n1,NA,2,2\n2,FR,1,1\n"

CATALOGUES = {
    "duplicate key": (HEAD + "1,NA,1,2\n1,NA,1,2\n2,FR,1,1\n", "E_CATALOGUE_DUPLICATE_KEY"),
    "gap in site_order": (HEAD + "1,NA,1,2\n1,NA,3,2\n2,FR,1,1\n", "E314_SITE_ORDER_INTEGRITY"),
    "unknown country": (HEAD + "1,NA,1,1\n2,QQ,1,1\n", "E302_FK_COUNTRY"),
    "null country": (HEAD + "1,NA,1,1\n2,,1,1\n", "E_CATALOGUE_NULL_COUNTRY"),
    "count mismatch": (HEAD + "1,NA,1,3\n1,NA,2,3\n2,FR,1,1\n", "E308_COUNTS_MISMATCH"),
}


def _refused(command: Command, tmp_path: Path, code: str, *arguments: object) -> str:
    runs = tmp_path / "runs"
    outcome = command("certify", "--runs", runs, "--executor", "serial", "--json", *arguments)
    error = outcome.error()
    assert (outcome.exit_code, error["code"], error["exit_code"]) == (2, code, 2)
    assert error["message"]
    assert error["where"]
    assert error["next_step"]
    assert not runs.exists()
    return str(error["where"])


@pytest.mark.parametrize("fault", CATALOGUES)
def test_a_catalogue_that_breaks_its_contract(command: Command, tmp_path: Path, fault: str) -> None:
    """The file and the row are named."""
    text, code = CATALOGUES[fault]
    path = tmp_path / "outlets.csv"
    path.write_text(text)
    where = _refused(command, tmp_path, code, "--catalogue", path)
    assert "outlets.csv" in where
    checked = command("catalogue", "check", path, "--json")
    assert (checked.exit_code, checked.error()["code"]) == (2, code)
    screened = command("screen", path, "--json")
    assert (screened.exit_code, screened.error()["code"]) == (2, code)


def test_a_truncated_parquet(command: Command, tmp_path: Path) -> None:
    """It is not half-read."""
    whole, path = tmp_path / "whole.parquet", tmp_path / "outlets.parquet"
    pq.write_table(pa.table({"merchant_id": [1], "country": ["FR"], "n_sites": [3]}), whole)
    path.write_bytes(whole.read_bytes()[:-20])
    _refused(command, tmp_path, "E_CATALOGUE_UNREADABLE", "--catalogue", path)


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A sound 1A bundle of three outlets."""
    path = tmp_path / "good.csv"
    path.write_text(GOOD)
    write_user_catalogue(tmp_path / "bundle", load_user_catalogue(path, load_world().countries.iso).catalogue)
    return tmp_path / "bundle"


@pytest.mark.parametrize(
    ("victim", "code"),
    [
        ("data/layer1/1A/outlet_catalogue/**/*.parquet", "E_EGRESS_HASH_MISMATCH"),
        ("data/layer1/1A/validation/*/s9_summary.json", "E_FLAG_HASH_MISMATCH"),
        ("data/layer1/1A/validation/*/_passed.flag", "E_FLAG_FORMAT_INVALID"),
    ],
)
def test_a_tampered_bundle(command: Command, tmp_path: Path, bundle: Path, victim: str, code: str) -> None:
    """One byte more in any of its files."""
    (path,) = bundle.glob(victim)
    path.write_bytes(path.read_bytes() + b"x")
    _refused(command, tmp_path, code, "--catalogue", bundle)


def test_a_bundle_without_its_flag(command: Command, tmp_path: Path, bundle: Path) -> None:
    """No PASS, no read."""
    next(bundle.glob("data/layer1/1A/validation/*/_passed.flag")).unlink()
    _refused(command, tmp_path, "E_PASS_MISSING", "--catalogue", bundle)


POLICIES = {
    "unknown key": (
        "policy/s4.alloc_plan.yaml",
        "guard:",
        "bogus: 1\nguard:",
        "E_POLICY_UNKNOWN_KEY",
    ),
    "caps out of order": (
        "policy/s2.country_shares.yaml",
        "top5_max: ",
        "top5_max: 0.9  # ",
        "E_POLICY_CAPS_ORDER",
    ),
    "mix not summing to 1": ("policy/s2.tile_weights.yaml", "area: 0.0", "area: 0.1", "E_POLICY_MIX_SUM"),
}


@pytest.mark.parametrize("fault", POLICIES)
def test_a_policy_that_cannot_be(command: Command, tmp_path: Path, fault: str) -> None:
    """The file is named, by every command that reads policies."""
    name, old, new, code = POLICIES[fault]
    config = tmp_path / "config"
    shutil.copytree(defaults_directory(), config)
    text = (config / name).read_text()
    assert old in text
    (config / name).write_text(text.replace(old, new))
    where = _refused(command, tmp_path, code, "--config", config)
    assert Path(name).name in where
    shown = command("config", "show", "--config", config, "--json")
    assert (shown.exit_code, shown.error()["code"]) == (2, code)


def test_an_error_for_people_has_code_where_and_next(command: Command, tmp_path: Path) -> None:
    """No traceback, nothing on stdout."""
    path = tmp_path / "outlets.csv"
    path.write_text(CATALOGUES["unknown country"][0])
    outcome = command("screen", path)
    assert (outcome.exit_code, outcome.stdout) == (2, "")
    told = " ".join(outcome.stderr.split())
    for words in ("error E302_FK_COUNTRY", "where", "outlets.csv", "next"):
        assert words in told
    assert "Traceback" not in told
