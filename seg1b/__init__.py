"""seg1b: certified synthetic merchant outlet locations on the real Earth.

    import seg1b

    result = seg1b.certify(runs="runs")
    sites = seg1b.load_site_locations(result.path, seed=42)

The functions are those of `seg1b.api` and are imported when first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from seg1b.api import certify as certify
    from seg1b.api import load_certificate as load_certificate
    from seg1b.api import load_site_locations as load_site_locations
    from seg1b.api import tune as tune
    from seg1b.api import verify as verify

__version__ = "0.1.0"

_FUNCTIONS = ("certify", "load_certificate", "load_site_locations", "tune", "verify")
__all__ = ["__version__", *_FUNCTIONS]


def __getattr__(name: str) -> Any:
    if name in _FUNCTIONS:
        import importlib

        return getattr(importlib.import_module("seg1b.api"), name)
    raise AttributeError(f"module 'seg1b' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_FUNCTIONS})
