"""The world of a certification folder: the certified one, and honest about where it comes from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from seg1b.lanes.verify_report import VerifyReport
from seg1b.world.bundle import EMBEDDED_DIRECTORY, MANIFEST_NAME, SCHEMAS, load_world, manifest_bytes
from seg1b.world.content import World

_OF_EVERY_WORLD = ("digest", "files", "format_version", "raster")


def checked_world(path: Path, certified_digest: str, raster: Path | None, report: VerifyReport) -> World:
    """The embedded world, or the one in the folder; its digest must be the certified one.

    Sets `report.partially` where the world's raster is not at hand. Raises InputError as `load_world` does.
    """
    own = path / "world"
    world = load_world(own, raster_path=raster, raster_required=False) if own.is_dir() else load_world()
    if world.digest != certified_digest:
        report.find(
            "E_VERIFY_WORLD",
            f"the certificate is about another world than this one ({world.digest[:12]})",
            "certificate.json: identity.world_digest",
        )
    if own.is_dir():
        _check_manifest(own / MANIFEST_NAME, world, report)
    report.partially = world.raster is not None and world.raster.path is None
    if report.partially:
        report.checked.append(
            f"world {world.digest[:12]}: tiles computed again; its raster is not at hand (--raster)"
        )
    else:
        whose = "the embedded one" if world.digest == load_world().digest else "a user's own, from world/"
        report.checked.append(
            f"world {world.digest[:12]} ({whose}): tiles, surface, weights and shares computed again"
        )
    return world


def _check_manifest(file: Path, world: World, report: VerifyReport) -> None:
    """`world.json` says where the data come from; of the embedded data there is nothing to say but the truth."""
    where = f"world/{MANIFEST_NAME}"
    data = file.read_bytes()
    if data != manifest_bytes(world.provenance):
        report.find("E_VERIFY_FORM", "world.json is not in the form that seg1b writes", where)
    embedded = load_world()
    files, known = world.provenance["files"], embedded.provenance["files"]
    if any(files[name]["sha256"] != known[name]["sha256"] for name in SCHEMAS):
        report.unchecked.append("provenance of the user's own polygons: what world.json says of it")
        return
    if world.raster is None:
        same = data == (EMBEDDED_DIRECTORY / MANIFEST_NAME).read_bytes()
    else:
        same = _told(world) == _told_of_raster(world, embedded) and files == known
    if not same:
        report.find("E_VERIFY_WORLD", "the data are the embedded world's, what world.json says is not", where)


def _told(world: World) -> dict[str, Any]:
    return {name: value for name, value in world.provenance.items() if name not in _OF_EVERY_WORLD}


def _told_of_raster(world: World, embedded: World) -> dict[str, Any]:
    """What `build_user_world` writes of the embedded world with a user's raster."""
    assert world.raster is not None
    return {
        "title": "seg1b user world",
        "sources": {
            "embedded_world": {"digest": embedded.digest, **embedded.provenance["sources"]},
            "population": {"file": world.raster.file_name, "sha256": world.raster.sha256},
        },
        "decisions": {},
        "counts": {
            "countries": len(embedded.countries),
            "eligible_countries": int(embedded.countries.eligible.sum()),
            "settlements": len(embedded.settlements),
        },
    }
