"""What a user brings wrongly stops the lane with a code, and nothing is published."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from lane_cases import one_seed, run_small, small_policies

from seg1b.catalogue.bundle import write_user_catalogue
from seg1b.errors import InputError
from seg1b.lanes.certify import CertifyResult
from seg1b.lanes.verify import verify
from seg1b.states import s3_requirements
from seg1b.world.content import World

sys.path.insert(0, str(Path(__file__).parents[1] / "states"))
from seed_cases import COUNTRIES, catalogue

pytestmark = pytest.mark.usefixtures("quick")


@pytest.fixture
def bundle(tmp_path: Path, real_world: World) -> Path:
    """A user's catalogue of five countries."""
    write_user_catalogue(tmp_path / "bundle", catalogue(real_world.countries))
    return tmp_path / "bundle"


def nothing_published(root: Path) -> bool:
    """No certification, no receipt, no pointer."""
    return not [p for name in ("certifications", "runs", "pointers") for p in (root / name).glob("*")]


def refused(root: Path, world: World, code: str, **options: Any) -> InputError:
    """Certify, and get this error."""
    policies = options.pop("policies", one_seed())
    with pytest.raises(InputError) as caught:
        run_small(root, world, policies, **options)
    assert caught.value.code == code
    assert caught.value.exit_code == 2
    assert caught.value.next_step
    assert nothing_published(root)
    return caught.value


def test_a_catalogue_that_the_guard_rejects_is_not_certified(tmp_path: Path, real_world: World) -> None:
    """Every merchant in one place: outside the bands, which are named; a second try is refused as well."""
    policies = one_seed(synthesis__sizes__single_share=0.9, synthesis__sizes__large_share=0.0)
    for _ in range(2):
        error = refused(tmp_path / "runs", real_world, "E_GUARD_FAIL", policies=policies)
    assert "single_site_share" in error.message
    assert "outside the B band" in error.message
    assert not list((tmp_path / "runs/objects").glob("s[4-9]/*"))


def test_a_users_catalogue_is_certified_without_1a_evidence(
    tmp_path: Path, real_world: World, bundle: Path
) -> None:
    """The guard is not applicable, the CVs of country metrics say nothing, and the denied country is listed."""
    policies = small_policies(s3__denylist_country_iso=("NA",))
    result = run_small(tmp_path / "runs", real_world, policies, bundle=bundle)
    document = result.certificate
    assert result.grade == "below_B"
    assert document["identity"]["catalogue_origin"] == "user"
    assert document["denylist"] == ["NA"]
    for entry in document["seeds"]:
        assert entry["guard"]["status"] == "not_applicable"
        assert entry["denied"]["sites"] == sum(1 + 3 * m for m in range(12))
        assert not (result.path / entry["site_locations"] / "legal_country_iso=NA").exists()
        assert all(check["passed"] for check in entry["checks"])
    gini = next(row for row in document["stability"] if row["name"] == "country_gini")
    assert gini["status"] == "not_informative"
    assert verify(result.path, policies).findings == []


def test_a_synthesis_knob_does_not_stale_the_validation_of_a_users_catalogue(
    tmp_path: Path, real_world: World, bundle: Path
) -> None:
    """The hash of all policies is in S9's bundle, so another hash is another bundle, and both verify."""

    def certified(**overrides: Any) -> CertifyResult:
        return run_small(tmp_path / "runs", real_world, one_seed(**overrides), bundle=bundle)

    first, second = certified(), certified(synthesis__merchants=601)
    assert first.path != second.path
    assert verify(second.path, one_seed()).findings == []


def test_denying_every_country_is_said_to_leave_nothing(
    tmp_path: Path, real_world: World, bundle: Path
) -> None:
    """Not an internal error."""
    policies = one_seed(s3__denylist_country_iso=COUNTRIES)
    refused(tmp_path / "runs", real_world, "E316_NOTHING_REQUIRED", policies=policies, bundle=bundle)


def test_an_unknown_country_on_the_denylist(tmp_path: Path, real_world: World, bundle: Path) -> None:
    """XZ is nobody."""
    policies = one_seed(s3__denylist_country_iso=("XZ",))
    refused(tmp_path / "runs", real_world, "E315_POLICY_ISO_UNKNOWN", policies=policies, bundle=bundle)


def test_a_country_without_tiles(
    tmp_path: Path, real_world: World, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sites where the world has no tile at all."""
    honest = s3_requirements.run

    def without_monaco(*arguments: Any) -> Any:
        changed = list(arguments)
        changed[4] = np.array(changed[4])
        changed[4][real_world.countries.index_of["MC"]] = 0
        return honest(*changed)

    monkeypatch.setattr(s3_requirements, "run", without_monaco)
    error = refused(tmp_path / "runs", real_world, "E303_MISSING_WEIGHTS", bundle=bundle)
    assert error.where == "country MC"


@pytest.mark.parametrize(
    ("damage", "code"),
    [
        ("byte", "E_EGRESS_HASH_MISMATCH"),
        ("flag", "E_FLAG_HASH_MISMATCH"),
        ("no flag", "E_PASS_MISSING"),
        ("truncated", "E_EGRESS_HASH_MISMATCH"),
        ("missing", "E_EGRESS_MISSING"),
        ("stray", "E_PARTITION_MISPLACED"),
    ],
)
def test_a_tampered_bundle(tmp_path: Path, real_world: World, bundle: Path, damage: str, code: str) -> None:
    """No PASS, no read."""
    part = next(bundle.rglob("outlet_catalogue/**/*.parquet"))
    flag = next(bundle.rglob("_passed.flag"))
    for path in (part, flag):
        path.chmod(0o644)
    if damage == "byte":
        table = pq.read_table(part, partitioning=None)
        pq.write_table(table.slice(0, table.num_rows - 1), part)
    elif damage == "flag":
        flag.write_text("sha256_hex = " + "0" * 64 + "\n")
    elif damage == "no flag":
        flag.unlink()
    elif damage == "truncated":
        part.write_bytes(part.read_bytes()[:100])
    elif damage == "missing":
        part.unlink()
    else:
        (part.parent / "more.parquet").write_bytes(part.read_bytes())
    refused(tmp_path / "runs", real_world, code, bundle=bundle)
    assert not list((tmp_path / "runs").glob("objects/s0c/*"))
