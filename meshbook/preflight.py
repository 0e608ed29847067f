"""What must be there before the first stage, and what must be gone after the last, as claims.

One look per cluster, one ``Verdict`` per claim; parts 1 to 3 of the article leave behind what is looked for. Changes
nothing. A look that the cluster refuses makes its claim inconclusive, never a pass. What the stages measure is judged
in ``analysis``.
"""

from __future__ import annotations

import hashlib
import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from meshbook import gkehub, mesh, probes, rights
from meshbook.clusters import Cluster, DeploymentState, Fleet
from meshbook.errors import ClusterError, MeshbookError, UsageError, WaitTimeout
from meshbook.manifests import is_owned
from meshbook.mesh import Entry
from meshbook.objects import SYSTEM_NAMESPACE, is_deleting, revisions
from meshbook.settings import FLEET
from meshbook.verdict import Outcome, Verdict, counted

OLDEST = (1, 22)
"""First Kubernetes release whose server-side apply is stable."""

RUNBOOK = ("0", "1", "2", "3", "99")
"""The stages that run by default."""
_SHOWN = 3
_ADDRESSED = "requests from outside have an address to go to"

Seen = tuple[bool | None, str]
"""Whether all is well (None: could not be seen), and what was found."""


def clusters_answer(fleet: Fleet) -> Verdict:
    """Claim: every cluster answers, with a Kubernetes that has server-side apply."""

    def look(cluster: Cluster) -> Seen:
        cluster.tell_kubectl("version")
        version = cluster.version()
        numbers = tuple(int(number) for number in re.findall(r"\d+", version)[:2])
        return numbers >= OLDEST, f"Kubernetes {version}"

    claim = f"every cluster answers, with Kubernetes {OLDEST[0]}.{OLDEST[1]} or newer"
    return _judged(claim, _looks(fleet, look), "use a context of a newer cluster")


def user_may(fleet: Fleet, namespace: str, gateway_namespace: str, *, entry: str = FLEET) -> Verdict:
    """Claim: this user may do in every cluster what the stages of RUNBOOK need (asked by SelfSubjectAccessReview).

    What an experiment needs besides is asked by the safeguards of its outage.
    """
    wanted = rights.needed(RUNBOOK, namespace=namespace, gateway_namespace=gateway_namespace, entry=entry)

    def look(cluster: Cluster) -> Seen:
        cluster.tell_kubectl("auth", "can-i", "--list", namespace=namespace)
        denied = [str(one) for one in wanted if not cluster.can_i(one.verb, one.resource, one.namespace)]
        some = ", ".join(denied[:_SHOWN]) + (", …" if denied[_SHOWN:] else "")
        missing = f"{len(denied)} of {len(wanted)} rights are missing: {some}"
        return not denied, missing if denied else f"all {len(wanted)} rights"

    claim = f"this user may do in every cluster what stages {', '.join(RUNBOOK)} need"
    hint = "ask for the roles that `meshbook rights` prints, or name another context"
    return _judged(claim, _looks(fleet, look), hint)


def revision_injects(fleet: Fleet, revision: str) -> Verdict:
    """Claim: every cluster has the injection webhook of the mesh's ``revision``, or of a tag of that name."""

    def look(cluster: Cluster) -> Seen:
        cluster.tell_kubectl("get", "mutatingwebhookconfigurations", "--show-labels")
        there = revisions(cluster.list("MutatingWebhookConfiguration"))
        named = [name if name == real else f"{name} (a tag of {real})" for name, real in sorted(there.items())]
        return revision in there, f"revisions {', '.join(named)}" if named else "no revision at all"

    claim = f"every cluster has the injection webhook of revision {revision}"
    return _judged(claim, _looks(fleet, look), "set the parameter revision to one that is installed everywhere")


