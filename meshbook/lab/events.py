"""Events: what the parts of a control plane tell of objects, for ``kubectl describe``. Pure."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any

Object = dict[str, Any]


def event(
    subject: Object, *, reason: str, message: str, component: str, kind: str = "Normal", container: str = ""
) -> Object:
    """Return an Event on ``subject``, or on one of its containers; ``kind`` is ``Normal`` or ``Warning``.

    Its name carries the time, so that lists, which are ordered by name, are in the order of time.
    """
    metadata = subject["metadata"]
    namespace = metadata.get("namespace", "default")
    stamp = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    reference = {"apiVersion": subject["apiVersion"], "kind": subject["kind"], "name": metadata["name"]}
    reference |= {"uid": metadata["uid"], "resourceVersion": metadata["resourceVersion"]}
    reference |= {"namespace": metadata["namespace"]} if "namespace" in metadata else {}
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": f"{metadata['name']}.{time.time_ns():x}", "namespace": namespace},
        "involvedObject": reference | ({"fieldPath": f"spec.containers{{{container}}}"} if container else {}),
        "reason": reason,
        "message": message,
        "type": kind,
        "count": 1,
        "firstTimestamp": stamp,
        "lastTimestamp": stamp,
        "source": {"component": component},
        "reportingComponent": component,
        "reportingInstance": "",
    }
