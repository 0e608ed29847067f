"""What a watchdog is made of, as objects: the patch that brings one thing back, the Job that sends it, and its rights.

Data only. The patch first tests that the record is still that of its run, so what has been brought back already, by
whomever, and what another run has taken away since, it leaves alone. It also leaves the record of an object that is not
away, since its order may be on its way: the next run or ``meshbook restore`` takes that off. ``watchdog`` sets it and
calls it off.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from meshbook.clusters import Cluster, Object
from meshbook.outage.records import ALL, AWAY, REPLICAS, RUN
from meshbook.outage.subjects import Subject

JOB, ACCOUNT_KIND = "batch/v1/Job", "ServiceAccount"
ROLE, BINDING = (f"rbac.authorization.k8s.io/v1/{kind}" for kind in ("Role", "RoleBinding"))
NAME = "meshbook-watchdog"
IMAGE = "docker.io/curlimages/curl:8.11.1"
LABELS = {"app.kubernetes.io/managed-by": "meshbook", "app.kubernetes.io/name": NAME}
LINGER_S = 600
"""Seconds that it may go on trying after its deadline, and that it is kept for its log when it is over."""

SCRIPT = """\
sleep "$AFTER_S"
at="${CONTAINER_SANDBOX_MOUNT_POINT:-}/var/run/secrets/kubernetes.io/serviceaccount"
host=$KUBERNETES_SERVICE_HOST
case "$host" in *:*) host="[$host]" ;; esac
tries=0 misses=0
while [ "$tries" -lt 60 ] && [ "$misses" -lt 3 ]; do
  [ "$tries" -eq 0 ] || sleep "$PAUSE_S"
  tries=$((tries + 1))
  code=$(printf 'Authorization: Bearer %s' "$(cat "$at/token")" |
    curl -sS -m 20 --noproxy '*' -o /dev/null -w '%{http_code}' --cacert "$at/ca.crt" -H @- \\
      -H 'Content-Type: application/json-patch+json' -X PATCH -d "$PATCH" \\
      "https://$host:$KUBERNETES_SERVICE_PORT$TARGET?fieldManager=meshbook")
  case "$code" in
    200) echo 'restored'; exit 0 ;;
    404|422) misses=$((misses + 1)) ;;
  esac
done
[ "$misses" -lt 3 ] || { echo 'nothing was left to restore'; exit 0; }
echo "gave up: HTTP $code"
exit 1
"""
"""A record of another run, or none, makes the patch's test fail: 422 from the API server. Asked three times, since an
order to go away that was slow may come after the first. The token goes by standard input: arguments can be seen."""


@dataclass(frozen=True, kw_only=True)
class Watch:
    """One watchdog: what it brings back, for which run, and when."""

    subject: Subject
    run: str
    after_s: float

    @property
    def name(self) -> str:
        """Of the Job, and of all that is made for it."""
        return f"{NAME}-{self.run}-{self.subject.name}".lower().replace("_", "-")[:63].rstrip("-.")

    @property
    def cluster(self) -> Cluster:
        return self.subject.cluster

    @property
    def namespace(self) -> str:
        return self.subject.namespace


def undo(subject: Subject, found: Object, run: str, notes: Mapping[str, str]) -> list[Object]:
    """Return the JSON patch that brings an object back, as it is now, before it is changed.

    ``notes`` are what its mode writes on it besides whose outage it is. Of all that a record may hold nothing stays.
    """
    change: list[Object] = []
    if subject.kind == "Service":
        change = [{"op": "remove", "path": f"/spec/selector/{_escaped(AWAY)}"}]
    elif REPLICAS in notes:
        path, count = "/spec/replicas", int(found["spec"].get("replicas", 1))
        change = [{"op": "test", "path": path, "value": 0}, {"op": "replace", "path": path, "value": count}]
    mine = {"op": "test", "path": f"/metadata/annotations/{_escaped(RUN)}", "value": run}
    return [mine, *change, *(step for note in dict.fromkeys((*ALL, *notes)) for step in _without(note))]


def _without(note: str) -> list[Object]:
    """Return the steps that take an annotation off which may not be there: JSON patch removes only what is."""
    path = f"/metadata/annotations/{_escaped(note)}"
    return [{"op": "add", "path": path, "value": ""}, {"op": "remove", "path": path}]


def job(watch: Watch, patch: list[Object], account: str) -> Object:
    """Return the Job that sends ``patch`` after the deadline, with the rights of a service account."""
    pod = {
        "metadata": {"labels": {**LABELS, "sidecar.istio.io/inject": "false"}},
        "spec": {
            "serviceAccountName": account,
            "restartPolicy": "OnFailure",
            "terminationGracePeriodSeconds": 0,
            "securityContext": {"runAsNonRoot": True, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [_container(watch, patch)],
        },
    }
    spec = {
        "backoffLimit": 3,
        "activeDeadlineSeconds": int(watch.after_s) + LINGER_S,
        "ttlSecondsAfterFinished": LINGER_S,
        "template": pod,
    }
    return {"metadata": _metadata(watch), "spec": spec}


def _container(watch: Watch, patch: list[Object]) -> Object:
    subject = watch.subject
    environment = {
        "AFTER_S": f"{watch.after_s:g}",
        "PAUSE_S": "5",
        "TARGET": watch.cluster.resource(subject.kind).path(subject.namespace, subject.name),
        "PATCH": json.dumps(patch),
    }
    return {
        "name": "watchdog",
        "image": IMAGE,
        "command": ["/bin/sh", "-c", SCRIPT],
        "env": [{"name": name, "value": value} for name, value in environment.items()],
        "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}, "limits": {"memory": "64Mi"}},
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }


def account(watch: Watch) -> Object:
    """Return the service account of a watchdog that has to bring its own."""
    return {"metadata": _metadata(watch)}


def role(watch: Watch, owner: Object) -> Object:
    """Return the one right that it needs: to patch this one object. ``owner`` is its Job, with which it goes."""
    resource = watch.cluster.resource(watch.subject.kind)
    group = resource.api_version.rpartition("/")[0]
    rule = {"apiGroups": [group], "resources": [resource.plural], "verbs": ["patch"]}
    return {"metadata": _metadata(watch, owner), "rules": [rule | {"resourceNames": [watch.subject.name]}]}


def binding(watch: Watch, owner: Object) -> Object:
    """Return what gives its role to its account."""
    reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": watch.name}
    subject = {"kind": "ServiceAccount", "name": watch.name, "namespace": watch.namespace}
    return {"metadata": _metadata(watch, owner), "roleRef": reference, "subjects": [subject]}


def owned_by(owner: Object) -> Object:
    """Return the metadata that lets an object go with its Job."""
    metadata = owner["metadata"]
    reference = {"apiVersion": "batch/v1", "kind": "Job", "name": metadata["name"], "uid": metadata["uid"]}
    return {"ownerReferences": [reference]}


def _metadata(watch: Watch, owner: Object | None = None) -> Object:
    metadata: Object = {"name": watch.name, "namespace": watch.namespace, "labels": LABELS}
    return metadata | (owned_by(owner) if owner else {})


def _escaped(key: str) -> str:
    return key.replace("~", "~0").replace("/", "~1")
