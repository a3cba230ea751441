"""Where things lie in a run store, and which names are allowed."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from seg1b.errors import ContractError

MANIFEST = "manifest.json"
PART_RECEIPT = "receipt.json"
PARTS = "parts"

_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,99}")
_HEX64 = re.compile(r"[0-9a-f]{64}")
_HEX32 = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True)
class Layout:
    """Paths of a run store below its root."""

    root: Path

    @property
    def format_file(self) -> Path:
        """The store's format version."""
        return self.root / "FORMAT"

    @property
    def lock_file(self) -> Path:
        """The file that the inter-process lock is taken on."""
        return self.root / ".lock"

    @property
    def driver_file(self) -> Path:
        """Held by the one driver that tunes."""
        return self.root / ".driver"

    @property
    def staging(self) -> Path:
        """Temporary folders, on the same file system as everything they become."""
        return self.root / ".staging"

    @property
    def objects(self) -> Path:
        """Outputs of states."""
        return self.root / "objects"

    @property
    def runs(self) -> Path:
        """Receipts of runs."""
        return self.root / "runs"

    @property
    def pointers(self) -> Path:
        """Named runs."""
        return self.root / "pointers"

    @property
    def certifications(self) -> Path:
        """Certification packs."""
        return self.root / "certifications"

    @property
    def waves(self) -> Path:
        """Waves of candidates."""
        return self.root / "waves"

    @property
    def phase_locks(self) -> Path:
        """Locked phases (not the inter-process lock)."""
        return self.root / "locks"

    @property
    def guards(self) -> Path:
        """The pinned authority of the 1A guard, and verdicts on catalogues."""
        return self.root / "guards"

    @property
    def performance(self) -> Path:
        """The pinned timing baseline, and closure records."""
        return self.root / "perf"

    @property
    def phases(self) -> Path:
        """Where the plan's phases stand."""
        return self.root / "phases"

    @property
    def logs(self) -> Path:
        """What commands told, for people."""
        return self.root / "logs"

    @property
    def leases(self) -> Path:
        """What running drivers hold."""
        return self.root / "leases"

    @property
    def ledger(self) -> Path:
        """What was changed, by whom, with which effect."""
        return self.root / "ledger.jsonl"

    def names(self) -> frozenset[str]:
        """Names of all that lies at the root of a store: whatever path above is stated of it."""
        paths = (getattr(self, name) for name, value in vars(Layout).items() if isinstance(value, property))
        return frozenset(path.relative_to(self.root).parts[0] for path in paths)

    def object(self, state: str, key: str) -> Path:
        """Folder of one output; raises ContractError for a malformed name or key."""
        return self.objects / check_name(state, "state") / check_key(key)

    def part(self, state: str, key: str, part: str) -> Path:
        """Folder of one part of an output."""
        return self.object(state, key) / PARTS / check_name(part, "part")


def check_name(name: str, what: str) -> str:
    """A name that is safe as a file name everywhere: lower case, digits, `_ . -`.

    `what` says in the error what the name is of. Raises ContractError E_STORE_NAME.
    """
    if not _NAME.fullmatch(name) or ".." in name:
        raise ContractError(
            "E_STORE_NAME", f"{name!r} is no name for a {what}", next_step="use lower case, digits, _ . and -"
        )
    return name


def check_key(key: str) -> str:
    """A state key or certificate id: 64 lower-case hex digits.

    Raises ContractError E_STORE_NAME.
    """
    if not _HEX64.fullmatch(key):
        raise ContractError("E_STORE_NAME", f"{key!r} is no key: 64 lower-case hex digits are expected")
    return key


def is_run_id(text: str) -> bool:
    """Whether `text` has the shape of a run id: 32 lower-case hex digits."""
    return bool(_HEX32.fullmatch(text))


def check_relative_path(path: str) -> str:
    """A path below a folder: ASCII, forward slashes, no `.` or `..`, no drive, not absolute.

    Raises ContractError E_STORE_NAME.
    """
    pure = PurePosixPath(path)
    bad = not path or not path.isascii() or "\\" in path or ":" in path or "\0" in path
    if bad or pure.is_absolute() or str(pure) != path or any(part in {".", ".."} for part in pure.parts):
        raise ContractError("E_STORE_NAME", f"{path!r} is no relative path inside a folder")
    return path
