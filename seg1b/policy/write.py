"""Policies as a folder of files, such as `load_policies` reads."""

from __future__ import annotations

from pathlib import Path

import yaml

from seg1b.errors import InputError
from seg1b.policy.load import POLICY_FILES, Policies


def write_policies(policies: Policies, folder: Path) -> list[Path]:
    """Write every policy file below `folder` and return the paths; read again they are the same policies.

    Raises InputError E_CONFIG_EXISTS if a policy file is there already, E_CONFIG_WRITE where the disk refuses.
    """
    there = [file.path for file in POLICY_FILES if (folder / file.path).exists()]
    if there:
        raise InputError(
            "E_CONFIG_EXISTS", f"the folder holds {there[0]} already", where=str(folder),
            next_step="name a new folder",
        )  # fmt: skip
    paths = []
    try:
        for file in POLICY_FILES:
            values = getattr(policies, file.attribute).model_dump(mode="json")
            path = folder / file.path
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(yaml.safe_dump(values, sort_keys=False, allow_unicode=True), encoding="utf-8")
            paths.append(path)
    except OSError as error:
        raise InputError(
            "E_CONFIG_WRITE", f"the policies cannot be written: {error}", where=str(folder),
            next_step="name a folder that you may write to",
        ) from error  # fmt: skip
    return paths
