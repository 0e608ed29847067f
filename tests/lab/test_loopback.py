"""A block of loopback addresses is only taken where nobody listens."""

from __future__ import annotations

import contextlib
import socket

import pytest

from meshbook.errors import LabError
from meshbook.lab import loopback
from meshbook.lab.loopback import claim_block, listeners, require_ports


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
