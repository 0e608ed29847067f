"""``meshbook run``: plan, find clusters or a lab, execute, report. What it looks like in a terminal is ``console``."""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from meshbook import report, runs, settings
from meshbook.cli import FOUND, INTERRUPTED, OK, USAGE, say_not_restored
from meshbook.cli.console import Console, summarise
from meshbook.errors import MeshbookError, UsageError
from meshbook.language import translate
from meshbook.place import place_of, place_text
from meshbook.verdict import REFUSED

if TYPE_CHECKING:
    from meshbook.lab.launch import LabState


def run(arguments: argparse.Namespace) -> int:
    """Execute the verb and return its exit code."""
    console = Console(sys.stdout if arguments.dry_run and not arguments.json else None)
    folder = (arguments.notebooks or runs.runbook_folder()).resolve()
    plan = runs.plan_run(folder, arguments.stages, file=arguments.file, given=arguments.parameter)
    redact = [word.strip() for word in arguments.redact.split(",") if word.strip()]
    runs.Redactor(runs.Secrets(), redact)
    if arguments.dry_run:
        plan = plan.dry(reading_only=not _wants_lab(plan, arguments))
    plan = _with_absolute_paths(plan, arguments.kubeconfig)
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)  # of a cell that is broken off it prints the traceback
    label = plan.label or ("lab" if _wants_lab(plan, arguments) else "clusters")
    with _clusters(plan, arguments, console):
        redactor = runs.Redactor(_secrets(plan, folder), redact)
        out = runs.new_folder(arguments.out, label, arguments.run_id)
        session = runs.Session(plan, out, redactor, console, _afterwards, keep_going=arguments.keep_going)
        with _down_is_told(session.run):
            session.execute(runs.Interrupts(told=console.interrupted))
    record = session.run
    with _down_is_told(record):
        written = report.write(out, language=arguments.language, of_many=True)
        summarise(written, os.path.relpath(out), as_json=arguments.json)
        if arguments.dry_run and not arguments.json:
            print(translate(_still_refused(written)))
    return say_not_restored(record.not_restored) if record.not_restored else _exit_code(record)


@contextlib.contextmanager
def _down_is_told(record: runs.Run) -> Iterator[None]:
    """Let no error, such as a full disk, take the place of what is down still."""
    try:
        yield
    except (MeshbookError, OSError) as error:
        if not record.not_restored:
            raise
        sys.stderr.write(f"meshbook: {translate(str(error))}\n")


def _with_absolute_paths(plan: runs.RunPlan, kubeconfig: str) -> runs.RunPlan:
    """Make the kubeconfig's path mean the same in notebooks, which are executed in their own folder."""
    if kubeconfig or os.environ.get("KUBECONFIG"):
        os.environ["KUBECONFIG"] = settings.kubeconfig_path(kubeconfig)
    given = plan.value("kubeconfig", "")
    return plan.given("kubeconfig", settings.kubeconfig_path(given)) if given else plan


def _still_refused(written: report.Report) -> str:
    refused = [str(row[REFUSED]) for claim in written.claims for row in claim["details"] if REFUSED in row]
    planned = all(stage.claims for stage in written.stages)
    told = "nothing would be refused" if planned else "not every stage could say what would be refused"
    return f"still refused: {'; '.join(refused)}" if refused else told


def _exit_code(record: runs.Run) -> int:
    if record.outcome == "interrupted":
        return INTERRUPTED
    if any(ended.error == UsageError.__name__ for ended in record.notebooks):
        return USAGE
    return OK if record.outcome == "pass" else FOUND


@contextlib.contextmanager
def _clusters(plan: runs.RunPlan, arguments: argparse.Namespace, console: Console) -> Iterator[None]:
    """Make sure that there are clusters, and say which: those that were named, the lab that is up, or one made."""
    if not _wants_lab(plan, arguments):
        if arguments.apiserver:
            raise UsageError("--apiserver is for a lab of the run's own, and clusters were named")
        console.say(place_text(place_of(_named_clusters(plan))))
        yield
        return
    from meshbook.clusters import display_names

    with _lab(arguments, console) as lab:
        names = display_names(lab.contexts, plan.value("names", {}))
        clusters = [{**_UNKNOWN, "name": name, "context": context, "lab": True} for context, name in names.items()]
        before = {name: os.environ.pop(name, None) for name in ("KUBECONFIG", *settings.CONTEXT_VARIABLES)}
        os.environ["KUBECONFIG"] = str(lab.kubeconfig)
        console.say(place_text(place_of(clusters)))
        try:
            yield
        finally:
            os.environ.pop("KUBECONFIG")
            os.environ.update({name: value for name, value in before.items() if value is not None})


