"""A Ray session: a quiet local one of our own, or a cluster that somebody else runs.

It starts in a background thread, so that the driver computes meanwhile, and the same thread ends it: Ray ties
the life of its processes to the thread that started them, which also means that they die with a killed
driver.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster import reaper
from cluster.address import check_address, unreachable
from cluster.failures import translated
from cluster.worker import ProcessSettings, call_named, warm_up
from seg1b.errors import ContractError, InputError, Seg1bError

MIB = 1 << 20
OBJECT_STORE_MIN_BYTES = 80 * MIB
OBJECT_STORE_MAX_BYTES = 1024 * MIB
_SOCKET_PATH_ROOM = 40  # a UNIX socket's path ends at 107 characters; Ray's own part takes more than half
_HANDED_OVER = ("NUMBA_CACHE_DIR",)


@dataclass(frozen=True)
class RayOptions:
    """How to get a Ray session and how tasks use it.

    `address`: None starts a local Ray with `workers` CPUs (None: what Ray detects); otherwise `auto`,
    `host:port` or `ray://host:port` joins one. `task_cpus` is what a task reserves and the number of threads
    its libraries may use. `task_memory_bytes` reserves memory for a task (0: none). `max_retries` bounds the
    retries after a crash of a worker or node, and apart from that those after an out-of-memory kill.
    `warm_up` names functions (`module:function`, no arguments) that each run once, somewhere, before the
    tasks: for instance to compile kernels into the shared cache.
    """

    address: str | None = None
    workers: int | None = None
    task_cpus: int = 1
    task_memory_bytes: int = 0
    max_retries: int = 3
    in_flight_per_cpu: int = 2
    object_store_bytes: int | None = None
    warm_up: tuple[str, ...] = ()
    start_timeout_s: float = 90.0
    join_timeout_s: float = 20.0
    stall_timeout_s: float = 120.0

    def __post_init__(self) -> None:
        for name in ("workers", "task_cpus", "in_flight_per_cpu"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(
                    "E_RAY_OPTION",
                    f"{name} must be at least 1, not {value}",
                    where=f"--{name}",
                    next_step="give a whole number of 1 or more, or leave it out",
                )
        if self.max_retries < 0:
            raise InputError(
                "E_RAY_OPTION", f"max_retries must not be negative ({self.max_retries})", where="max_retries",
                next_step="give 0 for no second try",
            )  # fmt: skip
        if self.address is None and self.workers is not None and self.task_cpus > self.workers:
            raise InputError(
                "E_RAY_OPTION", f"a task wants {self.task_cpus} CPUs, the session has {self.workers}",
                where="--workers", next_step="give a session as many CPUs as a task wants, or a task fewer",
            )  # fmt: skip


class RaySession:
    """One use of Ray by this process. `owned` says whether we started it (and so stop it)."""

    def __init__(self, options: RayOptions) -> None:
        self.options = options
        self.owned = False
        self.start_s = 0.0
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._ready, self._stop, self._stopped = threading.Event(), threading.Event(), threading.Event()
        self._error: BaseException | None = None
        self._connected = False
        self._folder: Path | None = None
        self._borrowed = False
        self._reaper: subprocess.Popen[bytes] | None = None
        self._token_set = False
        self._warm: list[Any] = []

    @property
    def settings(self) -> ProcessSettings:
        """What worker processes set before they import anything."""
        handed = tuple((name, os.environ[name]) for name in _HANDED_OVER if name in os.environ)
        return ProcessSettings(self.options.task_cpus, handed)

    def start(self) -> None:
        """Begin in the background; cheap to call twice. Problems are raised by `wait`."""
        with self._lock:
            if self._stop.is_set():
                raise ContractError("E_RAY_CLOSED", "this Ray session was closed")
            if self._thread is None:
                self._thread = threading.Thread(target=self._live, name="seg1b-ray", daemon=True)
                self._thread.start()

    def wait(self) -> None:
        """Return when tasks can be submitted.

        Raises InputError (E_RAY_ADDRESS, E_RAY_UNREACHABLE, E_RAY_VERSION, E_RAY_PACKAGE, E_RAY_START) if
        that cannot be.
        """
        self.start()
        local = self.options.address is None
        limit_s = self.options.start_timeout_s if local else self.options.join_timeout_s
        if not self._ready.wait(limit_s):
            if local:
                raise _not_started(f"no answer within {limit_s:g} s")
            raise unreachable(
                str(self.options.address), f"it answers, but could not be joined in {limit_s:g} s"
            )
        if self._error is not None:
            raise self._error

    @property
    def starting(self) -> bool:
        """Whether it was begun and neither is ready nor has failed."""
        return self._thread is not None and not self._ready.is_set()

    @property
    def connected(self) -> bool:
        """Whether tasks can be submitted now."""
        return self._connected

    def close(self) -> None:
        """Stop what we started, or leave what we joined; waits until the processes are gone (bounded)."""
        self._stop.set()
        thread = self._thread
        if thread is None or thread is threading.current_thread():
            return
        self._stopped.wait(self.options.start_timeout_s if self.options.address is None else 10.0)
        atexit.unregister(self.close)

    # -- the session's thread

    def _live(self) -> None:
        started_s = time.monotonic()
        try:
            self._open()
            self._connected = True
            self.start_s = time.monotonic() - started_s
        except BaseException as error:  # noqa: BLE001 (kept for `wait`, which raises it in the driver)
            self._error = self._explained(error)
        finally:
            self._ready.set()
        try:
            if self._error is None:
                self._stop.wait()
        finally:
            self._shut_down()
            self._stopped.set()

    def _open(self) -> None:
        address = self.options.address
        _set_ray_variables(self.options.max_retries)
        if address is not None:
            check_address(address)
        elif "ray" not in sys.modules:
            self._set_token()
        import ray

        atexit.register(self.close)  # after Ray's own, so that it runs before it
        if ray.is_initialized():  # a library user's session: use it, never end it
            self._borrowed = True
        elif address is None:
            self.owned = True
            self._start_local()
        else:
            ray.init(address=address, log_to_driver=False, logging_level="ERROR", namespace="seg1b")
        self._begin_warm_up()

    def _start_local(self) -> None:
        import ray

        root = tempfile.gettempdir()
        root = root if len(root) <= _SOCKET_PATH_ROOM else "/tmp"
        self._folder = Path(tempfile.mkdtemp(prefix="seg1b-ray-", dir=root))
        with _without_monitors():
            ray.init(
                address="local",  # RAY_ADDRESS must not turn "local" into a cluster
                num_cpus=self.options.workers,
                num_gpus=0,
                object_store_memory=self.options.object_store_bytes or object_store_bytes(),
                include_dashboard=False,
                log_to_driver=False,
                logging_level="ERROR",
                namespace="seg1b",
                _temp_dir=str(self._folder),
            )
        self._start_reaper(self._folder)

    def _set_token(self) -> None:
        """A token for this session alone, unless the user chose how Ray authenticates. Before Ray is imported.

        Ray's own default leaves a token in the home folder, and with it every later `ray start` would ask for
        it.
        """
        if "RAY_AUTH_MODE" not in os.environ and "RAY_AUTH_TOKEN" not in os.environ:
            os.environ.update(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=secrets.token_hex(32))
            self._token_set = True

    def _start_reaper(self, folder: Path) -> None:
        """Clean up what a killed driver would leave. In a group of its own: Ctrl-C is not for it."""
        known = {number: reaper.start_ticks(number) for number in reaper.descendants(os.getpid())}
        command = [sys.executable, "-S", "-E", reaper.__file__, str(folder)]
        self._reaper = subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)
        assert self._reaper.stdin is not None
        lines = [f"{number} {ticks}\n" for number, ticks in known.items() if ticks is not None]
        self._reaper.stdin.write("".join(lines).encode())
        self._reaper.stdin.flush()

    def _begin_warm_up(self) -> None:
        """Let every worker import its libraries, and each named warm-up function run once, in parallel."""
        import ray

        cpus = int(ray.cluster_resources().get("CPU", 0)) // self.options.task_cpus
        options: dict[str, Any] = {"num_cpus": self.options.task_cpus, "max_retries": 1}
        if not self.owned:
            options["scheduling_strategy"] = "SPREAD"
        imports = ray.remote(**options)(warm_up)
        calls = ray.remote(**options)(call_named)
        self._warm = [imports.remote(self.settings) for _ in range(min(cpus, 64))]
        self._warm += [calls.remote(self.settings, name) for name in self.options.warm_up if cpus]
        if self._warm and not self.owned:
            self._check_nodes()

    def _check_nodes(self) -> None:
        """A cluster that cannot import seg1b should say so now. Busy workers are not waited for."""
        import ray

        limit_s = self.options.join_timeout_s / 2
        done, _ = ray.wait(self._warm, num_returns=len(self._warm), timeout=limit_s)
        for reference in done:
            ray.get(reference)

    def warm_up_error(self) -> BaseException | None:
        """The first error of a finished warm-up, if any: for the telemetry, since it harms no result."""
        import ray

        if not (self._warm and self._connected):
            return None
        done, self._warm = ray.wait(self._warm, num_returns=len(self._warm), timeout=0)
        for reference in done:
            try:
                ray.get(reference)
            except Exception as error:  # noqa: BLE001 (reported, not raised: a warm-up is no result)
                return translated(error, "the warm-up")
        return None

    def _explained(self, error: BaseException) -> BaseException:
        """The error in our words, if it is a circumstance; a defect stays what it is."""
        text = str(error).strip()
        if isinstance(error, RuntimeError) and "ersion mismatch" in text:
            return InputError(
                "E_RAY_VERSION",
                "this Python and Ray do not match the cluster's. " + " ".join(text.split()),
                where=f"--address {self.options.address}",
                next_step="use the same Ray and Python minor version on the driver and on every node",
            )
        if isinstance(error, ImportError):
            return _not_started(f"Ray cannot be imported ({text})")
        meant = translated(error, "the warm-up")
        if isinstance(meant, Seg1bError) or not isinstance(error, (OSError, RuntimeError, ValueError)):
            return meant
        first = text.splitlines()[0] if text else type(error).__name__
        if self.options.address is not None:
            return unreachable(self.options.address, f"it cannot be joined: {first}")
        return _not_started(first)

    def _shut_down(self) -> None:
        self._connected = False
        self._warm = []
        with contextlib.suppress(Exception):
            import ray

            if not self._borrowed and ray.is_initialized():
                ray.shutdown()
        if self._token_set:
            os.environ.pop("RAY_AUTH_MODE", None)
            os.environ.pop("RAY_AUTH_TOKEN", None)
        if self._reaper is not None and self._reaper.stdin is not None:
            with contextlib.suppress(OSError, subprocess.TimeoutExpired):
                self._reaper.stdin.close()
                self._reaper.wait(10.0)
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)


@contextlib.contextmanager
def _without_monitors() -> Iterator[None]:
    """Start a local Ray without two Python processes that it has no use for: the autoscaler's monitor (nothing scales)
    and the log monitor (nothing is forwarded). They cost most of a second of CPU, just when it is scarce.

    Ray has switches for both, but `ray.init` does not pass them on. Where another version of Ray keeps them elsewhere,
    the two processes start and nothing else changes.
    """
    try:
        from ray._private.parameter import RayParams
    except ImportError:
        yield
        return
    original = RayParams.__init__

    def without(self: Any, *arguments: Any, **named: Any) -> None:
        original(self, *arguments, **named)
        self.no_monitor, self.include_log_monitor = True, False

    RayParams.__init__ = without
    try:
        yield
    finally:
        RayParams.__init__ = original


def object_store_bytes() -> int:
    """Room for shared values: at most 1 GiB, a quarter of the memory, and a third of the free /dev/shm.

    Pages are only taken when used; the cap bounds what a mistake can take.
    """
    memory_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = min(OBJECT_STORE_MAX_BYTES, memory_bytes // 4)
    if Path("/dev/shm").is_dir():
        limit = min(limit, shutil.disk_usage("/dev/shm").free // 3)
    return max(OBJECT_STORE_MIN_BYTES, limit)


def _set_ray_variables(max_retries: int) -> None:
    """Ray reads these once, when it is first used in a process; what a user set is left alone."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_enable_metrics_collection", "0")
    os.environ.setdefault("RAY_task_oom_retries", str(max_retries))  # Ray's default is without bound


def _not_started(reason: str) -> InputError:
    return InputError(
        "E_RAY_START",
        f"a local Ray could not be started: {reason}",
        where="--executor ray",
        next_step="free memory and /dev/shm, try --workers 1, or run with --executor serial",
    )