def pods_injected(fleet: Fleet, namespace: str, revision: str) -> Verdict:
    """Claim: every running pod of ``namespace`` got its sidecar from the mesh's ``revision``.

    Pods keep the sidecar that they were made with, so a label that was wrong, or has changed since, shows here only. A
    tag stands for the revision that it points to.
    """

    def look(cluster: Cluster) -> Seen:
        pods = [pod for pod in cluster.list("Pod", namespace) if not is_deleting(pod)]
        wanted = revisions(cluster.list("MutatingWebhookConfiguration")).get(revision, revision)
        found = {str(pod["metadata"]["name"]): mesh.injected_by(pod) for pod in pods}
        others = [f"{name} has {injector or 'none'}" for name, injector in found.items() if injector != wanted]
        return bool(pods) and not others, "; ".join(others) or counted(len(pods), "pod")

    claim = f"every pod in {namespace} has a sidecar of revision {revision}"
    hint = f"kubectl -n {namespace} rollout restart deployment, once the namespace has the right label"
    return _judged(claim, _looks(fleet, look), hint)


def pods_ready(fleet: Fleet, rolled_out: Sequence[DeploymentState]) -> Verdict:
    """Claim: every pod of the Deployments that were applied is ready, as ``Fleet.rollout_status`` has seen them."""
    rows = {
        f"{one.context}: {one.name}": (one.settled, one.obstacle or f"{one.ready}/{one.desired} ready")
        for one in rolled_out
    }
    unsettled = next((one for one in rolled_out if not one.settled), None)
    where = f"--context {shlex.quote(fleet[unsettled.context].context)} -n {unsettled.namespace}" if unsettled else ""
    hint = f"kubectl {where} describe pods" if where else ""
    return _judged("every pod that was deployed is ready", rows, hint, subject="Deployment")


def addressed(entries: Sequence[Entry]) -> Verdict:
    """Claim: every entry for requests from outside has an address, as ``entries.find`` has seen them."""
    rows = {one.source: (not one.trouble, one.trouble or one.url) for one in entries}
    return _judged(_ADDRESSED, rows, "", subject="source")


def answering(entries: Sequence[Entry], timeout_s: float) -> Verdict:
    """Claim: each entry gives a good answer within ``timeout_s``; not waited for where one of them has no address."""
    claim = "each address answers"
    if any(one.trouble for one in entries):
        reason = f"It was not waited for, since this does not hold: {_ADDRESSED}."
        return Verdict(claim=claim, outcome="inconclusive", reason=reason)
    try:
        found = probes.wait_for_first_answers(entries, timeout_s)
    except WaitTimeout as error:
        return Verdict(claim=claim, outcome="fail", reason=f"{error.in_words()}.")
    return Verdict(claim=claim, outcome="pass", reason="; ".join(f"{one.url}: {one}" for one in found))


def nothing_between(fleet: Fleet) -> Verdict:
    """Claim: each cluster's requests can reach the others, as far as was looked at.

    Looked at are east-west gateways, ready and open and on networks of their own; the way there from a pod of the other
    cluster; and remote secrets. What could not be looked at is told with what it needs, and proves nothing: of each
    direction one look at least must have been possible.
    """
    found = mesh.between(fleet)
    wrong, unseen = ([one for one in found if one.state == state] for state in ("cause", "not looked at"))
    blind = {one.direction for one in found} - {one.direction for one in found if one not in unseen}
    causes = counted(len(wrong), "cause") if wrong else "no cause"
    reason = f"{len(found) - len(unseen)} of {len(found)} checks made: {causes} found."
    reason += "".join(f" {one.direction}: {one.seen} Try: {one.mend}." for one in wrong)
    if unseen:
        needs = "; ".join(f"{one.direction}, {one.look}: {one.mend}" for one in unseen)
        reason += f" Not looked at, for want of: {needs}."
    return Verdict(
        claim="each cluster's requests can reach the others, as far as was looked at",
        outcome="fail" if wrong else "inconclusive" if blind else "pass",
        reason=reason,
        details=tuple(
            {"direction": str(one.direction), "look": one.look, "found": one.seen, "verdict": one.state}
            for one in found
        ),
    )


