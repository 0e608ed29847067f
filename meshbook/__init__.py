"""Helpers of a runbook that proves a two-cloud service mesh works.

Start with the clusters, ask with a probe, judge what came back::

    from meshbook import Fleet, analysis, probes

    fleet = Fleet.connect(["cluster1", "cluster2"])
    frame = probes.curl_from_pods(fleet, "http://helloworld.sample:5000/hello", requests=20)
    analysis.all_answered(frame)

- ``Fleet`` and ``Cluster``: apply, scale, wait, exec over several contexts.
- ``gkehub``: the fleet's ingress feature behind the MultiClusterIngress, and its VIP.
- ``entries``: the addresses by which requests from outside come in.
- ``probes``: curl from pods and from here, one row per request.
- ``mesh``: how a mesh is configured to share requests out, and why a cluster does not answer.
- ``outage``: scale a workload down and always restore it.
- ``experiment``: failure modes, one after the other, watched from everywhere; what each did to the service.
- ``analysis`` and ``charts``: rows to verdicts, rows to figures.
- ``notebook``: what a notebook shows and leaves in its own outputs.
- ``runs`` and ``report``: notebooks executed, their verdicts collected.
- ``MeshbookError``: base of all errors; ``UsageError``: the input is at fault.

Nothing is imported until a name is used, so a process that needs one small module pays for that one only.
"""

from __future__ import annotations

import importlib
from typing import Any

_NAMES = {"Cluster": "clusters", "Fleet": "clusters", "MeshbookError": "errors", "UsageError": "errors"}

__all__ = ["Cluster", "Fleet", "MeshbookError", "UsageError", "analysis", "charts", "entries", "experiment", "gkehub"]
__all__ += ["mesh", "notebook", "outage", "probes", "report", "runs"]
_PACKAGES = frozenset(__all__) - _NAMES.keys()


def __getattr__(name: str) -> Any:
    if name in _NAMES:
        return getattr(importlib.import_module(f"meshbook.{_NAMES[name]}"), name)
    if name in _PACKAGES:
        return importlib.import_module(f"meshbook.{name}")
    raise AttributeError(f"module 'meshbook' has no attribute {name!r}; it has {', '.join(__all__)}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
