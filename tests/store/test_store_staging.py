"""Where outputs grow: one folder for each process, and what a full disk says."""

from __future__ import annotations

import errno
import io
import os
import pickle
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, cast

import pytest
from faulty_filesystem import UnsyncedFileSystem
from store_cases import key, open_store

from seg1b.errors import StoreError
from seg1b.store.store import Store

THREADS = 8


class SlowFileSystem(UnsyncedFileSystem):
    """Waits before it makes a folder, so that threads meet there."""

    def make_directory(self, path: Path) -> None:
        """Wait, then make it."""
        time.sleep(0.02)
        super().make_directory(path)


def _descriptors(folder: Path) -> int:
    """How many descriptors this process has of files below a folder."""
    found = 0
    for link in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):  # that of this very list
            found += folder in link.readlink().parents
    return found


def _sessions_of_threads(store: Store) -> set[Path]:
    start = threading.Barrier(THREADS)

    def open_session(_: int) -> Path:
        start.wait(10)
        return store._staging.session()

    with ThreadPoolExecutor(THREADS) as pool:
        return set(pool.map(open_session, range(THREADS)))


@pytest.mark.skipif(
    not Path("/proc/self/fd").is_dir(), reason="descriptors are counted where Linux lists them"
)
@pytest.mark.parametrize("pickled", [False, True])
def test_the_threads_of_a_process_share_one_session(tmp_path: Path, pickled: bool) -> None:
    """Also of a store that came as a pickle; nothing of it is left, no folder, no lock and no descriptor."""
    open_store(tmp_path / "runs").close()
    store = open_store(tmp_path / "runs", SlowFileSystem())
    if pickled:
        store = pickle.loads(pickle.dumps(Store(store.layout, SlowFileSystem())))
    (session,) = _sessions_of_threads(store)
    staging = store.layout.staging
    assert set(staging.iterdir()) == {session, session.with_suffix(".lock")}
    assert _descriptors(staging) == 1
    store._staging.close()
    assert list(staging.iterdir()) == []
    assert _descriptors(staging) == 0


def test_a_pickled_staging_area_has_its_own_session(tmp_path: Path) -> None:
    """Also within one process: closing one leaves the other alone."""
    store = open_store(tmp_path / "runs")
    session = store._staging.session()
    copied = pickle.loads(pickle.dumps(store.receipts))._staging
    assert copied.session() != session
    copied.close()
    assert session.is_dir()
    store.close()


def test_a_child_may_be_forked_while_a_thread_opens_a_session(tmp_path: Path) -> None:
    """It gets its own, and does not wait for a thread that it has not."""
    opening = threading.Event()

    class Opening(UnsyncedFileSystem):
        def make_directory(self, path: Path) -> None:
            opening.set()
            time.sleep(0.1)
            super().make_directory(path)

    store = open_store(tmp_path / "runs")
    store.close()
    store = open_store(tmp_path / "runs", Opening())
    thread = threading.Thread(target=store._staging.session)
    thread.start()
    assert opening.wait(10)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:  # pragma: no cover (another process)
        os.write(writing, store._staging.session().name.encode())
        os._exit(0)
    os.close(writing)
    thread.join()
    deadline_s = time.monotonic() + 20
    while (ended := os.waitpid(child, os.WNOHANG)) == (0, 0) and time.monotonic() < deadline_s:
        time.sleep(0.01)
    if ended == (0, 0):
        os.kill(child, 9)
        os.waitpid(child, 0)
    with open(reading, "rb") as pipe:
        assert pipe.read().decode() not in {"", store._staging.session().name}
    store.close()


class _FullFile(io.RawIOBase):
    """A file on a disk without room; what is buffered before it finds that out when it is closed."""

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


class FullFileSystem(UnsyncedFileSystem):
    """Every file is buffered, as the operating system's are, and none has room."""

    def create(self, path: Path, *, read_only: bool = True) -> BinaryIO:
        """A file that does not know yet."""
        super().create(path, read_only=read_only).close()
        return cast(BinaryIO, io.BufferedWriter(_FullFile()))


def test_a_disk_that_is_full_when_a_file_is_closed_is_told_as_such(tmp_path: Path) -> None:
    """Small files are written at that moment."""
    open_store(tmp_path / "runs").close()
    with open_store(tmp_path / "runs", FullFileSystem()) as store:
        with pytest.raises(StoreError) as caught, store.transaction("s4", key("s4")) as publication:
            publication.add_parts("small", [b"a", b"b"])
        assert caught.value.code == "E_STORE_FULL"
        assert caught.value.message.startswith("writing small failed")