def one_root(fleet: Fleet) -> Verdict:
    """Claim: all clusters trust the same root certificates, so that mutual TLS works between them.

    While roots are being replaced there are several, in any order. Where only some are common it is not known by which
    of them certificates are issued.
    """
    roots: dict[str, frozenset[str]] = {}

    def look(cluster: Cluster) -> Seen:
        cluster.tell_kubectl("get", "configmap", "istio-ca-root-cert", "-o", "yaml", namespace=SYSTEM_NAMESPACE)
        trusted = cluster.get("ConfigMap", "istio-ca-root-cert", SYSTEM_NAMESPACE)
        pem = (trusted.get("data") or {}).get("root-cert.pem", "")
        found = roots[cluster.name] = mesh.certificates(pem)
        prints = sorted(hashlib.sha256(one.encode()).hexdigest()[:16] for one in found)
        return bool(found), f"sha256 {', '.join(prints)}" if found else "no root certificate in istio-ca-root-cert"

    rows = _looks(fleet, look)
    if len(set(roots.values())) > 1:
        fits = None if frozenset.intersection(*roots.values()) else False
        rows = {context: (None if fine is None else fits, text) for context, (fine, text) in rows.items()}
    return _judged("all clusters trust the same root certificates", rows, "give both meshes one root (part 3)")


def fleet_has(memberships: Sequence[str], config_cluster: Cluster, project: str = "") -> Verdict:
    """Claim: the fleet has these ``memberships`` (``location/name``)."""
    claim = f"the fleet has the memberships {' and '.join(memberships)}"
    try:
        present = gkehub.memberships(config_cluster, project=project)
    except MeshbookError as error:
        return Verdict(claim=claim, outcome="inconclusive", reason=f"The fleet could not be asked: {error}")
    rows = {name: (name in present, "a member" if name in present else "not a member") for name in memberships}
    return _judged(claim, rows, f"the fleet's members are {', '.join(present) or 'none'}", subject="membership")


def require_stages(fleet: Fleet, namespace: str, gateway_namespace: str = "") -> None:
    """Raise UsageError where nothing runs that an earlier notebook makes, and name that notebook."""
    makers = {namespace: "01_connectivity"} | ({gateway_namespace: "02_external_access"} if gateway_namespace else {})
    for needed, maker in makers.items():
        running = fleet.each(partial(Cluster.deployments, namespace=needed))
        if missing := [context for context, found in running.items() if not found]:
            where = f"namespace {needed} of {' and '.join(missing)}"
            raise UsageError(f"there is no Deployment in {where}", hint=f"run {maker} first: it makes them")


def nothing_left(fleet: Fleet, namespaces: Sequence[str]) -> Verdict:
    """Claim: no cluster has any of ``namespaces`` any more that meshbook made."""

    def look(cluster: Cluster) -> Seen:
        there = {name: found for name in namespaces if (found := cluster.find("Namespace", name))}
        left = [name for name, found in there.items() if is_owned(found)]
        if left:
            return False, f"namespace {', '.join(left)} is there"
        return True, f"gone but for what was there before: {', '.join(there)}" if there else "gone"

    claim = (
        f"no cluster has a namespace any more that meshbook made: {' and '.join(namespaces) or 'none was asked for'}"
    )
    return _judged(claim, _looks(fleet, look), "delete what keeps them, and run this notebook again")


def _looks(fleet: Fleet, look: Callable[[Cluster], Seen]) -> dict[str, Seen]:
    def guarded(cluster: Cluster) -> Seen:
        try:
            return look(cluster)
        except ClusterError as error:
            hint = error.hint and f" (try: {error.hint})"
            return (False if error.code == 404 else None), f"{error.message}{hint}"

    return fleet.each(guarded)


def _judged(claim: str, rows: Mapping[str, Seen], hint: str, subject: str = "cluster") -> Verdict:
    wrong = [f"{name}: {text}" for name, (fine, text) in rows.items() if fine is False]
    unseen = [f"{name}: {text}" for name, (fine, text) in rows.items() if fine is None]
    outcome: Outcome = "fail" if wrong else "inconclusive" if unseen else "pass"
    found = "; ".join(f"{name}: {text}" for name, (_, text) in rows.items())
    mend = f" Try: {hint}." if wrong and hint else ""  # what could not be looked at has a hint of its own
    reason = found if outcome == "pass" else f"{'; '.join([*wrong, *unseen])}.{mend}"
    words = {True: "pass", False: "fail", None: "not seen"}
    details = tuple({subject: name, "found": text, "verdict": words[fine]} for name, (fine, text) in rows.items())
    return Verdict(claim=claim, outcome=outcome, reason=reason, details=details)
