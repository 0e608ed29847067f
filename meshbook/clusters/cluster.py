"""One cluster with kubectl's verbs. Each method is one sentence of the runbook; the how is in the modules beside it.

Single objects are got, listed and patched by the inherited ``Api``. Several clusters at once are a ``Fleet``.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Collection, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from meshbook import manifests
from meshbook.clusters import applying, following, waiting
from meshbook.clusters.api import Api, kind_of
from meshbook.clusters.connection import Connection
from meshbook.clusters.execution import Command, ExecStreams, Execution, OnLine
from meshbook.clusters.following import Listing, Scope, WatchEvent
from meshbook.clusters.kubeconfig import Kubeconfig
from meshbook.clusters.records import Access, Applied, DeploymentState, ExecResult, Object
from meshbook.errors import ClusterError, UsageError
from meshbook.settings import FIELD_MANAGER, Patience

T = TypeVar("T")

OWNER_LABEL = {"app.kubernetes.io/managed-by": FIELD_MANAGER}
"""Marks namespaces that meshbook made, and so may delete."""


class Cluster(Api):
    """One context of a kubeconfig; ``name`` is the context's name. Threads may share it."""

    def __init__(self, kubeconfig: Kubeconfig, context: str, patience: Patience | None = None) -> None:
        super().__init__(Connection(kubeconfig, context, patience or Patience()))
        self._kubeconfig = kubeconfig

    def __repr__(self) -> str:
        return f"Cluster({self.name!r})"

    def version(self) -> str:
        """Return the API server's version, as ``v1.33.1``."""
        return str(self.connection.request("GET", "/version")[1].get("gitVersion", ""))

    def uid(self) -> str:
        """Return what identifies the cluster whatever its address; empty where this user may not see it."""
        for namespace in ("kube-system", "default"):
            try:
                return str(self.get("Namespace", namespace)["metadata"].get("uid", ""))
            except ClusterError as error:
                if error.code not in (403, 404):
                    raise
        return ""

    def extension(self, name: str) -> dict[str, Any]:
        """Return extension ``name`` of the kubeconfig's cluster entry; empty when there is none."""
        return self._kubeconfig.extension(self.name, name)

    def can_i(self, verb: str, resource: str, namespace: str = "") -> Access:
        """Ask whether this user may ``verb`` a ``resource``, written as for kubectl: ``deployments.apps/scale``."""
        full, _, subresource = resource.partition("/")
        plural, _, group = full.partition(".")
        wanted = {"verb": verb, "resource": plural, "group": group, "subresource": subresource, "namespace": namespace}
        review = {"spec": {"resourceAttributes": {key: value for key, value in wanted.items() if value}}}
        status = self.create("SelfSubjectAccessReview", review).get("status") or {}
        allowed, reason = bool(status.get("allowed")), str(status.get("reason", ""))
        return Access(
            context=self.name, verb=verb, resource=resource, namespace=namespace, allowed=allowed, reason=reason
        )

    def apply(self, path: str | Path, namespace: str = "", selector: str = "", *, force: bool = False) -> list[Applied]:
        """Apply a manifest file or folder server-side; ``selector`` picks objects as ``kubectl -l`` does.

        ``force`` takes over fields that another manager owns. All is validated by the server before the first change.
        """
        chosen = manifests.select(manifests.load(path), selector)
        if not chosen:
            raise UsageError(f"nothing in {path} has the labels {selector!r}")
        return applying.apply(self, applying.place(self, chosen, namespace), force=force)

    def delete(
        self, path: str | Path, namespace: str = "", selector: str = "", *, timeout_s: float = 120
    ) -> list[Applied]:
        """Delete what a manifest file or folder describes and wait until it is gone; what is not there is skipped."""
        chosen = manifests.select(manifests.load(path), selector)
        known = [found for found in chosen if self._has_kind(found)]
        records = applying.delete(self, applying.place(self, known, namespace), timeout_s)
        return records + [applying.record(self, found, "not found") for found in chosen if found not in known]

    def _has_kind(self, found: Object) -> bool:
        try:
            self.resource(kind_of(found))
        except ClusterError as error:
            if error.code != 404:
                raise
            return False
        return True

    def create_namespace(self, name: str, *, revision: str = "", timeout_s: float = 120) -> Applied:
        """Create namespace ``name`` and have the mesh's ``revision`` inject sidecars into its pods.

        A namespace that is there keeps its other labels. One that is being deleted is waited for first.
        """
        found = self.find("Namespace", name)
        if found and found["metadata"].get("deletionTimestamp"):
            waiting.gone(self, "Namespace", name, "", found["metadata"]["uid"], timeout_s)
            found = None
        labels: dict[str, str | None] = {"istio-injection": None, "istio.io/rev": revision} if revision else {}
        subject = {"kind": "Namespace", "metadata": {"name": name}}
        if found is None:
            given = {**OWNER_LABEL, **{key: value for key, value in labels.items() if value}}
            self.create("Namespace", {"metadata": {"name": name, "labels": given}})
            return applying.record(self, subject, "created")
        present = found["metadata"].get("labels") or {}
        if all(present.get(key) == value for key, value in labels.items()):
            return applying.record(self, subject, "unchanged")
        self.patch("Namespace", name, {"metadata": {"labels": labels}})
        return applying.record(self, subject, "configured")

    def delete_namespace(self, name: str, *, force: bool = False, timeout_s: float = 180) -> Applied:
        """Delete a namespace with all its objects and wait until it is gone; without ``force`` only meshbook's own."""
        subject = {"kind": "Namespace", "metadata": {"name": name}}
        found = self.find("Namespace", name)
        if found is None:
            return applying.record(self, subject, "not found")
        labels = found["metadata"].get("labels") or {}
        if not force and not OWNER_LABEL.items() <= labels.items():
            raise UsageError(
                f"{self.name}: namespace {name} was not made by meshbook and is left alone",
                hint="delete its objects by their manifests, or force=True to delete all of it",
            )
        self.delete_object("Namespace", name)
        waiting.gone(self, "Namespace", name, "", found["metadata"]["uid"], timeout_s)
        return applying.record(self, subject, "deleted")

    def scale(self, deployment: str, replicas: int, namespace: str) -> int:
        """Set a Deployment's replica count and return the former one; does not wait."""
        resource = self.resource("Deployment")
        path = resource.path(namespace, deployment, "scale")
        before = int((self.connection.request("GET", path)[1].get("spec") or {}).get("replicas", 0))
        self.patch("Deployment", deployment, {"spec": {"replicas": replicas}}, namespace=namespace, subresource="scale")
        return before

    def deployments(self, namespace: str) -> list[DeploymentState]:
        """Return the Deployments of a namespace with their replica counts, as ``kubectl get deploy`` does."""
        return [DeploymentState.of(self.name, found) for found in self.list("Deployment", namespace)]

    def wait_for_rollout(
        self, namespace: str, names: Collection[str] = (), *, timeout_s: float = 180
    ) -> list[DeploymentState]:
        """Wait until the namespace's Deployments (or those in ``names``) are rolled out and available."""
        return waiting.rollout(self, namespace, names, timeout_s)

    def wait_for(
        self, kind: str, name: str, namespace: str, until: Callable[[Object], bool], *, timeout_s: float = 60
    ) -> Object:
        """Wait until the object is there and ``until`` holds of it; return it."""
        return waiting.for_object(self, kind, name, namespace, until, timeout_s)

    def wait_for_kinds(self, kinds: Collection[str], *, timeout_s: float) -> None:
        """Wait until the cluster serves all ``kinds``, as after a feature that brings its own has been enabled."""
        waiting.for_kinds(self, kinds, timeout_s)

    def ready_pod(self, selector: str, namespace: str) -> str:
        """Return the name of the first ready pod that the label ``selector`` admits."""
        pods = sorted(self.list("Pod", namespace, labels=selector), key=lambda pod: str(pod["metadata"]["name"]))
        for pod in pods:
            if waiting.is_ready(pod):
                return str(pod["metadata"]["name"])
        seen = "\n    ".join(map(waiting.describe_pod, pods)) or "no pod has these labels"
        raise ClusterError(
            f"{self.name}: no pod {selector} is ready in {namespace}", pods=seen, hint="wait_for_rollout first"
        )

    def exec(
        self,
        pod: str,
        command: Sequence[str] | str,
        *,
        namespace: str,
        container: str = "",
        timeout_s: float = 60,
        on_line: OnLine | None = None,
    ) -> ExecResult:
        """Run ``command`` in a pod and return its output and exit code; a code other than 0 is no error.

        A text is cut into words as by a shell, without running one. ``on_line`` gets each line of stdout with the UTC
        time of its arrival. ExecError, with the output so far, when it cannot start, outlasts ``timeout_s`` or is cut.
        """
        argv = shlex.split(command) if isinstance(command, str) else list(command)
        what = Command(pod=pod, namespace=namespace, container=container, argv=argv)
        return Execution(self, what, on_line).run(timeout_s)

    def exec_interactive(
        self,
        pod: str,
        command: Sequence[str],
        streams: ExecStreams,
        *,
        namespace: str,
        container: str = "",
        timeout_s: float = 60,
    ) -> ExecResult:
        """Run ``command`` in a pod as ``exec`` does, with ``streams`` at its stdin and stdout."""
        what = Command(pod=pod, namespace=namespace, container=container, argv=command, stdin=True)
        return Execution(self, what, streams.on_line, streams.stdin).run(timeout_s)

    def wait_until(self, what: str, look: Callable[[], tuple[T | None, str]], timeout_s: float, hint: str = "") -> T:
        """Look until ``look`` returns something other than None beside what it saw; WaitTimeout tells the latter."""
        return waiting.until(self, what, look, timeout_s, hint)

    def wait_for_deletion(self, kind: str, name: str, namespace: str, uid: str, timeout_s: float) -> None:
        """Wait until the object with this ``uid`` is gone; a new one of the same name counts as gone."""
        waiting.gone(self, kind, name, namespace, uid, timeout_s)

    def list_once(self, scope: Scope, timeout_s: float) -> Listing:
        """List in one page and one try, so that its times mean something; ClusterError after ``timeout_s``."""
        return following.listing(self, scope, timeout_s)

    def watch(self, scope: Scope, resource_version: str, length_s: int) -> Iterator[WatchEvent]:
        """Yield what happens to the objects after ``resource_version`` for ``length_s``; ClusterError when it breaks.

        Its code is 410 when the API server has forgotten what came after that version: list again.
        """
        return following.news(self, scope, resource_version, length_s)

    def logs(self, pod: str, namespace: str, *, container: str, since: datetime | None = None) -> str:
        """Return what a container has written (since a moment, where given), as ``kubectl logs`` does."""
        return following.log(self, pod, namespace, container=container, since=since)
