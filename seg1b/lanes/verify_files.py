"""The files of a certification folder: every listed one with its bytes, none that has no business there.

Only regular files and the folders that they need: a link may lead a reader to shops that nobody listed, and to other
ones on another machine.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from seg1b.catalogue.bundle_law import VALIDATION_FOLDER
from seg1b.catalogue.verify import BundleReceipt
from seg1b.lanes import certificate
from seg1b.lanes.verify_report import VerifyReport
from seg1b.policy.load import CERTIFIED_FILES
from seg1b.states.s8_egress import TABLE
from seg1b.states.tables import ASSIGNMENT_TABLE, COUNTRY, JITTER_TABLE, PLAN_TABLE
from seg1b.store.digest import readable_json, sha256_bytes, sha256_file

_NOT_LISTED = {certificate.FILES, certificate.FLAG, certificate.TELEMETRY}
_FIXED = {
    certificate.CERTIFICATE,
    "ATTRIBUTION.txt",
    "report/index.html",
    *(f"config/{file.path.removesuffix('.yaml')}.json" for file in CERTIFIED_FILES),
    *(f"world/{name}" for name in certificate.WORLD_FILES),
}
_OF_A_SEED = re.compile(
    rf"{TABLE}/{COUNTRY}=[A-Z]{{2}}/[^/]+\.parquet"
    rf"|(?:{PLAN_TABLE}|{ASSIGNMENT_TABLE}|{JITTER_TABLE})/[^/]+\.parquet"
    r"|validation/[^/]+|catalogue/.+"
)


def strict_json(data: bytes) -> Any:
    """A JSON value. Raises ValueError for what is none, for numbers that are none, and for endless nesting."""
    try:
        return json.loads(data, parse_constant=_no_number, parse_float=_finite)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def _no_number(text: str) -> None:
    raise ValueError(f"{text} is no JSON number")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is too large for a number")
    return value


def check_files(path: Path, report: VerifyReport) -> bool:
    """Every listed file is there with its bytes, and nothing else is; the flag belongs to the list.

    Returns whether the rest of the folder can be read without following links.
    """
    everything, folders = _walk(path, report)
    plain = not report.findings_of("E_VERIFY_FILE_KIND")
    listing_file = path / certificate.FILES
    try:
        if certificate.FILES not in everything:
            raise ValueError("it is missing")
        data = listing_file.read_bytes()
        listing = strict_json(data)
        files = {str(name): dict(entry) for name, entry in listing["files"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        report.find("E_VERIFY_FILES", f"files.json cannot be read: {error}", str(listing_file))
        return plain
    if data != readable_json({"format": certificate.FORMAT, "files": files}):
        report.find("E_VERIFY_FORM", "files.json is not in the form that seg1b writes", certificate.FILES)
    present = everything - _NOT_LISTED
    for name in sorted(set(files) - present):
        report.find("E_VERIFY_FILE_MISSING", "a listed file is missing", name)
    for name in sorted(present - set(files)):
        report.find("E_VERIFY_FILE_UNLISTED", "a file is not listed", name)
    needed = {parent.as_posix() for name in files for parent in Path(name).parents}
    for name in sorted(folders - needed):
        report.find("E_VERIFY_FILE_UNLISTED", "a folder holds no listed file", name)
    for name in sorted(present & set(files)):
        _compare_entry(path / name, name, files[name], report)
    _check_flag(path / certificate.FLAG, listing, report)
    report.checked.append(f"{len(files)} files by length and SHA-256")
    return plain


def _walk(path: Path, report: VerifyReport) -> tuple[set[str], set[str]]:
    """Names of all regular files and of all folders below `path`; whatever else there is, is a finding."""
    files: set[str] = set()
    folders: set[str] = set()
    pending = [""]
    while pending:
        parent = pending.pop()
        with os.scandir(path / parent) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                name = f"{parent}/{entry.name}".removeprefix("/")
                if entry.is_dir(follow_symlinks=False):
                    folders.add(name)
                    pending.append(name)
                elif entry.is_file(follow_symlinks=False):
                    files.add(name)
                else:
                    kind = "a symbolic link" if entry.is_symlink() else "neither a file nor a folder"
                    report.find("E_VERIFY_FILE_KIND", f"this is {kind}; a certification has none", name)
    return files, folders


def _compare_entry(file: Path, name: str, entry: dict[str, Any], report: VerifyReport) -> None:
    if set(entry) != {"bytes", "sha256"}:
        report.find("E_VERIFY_FORM", "the list says something else than length and SHA-256 of a file", name)
    length = entry.get("bytes")
    if type(length) is not int or length != file.stat().st_size:
        report.find("E_VERIFY_FILE_LENGTH", f"the file's length is not the listed one, {length!r}", name)
    if sha256_file(file) != entry.get("sha256"):
        report.find("E_VERIFY_FILE_DIGEST", "the file's SHA-256 is not the listed one", name)


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