_UNKNOWN: Mapping[str, Any] = {"user": "", "provider": "", "kubernetes": "", "mesh": ()}


@contextlib.contextmanager
def _lab(arguments: argparse.Namespace, console: Console) -> Iterator[LabState]:
    from meshbook.lab import launch

    running = None if arguments.apiserver else launch.state(launch.default_root())
    if running:
        console.say(f"using the lab that is up (process {running.pid})")
        yield running
        return
    console.say("starting a lab on this machine")
    with launch.running_lab(launch.Choice(apiserver=arguments.apiserver or launch.APISERVERS[0])) as lab:
        console.say(f"lab ready after {lab.ready_s:.1f} s")
        yield lab


def _wants_lab(plan: runs.RunPlan, arguments: argparse.Namespace) -> bool:
    """Say whether this run is for a lab: by ``--lab``, or because nothing names a cluster or an environment."""
    named = {
        "contexts": plan.value("contexts", []),
        "a kubeconfig": plan.value("kubeconfig", "") or arguments.kubeconfig,
    }
    if arguments.lab:
        if given := [what for what, value in named.items() if value and value != [*settings.DEFAULT_CONTEXTS]]:
            raise UsageError(f"--lab is for a lab, and {' and '.join(given)} were named")
        return True
    around = ("KUBECONFIG", *settings.CONTEXT_VARIABLES)
    return not (any(named.values()) or arguments.file or any(os.environ.get(name) for name in around))


def _named_clusters(plan: runs.RunPlan) -> list[dict[str, Any]]:
    """Return the clusters as ``place`` tells them; that they cannot be used is no finding, but the environment's."""
    from meshbook import mesh
    from meshbook.clusters import Fleet

    try:
        fleet = Fleet.connect(plan.value("contexts", []), plan.value("kubeconfig", ""), plan.value("names", {}))
        return [asdict(one) for one in mesh.places(fleet)]
    except UsageError as error:
        if error.hint and not plan.value("contexts", []):
            raise UsageError(error.message, **error.evidence, hint=f"{error.hint}; or --lab, for a lab") from error
        raise
    except MeshbookError as error:
        raise UsageError(f"nothing was started: {error}") from error


def _secrets(plan: runs.RunPlan, folder: Path) -> runs.Secrets:
    from meshbook.clusters import display_names

    contexts = settings.context_names(plan.value("contexts", []))
    kubeconfig = settings.kubeconfig_path(plan.value("kubeconfig", ""))
    projects = [plan.value("project", ""), os.environ.get(settings.HUB_PROJECT_VARIABLE, "")]
    given = plan.value("names", {})
    names = {context: name for context, name in display_names(contexts, given).items() if context not in given}
    return runs.gather_secrets(kubeconfig, root=folder.parent, contexts=contexts, names=names, extra_projects=projects)


def _afterwards(values: Mapping[str, Any]) -> Sequence[str]:
    """Restore what a notebook that broke off has left down; where nothing is, say that."""
    return restore_left_down(values) or ([] if values.get("dry_run") else ["nothing is left to restore"])


def restore_left_down(values: Mapping[str, Any], tell: Callable[[str], None] | None = None) -> Sequence[str]:
    """Restore what an outage left down in the clusters and the namespace that ``values`` name; ``tell`` of each try."""
    from meshbook import outage
    from meshbook.clusters import Fleet

    if values.get("dry_run"):
        return []
    fleet = Fleet.named(
        values.get("contexts", []), values.get("kubeconfig", ""), values.get("names")
    )  # one may not answer yet
    namespace, timeout_s = values.get("namespace", "sample"), float(values.get("rollout_timeout_s", 120.0))
    restored = outage.restore(fleet, namespace, timeout_s=timeout_s, force=bool(values.get("force")), tell=tell)
    return [str(one) for one in restored]
