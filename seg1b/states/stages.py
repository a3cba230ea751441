"""Parts of a state that are timed apart, as telemetry; a state does not know who measures."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import TypeAlias

Stage: TypeAlias = Callable[[str], AbstractContextManager[None]]
"""Takes a part's name, such as "S1.publish", and gives the context that it runs in."""


def untimed(name: str) -> AbstractContextManager[None]:
    """Nobody measures."""
    del name
    return nullcontext()
