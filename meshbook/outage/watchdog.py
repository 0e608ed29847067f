"""A Job in the cluster that restores an object after a deadline, should nobody else: for runners that may vanish.

Off unless asked for. One for each object that is about to be changed; nothing is taken down before all of them watch.
Each comes with an account that may patch that one object and nothing else, made for it and gone with it: called off
when all is restored, or by the Job's own time to live.

Its patch first tests that the record is still that of its run, so what has been restored already, by whomever, and what
another run has taken down since, it leaves alone. It also leaves the record of an object that is not down, since the
request may be on its way: the next run or ``meshbook restore`` takes that off.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

from meshbook.clusters import Cluster
from meshbook.objects import Object, describe_pod
from meshbook.outage.modes import Mode
from meshbook.outage.records import RECORD, RUN, Check, Intent, object_name
from meshbook.outage.targets import OutageTarget, json_pointer

JOB, ACCOUNT = "batch/v1/Job", "ServiceAccount"
ROLE, BINDING = (f"rbac.authorization.k8s.io/v1/{kind}" for kind in ("Role", "RoleBinding"))
IMAGE = "docker.io/curlimages/curl:8.11.1"
_LABELS = {"app.kubernetes.io/managed-by": "meshbook", "app.kubernetes.io/name": "meshbook-watchdog"}
LEAST_S = 3.0
"""A deadline that is sooner could be over before anything is down."""
_START_TIMEOUT_S = 90.0
"""Bounds how long it may take until a watchdog watches: its image may have to be pulled."""
LINGER_S = 600
"""Seconds that it may go on trying after its deadline, and that it is kept for its log when it is over."""
CHECK = "a watchdog can be set"
_MADE = ("jobs.batch", "serviceaccounts", *(f"{what}.rbac.authorization.k8s.io" for what in ("roles", "rolebindings")))
RIGHTS = (*((verb, what) for what in _MADE for verb in ("create", "delete")), ("patch", "serviceaccounts"))
"""What the user of the context needs in the namespace of each target."""

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
"""A record of another run, or none, makes the patch's test fail: 422 from the API server. Asked three times, since a
request that was slow may come after the first. The token goes by standard input: arguments can be seen."""


def checks(intent: Intent, mode: Mode) -> list[Check]:
    """Say whether the cluster can do it, when it is asked for."""
    after_s = intent.safeguards.watchdog_s
    if not after_s:
        return []
    if mode.restored_by:
        return [Check(name=CHECK, ok=None, saw="no Job can help here, and none is set: see by whom it is restored")]
    wrong = list(_objections(intent.cluster, after_s, sorted({target.namespace for target in mode.targets})))
    fine = f"after {after_s:g} s, with rights for one object each"
    return [Check(name=CHECK, ok=not wrong, saw="; ".join(wrong) or fine)]


def _objections(cluster: Cluster, after_s: float, namespaces: list[str]) -> Iterator[str]:
    if after_s < LEAST_S:
        yield f"watchdog_s is {after_s:g}: less than {LEAST_S:g} s could be over before anything is down"
    if not cluster.has_kind(JOB):
        yield "this cluster has no Jobs (batch/v1)"
        return
    for namespace in namespaces:
        refused = [f"{verb} {what}" for verb, what in RIGHTS if not cluster.can_i(verb, what, namespace)]
        if refused:
            yield f"in {namespace} this user may not {', '.join(refused)}"


def start(intent: Intent, mode: Mode) -> None:
    """Set the watchdogs, and return when all of them watch; WaitTimeout says what keeps one from it."""
    watches = _watches(intent, mode)
    for watch in watches:
        watch.create()
    for watch in watches:
        watch.wait_until_it_watches(min(intent.timeout_s, _START_TIMEOUT_S))


def end(intent: Intent, mode: Mode) -> None:
    """Call the watchdogs off, once everything is restored, and leave nothing of them behind."""
    for watch in _watches(intent, mode):
        for kind in (JOB, BINDING, ROLE, ACCOUNT):
            watch.target.cluster.delete_object(kind, watch.name, watch.target.namespace)


def _watches(intent: Intent, mode: Mode) -> list[RollbackJob]:
    after_s = intent.safeguards.watchdog_s
    targets = mode.targets if after_s and not mode.restored_by else ()
    return [RollbackJob(target=target, run=intent.run, after_s=after_s) for target in targets]


@dataclass(frozen=True, kw_only=True)
class RollbackJob:
    """One watchdog: what it restores, for which run, and when."""

    target: OutageTarget
    run: str
    after_s: float

    @property
    def name(self) -> str:
        """Of the Job, and of all that is made for it."""
        return object_name("watchdog", self.run, self.target.name)

    def create(self) -> None:
        """Create account, Job, role and binding; all of them go with the Job, whoever deletes it."""
        cluster, target = self.target.cluster, self.target
        cluster.create(ACCOUNT, {"metadata": self._metadata()})
        job = cluster.create(JOB, {"metadata": self._metadata(), "spec": self._spec()})
        owner = {"apiVersion": "batch/v1", "kind": "Job", "name": self.name, "uid": job["metadata"]["uid"]}
        owned = {"ownerReferences": [owner]}
        cluster.patch(ACCOUNT, self.name, {"metadata": owned}, namespace=target.namespace)
        resource = cluster.resource(target.kind)
        rule = {
            "apiGroups": [resource.api_version.rpartition("/")[0]],
            "resources": [resource.plural],
            "resourceNames": [target.name],
            "verbs": ["patch"],
        }
        cluster.create(ROLE, {"metadata": self._metadata() | owned, "rules": [rule]})
        role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": self.name}
        account = {"kind": ACCOUNT, "name": self.name, "namespace": target.namespace}
        cluster.create(BINDING, {"metadata": self._metadata() | owned, "roleRef": role, "subjects": [account]})

    def wait_until_it_watches(self, timeout_s: float) -> None:
        cluster, namespace = self.target.cluster, self.target.namespace

        def look() -> tuple[bool | None, str]:
            job = cluster.get(JOB, self.name, namespace)
            pods = cluster.list("Pod", namespace, labels=f"job-name={self.name}")
            seen = "; ".join(map(describe_pod, pods)) or "it has no pod yet"
            return (True if (job.get("status") or {}).get("ready") else None), seen

        hint = f"kubectl describe job {self.name} -n {namespace}; nothing was taken down"
        cluster.wait_until(f"watchdog {self.name} watching", look, timeout_s, hint)

    def _metadata(self) -> Object:
        return {"name": self.name, "namespace": self.target.namespace, "labels": _LABELS}

    def _spec(self) -> Object:
        target = self.target
        environment = {
            "AFTER_S": f"{self.after_s:g}",
            "PAUSE_S": "5",
            "TARGET": target.cluster.resource(target.kind).path(target.namespace, target.name),
            "PATCH": json.dumps(self._patch()),
        }
        container = {
            "name": "watchdog",
            "image": IMAGE,
            "command": ["/bin/sh", "-c", SCRIPT],
            "env": [{"name": name, "value": value} for name, value in environment.items()],
            "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}, "limits": {"memory": "64Mi"}},
            "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        }
        pod = {
            "serviceAccountName": self.name,
            "restartPolicy": "OnFailure",
            "terminationGracePeriodSeconds": 0,
            "securityContext": {"runAsNonRoot": True, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [container],
        }
        return {
            "backoffLimit": 3,
            "activeDeadlineSeconds": int(self.after_s) + LINGER_S,
            "ttlSecondsAfterFinished": LINGER_S,
            "template": {"metadata": {"labels": {**_LABELS, "sidecar.istio.io/inject": "false"}}, "spec": pod},
        }

    def _patch(self) -> list[Object]:
        """Return the JSON patch that restores the object as it is now, before it is changed, and clears the record."""
        mine = {"op": "test", "path": f"/metadata/annotations/{json_pointer(RUN)}", "value": self.run}
        notes = [f"/metadata/annotations/{json_pointer(key)}" for key in RECORD]
        # JSON patch removes only what is there, and a record has not all of these
        cleared = [
            step
            for path in notes
            for step in ({"op": "add", "path": path, "value": ""}, {"op": "remove", "path": path})
        ]
        return [mine, *self.target.restoring_patch(self.target.read()), *cleared]
