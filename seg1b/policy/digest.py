"""Canonical bytes of a policy, and the digests that stand for it in state keys and certificates."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel


def _normalise(value: Any) -> Any:
    if isinstance(value, float):
        return value + 0.0  # -0.0 and 0.0 mean the same
    if isinstance(value, Mapping):
        return {str(key): _normalise(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_normalise(item) for item in value]
    return value


def canonical_json(value: Any) -> bytes:
    """Sorted keys, no spaces, ASCII, shortest decimals that read back exactly; no NaN or infinity."""
    text = json.dumps(
        _normalise(value), sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False
    )
    return text.encode("ascii")


def canonical(model: BaseModel) -> bytes:
    """Canonical bytes of a policy, whatever its key order, comments, spacing and way of writing a number."""
    return canonical_json(model.model_dump(mode="python"))


def digest(model: BaseModel) -> str:
    """SHA-256 of the canonical bytes, 64 lower-case hex digits."""
    return hashlib.sha256(canonical(model)).hexdigest()


def combined_digest(models: Mapping[str, BaseModel]) -> str:
    """SHA-256 over the canonical JSON of {file name: digest}: framed, so nothing can move between files."""
    return hashlib.sha256(canonical_json({name: digest(model) for name, model in models.items()})).hexdigest()
