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
    """What a verification found. `unchecked` lists what nothing was compared with."""

    path: Path
    cert_id: str = ""
    grade: str = ""
    findings: list[Finding] = field(default_factory=list)
    checked: list[str] = field(default_factory=list)
    unchecked: list[str] = field(default_factory=list)
    partially: bool = False

    @property
    def ok(self) -> bool:
        """Whether nothing that was checked is a lie."""
        return not self.findings

    def find(self, code: str, what: str, where: str) -> None:
        """Add a finding."""
        if len(self.findings) < _MOST_FINDINGS:
            self.findings.append(Finding(code, what, where))
