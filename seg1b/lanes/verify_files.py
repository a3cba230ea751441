"""The files of a certification folder: every listed one with its bytes, none that has no business there."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from seg1b.catalogue.bundle import VALIDATION_FOLDER
from seg1b.catalogue.verify import BundleReceipt
from seg1b.lanes import certificate
from seg1b.lanes.verify_report import VerifyReport
from seg1b.policy.load import POLICY_FILES
from seg1b.states.s8_egress import TABLE
from seg1b.states.shard import ASSIGNMENT_TABLE, JITTER_TABLE, PLAN_TABLE
from seg1b.states.tables import COUNTRY
from seg1b.store.digest import readable_json, sha256_bytes, sha256_file

_NOT_LISTED = {certificate.FILES, certificate.FLAG, certificate.TELEMETRY}
_FIXED = {
    certificate.CERTIFICATE,
    "ATTRIBUTION.txt",
    "report/index.html",
    *(f"config/{file.path.removesuffix('.yaml')}.json" for file in POLICY_FILES),
    *(f"world/{name}" for name in certificate.WORLD_FILES),
}
_OF_A_SEED = re.compile(
    rf"{TABLE}/{COUNTRY}=[A-Z]{{2}}/[^/]+\.parquet"
    rf"|(?:{PLAN_TABLE}|{ASSIGNMENT_TABLE}|{JITTER_TABLE})/[^/]+\.parquet"
    r"|validation/[^/]+|catalogue/.+"
)


def check_files(path: Path, report: VerifyReport) -> None:
    """Every listed file is there with its bytes, and nothing else is; the flag belongs to the list."""
    listing_file = path / certificate.FILES
    try:
        listing = json.loads(listing_file.read_bytes())
        files = {str(name): dict(entry) for name, entry in listing["files"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        report.find("E_VERIFY_FILES", f"files.json cannot be read: {error}", str(listing_file))
        return
    present = {p.relative_to(path).as_posix() for p in path.rglob("*") if not p.is_dir()} - _NOT_LISTED
    for name in sorted(set(files) - present):
        report.find("E_VERIFY_FILE_MISSING", "a listed file is missing", name)
    for name in sorted(present - set(files)):
        report.find("E_VERIFY_FILE_UNLISTED", "a file is not listed", name)
    for name in sorted(present & set(files)):
        if sha256_file(path / name) != files[name].get("sha256"):
            report.find("E_VERIFY_FILE_DIGEST", "the file's SHA-256 is not the listed one", name)
    _check_flag(path / certificate.FLAG, listing, report)
    report.checked.append(f"{len(files)} files by SHA-256")


def _check_flag(flag: Path, listing: Any, report: VerifyReport) -> None:
    if report.grade == "below_B":
        if flag.exists():
            report.find("E_VERIFY_FLAG", "a certification below B has a PASS flag", str(flag))
        return
    expected = f"sha256_hex = {sha256_bytes(readable_json(listing))}"
    if not flag.is_file() or flag.read_text(errors="replace").strip() != expected:
        report.find("E_VERIFY_FLAG", "the PASS flag is missing or does not belong to files.json", str(flag))


def check_layout(path: Path, seeds: Iterable[int], report: VerifyReport) -> None:
    """No file is of a kind that a certification does not have: what a reader might take for data must be checked."""
    roots = {f"{certificate.seed_folder(seed)}/" for seed in seeds}
    for file in sorted(p for p in path.rglob("*") if not p.is_dir()):
        name = file.relative_to(path).as_posix()
        root = next((root for root in roots if name.startswith(root)), None)
        of_a_seed = root is not None and _OF_A_SEED.fullmatch(name.removeprefix(root))
        if not of_a_seed and name not in _FIXED and name not in _NOT_LISTED:
            report.find("E_VERIFY_FILE_UNKNOWN", "nothing in a certification has this name", name)


def check_catalogue_files(receipt: BundleReceipt, report: VerifyReport) -> None:
    """A bundle's folder holds its data files and its validation folder, nothing beside them."""
    data = {file for dataset in receipt.dataset_rows for file in receipt.part_files(dataset)}
    for file in sorted(p for p in receipt.root.rglob("*") if not p.is_dir()):
        inside = file.relative_to(receipt.root).as_posix().startswith(f"{VALIDATION_FOLDER}/")
        if file not in data and not inside:
            report.find("E_VERIFY_FILE_UNKNOWN", "the catalogue's bundle has no such file", str(file))
