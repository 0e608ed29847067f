"""The small verbs: restore, report, list, lab and the like. Each is one call into the package that does it."""

from __future__ import annotations

import argparse
import os
import re
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from meshbook.errors import UsageError
from meshbook.language import translate

if TYPE_CHECKING:
    from meshbook.lab.faults import FaultClient
    from meshbook.lab.launch import LabState

_WIDTH = 100
"""Columns of a line that is written over."""

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0}
_SLACK_S = 30.0


def restore(arguments: argparse.Namespace) -> int:
    """Restore what an interrupted outage left down, and say what that was; in a dry run only say it."""
    from meshbook import progress
    from meshbook.cli import run
    from meshbook.cli.console import Console

    console = Console()
    contexts = [name.strip() for name in arguments.contexts.split(",") if name.strip()]
    namespace = "" if arguments.all_namespaces else arguments.namespace
    given = {"contexts": contexts, "kubeconfig": arguments.kubeconfig, "namespace": namespace, "force": arguments.force}
    with progress.following(console.rewrite):
        lines = _pending_rollbacks(given) if arguments.dry_run else run.restore_left_down(given, console.say_above)
    place = f"namespace {namespace}" if namespace else "any namespace"
    _say("\n".join(lines) or f"nothing to restore in {place}")
    return 0


def _say(text: str) -> None:
    print(translate(text))


def _pending_rollbacks(given: Mapping[str, Any]) -> list[str]:
    from meshbook import outage
    from meshbook.clusters import Fleet

    where = given["contexts"], given["kubeconfig"]
    if down := outage.clusters_down(*where):
        return [*map(str, down), "whatever else is to be restored there is seen when it answers again"]
    return [
        str(one) for one in outage.pending_rollbacks(Fleet.connect(*where), given["namespace"], force=given["force"])
    ]


def rights(arguments: argparse.Namespace) -> int:
    """Print the ClusterRole and the Roles that suffice for stages, or their rights one by one."""
    import yaml

    from meshbook import rights as roles_of

    places = {name: getattr(arguments, name) for name in ("namespace", "gateway_namespace", "entry")}
    wanted = roles_of.needed(arguments.stage or roles_of.STAGES, **places)
    if arguments.output == "name":
        print("\n".join(map(str, wanted)))
    else:
        _say("\n".join(roles_of.namespaces(wanted)))
        print(yaml.safe_dump_all(roles_of.roles(wanted), sort_keys=False), end="")
    return 0


def report(arguments: argparse.Namespace) -> int:
    """Write the report of a folder; 0 when everything in it passed, else 1. Of a folder of runs, the page over them."""
    from meshbook import report as reporting
    from meshbook.cli.console import summarise

    folder: Path = arguments.folder
    if folder.is_dir() and not any(folder.glob("*.ipynb")) and any(folder.glob("*/*.ipynb")):
        _say(f"open {reporting.write_history(folder, arguments.language)}")
        return 0
    found = reporting.write(folder, language=arguments.language)
    summarise(found, str(folder), as_json=arguments.json)
    return 0 if found.outcome == "pass" else 1


def compare(arguments: argparse.Namespace) -> int:
    """Print two runs side by side; 1 when a verdict got worse."""
    from meshbook import report as reporting
    from meshbook.cli.console import coloured

    before, after = (reporting.collect(path) for path in (arguments.before, arguments.after))
    changes = reporting.changes(before, after)
    for line in reporting.differences(before, after):
        _say(line)
    for change in changes:
        print(coloured(change.after, str(change), sys.stdout) if change.is_changed else change)
    worse, changed = (sum(getattr(change, name) for change in changes) for name in ("is_worse", "is_changed"))
    looser = sum(change.is_looser for change in changes)
    told = f", {looser} had a looser limit" if looser else ""
    _say(f"\n{changed} of {len(changes)} verdicts changed, {worse} got worse{told}")
    return 1 if worse else 0


def lab_up(arguments: argparse.Namespace) -> int:
    """Start the lab of this user, or say that it is up."""
    from meshbook.lab import launch

    chosen = {"apiserver": arguments.apiserver, "fast": arguments.fast, "sidecars": arguments.sidecars}
    return _describe(launch.start(launch.default_root(), launch.Choice(**chosen, pod_start_s=arguments.pod_start)))


def lab_status(arguments: argparse.Namespace) -> int:
    """Say whether a lab is up; 1 when none is."""
    from meshbook.lab import launch

    return _describe(launch.state(launch.default_root()))


