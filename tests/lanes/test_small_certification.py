"""What a certification is and says, on a tenth of the default workload."""

from __future__ import annotations

import json
from pathlib import Path

from conftest import Certified

from seg1b.policy.load import default_policies
from seg1b.store.store import Store


def test_reasons(small: Certified) -> None:
    """The small certification is a B+ under its wide gates."""
    assert small.result.certificate["reasons_against_b_plus"] == []
    assert small.result.grade == "B+"
