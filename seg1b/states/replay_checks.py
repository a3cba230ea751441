"""What S9's replay finds: comparisons, counts, and the random blocks that were used."""

from __future__ import annotations

from dataclasses import dataclass

PLAN_CHECKS = ("s4_plan", "s5_tiles")
"""The checks that make the draws of S4 and S5 again; no other check needs them."""


@dataclass(frozen=True)
class Check:
    """One comparison: how many rows differ, and where the first one is. It passes only with none."""

    name: str
    demand: str
    differing: int
    first: str = ""

    @property
    def passed(self) -> bool:
        """Whether nothing differs."""
        return self.differing == 0


@dataclass(frozen=True)
class Replay:
    """All checks of a seed, the structural counts that the gates judge, and the blocks that the draws used."""

    checks: tuple[Check, ...]
    violations: dict[str, int | None]
    blocks: dict[str, int]

    @property
    def passed(self) -> bool:
        """Whether every check passed."""
        return all(check.passed for check in self.checks)
