"""A lab comes up whole and leaves nothing behind, however it ends."""

import contextlib
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
from meshbook.lab.faults import FaultClient, FaultSpec
from meshbook.lab.kubelet import marked
from meshbook.lab.topology import LabFolder

pytestmark = pytest.mark.envoy

GONE_WITHIN_S = 10.0


def _marked(root: Path, also: str = "") -> list[str]:
    """Command lines of all processes that carry the mark of the lab in ``root``, and ``also`` in their environment."""
    found = []
    for process in _processes(root, also):
        with contextlib.suppress(OSError):
            found.append((process / "cmdline").read_bytes().replace(b"\0", b" ").decode())
    return found


def _processes(root: Path, also: str = "") -> list[Path]:
    found = marked(f"MESHBOOK_LAB={root}")
    return [Path(f"/proc/{pid}") for pid in found if not also or pid in marked(also)]


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
        time.sleep(0.02)


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[launch.LabState]:
    """A lab that is up and that no test ends."""
    root = tmp_path_factory.mktemp("labs") / "up"
    yield launch.start(root)
    launch.stop(root)


def test_up_gives_two_contexts_and_a_private_kubeconfig(up: launch.LabState) -> None:
    assert up.contexts == ("cluster1", "cluster2")
    assert stat.S_IMODE(up.kubeconfig.stat().st_mode) == 0o600
    assert _listens(_api_address(up))
    assert launch.state(up.root) == up
    envoys = [line for line in _marked(up.root) if "envoy" in line]
    assert len(envoys) == 3, "two east-west gateways and one load balancer"


def test_a_lab_takes_none_of_the_inotify_instances_that_a_user_has_few_of(up: launch.LabState) -> None:
    processes = [Path(f"/proc/{up.pid}"), *_processes(up.root)]
    descriptors = [descriptor for process in processes for descriptor in (process / "fd").iterdir()]
    assert [one for one in descriptors if "inotify" in os.readlink(one)] == []


def test_a_second_lab_in_one_folder_is_refused_and_the_first_goes_on(up: launch.LabState) -> None:
    with pytest.raises(LabError, match="up already"):
        launch.start(up.root)
    assert _listens(_api_address(up))


def test_labs_run_side_by_side_and_a_run_s_lab_ends_with_its_block(up: launch.LabState) -> None:
    with launch.running_lab(launch.Choice(fast=True)) as other:
        assert other.fleet_url != up.fleet_url
        assert _listens(_api_address(other))
        assert len(_marked(other.root, also="BURN_MS=0")) == 2, "pods of a fast lab burn nothing: its two gateways"
    assert _marked(other.root) == []
    assert not other.root.exists()
    assert _listens(_api_address(up))
    assert _marked(up.root, also="BURN_MS=0") == []


def test_a_start_that_fails_says_why_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "lab"
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("KUBEBUILDER_ASSETS", raising=False)
    with pytest.raises(LabError, match=r"^a real API server needs") as told:
        launch.start(root, launch.Choice(apiserver="real"))
    assert told.value.hint
    monkeypatch.setattr(launch, "LEAST_FREE", 1 << 60)
    with pytest.raises(LabError, match=r"MiB, and the disk of .* has [0-9]+ KiB left"):
        launch.start(root)
    assert (_marked(root), root.exists()) == ([], False)


@pytest.fixture(scope="module")
def again(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder in which one lab after the other is started."""
    root = tmp_path_factory.mktemp("labs") / "again"
    yield root
    launch.stop(root)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT], ids=lambda number: number.name)
def test_no_process_survives_a_signal_to_the_lab_and_another_starts_in_its_folder(
    again: Path, number: signal.Signals
) -> None:
    lab = launch.start(again)
    address = _api_address(lab)
    os.kill(lab.pid, number)
    _wait_until_gone(lab)
    assert launch.state(again) is None
    assert not _listens(address)
    said = LabFolder(root=again).log.read_text()
    assert (f"asked to end: {number.name}" in said) == (number != signal.SIGKILL)


def test_down_leaves_no_process_no_port_and_no_file_although_a_cluster_is_down(again: Path) -> None:
    address = _api_address(launch.start(again))
    FaultClient.of(again).begin(FaultSpec(kind="cluster-down", context="cluster2"))
    begun = time.monotonic()
    assert launch.stop(again)
    assert time.monotonic() - begun < 5
    assert not _listens(address)
    assert _marked(again) == []
    assert not again.exists()
    assert launch.state(again) is None
    assert not launch.stop(again)
