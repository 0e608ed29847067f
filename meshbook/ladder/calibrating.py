"""The measurement's own error: the application frozen everywhere for a known time, and what was measured of that.

Only a lab can freeze it, and says to the millisecond when it did. Elsewhere this step is left out: an outage that
somebody makes for it would be a real one. Holding the windows against the truth is ``windows.calibrate``'s work.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import pandas as pd

from meshbook import probes, tables, windows
from meshbook.clusters.together import pause
from meshbook.errors import OutageError, UsageError
from meshbook.ladder.rungs import Pace, Scene
from meshbook.outage.silence import Lab
from meshbook.windows import Fault

_OWNER = "calibration"
_SLACK_S = 20.0
_POLL_S = 0.05
_LULL_S = 1.0
"""Seconds after each freeze, and before the first one, so that its edges stand alone."""


def calibrate(scene: Scene, pace: Pace, lengths_s: Sequence[float]) -> pd.DataFrame:
    """Freeze the application in all clusters for each of ``lengths_s``; return CALIBRATION, empty without lengths."""
    if not lengths_s:
        return tables.empty(tables.CALIBRATION)
    if not all(Lab(cluster).is_there for cluster in scene.fleet):
        raise UsageError("only a lab can be frozen for a calibration", hint="calibrate: false on real clusters")
    pacing = {"rate_per_s": pace.rate_per_s, "timeout_s": pace.timeout_s}
    with probes.watch(scene.fleet, scene.outside, scene.inside, namespace=scene.namespace, **pacing) as watch:
        pause(_LULL_S + pace.before_s)
        faults = [_frozen(scene, length_s) for length_s in lengths_s]
        answers = watch.stop()
    return windows.calibrate(answers, faults)


def _frozen(scene: Scene, length_s: float) -> Fault:
    """Freeze all at once, wait until it is over, and return when it was: in truth between the stamps of all."""
    wanted = {"kind": "freeze", "namespace": scene.namespace, "selector": f"app={scene.service}", "by": _OWNER}

    def freeze(cluster: Any) -> Mapping[str, Any]:
        lab = Lab(cluster)
        record = lab.ask("POST", "/faults", {**wanted, "context": lab.cluster, "for_s": length_s})
        return _ended(lab, str(record["id"]), length_s)

    records = list(scene.fleet.each(freeze).values())
    pause(_LULL_S)
    start, start_error_s = _between([record["began"] for record in records])
    end, end_error_s = _between([record["ended"] for record in records])
    name = f"frozen for {length_s:g} s"
    return Fault(name=name, start=start, end=end, error_ms=1000 * max(start_error_s, end_error_s))


def _ended(lab: Lab, fault: str, length_s: float) -> Mapping[str, Any]:
    deadline = time.monotonic() + length_s + _SLACK_S
    while True:
        record: Mapping[str, Any] = lab.ask("GET", f"/faults/{fault}")
        if record.get("ended"):
            return record
        if time.monotonic() > deadline:
            raise OutageError(f"the lab's fault {fault} has not ended", hint="meshbook lab fault end")
        pause(_POLL_S)


def _between(edges: Sequence[Mapping[str, Any]]) -> tuple[datetime, float]:
    """Return the middle of all moments that an edge may be, and half of their spread in seconds."""
    first = min(datetime.fromisoformat(edge["not_before"]["wall"]) for edge in edges)
    last = max(datetime.fromisoformat(edge["not_after"]["wall"]) for edge in edges)
    return first + (last - first) / 2, (last - first).total_seconds() / 2
