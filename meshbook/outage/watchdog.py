"""A Job in the cluster that brings things back after a deadline, should nobody else: for runners that may vanish.

It sends one JSON patch for each object, which first tests that the record is still that of this run: what has been
brought back already, by whomever, it leaves alone. Its rights are in ``manifests/watchdog``, to be applied to the
namespaces of what is taken away. Off unless asked for; a cluster that runs no Jobs (the lab) refuses it.
"""

from __future__ import annotations

import json

from meshbook.clusters import Object
from meshbook.errors import ClusterError
from meshbook.outage.intent import Intent
from meshbook.outage.modes import Mode
from meshbook.outage.records import AUTOSCALER, AWAY, MODE, OF, REPLICAS, RUN, SINCE, Check
from meshbook.outage.scaling import autoscaler_of, replicas_of
from meshbook.outage.subjects import Subject

JOB, ACCOUNT = "batch/v1/Job", "meshbook-watchdog"
IMAGE = "docker.io/curlimages/curl:8.11.1"
LABELS = {"app.kubernetes.io/managed-by": "meshbook", "app.kubernetes.io/name": ACCOUNT}
SECRETS = "/var/run/secrets/kubernetes.io/serviceaccount"
LINGER_S = 600

SCRIPT = """\
sleep "$AFTER_S"
tries=0
while [ "$tries" -lt 60 ]; do
  code=$(curl -sS -m 20 -o /dev/null -w '%{http_code}' --cacert "$SECRETS/ca.crt" \\
    -H "Authorization: Bearer $(cat "$SECRETS/token")" -H 'Content-Type: application/json-patch+json' \\
    -X PATCH -d "$PATCH" "$API$TARGET?fieldManager=meshbook")
  case "$code" in
    200) echo 'brought back'; exit 0 ;;
    404|422) echo 'nothing was left to bring back'; exit 0 ;;
  esac
  tries=$((tries + 1))
  sleep "$PAUSE_S"
done
echo "gave up: HTTP $code"
exit 1
"""
"""A record of another run, or none, makes the patch's test fail: 422 from the API server."""


def checks(intent: Intent) -> list[Check]:
    """Say whether the cluster can do it, when it is asked for."""
    if not intent.watchdog_s:
        return []
    try:
        intent.cluster.resource(JOB)
    except ClusterError as error:
        if error.code != 404:
            raise
        saw = "this cluster runs no Jobs; leave watchdog_s at 0 and rely on meshbook restore"
        return [Check(name="a watchdog can be set", ok=False, saw=saw)]
    there = intent.cluster.find("ServiceAccount", ACCOUNT, intent.namespace) is not None
    saw = f"ServiceAccount {ACCOUNT} is {'there' if there else 'missing: kubectl apply -k manifests/watchdog'}"
    return [Check(name="a watchdog can be set", ok=there, saw=saw)]


def begin(intent: Intent, mode: Mode) -> None:
    """Set one watchdog for each object that is about to be changed."""
    for subject in mode.subjects if intent.watchdog_s else ():
        patch = undo(subject, subject.read(), intent.run)
        if patch:
            intent.cluster.create(JOB, job(subject, patch, intent))


def end(intent: Intent, mode: Mode) -> None:
    """Call the watchdogs off, once everything is back."""
    for subject in mode.subjects if intent.watchdog_s else ():
        intent.cluster.delete_object(JOB, _name(subject, intent), subject.namespace)


def undo(subject: Subject, found: Object, run: str) -> list[Object]:
    """Return the JSON patch that brings an object back, as it is now, before it is changed."""
    notes = [RUN, SINCE, MODE, OF]
    change: list[Object]
    if subject.kind == "Service":
        change = [{"op": "remove", "path": f"/spec/selector/{_escaped(AWAY)}"}]
    else:
        change = [
            {"op": "test", "path": "/spec/replicas", "value": 0},
            {"op": "replace", "path": "/spec/replicas", "value": replicas_of(found)},
        ]
        notes += [REPLICAS, *([AUTOSCALER] if autoscaler_of(subject, found) else [])]
    mine = {"op": "test", "path": f"/metadata/annotations/{_escaped(RUN)}", "value": run}
    return [mine, *change, *({"op": "remove", "path": f"/metadata/annotations/{_escaped(note)}"} for note in notes)]


def job(subject: Subject, patch: list[Object], intent: Intent) -> Object:
    """Return the Job that sends ``patch`` after the deadline."""
    resource = intent.cluster.resource(subject.kind)
    environment = {
        "AFTER_S": f"{intent.watchdog_s:g}",
        "PAUSE_S": "5",
        "API": "https://kubernetes.default.svc",
        "SECRETS": SECRETS,
        "TARGET": resource.path(subject.namespace, subject.name),
        "PATCH": json.dumps(patch),
    }
    container = {
        "name": "watchdog",
        "image": IMAGE,
        "command": ["/bin/sh", "-c", SCRIPT],
        "env": [{"name": name, "value": value} for name, value in environment.items()],
        "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}, "limits": {"memory": "64Mi"}},
        "securityContext": {"allowPrivilegeEscalation": False},
    }
    pod = {
        "metadata": {"labels": {**LABELS, "sidecar.istio.io/inject": "false"}},
        "spec": {"serviceAccountName": ACCOUNT, "restartPolicy": "OnFailure", "containers": [container]},
    }
    spec = {
        "backoffLimit": 3,
        "activeDeadlineSeconds": int(intent.watchdog_s) + LINGER_S,
        "ttlSecondsAfterFinished": LINGER_S,
        "template": pod,
    }
    return {
        "metadata": {"name": _name(subject, intent), "namespace": subject.namespace, "labels": LABELS},
        "spec": spec,
    }


def _name(subject: Subject, intent: Intent) -> str:
    return f"{ACCOUNT}-{intent.run}-{subject.name}".lower()[:63].rstrip("-.")


def _escaped(key: str) -> str:
    return key.replace("~", "~0").replace("/", "~1")
