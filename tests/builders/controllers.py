"""Plays the controllers of one cluster, for tests of the helpers that need no lab."""

from __future__ import annotations

import threading
from typing import Any, Self

from meshbook.clusters import Cluster, Object
from meshbook.objects import is_deleting, selector_text


class Controllers:
    """Makes and ends the pods of Deployments, fills the endpoints of Services, and ends namespaces.

    ``slow_s`` delays what it does; with ``fails`` no pod ever becomes ready.
    """

    def __init__(self, cluster: Cluster, *, fails: bool = False, slow_s: float = 0.0) -> None:
        self._cluster, self._fails, self._slow_s = cluster, fails, slow_s
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._work, name=f"controllers of {cluster.name}")
        self._made = 0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join(10)

    def _work(self) -> None:
        while not self._stopped.wait(0.01):
            for deployment in self._cluster.list("Deployment"):
                self._roll_out(deployment)
            for service in self._cluster.list("Service"):
                self._fill(service)
            for namespace in self._cluster.list("Namespace"):
                if is_deleting(namespace):
                    self._stopped.wait(self._slow_s)
                    path = f"/api/v1/namespaces/{namespace['metadata']['name']}/finalize"
                    self._cluster.connection.request("PUT", path, body=namespace | {"spec": {"finalizers": []}})

    def _roll_out(self, found: Object) -> None:
        name, namespace, spec = found["metadata"]["name"], found["metadata"]["namespace"], found["spec"]
        wanted, pods = spec["replicas"], self._pods(namespace, spec["selector"])
        for pod in pods[wanted:]:
            self._cluster.delete_object("Pod", pod["metadata"]["name"], namespace)
        for _ in range(wanted - len(pods)):
            self._made += 1
            head = {"name": f"{name}-{self._made}", "labels": spec["template"]["metadata"]["labels"]}
            self._cluster.create("Pod", {"metadata": head | {"namespace": namespace}, "spec": spec["template"]["spec"]})
            self._report("Pod", head["name"], namespace, self._pod_status())
        ready = 0 if self._fails else wanted
        status = {"replicas": wanted, "updatedReplicas": wanted, "readyReplicas": ready, "availableReplicas": ready}
        status |= {"observedGeneration": found["metadata"]["generation"]}
        if (found.get("status") or {}) != status:
            self._stopped.wait(self._slow_s)
            self._report("Deployment", name, namespace, status)

    def _pod_status(self) -> Object:
        if self._fails:
            state = {"waiting": {"reason": "ErrImagePull", "message": "no such image"}}
            return {"phase": "Pending", "containerStatuses": [{"name": "app", "state": state, "ready": False}]}
        return {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}

    def _fill(self, service: Object) -> None:
        name, namespace = service["metadata"]["name"], service["metadata"]["namespace"]
        selector = service["spec"].get("selector")
        pods = self._pods(namespace, {"matchLabels": selector}) if selector else []
        endpoints = [{"addresses": [f"10.0.0.{n}"], "conditions": {"ready": True}} for n, _ in enumerate(pods, 1)]
        head = {"name": f"{name}-1", "namespace": namespace, "labels": {"kubernetes.io/service-name": name}}
        piece = self._cluster.find("EndpointSlice", head["name"], namespace)
        if piece is None:
            body = {"metadata": head, "addressType": "IPv4", "endpoints": endpoints, "ports": []}
            self._cluster.create("EndpointSlice", body)
        elif len(piece.get("endpoints") or []) != len(endpoints):
            self._cluster.patch("EndpointSlice", head["name"], {"endpoints": endpoints}, namespace=namespace)

    def _pods(self, namespace: str, selector: Any) -> list[Object]:
        found = self._cluster.list("Pod", namespace, labels=selector_text(selector))
        return [pod for pod in found if not is_deleting(pod)]

    def _report(self, kind: str, name: str, namespace: str, status: Object) -> None:
        self._cluster.patch(kind, name, {"status": status}, namespace=namespace, subresource="status")
