"""State keys: the name under which a state's output lives.

A key is the SHA-256 of everything that can change the output, so equal keys mean equal outputs and what is
published under its key never has to be computed again.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from seg1b.errors import ContractError
from seg1b.store.digest import canonical_json, sha256_bytes

HEX64 = re.compile(r"[0-9a-f]{64}")


def state_key(
    state: str,
    revision: int,
    policy_digest: str | None,
    inputs: Mapping[str, str] | None = None,
    external: Mapping[str, str] | None = None,
    seed: int | None = None,
) -> str:
    """Key of a state's output, 64 hex.

    `revision` is the state's code revision; `policy_digest` that of its own policy block (None: it has
    none); `inputs` maps the name of an input state to its key; `external` maps the name of an external
    input to its digest; `seed` is given only if the state uses it. Raises ContractError for anything that
    is not a digest.
    """
    for kind, digests in (("input", inputs or {}), ("external digest", external or {})):
        for name, digest in digests.items():
            _require_hex64(digest, f"{kind} {name!r} of state {state!r}")
    if policy_digest is not None:
        _require_hex64(policy_digest, f"policy digest of state {state!r}")
    if seed is not None and not 0 <= seed < 2**64:
        raise ContractError("E_STATE_KEY", f"the seed {seed} of state {state!r} is no unsigned 64-bit number")
    facts = {
        "scheme": "seg1b/state-key/1",
        "state": state,
        "revision": revision,
        "policy": policy_digest,
        "inputs": dict(inputs or {}),
        "external": dict(external or {}),
        "seed": seed,
    }
    return sha256_bytes(canonical_json(facts))


def _require_hex64(value: str, what: str) -> None:
    if not isinstance(value, str) or not HEX64.fullmatch(value):
        raise ContractError("E_STATE_KEY", f"the {what} is {value!r}, not 64 lower-case hex digits")
