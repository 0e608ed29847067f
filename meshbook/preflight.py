"""What must be there before the first stage, and what must be gone after the last, as claims.

One look per cluster, one ``Verdict`` per claim; parts 1 to 3 of the article leave behind what is looked for. Changes
nothing. A look that the cluster refuses makes its claim inconclusive, never a pass. What the stages measure is judged
in ``analysis``.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence

from meshbook import gkehub
from meshbook.clusters import Cluster, Fleet, Object
from meshbook.errors import ClusterError, MeshbookError
from meshbook.objects import EAST_WEST_PORT, REVISION_LABEL, SYSTEM_NAMESPACE, is_deleting, labels_of
from meshbook.verdict import Outcome, Verdict

INJECTION_NOTE = "sidecar.istio.io/status"
NETWORK = "topology.istio.io/network"
EAST_WEST = "istio=eastwestgateway"
OLDEST = (1, 22)
"""First Kubernetes release whose server-side apply is stable."""

Finding = tuple[bool | None, str]
"""Whether all is well (None: could not be seen), and what was found."""

NEEDED = (
    ("create", "namespaces", False),
    ("patch", "namespaces", False),
    ("list", "mutatingwebhookconfigurations.admissionregistration.k8s.io", False),
    ("list", "pods", True),
    ("create", "pods/exec", True),
    ("patch", "services", True),
    ("patch", "deployments.apps", True),
    ("patch", "deployments.apps/scale", True),
    ("patch", "virtualservices.networking.istio.io", True),
)
"""Verb, resource, and whether it is asked for the sample's namespace: what the stages do everywhere."""


def clusters_answer(fleet: Fleet) -> Verdict:
    """Claim: every cluster answers, with a Kubernetes that has server-side apply."""

    def look(cluster: Cluster) -> Finding:
        version = cluster.version()
        numbers = tuple(int(number) for number in re.findall(r"\d+", version)[:2])
        return numbers >= OLDEST, f"Kubernetes {version}"

    claim = f"every cluster answers, with Kubernetes {OLDEST[0]}.{OLDEST[1]} or newer"
    return _judged(claim, _looks(fleet, look), "use a context of a newer cluster")


def user_may(fleet: Fleet, namespace: str) -> Verdict:
    """Claim: this user may do in every cluster what the stages need (asked by SelfSubjectAccessReview)."""

    def look(cluster: Cluster) -> Finding:
        may = [cluster.can_i(verb, what, namespace if inside else "") for verb, what, inside in NEEDED]
        denied = [f"{verb} {what}" for (verb, what, _), allowed in zip(NEEDED, may, strict=True) if not allowed]
        return not denied, f"may not {', '.join(denied)}" if denied else f"all {len(NEEDED)} permissions"

    claim = "this user may do in every cluster what the stages need"
    return _judged(claim, _looks(fleet, look), "ask for these permissions, or name another context")


def revision_injects(fleet: Fleet, revision: str) -> Verdict:
    """Claim: every cluster has the injection webhook of the mesh's ``revision``."""

    def look(cluster: Cluster) -> Finding:
        labels = map(labels_of, cluster.list("MutatingWebhookConfiguration"))
        revisions = sorted({found[REVISION_LABEL] for found in labels if REVISION_LABEL in found})
        return revision in revisions, f"revisions {', '.join(revisions)}" if revisions else "no revision at all"

    claim = f"every cluster has the injection webhook of revision {revision}"
    return _judged(claim, _looks(fleet, look), "set the parameter revision to one that is installed everywhere")


def pods_injected(fleet: Fleet, namespace: str, revision: str) -> Verdict:
    """Claim: every running pod of ``namespace`` got its sidecar from the mesh's ``revision``.

    Pods keep the sidecar that they were made with, so a label that was wrong, or has changed since, shows here only.
    """

    def look(cluster: Cluster) -> Finding:
        pods = [pod for pod in cluster.list("Pod", namespace) if not is_deleting(pod)]
        others = [
            f"{pod['metadata']['name']} has {_revision(pod) or 'none'}" for pod in pods if _revision(pod) != revision
        ]
        return bool(pods) and not others, "; ".join(others) or f"{len(pods)} pods"

    claim = f"every pod in {namespace} has a sidecar of revision {revision}"
    hint = f"kubectl -n {namespace} rollout restart deployment, once the namespace has the right label"
    return _judged(claim, _looks(fleet, look), hint)


def _revision(pod: Object) -> str:
    """Return the revision that injected a pod, from the note that the injector leaves on it; "" without injection."""
    note = (pod["metadata"].get("annotations") or {}).get(INJECTION_NOTE, "{}")
    try:
        return str(json.loads(note).get("revision", ""))
    except (ValueError, AttributeError):
        return ""


def gateways_joined(fleet: Fleet) -> Verdict:
    """Claim: every cluster has an east-west gateway with an address, each on a network of its own."""
    rows = _looks(fleet, _east_west)
    networks = [text.partition(":")[0] for fine, text in rows.values() if fine]
    for context, (fine, text) in rows.items():
        if fine and networks.count(text.partition(":")[0]) > 1:
            rows[context] = (False, text)
    hint = f"part 3 of the article makes them; the label {NETWORK} must differ between clusters"
    return _judged("every cluster has an east-west gateway with an address, on a network of its own", rows, hint)


