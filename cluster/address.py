"""Where a Ray cluster is, and whether something that speaks its protocol answers there, within seconds.

`ray.init` waits more than a minute for an address at which nothing answers; a user's typing error deserves
better. Both of Ray's doors (the control service at host:port, the client server at ray://host:port) speak
HTTP/2, whose server must greet first, so a greeting is a sufficient probe that needs none of Ray's own
machinery.
"""

from __future__ import annotations

import os
import re
import socket

from seg1b.errors import InputError

DEFAULT_CLIENT_PORT = 10001
_ADDRESS = re.compile(
    r"(?P<client>ray://)?(?P<host>\[[0-9A-Fa-f:.%]+\]|[A-Za-z0-9._-]+)(?::(?P<port>[0-9]{1,5}))?"
)
_HTTP2_GREETING = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"
_FRAME_HEADER_BYTES = 9
_SETTINGS_FRAME = 4


def check_address(address: str, timeout_s: float = 5.0) -> None:
    """Raise InputError unless `address` is well-formed and a Ray server answers there within `timeout_s`.

    `auto` is resolved by Ray itself; if the environment variable RAY_ADDRESS decides, that address is
    checked. Raises InputError E_RAY_ADDRESS (malformed) or E_RAY_UNREACHABLE (no answer, or not from Ray).
    """
    if address == "auto":
        named = os.environ.get("RAY_ADDRESS", "")
        if named in {"", "auto", "local"}:
            return
        address = named
    host, port = _parse(address)
    try:
        with socket.create_connection((host, port), timeout=timeout_s) as connection:
            connection.settimeout(timeout_s)
            connection.sendall(_HTTP2_GREETING)
            header = _read_frame_header(connection)
    except OSError as error:
        reason = error.strerror or str(error) or type(error).__name__
        raise unreachable(address, f"no Ray cluster answers there ({reason})") from None
    if len(header) < _FRAME_HEADER_BYTES or header[3] != _SETTINGS_FRAME:
        raise unreachable(address, "something answers there, but it is not Ray")


def _parse(address: str) -> tuple[str, int]:
    match = _ADDRESS.fullmatch(address)
    port = 0 if match is None else int(match["port"] or (DEFAULT_CLIENT_PORT if match["client"] else 0))
    if match is None or not 0 < port < 65536:
        raise InputError(
            "E_RAY_ADDRESS",
            f"{address!r} is no address of a Ray cluster",
            where="--address",
            next_step="use auto, HOST:PORT (`ray start --head` prints it) or ray://HOST:PORT",
        )
    return match["host"].strip("[]"), port


def _read_frame_header(connection: socket.socket) -> bytes:
    header = b""
    while len(header) < _FRAME_HEADER_BYTES:
        piece = connection.recv(_FRAME_HEADER_BYTES - len(header))
        if not piece:
            break
        header += piece
    return header


def unreachable(address: str, what: str) -> InputError:
    """The error for a cluster that cannot be joined."""
    return InputError(
        "E_RAY_UNREACHABLE",
        what,
        where=f"--address {address}",
        next_step="start one with `ray start --head`, check host, port, firewall and, if it wants a token, "
        "RAY_AUTH_MODE=token with RAY_AUTH_TOKEN; or leave --address out to start a local Ray",
    )
