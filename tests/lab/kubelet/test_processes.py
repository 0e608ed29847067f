from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from waits import until

from meshbook.lab.kubelet import ProcessTable, SpawnError, Streams, base_environment, marked
from meshbook.lab.topology import LabTopology

LAB = """
import asyncio, sys
from pathlib import Path
from meshbook.lab.kubelet import ProcessTable, base_environment
from meshbook.lab.topology import two_clouds

async def main():
    table = ProcessTable(two_clouds(Path(sys.argv[1]), 64))
    reaper = await table.start_reaper()
    script = "setsid sleep 300 & sleep 300 & exec sleep 300"
    for _ in range(2):
        await table.spawn(["sh", "-c", script], env=base_environment(), cwd=Path("/"))
    print(table.mark, reaper, flush=True)
    await asyncio.sleep(300)

asyncio.run(main())
"""


async def test_output_and_exit_code_come_back(processes: ProcessTable) -> None:
    process = await processes.spawn(
        ["sh", "-c", "read word; echo out $word; echo err >&2; exit 3"],
        env=base_environment(),
        cwd=Path("/"),
        streams=Streams(stdin=True, stdout=True, stderr="pipe"),
    )
    assert process.stdin
    assert process.stdout
    assert process.stderr
    await process.stdin.write(b"hello\n")
    assert await process.wait() == 3
    assert await process.stdout.read() == b"out hello\n"
    assert await process.stdout.read() == b""
    assert await process.stderr.read() == b"err\n"
    process.close_streams()


async def test_nothing_of_the_host_environment_is_inherited(
    processes: ProcessTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_OF_THE_HOST", "1")
    log = tmp_path / "log"
    process = await processes.spawn(["env"], env={"PATH": os.defpath, "A": "b"}, cwd=Path("/"), log=log)
    assert await process.wait() == 0
    names = {line.partition("=")[0] for line in log.read_text().splitlines()}
    assert names - {"PWD", "SHLVL", "_"} == {"PATH", "A", "MESHBOOK_LAB", "MESHBOOK_LAB_RUN"}


@pytest.mark.parametrize(
    ("argv", "cwd"), [(["no-such-program"], "/"), (["/etc/hostname"], "/"), (["true"], "/no/such/folder")]
)
async def test_what_cannot_be_started_is_an_error_that_names_it(
    processes: ProcessTable, argv: list[str], cwd: str
) -> None:
    with pytest.raises(SpawnError, match=f"cannot start {argv[0]}"):
        await processes.spawn(argv, env=base_environment(), cwd=Path(cwd), streams=Streams(stdin=True, stdout=True))


async def test_close_leaves_no_process_of_this_run(topology: LabTopology) -> None:
    table = ProcessTable(topology)
    await table.start_reaper()
    script = "trap '' TERM; setsid sleep 300 & sleep 300 & wait"
    await table.spawn(["sh", "-c", script], env=base_environment(), cwd=Path("/"))
    assert marked(table.mark)
    await table.close()
    assert marked(table.mark) == []
    assert marked(f"MESHBOOK_LAB={topology.root}") == []
    with pytest.raises(SpawnError, match="going down"):
        await table.spawn(["true"], env={}, cwd=Path("/"))


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_nothing_outlives_a_lab_that_is_killed(tmp_path: Path, number: signal.Signals) -> None:
    argv = [sys.executable, "-c", LAB, str(tmp_path)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as lab:
        assert lab.stdout is not None
        mark, reaper = lab.stdout.readline().split()
        until(lambda: len(marked(mark)) >= 6)
        assert os.getsid(int(reaper)) != os.getsid(lab.pid)
        for meant_for_the_terminal in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            os.kill(int(reaper), meant_for_the_terminal)
        lab.send_signal(number)
    until(lambda: marked(mark) == [])
    until(lambda: not Path(f"/proc/{reaper}").exists() or _ended(reaper))


def _ended(pid: str) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
