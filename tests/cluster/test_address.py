"""A wrong address is an InputError within seconds, whatever is or is not behind it."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator

import pytest

from cluster.address import check_address
from cluster.executor import RayExecutor
from cluster.session import RayOptions, object_store_bytes
from seg1b.errors import ContractError, InputError
from seg1b.lanes.executor import SerialExecutor, Task


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """A server socket on a free port."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


def port_of(server: socket.socket) -> int:
    """Its port."""
    port: int = server.getsockname()[1]
    return port


@pytest.mark.parametrize(
    "address", ["nonsense", "host", "host:", "host:0", "host:65536", "http://host:1", "a b:1", ""]
)
def test_a_malformed_address_is_refused_with_the_forms_that_exist(address: str) -> None:
    """Nothing is tried."""
    with pytest.raises(InputError, match="E_RAY_ADDRESS") as caught:
        check_address(address)
    assert "HOST:PORT" in caught.value.next_step


@pytest.mark.parametrize("scheme", ["", "ray://"])
def test_nobody_there(listener: socket.socket, scheme: str) -> None:
    """A closed port."""
    port = port_of(listener)
    listener.close()
    with pytest.raises(InputError, match="E_RAY_UNREACHABLE: no Ray cluster answers there") as caught:
        check_address(f"{scheme}127.0.0.1:{port}")
    assert f"{port}" in caught.value.where


def test_somebody_who_says_nothing(listener: socket.socket) -> None:
    """Accepts the connection and is silent: bounded by the timeout."""
    started_s = time.monotonic()
    with pytest.raises(InputError, match="E_RAY_UNREACHABLE"):
        check_address(f"127.0.0.1:{port_of(listener)}", timeout_s=0.5)
    assert time.monotonic() - started_s < 3


def test_somebody_who_speaks_another_language(listener: socket.socket) -> None:
    """A plain HTTP/1.1 server is not Ray."""

    def answer() -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(64)
            connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    thread = threading.Thread(target=answer)
    thread.start()
    with pytest.raises(InputError, match="it is not Ray"):
        check_address(f"127.0.0.1:{port_of(listener)}")
    thread.join()


def test_the_environment_decides_what_auto_means(monkeypatch: pytest.MonkeyPatch) -> None:
    """RAY_ADDRESS is checked; without it, Ray looks for itself."""
    monkeypatch.setenv("RAY_ADDRESS", "no-port")
    with pytest.raises(InputError, match="E_RAY_ADDRESS"):
        check_address("auto")
    monkeypatch.delenv("RAY_ADDRESS")
    check_address("auto")


def test_an_executor_reports_it_in_the_driver(listener: socket.socket) -> None:
    """`start` does not raise, the first use does, and closing is quick."""
    port = port_of(listener)
    listener.close()
    started_s = time.monotonic()
    with RayExecutor(RayOptions(address=f"127.0.0.1:{port}")) as executor:
        executor.submit(Task(("a",), print))
        with pytest.raises(InputError, match="E_RAY_UNREACHABLE"):
            list(executor.completions())
        assert executor.describe()["tasks"] == 0
    assert time.monotonic() - started_s < 10
    with pytest.raises(ContractError, match="E_RAY_CLOSED"):
        executor.start()


@pytest.mark.parametrize(
    "options",
    [
        {"workers": 0},
        {"task_cpus": 0},
        {"max_retries": -1},
        {"in_flight_per_cpu": 0},
        {"workers": 1, "task_cpus": 2},
    ],
)
def test_impossible_options_are_refused(options: dict[str, int]) -> None:
    """Before anything is started."""
    with pytest.raises(InputError, match="E_RAY_OPTION"):
        RayOptions(**options)  # type: ignore[arg-type]


def test_the_object_store_is_capped() -> None:
    """Between Ray's minimum and 1 GiB."""
    assert 80 << 20 <= object_store_bytes() <= 1 << 30


def test_no_task_needs_no_ray() -> None:
    """An executor without tasks never starts a session."""
    executor = RayExecutor()
    assert list(executor.completions()) == []
    assert executor.describe()["workers"] == 0
    executor.close()
    assert executor.name != SerialExecutor().name
