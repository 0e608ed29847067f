"""A Job in the cluster that brings things back after a deadline, should nobody else: for runners that may vanish.

Off unless asked for. One for each object that is about to be changed; nothing is taken away before all of them watch.
Each comes with an account that may patch that one object and nothing else, made for it and gone with it: called off
when all is back, or by the Job's own time to live. Where the user may not create Roles, somebody else applies
``manifests/watchdog`` once, whose account is taken then. What it consists of is in ``watchjob``.
"""

from __future__ import annotations

from collections.abc import Iterator

from meshbook.clusters import Cluster, Object, describe_pod
from meshbook.errors import ClusterError
from meshbook.outage import watchjob
from meshbook.outage.intent import Intent
from meshbook.outage.modes import Mode
from meshbook.outage.recorded import Recorded
from meshbook.outage.records import Check
from meshbook.outage.watchjob import ACCOUNT_KIND, BINDING, JOB, NAME, ROLE, Watch, undo

LEAST_S = 3.0
"""A deadline that is sooner could be over before anything is away."""
START_TIMEOUT_S = 90.0
"""Bounds how long it may take until a watchdog watches: its image may have to be pulled."""
CHECK = "a watchdog can be set"
TO_WATCH = (("create", "jobs.batch"), ("delete", "jobs.batch"))
TO_GIVE_RIGHTS = (
    *((verb, "serviceaccounts") for verb in ("create", "patch", "delete")),
    *(
        (verb, f"{kind}.rbac.authorization.k8s.io")
        for kind in ("roles", "rolebindings")
        for verb in ("create", "delete")
    ),
)


def checks(intent: Intent, mode: Mode) -> list[Check]:
    """Say whether the cluster can do it, when it is asked for."""
    if not intent.safeguards.watchdog_s:
        return []
    if not isinstance(mode, Recorded):
        return [Check(name=CHECK, ok=None, saw="no Job can help here, and none is set: see who undoes it")]
    namespaces = sorted({subject.namespace for subject in mode.subjects})
    wrong = list(_objections(intent, namespaces))
    rights = {place: "rights are there" if _has_account(intent.cluster, place) else "its own" for place in namespaces}
    fine = f"after {intent.safeguards.watchdog_s:g} s, with rights: " + ", ".join(
        f"{rights[one]} in {one}" for one in namespaces
    )
    return [Check(name=CHECK, ok=not wrong, saw="; ".join(wrong) or fine)]


def _objections(intent: Intent, namespaces: list[str]) -> Iterator[str]:
    cluster = intent.cluster
    after_s = intent.safeguards.watchdog_s
    if after_s < LEAST_S:
        yield f"watchdog_s is {after_s:g}: less than {LEAST_S:g} s could be over before anything is away"
    if not _runs_jobs(cluster):
        yield "this cluster runs no Jobs"
        return
    for namespace in namespaces:
        needed = TO_WATCH if _has_account(cluster, namespace) else (*TO_WATCH, *TO_GIVE_RIGHTS)
        refused = [f"{one} {what}" for one, what in needed if not cluster.can_i(one, what, namespace)]
        if refused:
            yield f"in {namespace} this user may not {', '.join(refused)}"


def _runs_jobs(cluster: Cluster) -> bool:
    try:
        cluster.resource(JOB)
    except ClusterError as error:
        if error.code != 404:
            raise
        return False
    return True


def _has_account(cluster: Cluster, namespace: str) -> bool:
    return cluster.find(ACCOUNT_KIND, NAME, namespace) is not None


def begin(intent: Intent, mode: Mode) -> None:
    """Set the watchdogs, and return when all of them watch; WaitTimeout says what keeps one from it."""
    if not isinstance(mode, Recorded):
        return
    watches = _watches(intent, mode)
    for watch in watches:
        found = watch.subject.read()
        _set(watch, undo(watch.subject, found, intent.run, mode.notes(watch.subject, found)))
    for watch in watches:
        _wait_until_it_watches(watch, min(intent.timeout_s, START_TIMEOUT_S))


def end(intent: Intent, mode: Mode) -> None:
    """Call the watchdogs off, once everything is back, and leave nothing of them behind."""
    for watch in _watches(intent, mode):
        watch.cluster.delete_object(JOB, watch.name, watch.namespace)
        if not _has_account(watch.cluster, watch.namespace):
            for kind in (BINDING, ROLE, ACCOUNT_KIND):
                watch.cluster.delete_object(kind, watch.name, watch.namespace)


def _watches(intent: Intent, mode: Mode) -> list[Watch]:
    subjects = mode.subjects if intent.safeguards.watchdog_s else ()
    return [Watch(subject=subject, run=intent.run, after_s=intent.safeguards.watchdog_s) for subject in subjects]


def _set(watch: Watch, patch: list[Object]) -> None:
    """Create the Job, with rights of its own where there are none; what is its own goes with it, whoever deletes it."""
    cluster = watch.cluster
    if _has_account(cluster, watch.namespace):
        cluster.create(JOB, watchjob.job(watch, patch, NAME))
        return
    cluster.create(ACCOUNT_KIND, watchjob.account(watch))
    job = cluster.create(JOB, watchjob.job(watch, patch, watch.name))
    cluster.patch(ACCOUNT_KIND, watch.name, {"metadata": watchjob.owned_by(job)}, namespace=watch.namespace)
    cluster.create(ROLE, watchjob.role(watch, job))
    cluster.create(BINDING, watchjob.binding(watch, job))


def _wait_until_it_watches(watch: Watch, timeout_s: float) -> None:
    cluster = watch.cluster

    def look() -> tuple[bool | None, str]:
        job = cluster.get(JOB, watch.name, watch.namespace)
        pods = cluster.list("Pod", watch.namespace, labels=f"job-name={watch.name}")
        seen = "; ".join(map(describe_pod, pods)) or "it has no pod yet"
        return (True if (job.get("status") or {}).get("ready") else None), seen

    hint = f"kubectl describe job {watch.name} -n {watch.namespace}; nothing was taken away"
    cluster.wait_until(f"watchdog {watch.name} watching", look, timeout_s, hint)
