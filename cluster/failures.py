"""What Ray raises, said in our words.

Our own errors come back as they were, the rest gets a code and a next step.
"""

from __future__ import annotations

from seg1b.errors import ContractError, InputError, Seg1bError


def translated(error: BaseException, what: str) -> BaseException:
    """The exception to raise for something that Ray raised while doing `what`.

    A user exception that Ray wrapped is unwrapped; lost workers, nodes and memory become StoreError or
    ContractError with a code; anything else is returned unchanged.
    """
    from ray import exceptions

    if isinstance(error, Seg1bError) and not isinstance(error, exceptions.RayError):
        return error
    if isinstance(error, exceptions.RayTaskError):
        return _from_task_error(error, what)
    if isinstance(error, exceptions.OutOfMemoryError):
        return _lost("E_RAY_MEMORY", f"{what} ran out of memory each time it was tried", _MEMORY_STEP)
    if isinstance(error, (exceptions.ObjectStoreFullError, exceptions.OutOfDiskError)):
        return _lost("E_RAY_MEMORY", f"{what}: Ray's object store is full", _MEMORY_STEP)
    if isinstance(
        error, (exceptions.WorkerCrashedError, exceptions.NodeDiedError, exceptions.LocalRayletDiedError)
    ):
        return _lost(
            "E_RAY_WORKER_LOST", f"{what} lost its worker process each time it was tried", _CRASH_STEP
        )
    if isinstance(error, exceptions.RayActorError):
        return _lost("E_RAY_ACTOR_LOST", f"{what}: the actor is gone ({_first_line(error)})", _CRASH_STEP)
    if isinstance(error, exceptions.ObjectLostError):
        return _lost("E_RAY_DATA_LOST", f"{what}: shared data was lost with a node", _CRASH_STEP)
    if isinstance(error, exceptions.RuntimeEnvSetupError):
        return _no_package(what, _first_line(error))
    if isinstance(error, exceptions.RayError):
        return _lost("E_RAY", f"{what}: {_first_line(error)}", _CRASH_STEP)
    return error


_MEMORY_STEP = (
    "give the workers more memory, run fewer at once (--workers), or set a memory reservation per task"
)
_CRASH_STEP = "run again: what is published is kept; if it fails again, look into the worker's log"


def _lost(code: str, message: str, next_step: str) -> ContractError:
    return ContractError(code, message, next_step=next_step)


def _from_task_error(error: BaseException, what: str) -> BaseException:
    cause = getattr(error, "cause", None)
    if isinstance(cause, ImportError):
        return _no_package(what, str(cause))
    if isinstance(cause, BaseException):
        return cause
    if "ModuleNotFoundError" in str(error):
        line = next(line for line in str(error).splitlines() if "ModuleNotFoundError" in line)
        return _no_package(what, line.strip())
    return ContractError("E_RAY_TASK", f"{what} failed in a worker: {_first_line(error)}")


def _no_package(what: str, detail: str) -> InputError:
    return InputError(
        "E_RAY_PACKAGE",
        f"a node of the Ray cluster cannot run {what}: {detail}",
        where="the nodes of the Ray cluster",
        next_step="install the same seg1b wheel, Python and Ray on every node (see cluster/README.md)",
    )


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
