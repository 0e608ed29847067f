"""A block of loopback addresses is only taken where nobody listens; packets that are to vanish do."""

from __future__ import annotations

import contextlib
import socket
import threading

import pytest

from meshbook.errors import LabError
from meshbook.lab import loopback
from meshbook.lab.loopback import Void, claim_block, fill, listeners, require_ports


@pytest.fixture
def only(monkeypatch: pytest.MonkeyPatch) -> int:
    """Leave one block to choose from, and return it: the first that is free now, so that no other lab is in the way."""
    block, claim = claim_block()
    claim.close()
    monkeypatch.setattr(loopback, "FIRST_BLOCK", block)
    monkeypatch.setattr(loopback, "LAST_BLOCK", block)
    return block


def test_a_claimed_block_is_not_claimed_again(only: int) -> None:
    _, claim = claim_block()
    with contextlib.closing(claim), pytest.raises(LabError, match="no block of loopback addresses is free"):
        claim_block()


def test_a_block_in_which_anybody_listens_is_left_alone(only: int) -> None:
    with socket.create_server((f"127.{only}.3.2", 0)) as other:
        assert listeners(only) == {other.getsockname()}
        with pytest.raises(LabError, match="no block of loopback addresses is free"):
            claim_block()
    block, claim = claim_block()
    claim.close()
    assert block == only


def test_a_port_that_is_taken_on_all_addresses_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("0.0.0.0", 0)) as other:
        monkeypatch.setattr(loopback, "PORTS", (other.getsockname()[1],))
        with pytest.raises(LabError, match=f"ports that a lab needs: {other.getsockname()[1]}"):
            require_ports()
    require_ports()


def knock(place: tuple[str, int], timeout_s: float) -> str:
    """Return what comes of a try to connect."""
    try:
        socket.create_connection(place, timeout_s).close()
    except OSError as error:
        return type(error).__name__
    return "connected"


def test_packets_to_a_void_vanish_and_who_shares_its_port_has_what_comes_after_it(only: int) -> None:
    place = (f"127.{only}.10.100", 15443)
    void = Void(*place)
    assert knock(place, 0.2) == "TimeoutError"
    with socket.socket() as sharing:
        sharing.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sharing.bind(place)
        sharing.listen(8)
        void.close()
        assert knock(place, 0.2) == "connected"
    assert knock(place, 0.2) == "ConnectionRefusedError"


def test_who_waits_in_a_full_queue_keeps_others_out_until_it_is_emptied(only: int) -> None:
    with socket.create_server((f"127.{only}.10.100", 15443), backlog=8) as server:
        waiting = fill(*server.getsockname())
        assert knock(server.getsockname(), 0.2) == "TimeoutError"
        for one in waiting:
            one.close()
        taking = threading.Thread(target=lambda: [server.accept()[0].close() for _ in range(9)])
        taking.start()
        taking.join(5)
        assert knock(server.getsockname(), 0.2) == "connected"
