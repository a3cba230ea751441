"""The certification's folder, which a stranger can check without the store: copies, never links into the store.

Seeds are copied as they finish, long before the certificate has an id.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from seg1b.errors import StoreError
from seg1b.lanes.certificate import (
    CERTIFICATE,
    FILES,
    FLAG,
    FORMAT,
    TELEMETRY,
    WORLD_FILES,
    Assembled,
    as_published,
    facts_only,
    load,
    seed_folder,
)
from seg1b.lanes.identity import software
from seg1b.lanes.seed_tasks import Preparation
from seg1b.lanes.world_stage import WorldStage
from seg1b.policy.load import CERTIFIED_FILES, Policies
from seg1b.report.page import Maps, SitePoints, draw_maps, write_report
from seg1b.states.tables import ASSIGNMENT_TABLE, JITTER_TABLE, PLAN_TABLE
from seg1b.store.digest import canonical_json, readable_json, sha256_bytes, sha256_file
from seg1b.store.staging import StagedFolder
from seg1b.store.store import Store
from seg1b.world.content import World


@dataclass
class Draft:
    """A certification's folder on its way. One thread copies into it; `publish` waits for that."""

    store: Store
    folder: StagedFolder
    world: World
    shown_seed: int
    copier: ThreadPoolExecutor
    copies: list[Future[None]] = field(default_factory=list)
    maps: Future[Maps] | None = None

    def add_seed(self, preparation: Preparation) -> None:
        """Begin to copy what a finished seed published; and to draw the seed whose maps the report shows."""
        self.copies.append(self.copier.submit(_add_seed, self.store, self.folder, preparation))
        if preparation.identity.seed == self.shown_seed:
            self.maps = self.copier.submit(_draw, self.store, self.world, preparation)


@contextmanager
def drafting(store: Store, world: World, shown_seed: int) -> Iterator[Draft]:
    """A draft; what is not published by the end of the block leaves nothing."""
    with store.certifications.draft() as folder, ThreadPoolExecutor(1) as copier:
        try:
            yield Draft(store, folder, world, shown_seed, copier)
        finally:
            copier.shutdown(cancel_futures=True)


def publish(
    draft: Draft,
    stage: WorldStage,
    policies: Policies,
    assembled: Assembled,
    telemetry: Mapping[str, Any],
) -> tuple[Path, bool]:
    """Publish a draft that has all seeds; (path, whether an identical one was there, which then stays as it is).

    Raises StoreError E_STORE_CONFLICT if one is there under this id and somebody changed it.
    """
    store, folder, world, document = draft.store, draft.folder, draft.world, assembled.document
    cert_id = str(document["cert_id"])
    if store.certifications.has(cert_id):
        path = store.certifications.path(cert_id)
        _require_untouched(path, document)
        return path, True
    report: list[tuple[str, bytes]] = []
    maps = draw_maps(None, None, world) if draft.maps is None else draft.maps.result()
    write_report(
        lambda name, data: report.append((name, data)),
        as_published(document), assembled.scores, assembled.pooled, maps, world,
    )  # fmt: skip
    for copy in draft.copies:  # the page is written while the last seed is copied
        copy.result()
    folder.add_json(CERTIFICATE, document)
    for file in CERTIFIED_FILES:
        model = getattr(policies, file.attribute)
        folder.add_json(f"config/{file.path.removesuffix('.yaml')}.json", model.model_dump(mode="json"))
    if world.directory is not None:
        for name in WORLD_FILES:
            folder.add_bytes(f"world/{name}", (world.directory / name).read_bytes())
    folder.add_bytes("ATTRIBUTION.txt", (stage.attribution + "\n").encode())
    for name, data in report:
        folder.add_bytes(name, data)
    listing = {
        name: {"bytes": size, "sha256": digest} for name, (size, digest) in sorted(folder.files.items())
    }
    folder.add_json(FILES, {"format": FORMAT, "files": listing})
    if document["grade"] != "below_B":
        digest = sha256_bytes(readable_json({"format": FORMAT, "files": listing}))
        folder.add_bytes(FLAG, f"sha256_hex = {digest}\n".encode())
    folder.add_json(TELEMETRY, {**software(), **telemetry})
    store.certifications.publish_draft(folder, cert_id)
    return store.certifications.path(cert_id), False


def _require_untouched(path: Path, document: Mapping[str, Any]) -> None:
    """A certificate that is already there must have these facts, and its files the listed digests."""
    try:
        same = canonical_json(facts_only(load(path))) == canonical_json(facts_only(document))
        listing = json.loads((path / FILES).read_bytes())["files"]
        changed = [name for name in sorted(listing) if sha256_file(path / name) != listing[name]["sha256"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        same, changed = False, [str(error)]
    if not same or changed:
        raise StoreError(
            "E_STORE_CONFLICT",
            "this certification is already published, but somebody changed it"
            + (f": {changed[0]}" if changed else ": certificate.json"),
            where=str(path),
            next_step="remove the folder and run again; it will be made anew",
        )


def _add_seed(store: Store, folder: StagedFolder, preparation: Preparation) -> None:
    keys, seed = preparation.identity.keys, preparation.identity.seed
    root = seed_folder(seed)
    store.copy_into(folder, "s8", keys["S8"], root, table="site_locations")
    for state, table in (("S4", PLAN_TABLE), ("S5", ASSIGNMENT_TABLE), ("S6", JITTER_TABLE)):
        _copy_parts(store, folder, state.lower(), keys[state], f"{root}/{table}", f"{table}.parquet")
    _copy_below(store, folder, "s0c", keys["S0c"], "bundle/", f"{root}/catalogue/")
    _copy_below(store, folder, "s9", keys["S9"], "validation/", f"{root}/validation/")


def _copy_parts(store: Store, folder: StagedFolder, state: str, key: str, target: str, name: str) -> None:
    """Copy one table's part files as `<target>/<part>.parquet`."""
    source = store.layout.object(state, key)
    for path, entry in sorted(store.manifest(state, key).files.items()):
        pieces = path.split("/")
        if pieces[-1] == name and len(pieces) == 3:
            folder.add_copy(f"{target}/{pieces[1]}.parquet", source / path, entry.length_bytes, entry.sha256)


def _copy_below(store: Store, folder: StagedFolder, state: str, key: str, prefix: str, target: str) -> None:
    """Copy the documents below `prefix`."""
    source = store.layout.object(state, key)
    for path, entry in sorted(store.manifest(state, key).files.items()):
        if path.startswith(prefix):
            folder.add_copy(
                target + path.removeprefix(prefix), source / path, entry.length_bytes, entry.sha256
            )


def _draw(store: Store, world: World, preparation: Preparation) -> Maps:
    """The maps of a seed's published sites."""
    reader = store.open_table("s8", preparation.identity.keys["S8"], "site_locations")
    partitions = list(reader.partitions(("lon_deg", "lat_deg")))
    index = world.countries.index_of
    points = SitePoints(
        np.concatenate([np.full(table.num_rows, index[str(code)], np.int16) for code, table in partitions]),
        np.concatenate([table.column("lon_deg").to_numpy() for _, table in partitions]),
        np.concatenate([table.column("lat_deg").to_numpy() for _, table in partitions]),
    )
    return draw_maps(points, preparation.identity.seed, world)
