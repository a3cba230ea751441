"""What the warm-up compiles is all that a certification's tasks call."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

CERTIFY_AFTER_WARM_UP = """
import json, sys
from pathlib import Path

from numba.core.dispatcher import Dispatcher

from lane_cases import one_seed
from seg1b.lanes import warm_up
from seg1b.lanes.certify import certify
from seg1b.lanes.world_stage import run_world
from seg1b.store.store import Store
from seg1b.world.bundle import load_world


def signatures():
    modules = [module for name, module in sys.modules.items() if name.startswith("seg1b.")]
    kernels = {k for module in modules for k in vars(module).values() if isinstance(k, Dispatcher)}
    return {f"{k.py_func.__module__}.{k.__name__} {s}" for k in kernels for s in k.signatures}


policies, world = one_seed(), load_world()
with Store.open(Path(sys.argv[1])) as store:
    run_world(store, policies, world)
    for part in sys.argv[2:]:
        getattr(warm_up, part)()
    known = signatures()
    certify(store, policies, world)
print(json.dumps([len(known), sorted(signatures() - known)]))
"""


def new_after(root: Path, *parts: str) -> tuple[int, list[str]]:
    """How many kernel signatures the world and parts of the warm-up need, and which a certification adds."""
    command = [sys.executable, "-c", CERTIFY_AFTER_WARM_UP, str(root), *parts]
    done = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=True)
    count, new = json.loads(done.stdout.splitlines()[-1])
    return count, new


def test_a_certification_calls_no_kernel_that_the_warm_up_did_not(tmp_path: Path) -> None:
    """By kernel and argument types; without one half of the warm-up there are some."""
    count, new = new_after(tmp_path / "all", "placing", "validating")
    assert (count > 40, new) == (True, [])
    assert any("jitter._cluster_v3" in kernel for kernel in new_after(tmp_path / "half", "validating")[1])
