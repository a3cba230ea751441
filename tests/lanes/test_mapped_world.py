"""A lane of one seed maps the world's model: it is the model, it is nobody's output, and a raster has none."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from lane_cases import Certified, small_policies, world_only
from small_worlds import bits
from tune_cases import candidate, opened

from seg1b.errors import InputError, StoreAccessError, StoreError
from seg1b.lanes import certify, world_stage
from seg1b.lanes.retention import claimed_keys, known_keys
from seg1b.lanes.world_stage import WorldStage, keep_image, run_world
from seg1b.policy.load import Policies
from seg1b.states import s2_weights, world_image
from seg1b.states.plan import WORLD_IMAGE, world_image_key
from seg1b.store.store import Store
from seg1b.world.content import World
from seg1b.world.surface import PopulationSurface
from seg1b.world.weights import TileWeights

POLICIES = small_policies()


@pytest.fixture
def root(small: Certified, tmp_path: Path) -> Path:
    """A store that has the world states."""
    return world_only(small.root, tmp_path / "runs")


def kept(store: Store, world: World, policies: Policies = POLICIES) -> WorldStage:
    """The stage as a fast lane has it that finds no image and leaves one."""
    stage = run_world(store, policies, world, fast=True)
    keep_image(store, policies, stage)
    return stage


def parts(stage: WorldStage) -> dict[str, str]:
    """Digest of every part of the model, and of what scoring knows of the surface."""
    model, reference = stage.world, stage.context.surfaces[0].reference
    names = ("index", "surface", "weights", "polygons", "edges", "anchors")
    return {name: bits(getattr(model, name)) for name in names} | {
        "pieces": bits(model.pieces),
        "people": bits(reference.population),
        "near a city": bits(reference.near_city),
    }


def test_the_mapped_model_is_the_computed_one(
    root: Path, real_world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To the last bit, read-only and aligned, and without reading weights or indexing borders; a lease claims it."""
    with opened(root) as store:
        plain = run_world(store, POLICIES, real_world)
        assert not (root / "objects" / WORLD_IMAGE).exists()
        kept(store, real_world)
        for owner, name in ((s2_weights, "load_weights"), (world_stage, "landmarks")):
            monkeypatch.setattr(owner, name, lambda *_, what=name: pytest.fail(f"{what} was called"))
        monkeypatch.setattr(world_image, "publish", lambda *_: pytest.fail("it is there"))
        mapped = kept(store, real_world)
        assert parts(mapped) == parts(plain)
        surface, weights = mapped.world.surface, mapped.world.weights
        assert isinstance(surface, PopulationSurface)
        assert isinstance(weights, TileWeights)
        for array in (surface.population, weights.weight, mapped.world.edges.edge):
            assert type(array) is np.ndarray
            assert (array.flags.writeable, array.flags.aligned, array.flags.c_contiguous) == (
                False,
                True,
                True,
            )
        assert surface.tile0 is weights.tile0
        key = world_image_key(plain.keys)
        assert store.has(WORLD_IMAGE, key)
        assert key in claimed_keys(known_keys(store, POLICIES, real_world, 42, None), POLICIES, 42)


def test_an_image_that_is_cut_off_is_damage_and_no_certification_looks_at_it(
    root: Path, real_world: World
) -> None:
    """The fast lane says which file; `run_world` as certifications call it reads what S1 and S2 published."""
    with opened(root) as store:
        stage = kept(store, real_world)
        path = store.layout.object(WORLD_IMAGE, world_image_key(stage.keys)) / "image.bin"
        path.chmod(0o644)
        path.write_bytes(path.read_bytes()[:-8])
        with pytest.raises(StoreError) as error:
            run_world(store, POLICIES, real_world, fast=True)
        assert (error.value.code, error.value.where) == ("E_STORE_DAMAGED", str(path))
        run_world(store, POLICIES, real_world)


