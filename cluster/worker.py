"""What happens inside a worker: prepare the process, give a task the shared values, send back its outcome.

This module imports nothing heavy: thread limits must be in the environment before polars or numba are
imported, and setting them here costs nothing, whereas a Ray `runtime_env` costs every session a second set of
worker processes.
"""

from __future__ import annotations

import importlib
import os
import pickle
import pkgutil
import traceback
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from typing import Any

from seg1b.errors import ContractError

THREAD_VARIABLES = ("NUMBA_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "POLARS_MAX_THREADS")
LIBRARIES = ("numpy", "pyarrow.parquet", "numba")

_resolved: dict[str, tuple[str, Any]] = {}


@dataclass(frozen=True)
class ProcessSettings:
    """What a worker process needs before it imports anything: threads per task, variables of the driver."""

    threads: int
    variables: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Outcome:
    """How a task ended: the pickled receipt, or the pickled exception and its traceback as text."""

    worker: str
    failed: bool
    payload: bytes
    trace: str = ""


class SharedValues(Mapping[str, Any]):
    """The shared values of a task, fetched when looked at and kept by the process while current.

    Arrays are mapped from the node's object store: read-only, not copied.
    """

    def __init__(self, references: Mapping[str, Any]) -> None:
        self._references = references
        for name in set(_resolved) - set(references):
            del _resolved[name]

    def __getitem__(self, name: str) -> Any:
        import ray

        reference = self._references[name]
        identity = reference.hex()
        known = _resolved.get(name)
        if known is None or known[0] != identity:
            _resolved[name] = known = (identity, ray.get(reference))
        return known[1]

    def __iter__(self) -> Iterator[str]:
        return iter(self._references)

    def __len__(self) -> int:
        return len(self._references)


def prepare_process(settings: ProcessSettings) -> None:
    """Set the thread limits and hand over variables that this node does not set itself."""
    for variable in THREAD_VARIABLES:
        os.environ[variable] = str(settings.threads)
    for variable, value in settings.variables:
        os.environ.setdefault(variable, value)


def worker_name() -> str:
    """Node and process: `<node id, 12 hex>/pid-<pid>`."""
    import ray

    return f"{ray.get_runtime_context().get_node_id()[:12]}/pid-{os.getpid()}"


def run_payload(payload: bytes, references: Mapping[str, Any], settings: ProcessSettings) -> Outcome:
    """Run one pickled (function, arguments); never raises what the task raised, but returns it."""
    prepare_process(settings)
    worker = worker_name()
    try:
        function, arguments = pickle.loads(payload)
        with ExitStack() as closing:  # this process has its own copies, and nobody else would close them
            for argument in arguments:
                if isinstance(argument, AbstractContextManager):
                    closing.enter_context(argument)
            receipt = function(SharedValues(references), *arguments)
        return Outcome(worker, False, _pickled_receipt(receipt))
    except Exception as error:  # noqa: BLE001 (handed to the driver, which raises it)
        return Outcome(worker, True, _pickled_error(error), traceback.format_exc())


def _pickled_receipt(receipt: object) -> bytes:
    try:
        return pickle.dumps(receipt, protocol=5)
    except Exception as error:
        raise ContractError(
            "E_RAY_PICKLE",
            f"a task's receipt cannot be sent to the driver: {error}",
            next_step="return plain values, arrays or dataclasses; publish anything else in the store",
        ) from error


def _pickled_error(error: Exception) -> bytes:
    try:
        data = pickle.dumps(error, protocol=5)
        pickle.loads(data)
    except Exception:  # noqa: BLE001 (any failure means: send its words instead)
        words = f"{type(error).__name__}: {error}"
        return pickle.dumps(ContractError("E_RAY_TASK", f"a task failed in a worker: {words}"))
    return data


def warm_up(settings: ProcessSettings) -> str:
    """Import what tasks will need, so that it happens while the driver is busy; returns the worker's name."""
    prepare_process(settings)
    for library in LIBRARIES:
        importlib.import_module(library)
    import seg1b.states

    for module in pkgutil.iter_modules(seg1b.states.__path__, "seg1b.states."):
        importlib.import_module(module.name)
    return worker_name()


def call_named(settings: ProcessSettings, name: str) -> None:
    """Call the function `module:function` without arguments, once, e.g.

    to compile a group of kernels into the cache.
    """
    prepare_process(settings)
    module, _, function = name.partition(":")
    getattr(importlib.import_module(module), function)()