def _describe(lab: LabState | None) -> int:
    if lab is None:
        _say("no lab is up; meshbook lab up starts one")
        return 1
    contexts = ", ".join(lab.contexts)
    _say(f"the lab is up (process {lab.pid}, ready after {lab.ready_s:.1f} s)\ncontexts    {contexts}")
    _say(f'fleet API   {lab.fleet_url}\n\nfor kubectl and gcloud:  eval "$({_program()} lab env)"')
    return 0


def _program() -> str:
    """Return what this command was called by, so that what is printed can be pasted."""
    called = Path(sys.argv[0])
    return shlex.quote(sys.argv[0]) if called.stem == "meshbook" else f"{shlex.quote(sys.executable)} -m meshbook"


def lab_down(arguments: argparse.Namespace) -> int:
    """Stop the lab of this user and remove its files."""
    from meshbook.lab import launch

    _say("the lab is down" if launch.stop(launch.default_root()) else "no lab was up")
    return 0


def lab_build(arguments: argparse.Namespace) -> int:
    """Make the API servers of ``--apiserver real``; in a terminal one line tells how far it is."""
    from meshbook.lab.build import build

    cleared = "\r\x1b[2K" if sys.stderr.isatty() else ""

    def say(text: str, passing: bool) -> None:
        if cleared or not passing:
            sys.stderr.write(f"{cleared}{text[:_WIDTH]}" if passing else f"{cleared}{text}\n")
            sys.stderr.flush()

    build(os.environ, say)
    return 0


def lab_env(arguments: argparse.Namespace) -> int:
    """Print the shell's exports by which kubectl, gcloud and the article's commands reach the lab."""
    from meshbook.lab import launch

    found = launch.state(launch.default_root())
    if found is None:
        raise UsageError("no lab is up", hint="meshbook lab up")
    for name, value in launch.shell_environment(found.kubeconfig, found.contexts).items():
        print(f"export {name}={shlex.quote(value)}")
    return 0


def list_stages(arguments: argparse.Namespace) -> int:
    """Print each stage with the question that it asks, and whether ``meshbook run`` takes it unasked."""
    from meshbook import runs

    for stage in runs.stages(arguments.notebooks or runs.runbook_folder()):
        _say(f"{stage.name:20} {stage.title}" + ("   (only when named)" if stage.optional else ""))
    return 0


def completion(arguments: argparse.Namespace) -> int:
    """Print the script by which a shell completes this command: verbs, options, and files where one is wanted."""
    from meshbook.cli import parser

    try:
        import shtab
    except ImportError as error:
        raise UsageError("completion needs shtab", hint="pip install shtab") from error
    verbs = [parser()]
    for one in verbs:
        for action in one._actions:
            if isinstance(action, argparse._SubParsersAction):
                verbs += dict.fromkeys(action.choices.values())
            elif action.type is Path:
                action.complete = shtab.FILE  # type: ignore[attr-defined]
    print(shtab.complete(verbs[0], arguments.shell))
    return 0


def fault(arguments: argparse.Namespace) -> int:
    """Break or mend something, or list what is broken."""
    from meshbook.lab import launch
    from meshbook.lab.faults import FaultClient

    control = FaultClient.of(launch.default_root())
    if arguments.kind == "list":
        _say("\n".join(map(str, control.active())) or "nothing is broken")
    elif arguments.kind == "end":
        ended = [control.end(arguments.id)] if arguments.id else control.end_all()
        _say("\n".join(map(str, ended)) or "nothing was broken")
    else:
        _break(control, arguments)
    return 0


def _break(control: FaultClient, arguments: argparse.Namespace) -> None:
    from meshbook.lab.faults import KINDS, FaultSpec

    if arguments.kind not in KINDS:
        raise UsageError(f"there is no fault {arguments.kind!r}", hint=f"one of {', '.join((*KINDS, 'list', 'end'))}")
    if arguments.id or not arguments.context:
        raise UsageError(f"{arguments.kind} needs --context, the cluster to break something in, and no ID")
    names = ("kind", "context", "namespace", "pod", "selector", "container", "direction")
    for_s = seconds(arguments.duration) if arguments.duration else None
    record = control.begin(FaultSpec(**{name: getattr(arguments, name) for name in names}, for_s=for_s, by="command"))
    if for_s is None:
        _say(f"{record}\nto end it: meshbook lab fault end {record.id}" if record.is_on else str(record))
        return
    try:
        _say(str(control.wait(record.id, for_s + _SLACK_S)))
    except KeyboardInterrupt:
        _say(str(control.end(record.id)))
        raise


def seconds(text: str) -> float:
    """Read a duration as in ``200ms``, ``3s``, ``1m``; a bare number is seconds."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(ms|s|m)?", text.strip())
    if match is None:
        raise UsageError(f"cannot read the duration {text!r}", hint="200ms, 3s, 1m")
    return float(match[1]) * _UNITS[match[2] or "s"]
