"""One cluster with kubectl's verbs. Each method is one sentence of the runbook.

Single objects are got, listed, patched and waited for by the inherited ``Api``; how a command's output is read is
in ``execution``, how a rollout is followed in ``rollout``. Several clusters at once are a ``Fleet``.
"""

from __future__ import annotations

import os
import shlex
import time
from collections.abc import Collection, Container, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from meshbook import manifests, progress
from meshbook.clusters import conflicts
from meshbook.clusters.api import Api, key_of, kind_of
from meshbook.clusters.connection import APPLY, Connection
from meshbook.clusters.execution import PODS, ExecResult, ExecStreams, Execution, OnLine
from meshbook.clusters.kubeconfig import Kubeconfig, extension
from meshbook.clusters.names import display_names
from meshbook.clusters.records import Applied, ApplyOutcome, DeploymentState
from meshbook.clusters.rollout import follow
from meshbook.errors import ClusterError, UsageError, WaitTimeout
from meshbook.objects import (
    INJECTION_LABEL,
    REVISION_LABEL,
    Object,
    describe_pod,
    injecting_revision,
    is_deleting,
    is_ready,
    labels_of,
    revisions,
    selector_text,
    timestamp,
)
from meshbook.settings import FIELD_MANAGER, OWNER_LABEL, Patience

_VOLATILE = {"resourceVersion", "managedFields", "generation"}
"""Metadata that changes though the object says the same."""
_LOG_SILENCE_S = 10.0


