"""How many CPUs there are for this process."""

from __future__ import annotations

import os


def usable_cpus() -> int:
    """CPUs that this process may run on; where the system does not say, all that it has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
