"""The door: helpers of a runbook that proves a two-cloud service mesh works.

Start with the clusters, ask with a probe, judge what came back::

    from meshbook import Fleet, judge, probes

    fleet = Fleet.connect(["cluster1", "cluster2"])
    frame = probes.curl_from_pods(fleet, "http://helloworld.sample:5000/hello", requests=20)
    judge.answers_from_both(frame, ["v1", "v2"])

- ``Fleet`` and ``Cluster``: apply, scale, wait, exec over several contexts (``meshbook.clusters``).
- ``hub``: the fleet feature behind the MultiClusterIngress, and its VIP.
- ``probes``: curl from pods and from here, one row per transfer.
- ``outage``: take a workload away and always bring it back.
- ``ladder``: one kind of failure after the other, watched from everywhere; what each did to the service.
- ``judge`` and ``charts``: rows to verdicts, rows to figures.
- ``runs`` and ``report``: notebooks executed, their verdicts collected.
- ``MeshbookError``: base of all errors; ``UsageError``: the input is at fault.

Nothing is imported until a name is used, so a process that needs one small module pays for that one only.
"""

from __future__ import annotations

import importlib
from typing import Any

_NAMES = {"Cluster": "clusters", "Fleet": "clusters", "MeshbookError": "errors", "UsageError": "errors"}
_ROOMS = ("charts", "hub", "judge", "ladder", "outage", "probes", "report", "runs")

__all__ = ["Cluster", "Fleet", "MeshbookError", "UsageError", "charts", "hub", "judge", "ladder", "outage"]
__all__ += ["probes", "report", "runs"]


def __getattr__(name: str) -> Any:
    if name in _NAMES:
        return getattr(importlib.import_module(f"meshbook.{_NAMES[name]}"), name)
    if name in _ROOMS:
        return importlib.import_module(f"meshbook.{name}")
    raise AttributeError(f"module 'meshbook' has no attribute {name!r}; it has {', '.join(__all__)}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
