"""What a run looks like in a terminal: a line that is rewritten as cells start, then the verdicts, the worst first.

Progress goes to stderr and ends as one clean line, verdicts go to stdout. Colour only where a terminal shows it and
$NO_COLOR is not set.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from collections.abc import Sequence
from typing import TextIO

from meshbook import progress, report, runs
from meshbook.language import padded, translate, width
from meshbook.place import clusters_text
from meshbook.verdict import DRY_RUN, FAIL, INCONCLUSIVE, PASS, numbers_text, overall, shown, worst_first

_BROKEN = ("error", "interrupted")
_INTERRUPTED = "interrupted: what is down is restored, whatever comes; a second Ctrl-C breaks the notebook off"
_RESTORING = "what is down is being restored, which nothing cuts short"
_COLOURS = {PASS: "32", FAIL: "31", INCONCLUSIVE: "33", DRY_RUN: "36"}
_COLOURS |= {"error": "31", "interrupted": "33", "skipped": "2"}


def coloured(state: str, text: str, stream: TextIO) -> str:
    """Return ``text`` in the colour of ``state`` where ``stream`` is a terminal that shows colours."""
    plain = not stream.isatty() or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    return text if plain or state not in _COLOURS else f"\x1b[{_COLOURS[state]}m{text}\x1b[0m"


class Console:
    """Watches a run. In a terminal one line is rewritten as cells start; elsewhere only notebooks leave lines."""

    def __init__(self, announcements: TextIO | None = None) -> None:
        self._announcements = announcements or sys.stderr
        self._live = sys.stderr.isatty()
        self._interrupted = False
        self._name, self._number, self._cells = "", 0, 0

    def say(self, text: str) -> None:
        progress.say(f"{translate(text)}\n")

    def say_above(self, text: str) -> None:
        """Say a line that stays, and leave what is waited for to the next one."""
        self.rewrite("")
        self.say(text)

    def notebook_starts(self, name: str, cells: int) -> None:
        self._name, self._number, self._cells = name, 0, cells
        self.rewrite(f"{name:20} …")

    def cell_starts(self, number: int, heading: str) -> None:
        self._number = number
        self.progress(heading)

    def progress(self, text: str) -> None:
        self.rewrite(f"{self._name} {self._number}/{self._cells} {text}")

    def announced(self, text: str) -> None:
        self.rewrite("")
        progress.say(f"{translate(text.strip())}\n\n", self._announcements)

    def notebook_ended(self, name: str, outcome: runs.NotebookOutcome, seconds: float) -> None:
        self.rewrite("")
        state = outcome.shown or outcome.state
        self.say(f"{name:20} {_word(state, sys.stderr)} {seconds:6.1f} s")
        if outcome.message:
            self.say("  " + outcome.message.strip().replace("\n", "\n  "))

    def interrupted(self) -> None:
        """Answer Ctrl-C at once; past the buffer of stderr, for it may come in the middle of a write."""
        told, self._interrupted = _RESTORING if self._interrupted else _INTERRUPTED, True
        with contextlib.suppress(OSError):
            os.write(sys.stderr.fileno(), f"\n{translate(told)}\n".encode())

    def restored(self, lines: Sequence[str]) -> None:
        for line in lines:
            self.say(f"  afterwards: {line}")

    def rewrite(self, text: str) -> None:
        """Show ``text`` as the line that changes, where there is a terminal."""
        if self._live:
            while width(text) >= shutil.get_terminal_size().columns:
                text = text[:-1]
            progress.say(f"\r\x1b[2K{text}")


def summarise(run: report.Report, folder: str, *, as_json: bool = False) -> None:
    """Print what was found, the worst first and with its reason, and where the report lies; or verdicts.json."""
    if as_json:
        print(report.verdicts(run), end="")
        return
    for place in dict.fromkeys(clusters_text(stage.place) for stage in run.stages if stage.place):
        print(translate(place))
    claims = [{**claim, "stage": stage.name} for stage in run.stages for claim in stage.claims]
    for claim in [*({**claim, "stage": "restore"} for claim in run.down), *worst_first(claims)]:
        numbers = numbers_text({**claim, "limit": ""})
        about = f"{claim['stage']:18}  {translate(claim['claim'])}" + (f": {translate(numbers)}" if numbers else "")
        print(f"{_word(shown(claim['outcome'], [claim]), sys.stdout)}  {about}")
        if claim["outcome"] != PASS:
            print(_indented(translate(claim["reason"])))
    for stage in run.stages:
        if stage.state == "skipped" or (stage.state in _BROKEN and not stage.claims):
            print(f"{_word(stage.state, sys.stdout)}  {stage.name:18}".rstrip())
            print(_indented(translate(stage.message)))
    for line in run.run.get("restored", []):
        print(f"{_word('restored', sys.stdout)}  {translate(line)}")
    found = overall(run.outcome, run.claims)
    broken = ", ".join(stage.name for stage in run.stages if stage.state in _BROKEN)
    found += f", {broken} did not reach its verdict" if broken and run.claims else ""
    print(f"\n{coloured(run.shown, translate(found), sys.stdout)}{translate(f'; open {folder}/{report.INDEX}')}")


def _word(state: str, stream: TextIO) -> str:
    return coloured(state, padded(translate(state), 12), stream)


def _indented(text: str) -> str:
    return "\n".join(f"{'':14}{line}" for line in text.splitlines())
