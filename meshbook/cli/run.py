"""``meshbook run``: plan, find clusters or start a lab, execute, report; and what a run looks like in a terminal.

Progress goes to stderr and ends as one clean line, verdicts go to stdout.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

from meshbook import report, runs, settings
from meshbook.cli import FOUND, INTERRUPTED, OK, USAGE, say_not_restored
from meshbook.errors import MeshbookError, UsageError
from meshbook.verdict import REFUSED, measured_text

_WIDTH = 78
_BROKEN = ("error", "interrupted")
_INTERRUPTED = b"\ninterrupted: what is down is restored, whatever comes; a second Ctrl-C breaks the notebook off\n"


def run(arguments: argparse.Namespace) -> int:
    """Execute the verb and return its exit code."""
    console = Console(sys.stdout if arguments.dry_run else None)
    folder = (arguments.notebooks or runs.runbook_folder()).resolve()
    plan = runs.plan_run(folder, arguments.stages, file=arguments.file, given=arguments.parameter)
    redact = [word.strip() for word in arguments.redact.split(",") if word.strip()]
    runs.Redactor(runs.Secrets(), redact)
    if arguments.dry_run:
        plan = plan.dry(reading_only=_are_named(plan, arguments))
    if arguments.kubeconfig:
        os.environ["KUBECONFIG"] = str(Path(arguments.kubeconfig).expanduser().resolve())
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)  # of a cell that is broken off it prints the traceback
    with _clusters(plan, arguments, console):
        redactor = runs.Redactor(_secrets(plan, folder), redact)
        out = runs.new_folder(arguments.out, plan.label, arguments.run_id)
        session = runs.Session(plan, out, redactor, console, _afterwards, keep_going=arguments.keep_going)
        record = session.execute(runs.Interrupts(told=console.interrupted))
    written = report.write(out)
    summarise(written, os.path.relpath(out))
    if arguments.dry_run:
        print(_still_refused(written))
    return say_not_restored(record.not_restored) if record.not_restored else _exit_code(record)


def _still_refused(written: report.Report) -> str:
    refused = [str(row[REFUSED]) for claim in written.claims for row in claim["details"] if REFUSED in row]
    planned = all(stage.claims for stage in written.stages)
    told = "nothing would be refused" if planned else "not every stage could say what would be refused"
    told = f"still refused: {'; '.join(refused)}" if refused else told
    return f"a dry run: nothing was done; {told}"


def _exit_code(record: runs.Run) -> int:
    if record.outcome == "interrupted":
        return INTERRUPTED
    if any(ended.error == UsageError.__name__ for ended in record.notebooks):
        return USAGE
    return OK if record.outcome == "pass" else FOUND


@contextlib.contextmanager
def _clusters(plan: runs.RunPlan, arguments: argparse.Namespace, console: Console) -> Iterator[None]:
    """Make sure that there are clusters: those that were named, else a lab for the length of the block."""
    if _are_named(plan, arguments):
        if arguments.apiserver != "emulated":
            raise UsageError("--apiserver is for a lab of the run's own, and clusters were named")
        _require_clusters(plan)
        yield
        return
    from meshbook.lab.launch import running_lab

    console.say("no contexts were named: starting a lab on this machine")
    with running_lab(apiserver=arguments.apiserver) as lab:
        before = os.environ.get("KUBECONFIG")
        os.environ["KUBECONFIG"] = str(lab.kubeconfig)
        console.say(f"lab ready after {lab.ready_s:.1f} s: {', '.join(lab.contexts)}")
        try:
            yield
        finally:
            os.environ.pop("KUBECONFIG") if before is None else os.environ.update(KUBECONFIG=before)


def _are_named(plan: runs.RunPlan, arguments: argparse.Namespace) -> bool:
    given = plan.value("contexts", []) or plan.value("kubeconfig", "") or arguments.kubeconfig
    return bool(given) or any(os.environ.get(variable) for variable in settings.CONTEXT_VARIABLES)


def _require_clusters(plan: runs.RunPlan) -> None:
    """Refuse to start where the clusters cannot be used: that is the environment's fault, and no finding."""
    from meshbook.clusters import Fleet

    try:
        Fleet.connect(plan.value("contexts", []), plan.value("kubeconfig", ""))
    except UsageError:
        raise
    except MeshbookError as error:
        raise UsageError(f"nothing was started: {error}") from error


def _secrets(plan: runs.RunPlan, folder: Path) -> runs.Secrets:
    contexts = settings.context_names(plan.value("contexts", []))
    kubeconfig = settings.kubeconfig_path(plan.value("kubeconfig", ""))
    projects = [plan.value("project", ""), os.environ.get(settings.HUB_PROJECT_VARIABLE, "")]
    return runs.gather_secrets(kubeconfig, root=folder.parent, contexts=contexts, extra_projects=projects)


def _afterwards(values: Mapping[str, Any]) -> Sequence[str]:
    """Restore what a notebook that broke off has left down; where nothing is, say that."""
    return restore_left_down(values) or ([] if values.get("dry_run") else ["nothing is left to restore"])


def restore_left_down(values: Mapping[str, Any]) -> Sequence[str]:
    """Restore what an outage left down in the clusters and the namespace that ``values`` name."""
    from meshbook import outage
    from meshbook.clusters import Fleet

    if values.get("dry_run"):
        return []
    fleet = Fleet.named(values.get("contexts", []), values.get("kubeconfig", ""))  # one may not answer yet
    namespace, timeout_s = values.get("namespace", "sample"), float(values.get("rollout_timeout_s", 120.0))
    restored = outage.restore(fleet, namespace, timeout_s=timeout_s, force=bool(values.get("force")))
    return [str(one) for one in restored]


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

    def notebook_ended(self, name: str, outcome: runs.NotebookOutcome, seconds: float) -> None:
        self._rewrite("")
        self.say(f"{name:20} {outcome.state:12} {seconds:6.1f} s")
        if outcome.message:
            self.say("  " + outcome.message.strip().replace("\n", "\n  "))

    def interrupted(self) -> None:
        """Answer Ctrl-C at once; past the buffer of stderr, for it may come in the middle of a write."""
        os.write(sys.stderr.fileno(), _INTERRUPTED)

    def restored(self, lines: Sequence[str]) -> None:
        for line in lines:
            self.say(f"  afterwards: {line}")

    def _rewrite(self, text: str) -> None:
        if self._live:
            sys.stderr.write(f"\r\x1b[2K{text[:_WIDTH]}")
            sys.stderr.flush()


def summarise(run: report.Report, folder: str) -> None:
    """Print the verdicts and where the report lies."""
    claims = [(stage.name, claim) for stage in run.stages for claim in stage.claims]
    for name, claim in [*(("restore", claim) for claim in run.down), *claims]:
        numbers = ", ".join(part for part in (measured_text(claim), f"n = {claim['n']}" if claim["n"] else "") if part)
        print(f"{claim['outcome']:12}  {name:18}  {claim['claim']}" + (f": {numbers}" if numbers else ""))
    found = f"{run.passed} of {len(run.claims)} claims passed" if run.claims else "no claim was reached"
    broken = ", ".join(stage.name for stage in run.stages if stage.state in _BROKEN)
    found += f", {broken} did not reach its verdict" if broken and run.claims else ""
    print(f"\n{run.outcome}: {found}; open {folder}/{report.INDEX}")
