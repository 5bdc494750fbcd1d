"""Where to listen."""

import argparse
import os
import socket
from collections.abc import Sequence

BACKLOG = 1024

_FIRST_PASSED = 3  # the file descriptor that systemd hands over first; see sd_listen_fds(3)


def address(text: str) -> tuple[str, int]:
    """The host and the port of `HOST:PORT`; without a host it is empty.

    Raises:
        argparse.ArgumentTypeError: it is none.
    """
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdecimal() or int(port) > 65535:
        raise argparse.ArgumentTypeError(f"expected HOST:PORT or :PORT, got {text!r}")
    return host.strip("[]"), int(port)


def bind(host: str, port: int) -> socket.socket:
    """A listening socket; without a host on all addresses of both families.

    Raises:
        OSError: the address is in use or not ours; the message names it.
    """
    shown = f"{host or ''}:{port}"
    try:
        if host:
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            return socket.create_server((host, port), family=family, backlog=BACKLOG)
        if socket.has_dualstack_ipv6():
            return socket.create_server(
                ("", port), family=socket.AF_INET6, backlog=BACKLOG, dualstack_ipv6=True
            )
        return socket.create_server(("", port), backlog=BACKLOG)
    except OSError as error:
        raise OSError(f"web.listen-address: cannot listen on {shown}: {error.strerror}") from error


def passed_sockets() -> list[socket.socket]:
    """The sockets that systemd opened for this process, as sd_listen_fds(3) says.

    Raises:
        ValueError: there are none.
    """
    count = os.environ.get("LISTEN_FDS", "")
    if os.environ.get("LISTEN_PID") != str(os.getpid()) or not count.isdecimal() or count == "0":
        raise ValueError(
            "web.systemd-socket: expected systemd to pass sockets (LISTEN_PID, LISTEN_FDS), "
            f"got LISTEN_FDS={count!r}"
        )
    return [socket.socket(fileno=_FIRST_PASSED + at) for at in range(int(count))]


def shown(listening: Sequence[socket.socket]) -> str:
    """The addresses, as they are written in a URL."""
    names = []
    for one in listening:
        name = one.getsockname()
        if isinstance(name, str):  # the path of a Unix socket
            names.append(name)
        else:
            names.append(f"[{name[0]}]:{name[1]}" if ":" in name[0] else f"{name[0]}:{name[1]}")
    return ",".join(names)
