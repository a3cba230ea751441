"""Property tests call compiled functions: the first call of each compiles, so no deadline can hold."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("compiled", deadline=None)
settings.load_profile("compiled")
