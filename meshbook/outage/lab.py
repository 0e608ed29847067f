"""What only a cluster of a lab has: nodes that say so, and a control channel that takes the whole cluster down.

Where to ask stands in the kubeconfig, as for any client. On a cloud all of this is absent.
"""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from meshbook.clusters import Cluster, is_loopback, pause
from meshbook.errors import ClusterError, LeftToRunError, OutageError
from meshbook.objects import LAB_LABEL, labels_of
from meshbook.outage.records import PendingRollback, Restored

EXTENSION = "meshbook.io/lab"
OWNER = "outage"
"""Says on the lab's list of faults whose they are."""
TIMEOUT_S = 30.0
_LOOK_S, _SLACK_S = 0.1, 0.5
"""Seconds between two looks at what the lab holds down, and that it may take to end what nobody renews."""


def is_lab(cluster: Cluster) -> bool:
    """Tell whether a cluster serves nobody: its API server is this machine, and all its nodes say that it is a lab."""
    if not is_loopback(cluster.connection.server):
        return False
    try:
        nodes = cluster.list("Node")
    except ClusterError as error:
        if error.code not in (401, 403, 404):
            raise
        return False
    return bool(nodes) and all(LAB_LABEL in labels_of(node) for node in nodes)


class Lab:
    """The control channel of the lab that a cluster belongs to, if it says that it belongs to one."""

    def __init__(self, cluster: Cluster) -> None:
        found = cluster.extension(EXTENSION)
        self._name = cluster.name
        self._url, self._token_file = str(found.get("endpoint", "")), str(found.get("token-file", ""))
        self.cluster = str(found.get("cluster", ""))
        """The lab's own name for the cluster."""

    @property
    def is_there(self) -> bool:
        return bool(self._url and self.cluster) and is_loopback(self._url) and Path(self._token_file).is_file()

    def restore_clusters(self, force: bool = False) -> list[Restored]:
        """Have all clusters of the lab answer again that outages have taken down and no living run holds down.

        A run that lives renews what it asked for: that is still on when its time is over, and told by
        LeftToRunError, unless ``force`` is set.
        """
        found = self._down()
        leased = {one["id"]: float(one["for_s"]) for one in found if one["for_s"] is not None}
        deadline = time.monotonic() + (0.0 if force else max(leased.values(), default=0.0) + _SLACK_S)
        while (left := leased.keys() & {one["id"] for one in self._down()}) and time.monotonic() < deadline:
            pause(_LOOK_S)
        if left and not force:
            raise LeftToRunError(
                f"{self._name}: a run that is alive holds {', '.join(one['context'] for one in found)} down",
                hint="that run restores it itself: wait until it has ended; "
                "meshbook restore --force ends its outage under its hands",
            )
        for one in found:
            self.ask("DELETE", f"/faults/{one['id']}")  # that it has ended already is no error
        return [
            Restored(context=self._name, namespace="", kind="Cluster", name=one["context"], outcome="restored")
            for one in found
        ]

    def _down(self) -> list[Any]:
        return [one for one in self.ask("GET", "/faults") if one["by"] == OWNER]

    def clusters_down(self) -> list[PendingRollback]:
        """Return the clusters of the lab that outages have taken down, whoever's they are."""
        return [
            PendingRollback(
                context=self._name,
                namespace="",
                kind="Cluster",
                name=one["context"],
                mode=one["kind"],
                run="",
                since=str(one["began"]["not_after"]["wall"]),
                restore="to be restored, unless its run is alive",
            )
            for one in self._down()
        ]

    def ask(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """Send one request; OutageError says what the lab did not like."""
        if not self.is_there:
            raise OutageError(f"{self._name} is no cluster of a lab: no API can take a whole cluster down")
        headers = {"Authorization": f"Bearer {Path(self._token_file).read_text()}"}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self._url + path, data, headers, method=method)
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with direct.open(request, timeout=TIMEOUT_S) as answer:
                return json.loads(answer.read())
        except urllib.error.HTTPError as error:
            with error:
                message = json.loads(error.read() or b"{}").get("message", error.reason)
            raise OutageError(f"{self._name}: the lab refuses: {message}") from error
        except (OSError, ValueError) as error:
            raise OutageError(f"{self._name}: the lab does not answer: {error}", hint="meshbook lab status") from error