def test_nothing_is_placed_by_an_image_with_other_bytes(root: Path, real_world: World) -> None:
    """Its length is right, and what is in it might pass for a world."""
    candidate(root, real_world, {"s6.max_attempts": 63})
    made = {path.name for path in (root / "objects" / "s6").iterdir()}
    (image,) = (root / "objects" / WORLD_IMAGE).glob("*/image.bin")
    image.chmod(0o644)
    with image.open("r+b") as file:
        file.seek(image.stat().st_size // 2)
        byte = file.read(1)[0]
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte ^ 1]))
    with pytest.raises(StoreError, match="E_STORE_DAMAGED") as error:
        candidate(root, real_world, {"s6.max_attempts": 62})
    assert error.value.where == str(image)
    assert {path.name for path in (root / "objects" / "s6").iterdir()} == made


def test_other_weights_have_an_image_of_their_own(root: Path, real_world: World) -> None:
    """S1's and S2w's keys are in the image's; S2s's, of which it has nothing, is not."""
    with Store.open(root) as store:
        keys = known_keys(store, POLICIES, real_world, 42, None)
        of = {
            name: world_image_key(known_keys(store, changed, real_world, 42, None))
            for name, changed in {
                "S2w": small_policies(s2w__dp=11),
                "S2s": small_policies(s2s__prior__tempering=0.6),
            }.items()
        }
    assert of["S2w"] != world_image_key(keys) == of["S2s"]


@pytest.mark.parametrize(
    "trouble",
    [
        StoreAccessError("E_STORE_FULL", "the disk is full", where="image.bin", next_step="make room"),
        StoreError("E_STORE_IO", "writing failed", where="image.bin", next_step="check the disk"),
        OSError(errno.EFBIG, "File too large"),
    ],
)
def test_an_image_that_cannot_be_written_is_worth_a_warning(
    root: Path,
    real_world: World,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    trouble: OSError,
) -> None:
    """It is said, and the model is there."""

    def refuse(*_: object) -> None:
        raise trouble

    monkeypatch.setattr(world_image, "publish", refuse)
    with opened(root) as store:
        stage = kept(store, real_world)
        assert not store.has(WORLD_IMAGE, world_image_key(stage.keys))
    assert len(stage.world.iso) == len(real_world.countries)
    assert "no image of the world is kept" in caplog.text


def test_a_disk_with_room_for_the_run_alone_keeps_no_image(
    root: Path, real_world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A gigabyte stays free beside it."""
    free = shutil.disk_usage(root)
    for left, there in ((1 << 30, False), (3 << 29, True)):
        monkeypatch.setattr(shutil, "disk_usage", lambda _, left=left: free._replace(free=left))
        with opened(root) as store:
            stage = kept(store, real_world)
            assert store.has(WORLD_IMAGE, world_image_key(stage.keys)) == there


def test_a_small_cap_leaves_no_place_for_an_image(root: Path, real_world: World) -> None:
    """It is 180 MB, a run some five."""
    with opened(root) as store:
        stage = kept(store, real_world, small_policies(retention__live_bytes_max=3_000_000_000))
        assert not store.has(WORLD_IMAGE, world_image_key(stage.keys))
        kept(store, real_world, small_policies(retention__live_bytes_max=4_000_000_000))
        assert store.has(WORLD_IMAGE, world_image_key(stage.keys))


def test_a_store_that_is_too_full_is_given_no_image(
    root: Path, real_world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pruning says so, and goes first."""

    def refuse(*_: object) -> None:
        raise InputError("E_STORE_CAP", "too full", where=str(root), next_step="make room")

    monkeypatch.setattr(certify, "prune_before_run", refuse)
    with pytest.raises(InputError, match="E_STORE_CAP"):
        candidate(root, real_world, {"s6.max_attempts": 63})
    assert not (root / "objects" / WORLD_IMAGE).exists()
    monkeypatch.setattr(certify, "prune_before_run", lambda *_: None)
    candidate(root, real_world, {"s6.max_attempts": 63})
    assert (root / "objects" / WORLD_IMAGE).exists()


def test_a_defect_in_keeping_the_image_is_not_swallowed(
    root: Path, real_world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only what the disk or the store says is worth no more than a warning."""

    def broken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(world_image, "publish", broken)
    with pytest.raises(ZeroDivisionError):
        candidate(root, real_world, {"s6.max_attempts": 63})
