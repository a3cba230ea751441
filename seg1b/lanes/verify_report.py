"""What a verification found."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

_MOST_FINDINGS = 40


@dataclass(frozen=True)
class Finding:
    """One lie: a stable code, what does not agree, and where."""

    code: str
    what: str
    where: str


@dataclass
class VerifyReport:
    """What a verification found. `unchecked` lists what nothing was compared with.

    `grade` is what the certificate claims, `verified_grade` what was proven. `packaged`: whether gates, parameters,
    seeds and world, as recomputed, are those that come with seg1b; empty if nobody got so far.
    """

    path: Path
    cert_id: str = ""
    grade: str = ""
    findings: list[Finding] = field(default_factory=list)
    checked: list[str] = field(default_factory=list)
    unchecked: list[str] = field(default_factory=list)
    partially: bool = False
    packaged: dict[str, bool] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Whether nothing that was checked is a lie."""
        return not self.findings

    @property
    def verified_grade(self) -> str | None:
        """The grade, if all of it was recomputed and nothing is a lie; None otherwise."""
        return self.grade if self.ok and not self.partially else None

    def findings_of(self, code: str) -> list[Finding]:
        """The findings with a code."""
        return [finding for finding in self.findings if finding.code == code]

    def find(self, code: str, what: str, where: str) -> None:
        """Add a finding."""
        if len(self.findings) < _MOST_FINDINGS:
            self.findings.append(Finding(code, what, where))
