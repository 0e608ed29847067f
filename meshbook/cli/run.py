"""``meshbook run``: plan, find clusters or start a lab, execute, report. The order is all that lives here."""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from meshbook import report, runs, settings
from meshbook.cli import FOUND, INTERRUPTED, OK, USAGE
from meshbook.cli.console import Console, summarise
from meshbook.errors import MeshbookError, UsageError


def run(arguments: argparse.Namespace) -> int:
    """Execute the verb and return its exit code."""
    console = Console(sys.stdout if arguments.dry_run else None)
    folder = (arguments.notebooks or runs.runbook_folder()).resolve()
    plan = runs.plan(folder, arguments.stages, file=arguments.file, given=arguments.parameter)
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
    summarise(report.write(out), os.path.relpath(out))
    return _exit_code(record)


def _exit_code(record: runs.Run) -> int:
    if record.outcome == "interrupted":
        return INTERRUPTED
    if any(ended.error == UsageError.__name__ for ended in record.notebooks):
        return USAGE
    return OK if record.outcome == "pass" else FOUND


@contextlib.contextmanager
def _clusters(plan: runs.Plan, arguments: argparse.Namespace, console: Console) -> Iterator[None]:
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


def _are_named(plan: runs.Plan, arguments: argparse.Namespace) -> bool:
    given = plan.value("contexts", []) or plan.value("kubeconfig", "") or arguments.kubeconfig
    return bool(given) or any(os.environ.get(variable) for variable in settings.CONTEXT_VARIABLES)


def _require_clusters(plan: runs.Plan) -> None:
    """Refuse to start where the clusters cannot be used: that is the environment's fault, and no finding."""
    from meshbook.clusters import Fleet

    try:
        Fleet.connect(plan.value("contexts", []), plan.value("kubeconfig", ""))
    except UsageError:
        raise
    except MeshbookError as error:
        raise UsageError(f"nothing was started: {error}") from error


def _secrets(plan: runs.Plan, folder: Path) -> runs.Secrets:
    contexts = settings.context_names(plan.value("contexts", []))
    kubeconfig = settings.kubeconfig_path(plan.value("kubeconfig", ""))
    projects = [plan.value("project", ""), os.environ.get(settings.HUB_PROJECT_VARIABLE, "")]
    return runs.gather(kubeconfig, root=folder.parent, contexts=contexts, extra_projects=projects)


def _afterwards(values: Mapping[str, Any]) -> Sequence[str]:
    """Restore what a notebook that broke off has left down; where nothing is, say that."""
    return restore(values) or ([] if values.get("dry_run") else ["nothing is left to restore"])


def restore(values: Mapping[str, Any]) -> Sequence[str]:
    """Restore what an outage left down in the clusters and the namespace that ``values`` name."""
    from meshbook import outage
    from meshbook.clusters import Fleet

    if values.get("dry_run"):
        return []
    where = values.get("contexts", []), values.get("kubeconfig", "")
    clusters = outage.restore_clusters(*where)
    namespace, force = values.get("namespace", "sample"), bool(values.get("force"))
    return [str(one) for one in (*clusters, *outage.restore(Fleet.connect(*where), namespace, force=force))]
