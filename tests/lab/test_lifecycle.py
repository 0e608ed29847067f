"""A lab comes up whole and leaves nothing behind, however it ends."""

import os
import signal
import socket
import stat
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from meshbook.errors import LabError
from meshbook.lab import launch

pytestmark = pytest.mark.envoy

GONE_WITHIN_S = 10.0


def _marked(root: Path, also: str = "") -> list[str]:
    """Command lines of all processes that carry the mark of the lab in ``root``, and ``also`` in their environment."""
    marks = {f"MESHBOOK_LAB={root}".encode(), *([also.encode()] if also else [])}
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if marks <= set((process / "environ").read_bytes().split(b"\0")):
                found.append((process / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        except OSError:
            continue
    return found


def _api_address(lab: launch.LabState) -> tuple[str, int]:
    server = yaml.safe_load(lab.kubeconfig.read_text())["clusters"][0]["cluster"]["server"]
    host, port = server.removeprefix("https://").split(":")
    return host, int(port)


def _listens(address: tuple[str, int]) -> bool:
    with socket.socket() as trial:
        return trial.connect_ex(address) == 0


def _wait_until_gone(lab: launch.LabState) -> None:
    """Wait for the end of the lab's own process, and of all that carry its mark."""
    deadline = time.monotonic() + GONE_WITHIN_S
    while lab.alive or _marked(lab.root):
        left = _marked(lab.root)
        assert time.monotonic() < deadline, f"after {GONE_WITHIN_S:g} s: lab alive {lab.alive}, still there {left}"
        time.sleep(0.05)


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[launch.LabState]:
    """A lab that is up and that no test ends."""
    root = tmp_path_factory.mktemp("labs") / "up"
    yield launch.start(root)
    launch.stop(root)


@pytest.fixture
def lab_root(tmp_path: Path) -> Iterator[Path]:
    root = tmp_path / "lab"
    yield root
    launch.stop(root)


def test_up_gives_two_contexts_and_a_private_kubeconfig(up: launch.LabState) -> None:
    assert up.contexts == ("cluster1", "cluster2")
    assert stat.S_IMODE(up.kubeconfig.stat().st_mode) == 0o600
    assert _listens(_api_address(up))
    assert launch.state(up.root) == up
    envoys = [line for line in _marked(up.root) if "envoy" in line]
    assert len(envoys) == 3, "two east-west gateways and one load balancer"


def test_a_second_lab_in_one_folder_is_refused_and_the_first_goes_on(up: launch.LabState) -> None:
    with pytest.raises(LabError, match="up already"):
        launch.start(up.root)
    assert _listens(_api_address(up))


def test_labs_run_side_by_side_and_a_run_s_lab_ends_with_its_block(up: launch.LabState) -> None:
    with launch.running_lab() as other:
        assert other.fleet_url != up.fleet_url
        assert _listens(_api_address(other))
        assert _listens(_api_address(up))
    assert _marked(other.root) == []
    assert not other.root.exists()
    assert _listens(_api_address(up))


def test_pods_of_a_fast_lab_are_told_to_burn_nothing(up: launch.LabState) -> None:
    assert _marked(up.root, also="BURN_MS=0") == []
    with launch.running_lab(fast=True) as fast:
        assert len(_marked(fast.root, also="BURN_MS=0")) == 2, "the two east-west gateways are its pods"


def test_down_leaves_no_process_no_port_and_no_file(lab_root: Path) -> None:
    address = _api_address(launch.start(lab_root))
    assert launch.stop(lab_root)
    assert not _listens(address)
    assert _marked(lab_root) == []
    assert not lab_root.exists()
    assert launch.state(lab_root) is None


def test_down_says_that_no_lab_was_up(tmp_path: Path) -> None:
    assert not launch.stop(tmp_path / "nothing")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_no_process_survives_a_signal_to_the_lab(lab_root: Path, number: signal.Signals) -> None:
    lab = launch.start(lab_root)
    address = _api_address(lab)
    os.kill(lab.pid, number)
    _wait_until_gone(lab)
    assert launch.state(lab_root) is None
    assert not _listens(address)


def test_no_process_survives_a_lab_that_is_killed_and_another_starts_in_its_folder(lab_root: Path) -> None:
    lab = launch.start(lab_root)
    os.kill(lab.pid, signal.SIGKILL)
    _wait_until_gone(lab)
    assert launch.state(lab_root) is None
    assert _listens(_api_address(launch.start(lab_root)))
