"""What a run looks like in a terminal: progress on stderr that ends as one clean line, the verdicts on stdout."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import TextIO

from meshbook.notebook import measured
from meshbook.report import INDEX, Report
from meshbook.runs import Outcome

_WIDTH = 78
_BROKEN = ("error", "interrupted")
_INTERRUPTED = b"\ninterrupted: what is down is restored first; a second Ctrl-C breaks off at once\n"


class Console:
    """Watches a run. In a terminal one line is rewritten as cells start; elsewhere only notebooks leave lines."""

    def __init__(self, announcements: TextIO | None = None) -> None:
        self._announcements = announcements or sys.stderr
        self._live = sys.stderr.isatty()
        self._name, self._cells = "", 0

    def say(self, text: str) -> None:
        sys.stderr.write(f"{text}\n")
        sys.stderr.flush()

    def notebook_starts(self, name: str, cells: int) -> None:
        self._name, self._cells = name, cells
        self._rewrite(f"{name:20} …")

    def cell_starts(self, number: int, heading: str) -> None:
        self._rewrite(f"{self._name:20} {number:2}/{self._cells} {heading}")

    def announced(self, text: str) -> None:
        self._rewrite("")
        self._announcements.write(f"{text.strip()}\n\n")
        self._announcements.flush()

    def notebook_ended(self, name: str, outcome: Outcome, seconds: float) -> None:
        self._rewrite("")
        self.say(f"{name:20} {outcome.state:12} {seconds:6.1f} s")
        if outcome.message:
            self.say("  " + outcome.message.strip().replace("\n", "\n  "))

    def interrupted(self) -> None:
        """Answer a first Ctrl-C at once; past the buffer of stderr, for it may come in the middle of a write."""
        os.write(sys.stderr.fileno(), _INTERRUPTED)

    def restored(self, lines: Sequence[str]) -> None:
        for line in lines:
            self.say(f"  afterwards: {line}")

    def _rewrite(self, text: str) -> None:
        if self._live:
            sys.stderr.write(f"\r\x1b[2K{text[:_WIDTH]}")
            sys.stderr.flush()


def summarise(report: Report, folder: str) -> None:
    """Print the verdicts and where the report lies."""
    for stage in report.stages:
        for claim in stage.claims:
            numbers = ", ".join(part for part in (measured(claim), f"n = {claim['n']}" if claim["n"] else "") if part)
            print(f"{claim['outcome']:12}  {stage.name:18}  {claim['claim']}" + (f": {numbers}" if numbers else ""))
    found = f"{report.passed} of {len(report.claims)} claims passed" if report.claims else "no claim was reached"
    broken = ", ".join(stage.name for stage in report.stages if stage.state in _BROKEN)
    found += f", {broken} did not reach its verdict" if broken and report.claims else ""
    print(f"\n{report.outcome}: {found}; open {folder}/{INDEX}")
