"""Every error that seg1b raises on purpose.

Who raises what:

* `InputError` (exit code 2): something a user brought is wrong: a catalogue, a policy, polygons, an option.
* `StoreAccessError` (exit code 2): the store cannot be used as it stands: read-only, full, or held by somebody else.
* `ContractError` (exit code 1): a state broke its own contract. A defect in seg1b, or a damaged store.
* `StoreError` (exit code 1): durable files could not be read or written.
* `VetoError` (exit code 3): what was asked for is possible, but a gate, lock or baseline forbids it.
* `VerificationError` (exit code 4): a certificate does not say the truth.

Each carries a stable `code`, says what is wrong with which input and where, and what to do next. They subclass
builtins, so that code which knows nothing of seg1b can still catch them sensibly.
"""

from __future__ import annotations

from typing import Any


class Seg1bError(Exception):
    """Base of all deliberate errors: `code`, `message`, `where` (file, row, field) and `next_step`."""

    exit_code = 1

    def __init__(self, code: str, message: str, *, where: str = "", next_step: str = "") -> None:
        super().__init__(code, message, where, next_step)
        self.code = code
        self.message = message
        self.where = where
        self.next_step = next_step

    def __str__(self) -> str:
        text = f"{self.code}: {self.message}"
        if self.where:
            text += f"\n  where: {self.where}"
        if self.next_step:
            text += f"\n  next:  {self.next_step}"
        return text

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle with keyword arguments, so that an error survives the way back from a worker process."""
        return _rebuild, (type(self), self.code, self.message, self.where, self.next_step)


def _rebuild(kind: type[Seg1bError], code: str, message: str, where: str, next_step: str) -> Seg1bError:
    return kind(code, message, where=where, next_step=next_step)


class InputError(Seg1bError, ValueError):
    """Something that a user brought is wrong."""

    exit_code = 2


class ContractError(Seg1bError, RuntimeError):
    """A state's own contract does not hold."""


class StoreError(Seg1bError, OSError):
    """Durable files could not be read, written or trusted."""


class StoreAccessError(StoreError):
    """The store is sound, but read-only, full or held by somebody else: a user can mend that, and nothing is broken."""

    exit_code = 2


class VetoError(Seg1bError, PermissionError):
    """A gate, a lock or the baseline forbids what was asked for."""

    exit_code = 3


class VerificationError(Seg1bError, AssertionError):
    """A published certificate does not agree with what can be recomputed."""

    exit_code = 4
