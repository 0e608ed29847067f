"""The mode that takes a whole cluster away, API server and pods: only a lab can do that, and only a lab may.

The lab is asked for its fault ``cluster-down`` with a short lease that is renewed as long as this process lives: when
it is killed, the lab brings the cluster back by itself within ``LEASE_S``. Where to ask stands in the kubeconfig.
"""

from __future__ import annotations

import json
import threading
import urllib.error
import urllib.request
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from meshbook.clusters import Cluster, is_loopback
from meshbook.errors import OutageError
from meshbook.outage.intent import Intent
from meshbook.outage.records import Check, Outage, PendingRollback, Restored
from meshbook.outage.subjects import Subject

EXTENSION = "meshbook.io/lab"
OWNER = "outage"
"""Says on the lab's list of faults whose they are."""

LEASE_S = 10.0
RENEW_S = 2.0
TIMEOUT_S = 30.0


class ClusterDown:
    """The whole cluster falls silent: requests to its API server and its pods get no answer."""

    about = "let the whole cluster fall silent, API server and pods (a lab only)"
    undone = f"at the end however it comes, and by the lab itself when this process is gone for {LEASE_S:g} s"
    subjects: tuple[Subject, ...] = ()

    def __init__(self, intent: Intent) -> None:
        self.intent = intent
        self._lab = Lab(intent.cluster)
        self._fault = ""
        self._ended = threading.Event()

    def changes(self) -> list[str]:
        return [f"{self.intent.cluster.name}: API server and all pods fall silent"]

    def checks(self) -> list[Check]:
        saw = "the lab can do it" if self._lab.is_there else "no API can take a whole cluster away: only a lab can"
        return [Check(name="it can be done here", ok=self._lab.is_there, saw=saw)]

    def take(self, outage: Outage) -> None:
        outage.down_requested = datetime.now(UTC)
        wanted = {"kind": "cluster-down", "context": self._lab.cluster, "for_s": LEASE_S, "by": OWNER}
        self._fault = self._lab.ask("POST", "/faults", wanted)["id"]
        outage.down_accepted = outage.down = datetime.now(UTC)
        threading.Thread(target=self._renew, name=f"lease of {self._fault}", daemon=True).start()

    def bring_back(self, outage: Outage) -> None:
        self._ended.set()
        outage.restore_requested = datetime.now(UTC)
        self._lab.end_all()
        outage.restore_accepted = datetime.now(UTC)
        cluster, intent = self.intent.cluster, self.intent
        cluster.wait_for_rollout(intent.namespace, [intent.deployment], timeout_s=intent.timeout_s)
        outage.ready_again = datetime.now(UTC)

    def _renew(self) -> None:
        while not self._ended.wait(RENEW_S):
            try:
                self._lab.ask("POST", f"/faults/{self._fault}/renew", {"for_s": LEASE_S})
            except OutageError:
                return  # the lab has ended it, or is gone


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

    def end_all(self) -> list[Restored]:
        """Bring back what outages have taken away from the lab, whoever's they were."""
        ended = self.ask("DELETE", f"/faults?by={OWNER}")
        return [
            Restored(context=self._name, namespace="", kind="Cluster", name=one["context"], outcome="restored")
            for one in ended
        ]

    def away(self) -> list[PendingRollback]:
        """Return what outages have taken away from the lab, whoever's they are."""
        found = [one for one in self.ask("GET", "/faults") if one["by"] == OWNER]
        return [
            PendingRollback(
                context=self._name,
                namespace="",
                kind="Cluster",
                name=one["context"],
                mode=one["kind"],
                run="",
                since=str(one["began"]["not_after"]["wall"]),
                restore="to be restored",
            )
            for one in found
        ]

    def ask(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """Send one request; OutageError says what the lab did not like."""
        if not self.is_there:
            raise OutageError(f"{self._name} is no cluster of a lab: no API can take a whole cluster away")
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