def _east_west(cluster: Cluster) -> Finding:
    services = cluster.list("Service", SYSTEM_NAMESPACE, labels=EAST_WEST)
    lacking = []
    for service in services:
        network, addresses = labels_of(service).get(NETWORK, ""), _addresses(service)
        opened = any(port.get("port") == EAST_WEST_PORT for port in service["spec"].get("ports") or [])
        if network and addresses and opened:
            return True, f"{network}: {addresses[0]}, port {EAST_WEST_PORT}"
        lacks = {"network label": network, "address": addresses, f"port {EAST_WEST_PORT}": opened}
        missing = ", ".join(what for what, there in lacks.items() if not there)
        lacking.append(f"{service['metadata']['name']} lacks {missing}")
    return False, "; ".join(lacking) or f"no Service {EAST_WEST} in {SYSTEM_NAMESPACE}"


def _addresses(service: Object) -> list[str]:
    ingress = (service.get("status") or {}).get("loadBalancer", {}).get("ingress") or []
    given = [str(entry.get("ip") or entry.get("hostname") or "") for entry in ingress]
    return [address for address in [*given, *(service["spec"].get("externalIPs") or [])] if address]


def endpoints_shared(fleet: Fleet) -> Verdict:
    """Claim: every cluster holds a remote secret for every other one, to learn its endpoints by."""

    def look(cluster: Cluster) -> Finding:
        secrets = cluster.list("Secret", SYSTEM_NAMESPACE, labels="istio/multiCluster=true")
        names = [str(secret["metadata"]["name"]) for secret in secrets]
        return len(names) >= len(fleet) - 1, ", ".join(names) or "no Secret istio/multiCluster=true"

    claim = "every cluster holds a remote secret for every other one"
    return _judged(claim, _looks(fleet, look), "istioctl create-remote-secret for the cluster that is missing")


def one_root(fleet: Fleet, namespace: str = SYSTEM_NAMESPACE) -> Verdict:
    """Claim: all clusters trust the same root certificate, so that mutual TLS works between them."""

    def look(cluster: Cluster) -> Finding:
        pem = (cluster.get("ConfigMap", "istio-ca-root-cert", namespace).get("data") or {}).get("root-cert.pem", "")
        print_of = hashlib.sha256("".join(pem.split()).encode()).hexdigest()[:16]
        return bool(pem), f"sha256 {print_of}" if pem else "no root certificate in istio-ca-root-cert"

    rows = _looks(fleet, look)
    if len({text for fine, text in rows.values() if fine}) > 1:
        rows = {context: (None if fine is None else False, text) for context, (fine, text) in rows.items()}
    return _judged("all clusters trust the same root certificate", rows, "give both meshes one root (part 3)")


def fleet_has(memberships: Sequence[str], config_cluster: Cluster, project: str = "") -> Verdict:
    """Claim: the fleet has these ``memberships`` (``location/name``)."""
    claim = f"the fleet has the memberships {' and '.join(memberships)}"
    try:
        present = gkehub.memberships(config_cluster, project=project)
    except MeshbookError as error:
        return Verdict(claim=claim, outcome="inconclusive", reason=f"The fleet could not be asked: {error}")
    rows = {name: (name in present, "a member" if name in present else "not a member") for name in memberships}
    return _judged(claim, rows, f"the fleet's members are {', '.join(present) or 'none'}", subject="membership")


def nothing_left(fleet: Fleet, namespaces: Sequence[str]) -> Verdict:
    """Claim: none of ``namespaces`` is there any more, in any cluster."""

    def look(cluster: Cluster) -> Finding:
        left = [name for name in namespaces if cluster.find("Namespace", name) is not None]
        return not left, f"namespace {', '.join(left)} is there" if left else "gone"

    claim = f"no cluster has the namespaces {' and '.join(namespaces)} any more"
    return _judged(claim, _looks(fleet, look), "delete what keeps them, and run this notebook again")


def _looks(fleet: Fleet, look: Callable[[Cluster], Finding]) -> dict[str, Finding]:
    def guarded(cluster: Cluster) -> Finding:
        try:
            return look(cluster)
        except ClusterError as error:
            return (False if error.code == 404 else None), error.message

    return fleet.each(guarded)


def _judged(claim: str, rows: Mapping[str, Finding], hint: str, subject: str = "cluster") -> Verdict:
    wrong = [f"{name}: {text}" for name, (fine, text) in rows.items() if fine is False]
    unseen = [f"{name}: {text}" for name, (fine, text) in rows.items() if fine is None]
    outcome: Outcome = "fail" if wrong else "inconclusive" if unseen else "pass"
    found = "; ".join(f"{name}: {text}" for name, (_, text) in rows.items())
    reason = found if outcome == "pass" else f"{'; '.join([*wrong, *unseen])}. Try: {hint}."
    words = {True: "pass", False: "fail", None: "not seen"}
    details = tuple({subject: name, "found": text, "verdict": words[fine]} for name, (fine, text) in rows.items())
    return Verdict(claim=claim, outcome=outcome, reason=reason, details=details)
