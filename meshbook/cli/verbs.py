"""The small verbs: restore, report, lab, version. Each is one call into the room that does it."""

from __future__ import annotations

import argparse
import platform
import shlex
from collections.abc import Mapping
from importlib.metadata import version as version_of
from pathlib import Path
from typing import Any

from meshbook.errors import UsageError


def restore(arguments: argparse.Namespace) -> int:
    """Restore what an interrupted outage left down, and say what that was; in a dry run only say it."""
    from meshbook.cli import run

    contexts = [name.strip() for name in arguments.contexts.split(",") if name.strip()]
    namespace = "" if arguments.all_namespaces else arguments.namespace
    given = {"contexts": contexts, "kubeconfig": arguments.kubeconfig, "namespace": namespace, "force": arguments.force}
    lines = _pending_rollbacks(given) if arguments.dry_run else run.restore(given)
    place = f"namespace {namespace}" if namespace else "any namespace"
    print("\n".join(lines) or f"nothing to restore in {place}")
    return 0


def _pending_rollbacks(given: Mapping[str, Any]) -> list[str]:
    from meshbook import outage
    from meshbook.clusters import Fleet

    where = given["contexts"], given["kubeconfig"]
    if down := outage.clusters_down(*where):
        return [*map(str, down), "whatever else is to be restored there is seen when it answers again"]
    return [str(one) for one in outage.pending_rollbacks(Fleet.connect(*where), given["namespace"])]


def report(folder: Path) -> int:
    """Write the report of a folder; 0 when everything in it passed, else 1."""
    from meshbook import report as reporting
    from meshbook.cli.console import summarise

    found = reporting.write(folder)
    summarise(found, str(folder))
    return 0 if found.outcome == "pass" else 1


def lab(arguments: argparse.Namespace) -> int:
    """Start, show or stop the lab of this user; status gives 1 when none is up."""
    from meshbook.lab import launch

    root = launch.default_root()
    if arguments.action == "down":
        print("the lab is down" if launch.stop(root) else "no lab was up")
        return 0
    if arguments.action == "up":
        found: launch.LabState | None = launch.start(root, apiserver=arguments.apiserver, fast=arguments.fast)
    else:
        found = launch.state(root)
    if found is None:
        print("no lab is up; meshbook lab up starts one")
        return 1
    contexts = ", ".join(found.contexts)
    print(f"the lab is up (process {found.pid}, ready after {found.ready_s:.1f} s)\ncontexts    {contexts}")
    print(f'fleet API   {found.fleet_url}\n\nfor kubectl and gcloud:  eval "$(meshbook lab env)"')
    return 0


def lab_env() -> int:
    """Print the shell's exports by which kubectl, gcloud and the article's commands reach the lab."""
    from meshbook.lab import launch

    found = launch.state(launch.default_root())
    if found is None:
        raise UsageError("no lab is up", hint="meshbook lab up")
    for name, value in launch.shell_environment(found.kubeconfig, found.contexts).items():
        print(f"export {name}={shlex.quote(value)}")
    return 0


def version() -> int:
    """Print versions, as a bug report needs them."""
    print(f"meshbook {version_of('meshbook')} (Python {platform.python_version()}, {platform.system()})")
    return 0
