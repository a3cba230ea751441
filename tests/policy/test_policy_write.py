"""Policies that are written are read as what they were."""

from __future__ import annotations

from pathlib import Path

import pytest

from seg1b.errors import InputError
from seg1b.policy.knobs import settle
from seg1b.policy.load import POLICY_FILES, default_policies, load_policies, parameter_hash, set_values
from seg1b.policy.write import write_policies


def test_written_policies_come_back_to_the_last_digit(tmp_path: Path) -> None:
    """Tiny tolerances, nulls, text and rescaled weights too."""
    settings = settle(default_policies(), {"sparse_tail": 0.07, "gates.no_regression_tolerance": 1e-12})
    policies = set_values(default_policies(), settings.values)
    paths = write_policies(policies, tmp_path / "mine")
    again = load_policies(tmp_path / "mine")
    assert again == policies
    assert parameter_hash(again) == parameter_hash(policies)
    assert len(paths) == len(POLICY_FILES)
    assert {source.origin for source in again.sources.values()} == {"explicit"}


def test_a_folder_with_policies_is_not_overwritten(tmp_path: Path) -> None:
    """Not even one file of it; and a file is no folder."""
    (tmp_path / "gates.yaml").write_text("mine")
    with pytest.raises(InputError, match=r"E_CONFIG_EXISTS.*gates.yaml"):
        write_policies(default_policies(), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["gates.yaml"]
    with pytest.raises(InputError, match="E_CONFIG_WRITE"):
        write_policies(default_policies(), tmp_path / "gates.yaml" / "below")
