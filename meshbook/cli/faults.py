"""``meshbook lab fault``: break something in the lab, for a time, and say when it was really broken."""

from __future__ import annotations

import argparse
import re
from typing import TYPE_CHECKING

from meshbook.errors import UsageError

if TYPE_CHECKING:
    from meshbook.lab.faults import FaultClient

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0}
_SLACK_S = 30.0


def add(parser: argparse.ArgumentParser) -> None:
    """Add the options of the verb."""
    parser.add_argument(
        "kind", metavar="KIND", help="freeze, refuse, kill, unready, link-cut or cluster-down; or list, or end"
    )
    parser.add_argument("id", nargs="?", default="", metavar="ID", help="with end: the fault (default: all)")
    parser.add_argument("--context", default="", metavar="NAME", help="the cluster")
    parser.add_argument("--namespace", "-n", default="sample", help="default: sample")
    parser.add_argument("--pod", default="", metavar="NAME")
    parser.add_argument("--selector", "-l", default="", metavar="KEY=VALUE", help="pods with these labels")
    parser.add_argument("--container", "-c", default="", metavar="NAME", help="default: all but proxies")
    parser.add_argument("--direction", default="both", help="link-cut: in, out or both (default)")
    parser.add_argument("--for", dest="duration", default="", metavar="TIME", help="3s, 200ms, 1m; default: until end")


def fault(arguments: argparse.Namespace) -> int:
    """Break or mend something, or list what is broken."""
    from meshbook.lab import launch
    from meshbook.lab.faults import FaultClient

    control = FaultClient.of(launch.default_root())
    if arguments.kind == "list":
        active = control.active()
        print("\n".join(f"{one.id}  {one.kind:12}  {', '.join(one.targets)}" for one in active) or "nothing is broken")
    elif arguments.kind == "end":
        ended = [control.end(arguments.id)] if arguments.id else control.end_all()
        print("\n".join(map(str, ended)) or "nothing was broken")
    else:
        _break(control, arguments)
    return 0


def _break(control: FaultClient, arguments: argparse.Namespace) -> None:
    from meshbook.lab.faults import FaultSpec

    if arguments.id or not arguments.context:
        raise UsageError(f"{arguments.kind} needs --context, the cluster to break something in, and no ID")
    names = ("kind", "context", "namespace", "pod", "selector", "container", "direction")
    for_s = seconds(arguments.duration) if arguments.duration else None
    record = control.begin(FaultSpec(**{name: getattr(arguments, name) for name in names}, for_s=for_s, by="command"))
    if for_s is None:
        print(record if not record.is_on else f"{record}\nto end it: meshbook lab fault end {record.id}")
        return
    try:
        print(control.wait(record.id, for_s + _SLACK_S))
    except KeyboardInterrupt:
        print(control.end(record.id))
        raise


def seconds(text: str) -> float:
    """Read a duration as in ``200ms``, ``3s``, ``1m``; a bare number is seconds."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(ms|s|m)?", text.strip())
    if match is None:
        raise UsageError(f"cannot read the duration {text!r}", hint="200ms, 3s, 1m")
    return float(match[1]) * _UNITS[match[2] or "s"]