class Cluster(Api):
    """One context of a kubeconfig, with the ``name`` that it has in tables, charts and words. Threads may share it."""

    def __init__(self, kubeconfig: Kubeconfig, context: str, patience: Patience | None = None, name: str = "") -> None:
        name = name or display_names([context])[context]
        super().__init__(name, Connection(kubeconfig, context, patience or Patience(), name))
        self._kubeconfig = kubeconfig

    def __repr__(self) -> str:
        return f"Cluster({self.name!r})"

    def reopened(self) -> Cluster:
        """Return the same cluster by its kubeconfig as it is now, with connections and a login of its own."""
        return Cluster(Kubeconfig(self.kubeconfig), self.context, self.connection.patience, self.name)

    @property
    def context(self) -> str:
        """The context's name in the kubeconfig, for whoever calls kubectl."""
        return self.connection.context

    @property
    def kubeconfig(self) -> str:
        """The path of the kubeconfig, or several as in $KUBECONFIG."""
        return self._kubeconfig.path

    @property
    def kubectl_options(self) -> list[str]:
        """What tells kubectl which cluster is meant; a kubeconfig of several files is left to $KUBECONFIG."""
        of_its_own = os.pathsep in self.kubeconfig or self.kubeconfig == os.path.expanduser("~/.kube/config")
        return [*([] if of_its_own else ["--kubeconfig", self.kubeconfig]), "--context", self.context]

    def tell_kubectl(self, *words: str, namespace: str = "") -> None:
        """Tell whoever listens the kubectl command that does what a call does."""
        options = self.kubectl_options[-2:] if os.environ.get("KUBECONFIG") == self.kubeconfig else self.kubectl_options
        progress.command(shlex.join(["kubectl", *options, *(["-n", namespace] if namespace else []), *words]))

    @property
    def user(self) -> str:
        """The kubeconfig's name of who asks; empty where that is the context's own, as gcloud and aws write it."""
        user = self._kubeconfig.user_name(self.context)
        return "" if user == self.context else user

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

    def extension(self, name: str) -> Object:
        """Return extension ``name`` of the kubeconfig's cluster entry; empty when there is none."""
        return extension(self._kubeconfig.cluster(self.context), name)

    def can_i(self, verb: str, resource: str, namespace: str = "") -> bool:
        """Ask whether this user may ``verb`` a ``resource``, written as for kubectl: ``deployments.apps/scale``."""
        full, _, subresource = resource.partition("/")
        plural, _, group = full.partition(".")
        wanted = {"verb": verb, "resource": plural, "group": group, "subresource": subresource, "namespace": namespace}
        review = {"spec": {"resourceAttributes": {key: value for key, value in wanted.items() if value}}}
        return bool((self.create("SelfSubjectAccessReview", review).get("status") or {}).get("allowed"))

    def apply(
        self,
        path: str | Path,
        namespace: str = "",
        selector: str = "",
        *,
        replicas: int | None = None,
        take_over: bool = False,
    ) -> list[Applied]:
        """Apply a manifest file or folder server-side; ``selector`` picks objects as ``kubectl -l`` does.

        ``replicas`` is put in the place of what Deployments say in the file, whoever has set their count before.
        ``take_over`` sets fields that another manager owns; without it, what its owner may choose stays as it is (see
        ``conflicts``), and others are refused. All is validated by the server before the first change. What was not
        there gets the label that lets ``delete`` take it away again, by a patch: no apply of its manifest takes it off.
        """
        how = ["--server-side", f"--field-manager={FIELD_MANAGER}", *(["--force-conflicts"] if take_over else [])]
        self.tell_kubectl("apply", *how, *manifests.arguments(path, selector), namespace=namespace)
        objects = [self._placed(found, namespace) for found in manifests.load(path, selector)]
        if replicas is not None:
            objects = [manifests.scaled(found, replicas) for found in objects]
            for name in (found["metadata"]["name"] for found in objects if found["kind"] == "Deployment"):
                self.tell_kubectl("scale", f"deployment/{name}", f"--replicas={replicas}", namespace=namespace)
        made = {(found["kind"], found["metadata"]["name"]) for found in objects}
        tried = [self._tried(found, made, take_over=take_over) for found in objects]
        records, created = [], []
        for found, left in tried:
            kind, name, home = key_of(found)
            before = self.find(kind, name, home)
            code, after = self._apply(found, take_over=take_over, dry_run=False)
            if code == 201:
                created.append(f"{self.resource(kind).title}/{name}")
            if (code == 201 or (before and manifests.is_owned(before))) and not manifests.is_owned(after):
                after = self.patch(kind, name, {"metadata": {"labels": OWNER_LABEL}}, namespace=home)
            outcome: ApplyOutcome = "configured"
            if code == 201 or before is None:
                outcome = "created"
            elif _intent(before) == _intent(after):
                outcome = "unchanged"
            kept = [field for field in left if field != "replicas" or replicas is None]
            if replicas is not None and kept != left:
                before_scaling = self.scale(name, replicas, home)
                outcome = outcome if before_scaling == replicas else "configured"
            records.append(replace(self._record(found, outcome), left=", ".join(kept)))
        if created:
            self.tell_kubectl("label", *created, selector_text({"matchLabels": OWNER_LABEL}), namespace=namespace)
        return records

    def _tried(self, found: Object, made: Container[tuple[str, str]], *, take_over: bool) -> tuple[Object, list[str]]:
        """Apply an object in a dry run; return what of it can be applied, and the fields that stay as they are.

        A dry run makes neither a Namespace to try the others in, nor a Role of which a server sees that it gives this
        user's own rights only: what needs one of those that are ``made`` with it is not tried.
        """
        if ("Namespace", found["metadata"].get("namespace")) in made:
            return found, []
        try:
            self._apply(found, take_over=take_over, dry_run=True)
        except ClusterError as error:
            if error.code == 404 and ("Role", (found.get("roleRef") or {}).get("name")) in made:
                return found, []
            rest, left = conflicts.without(found, error.fields if error.code == 409 else ())
            if not left:
                raise
        else:
            return found, []
        self._apply(rest, take_over=take_over, dry_run=True)
        return rest, left

    def _placed(self, found: Object, namespace: str) -> Object:
        return manifests.placed(found, namespace, namespaced=self.resource(kind_of(found)).namespaced)

    def _apply(self, found: Object, *, take_over: bool, dry_run: bool) -> tuple[int, Object]:
        """Apply one object server-side; return (201 or 200, the object afterwards)."""
        kind, name, namespace = key_of(found)
        path = self.resource(kind).path(namespace, name)
        query = {"fieldManager": FIELD_MANAGER, "fieldValidation": "Strict", "force": str(take_over).lower()}
        query |= {"dryRun": "All"} if dry_run else {}
        try:
            return self.connection.request("PATCH", path, query=query, body=found, content_type=APPLY)
        except ClusterError as error:
            hint = error.hint
            if error.code == 409:
                hint = "another owner set these fields: take_over=true sets them as the manifest says"
            refused = ClusterError(
                f"{self.name}: cannot apply {manifests.title(found)}: {error.message.removeprefix(f'{self.name}: ')}",
                code=error.code,
                reason=error.reason,
                hint=hint,
                state="nothing was changed" if dry_run else "objects before it in the manifests are applied",
            )
            refused.fields = error.fields
            raise refused from error

    def _record(self, found: Object, outcome: ApplyOutcome) -> Applied:
        name, namespace = found["metadata"]["name"], found["metadata"].get("namespace", "")
        return Applied(context=self.name, kind=found["kind"], name=name, namespace=namespace, outcome=outcome)

    def delete(
        self, path: str | Path, namespace: str = "", selector: str = "", *, timeout_s: float = 120
    ) -> list[Applied]:
        """Delete what meshbook made of a manifest file or folder, the last object first; wait until it is gone."""
        deadline = time.monotonic() + timeout_s
        records, going = [], []
        for found in reversed(manifests.load(path, selector)):
            if not self.has_kind(kind_of(found)):
                records.append(self._record(found, "not found"))
                continue
            found = self._placed(found, namespace)
            live = self.find(*key_of(found))
            if live is not None and not manifests.is_owned(live):
                records.append(self._record(found, "left alone"))
                continue
            deleted = live is not None and self.delete_object(*key_of(found))
            if live is not None:
                going.append((*key_of(found), live["metadata"].get("uid", "")))
            records.append(self._record(found, "deleted" if deleted else "not found"))
        if going:
            names = [f"{self.resource(kind).title}/{name}" for kind, name, _, _ in going]
            self.tell_kubectl("delete", "--ignore-not-found", *names, namespace=namespace)
        for one in going:
            self.wait_for_deletion(*one, timeout_s=max(0.0, deadline - time.monotonic()))
        return records

    def create_namespace(
        self, name: str, *, revision: str = "", take_over: bool = False, timeout_s: float = 120
    ) -> Applied:
        """Create namespace ``name`` and have the mesh's ``revision`` inject sidecars into its pods.

        A namespace that is there keeps its other labels, and those of injection too where they come to the same: a tag
        of the revision, or the default one. Where somebody else's say otherwise it is refused, unless ``take_over`` is
        set. One that is being deleted is waited for first.
        """
        found = self.find("Namespace", name)
        if found and is_deleting(found):
            self.wait_for_deletion("Namespace", name, "", found["metadata"]["uid"], timeout_s)
            found = None
        labels: dict[str, str | None] = {INJECTION_LABEL: None, REVISION_LABEL: revision} if revision else {}
        subject = {"kind": "Namespace", "metadata": {"name": name}}
        self.tell_kubectl("create", "namespace", name)
        wanted = labels if found else {**labels, **OWNER_LABEL}
        changes = [f"{key}-" if value is None else f"{key}={value}" for key, value in wanted.items()]
        if changes:
            self.tell_kubectl("label", "--overwrite", "namespace", name, *changes)
        if found is None:
            given = {key: value for key, value in wanted.items() if value}
            self.create("Namespace", {"metadata": {"name": name, "labels": given}})
            return self._record(subject, "created")
        had = labels_of(found)
        if all(had.get(key) == value for key, value in labels.items()) or self._injects(found, revision):
            return self._record(subject, "unchanged")
        theirs = [f"{key}={had[key]}" for key in labels if key in had]
        if theirs and not take_over and not manifests.is_owned(found):
            raise UsageError(
                f"{self.name}: namespace {name} is not meshbook's, and its {', '.join(theirs)} is not {revision}",
                hint="another namespace, or the revision that it means; take_over=true sets the label",
            )
        self.patch("Namespace", name, {"metadata": {"labels": labels}})
        return self._record(subject, "configured")

    def _injects(self, namespace: Object, revision: str) -> bool:
        """Tell whether a namespace's pods are injected by what ``revision`` means; False where webhooks are unknown."""
        try:
            hooks = self.list("MutatingWebhookConfiguration")
        except ClusterError as error:
            if error.code not in (403, 404):
                raise
            return False
        meant = revisions(hooks).get(revision, "")
        return bool(meant) and injecting_revision(namespace, hooks) == meant

    def delete_namespace(self, name: str, *, timeout_s: float = 180) -> Applied:
        """Delete a namespace that meshbook made, with all its objects, and wait until it is gone.

        One that was there before is left alone.
        """
        subject = {"kind": "Namespace", "metadata": {"name": name}}
        found = self.find("Namespace", name)
        if found is None:
            return self._record(subject, "not found")
        if not manifests.is_owned(found):
            return self._record(subject, "left alone")
        self.tell_kubectl("delete", "namespace", name)
        self.delete_object("Namespace", name)
        self.wait_for_deletion("Namespace", name, "", found["metadata"]["uid"], timeout_s)
        return self._record(subject, "deleted")

    def scale(self, deployment: str, replicas: int, namespace: str) -> int:
        """Set a Deployment's replica count and return the former one; does not wait."""
        self.tell_kubectl("scale", f"deployment/{deployment}", f"--replicas={replicas}", namespace=namespace)
        path = self.resource("Deployment").path(namespace, deployment, "scale")
        before = int((self.connection.request("GET", path)[1].get("spec") or {}).get("replicas", 0))
        self.patch("Deployment", deployment, {"spec": {"replicas": replicas}}, namespace=namespace, subresource="scale")
        return before

    def deployments(self, namespace: str) -> list[DeploymentState]:
        """Return the Deployments of a namespace with their replica counts, as ``kubectl get deploy`` does."""
        return [DeploymentState.of(self.name, found) for found in self.list("Deployment", namespace)]

    def rollout_status(
        self, namespace: str, names: Collection[str] = (), *, timeout_s: float = 180
    ) -> list[DeploymentState]:
        """Wait until the namespace's Deployments (or those in ``names``) are rolled out, and return how far they are.

        One that is not, in time or at all, is no error, and says what its pods say. See ``rollout.follow``.
        """
        which = [f"deployment/{name}" for name in names] or ["deployment"]
        for one in which:
            self.tell_kubectl("rollout", "status", one, f"--timeout={timeout_s:.0f}s", namespace=namespace)
        return follow(self, namespace, names, timeout_s)

    def wait_for_rollout(
        self, namespace: str, names: Collection[str] = (), *, timeout_s: float = 180
    ) -> list[DeploymentState]:
        """Wait as ``rollout_status`` does, but to the end; WaitTimeout where not all are rolled out and available."""
        states = follow(self, namespace, names, timeout_s, to_the_end=True)
        if unsettled := [state for state in states if not state.settled]:
            raise WaitTimeout(
                f"{self.name}: rollout in {namespace} not within {timeout_s:g} s",
                saw="; ".join(map(str, unsettled)),
                pods="\n    ".join(state.obstacle for state in unsettled),
            )
        return states

    def ready_pod(self, selector: str, namespace: str) -> str:
        """Return the name of the first ready pod that the label ``selector`` admits."""
        pods = sorted(self.list("Pod", namespace, labels=selector), key=lambda pod: str(pod["metadata"]["name"]))
        for pod in filter(is_ready, pods):
            return str(pod["metadata"]["name"])
        seen = "\n    ".join(map(describe_pod, pods)) or "no pod has these labels"
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
        execution = Execution(self, pod=pod, namespace=namespace, container=container, argv=argv, on_line=on_line)
        return execution.run(timeout_s)

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
        """Run ``command`` in a pod as ``exec`` does, with ``streams`` at its stdin and stdout, and keep their end."""
        execution = Execution(
            self,
            pod=pod,
            namespace=namespace,
            container=container,
            argv=command,
            on_line=streams.on_line,
            stdin=streams.stdin,
        )
        return execution.run(timeout_s)

    def logs(self, pod: str, namespace: str, *, container: str, since: datetime | None = None) -> str:
        """Return what a container has written (since a moment, where given), as ``kubectl logs`` does."""
        query = {"container": container} | ({"sinceTime": timestamp(since)} if since else {})
        text = self.connection.read_once(PODS.path(namespace, pod, "log"), query=query, silence_s=_LOG_SILENCE_S)
        return text.decode("utf-8", "replace")


def _intent(found: Object) -> Object:
    """Return an object without its status and bookkeeping, which controllers change meanwhile."""
    metadata = {key: value for key, value in found["metadata"].items() if key not in _VOLATILE}
    return {**{key: value for key, value in found.items() if key != "status"}, "metadata": metadata}
