"""What this machine lends to a lab: loopback addresses, and ports that this user may bind.

A block is claimed by a listening socket, so a claim ends with the process that holds it, however it ends.
"""

from __future__ import annotations

import errno
import select
import socket
import sys
from pathlib import Path

from meshbook.errors import LabError
from meshbook.lab.topology import FIRST_BLOCK, LAST_BLOCK, PORTS

CLAIM_PORT = 6443
_LONGEST_QUEUE = 256
_KNOCK_S = 0.01
"""A connection on this machine is made at once or not at all."""
SOCKETS = Path("/proc/net/tcp")
_LISTENING = "0A"
UNPRIVILEGED_PORT_START = Path("/proc/sys/net/ipv4/ip_unprivileged_port_start")


def claim_block() -> tuple[int, socket.socket]:
    """Return the first free block and the socket that holds it; ``LabError`` when there is none."""
    for block in range(FIRST_BLOCK, LAST_BLOCK + 1):
        claim = _bind(f"127.{block}.0.3", CLAIM_PORT)
        if claim is None:
            continue
        if _is_quiet(block):
            return block, claim
        claim.close()
    raise LabError(
        f"no block of loopback addresses is free between 127.{FIRST_BLOCK}.0.0 and 127.{LAST_BLOCK}.0.0",
        hint="take labs down that are no longer used; the lab needs Linux, where all of 127.0.0.0/8 can be bound",
    )


def require_ports() -> None:
    """Raise ``LabError`` where another program has one of a lab's ports on all addresses of this machine."""
    outside = f"127.{LAST_BLOCK + 1}.0.3"
    taken = [str(port) for port in PORTS if not _may_bind(outside, port)]
    if taken:
        raise LabError(
            f"another program listens on all addresses of this machine at ports that a lab needs: {', '.join(taken)}",
            hint=f"ss -ltnp 'sport = :{taken[0]}' says which; end it, or let it listen on one address",
        )


def _may_bind(address: str, port: int) -> bool:
    """Tell whether an address is free, without being in anybody's way: nobody listens at it meanwhile."""
    with socket.socket() as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind((address, port))
        except OSError as error:
            return error.errno != errno.EADDRINUSE
    return True


def _is_quiet(block: int) -> bool:
    """Whether nobody else listens in the block: a lab that is going down may have lost its claim already."""
    return listeners(block) <= {(f"127.{block}.0.3", CLAIM_PORT)}


def listeners(block: int) -> set[tuple[str, int]]:
    """Return the addresses and ports of a block at which somebody listens, as far as the kernel tells."""
    if not SOCKETS.exists():
        return set()
    rows = [line.split() for line in SOCKETS.read_text().splitlines()[1:]]
    found = (row[1].split(":") for row in rows if row[3] == _LISTENING)
    places = ((_dotted(address), int(port, 16)) for address, port in found)
    return {(address, port) for address, port in places if address.startswith(f"127.{block}.")}


def _dotted(word: str) -> str:
    """Return the address of a hexadecimal number that the kernel wrote in this machine's byte order."""
    return socket.inet_ntoa(int(word, 16).to_bytes(4, sys.byteorder))


def lowest_port(block: int) -> int:
    """Return 0 where this user may bind port 80 inside the block, else the lowest port that needs no privilege."""
    trial = _bind(f"127.{block}.0.3", 80)
    if trial is not None:
        trial.close()
        return 0
    return int(UNPRIVILEGED_PORT_START.read_text()) if UNPRIVILEGED_PORT_START.exists() else 1024


class Void:
    """A place where packets vanish: a connection that is tried there is neither made nor refused.

    Linux drops who knocks at a full queue, here one that nobody ever empties. A program that shares the port
    (``SO_REUSEPORT``, as Envoy does) may begin to listen meanwhile, and has all that is new once this is closed.
    """

    def __init__(self, address: str, port: int) -> None:
        self._listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            for option in (socket.SO_REUSEADDR, socket.SO_REUSEPORT):
                self._listener.setsockopt(socket.SOL_SOCKET, option, 1)
            self._listener.bind((address, port))
            self._listener.listen(0)
            self._queued = fill(address, port)
        except BaseException:
            self._listener.close()
            raise

    def close(self) -> None:
        for one in (self._listener, *self._queued):
            one.close()


def fill(address: str, port: int) -> list[socket.socket]:
    """Knock until who listens there and takes nobody in has a full queue; return those who wait in it."""
    waiting: list[socket.socket] = []
    while len(waiting) < _LONGEST_QUEUE:
        one = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        waiting.append(one)
        one.setblocking(False)
        one.connect_ex((address, port))
        connected = select.poll()  # unlike select, it takes any descriptor
        connected.register(one, select.POLLOUT)
        if not connected.poll(_KNOCK_S * 1000):
            break
    return waiting


def _bind(address: str, port: int) -> socket.socket | None:
    claim = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    claim.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        claim.bind((address, port))
        claim.listen(1)
    except OSError:
        claim.close()
        return None
    return claim
