"""The same bytes on another CPU: S1 and S2 with all vector extensions switched off that can be, and as they are."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np

from seg1b.kernels.jit import njit

PROGRAM = """
import json, sys, tempfile
from pathlib import Path
from numpy._core._multiarray_umath import __cpu_dispatch__, __cpu_features__
from seg1b.lanes.world_stage import world_keys
from seg1b.policy.load import default_policies, set_values
from seg1b.states import s1_tile_index, s2_weights
from seg1b.store.store import Store
from seg1b.world.bundle import load_world

policies, world = set_values(default_policies(), {"s1.resolution_arcsec": 600}), load_world()
with tempfile.TemporaryDirectory() as folder, Store.open(Path(folder)) as store:
    keys = world_keys(policies, world)
    index = s1_tile_index.run(store, keys["S1"], world, policies.tile_index)
    surface, _ = s2_weights.run_weights(store, keys["S2w"], world, index, policies.tile_weights)
    s2_weights.run_shares(store, keys["S2s"], world, index, surface, policies.country_shares)
    manifests = {name: store.manifest(name.lower(), keys[name]) for name in ("S1", "S2w", "S2s")}
    found = {
        name: [manifest.facts, {table: entry.logical_digest for table, entry in manifest.tables.items()}]
        for name, manifest in manifests.items()
    }
print(json.dumps([[name for name in __cpu_dispatch__ if __cpu_features__[name]], found]))
"""


def run(environment: dict[str, str]) -> tuple[list[str], dict[str, object]]:
    """Extensions that numpy uses, and every fact and logical digest of S1 and S2 at ten minutes."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    extensions, found = json.loads(done.stdout)
    return extensions, found


def test_s1_and_s2_do_not_depend_on_the_cpu(tmp_path: Path) -> None:
    """numpy, numba, OpenBLAS and libm each without what tells this CPU from the plainest one of its kind."""
    extensions, expected = run({})
    plain = {
        "NPY_DISABLE_CPU_FEATURES": " ".join(extensions),
        "NUMBA_CPU_NAME": "generic",
        "NUMBA_CPU_FEATURES": "",
        "NUMBA_CACHE_DIR": str(tmp_path / "jit"),
        "OPENBLAS_CORETYPE": "Nehalem",
        "GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX512F,-AVX2,-FMA,-AVX",
    }
    left, found = run(plain)
    assert left == []
    assert found == expected


@njit
def _fused(a: float, b: float, c: float) -> float:
    return a * b + c


def test_products_are_rounded_before_they_are_added() -> None:
    """A fused multiply-add would see the last bits of the product, here 2**-60, and give them back."""
    a = 1.0 + 2.0**-30
    assert _fused(a, a, -(1.0 + 2.0**-29)) == 0.0
    columns = np.full(64, a)
    assert not (columns * columns - (1.0 + 2.0**-29)).any()
