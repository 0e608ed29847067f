"""Does a lab leave anything behind? Up and down many times, several side by side, and what each costs.

``--rounds 50`` starts and stops 50 labs one after the other, ``--beside 4`` that many at once, each in a folder of its
own, with every third one killed (SIGKILL) in place of stopped. After each round it is looked for processes that carry
a lab's mark, listeners in the blocks of loopback addresses, and files. Exit code 1 where anything is left. Time is CPU
time of the lab's own process until it is ready, which a busy machine does not lengthen as it does the clock's.
"""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from meshbook.lab import launch
from meshbook.lab.loopback import CLAIM_PORT, listeners

TICKS = os.sysconf("SC_CLK_TCK")
GONE_WITHIN_S = 10.0


@dataclass(frozen=True, kw_only=True)
class Round:
    """One lab, up and down again."""

    ready_s: float
    cpu_s: float
    memory_mib: float
    """Resident, of the lab's own process."""
    processes: int
    all_memory_mib: float
    """Proportional share (PSS) of all its processes."""
    left: tuple[str, ...]


def marked(root: Path) -> list[Path]:
    """Return the folders in ``/proc`` of the processes that carry the mark of the lab in ``root``."""
    mark, found = f"MESHBOOK_LAB={root}".encode(), []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if mark in (process / "environ").read_bytes().split(b"\0"):
                found.append(process)
        except OSError:
            continue
    return found


def share_mib(process: Path) -> float:
    try:
        lines = (process / "smaps_rollup").read_text().splitlines()
    except OSError:
        return 0.0
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024


def one_round(root: Path, number: int) -> Round:
    """Start a lab, measure it, end it, and look what is left."""
    lab = launch.start(root, launch.Choice(fast=True))
    own = Path("/proc") / str(lab.pid)
    fields = (own / "stat").read_text().rpartition(")")[2].split()
    pages = int((own / "statm").read_text().split()[1])
    processes = [own, *marked(root)]
    block = int(lab.fleet_url.split("//127.")[1].split(".")[0])
    costs = {
        "ready_s": lab.ready_s,
        "cpu_s": (int(fields[11]) + int(fields[12])) / TICKS,
        "memory_mib": pages * os.sysconf("SC_PAGE_SIZE") / 2**20,
        "all_memory_mib": sum(map(share_mib, processes)),
    }
    if number % 3 == 2:
        os.kill(lab.pid, signal.SIGKILL)
    else:
        launch.stop(root)
    deadline = time.monotonic() + GONE_WITHIN_S
    while (left := remains(lab, block, killed=number % 3 == 2)) and time.monotonic() < deadline:
        time.sleep(0.05)
    launch.stop(root)  # what a killed lab leaves in its folder goes with the next command
    left += [str(root)] if root.exists() else []
    return Round(processes=len(processes), left=tuple(left), **costs)


def remains(lab: launch.LabState, block: int, *, killed: bool) -> list[str]:
    files = [] if killed or not lab.root.exists() else [str(lab.root)]
    found = listeners(block)
    if not lab.alive and (f"127.{block}.0.3", CLAIM_PORT) in found:
        found = set()  # another lab on this machine has claimed the block meanwhile
    return [*map(str, marked(lab.root)), *(f"{address}:{port}" for address, port in found), *files]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--beside", type=int, default=1, help="labs at once")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(arguments.beside) as pool:
        numbers = range(arguments.rounds)
        rounds = list(pool.map(lambda number: one_round(Path(folder) / f"lab-{number}", number), numbers))
    for name in ("ready_s", "cpu_s", "memory_mib", "processes", "all_memory_mib"):
        values = [float(getattr(one, name)) for one in rounds]
        spread = f"from {min(values):.2f} to {max(values):.2f}"
        sys.stdout.write(f"{name:16} median {statistics.median(values):8.2f}   {spread}\n")
    left = [thing for one in rounds for thing in one.left]
    told = "".join(f"\n  {thing}" for thing in left)
    sys.stdout.write(f"{len(rounds)} labs, {arguments.beside} at once: {len(left)} things left{told}\n")
    return 1 if left else 0


if __name__ == "__main__":
    sys.exit(main())
