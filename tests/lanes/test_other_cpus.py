"""The same bytes on another CPU: a small certification with all vector extensions switched off that can be, and as
they are."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np

from seg1b.kernels.jit import njit

PROGRAM = """
import json, tempfile
from pathlib import Path
from numpy._core._multiarray_umath import __cpu_dispatch__, __cpu_features__
from seg1b.lanes.certify import certify
from seg1b.policy.load import default_policies, set_values
from seg1b.store.store import Store
from seg1b.world.bundle import load_world

knobs = {"s1.resolution_arcsec": 600, "synthesis.merchants": 400, "synthesis.sizes.pareto.upper": 40}
with tempfile.TemporaryDirectory() as folder, Store.open(Path(folder)) as store:
    made = certify(store, set_values(default_policies(), knobs), load_world(), seeds=[42])
    found = {"cert_id": made.certificate["cert_id"], "grade": made.grade}
    for state in ("s1", "s2w", "s2s", "s3", "s4", "s5", "s6", "s7", "s8", "s9"):
        (key,) = [path.name for path in (Path(folder) / "objects" / state).iterdir()]
        manifest = store.manifest(state, key)
        tables = {table: entry.logical_digest for table, entry in manifest.tables.items()}
        found[state] = [manifest.facts, tables, manifest.documents]
print(json.dumps([[name for name in __cpu_dispatch__ if __cpu_features__[name]], found]))
"""


def run(environment: dict[str, str]) -> tuple[list[str], dict[str, object]]:
    """Extensions that numpy uses; facts, digests and documents of S1 to S9 at ten minutes, and the certificate's id."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    extensions, found = json.loads(done.stdout)
    return extensions, found


def test_nothing_depends_on_the_cpu(tmp_path: Path) -> None:
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
