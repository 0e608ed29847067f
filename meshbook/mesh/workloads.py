"""The pods at both ends: the clients of one cluster, the servers of the other, and what keeps the two from each other.

Pure. Servers must be ready, known as endpoints and have a sidecar; a client needs one too, both must trust the same
root, and mutual TLS must not be switched off, since it is what carries a request between networks.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

from meshbook.mesh import routing
from meshbook.mesh.findings import Finding, Look
from meshbook.mesh.routing import Asked
from meshbook.mesh.snapshot import PEER_AUTHENTICATION, ROOT_CERTIFICATE, Snapshot
from meshbook.objects import (
    INJECTION_LABEL,
    REVISION_LABEL,
    SERVICE_LABEL,
    SYSTEM_NAMESPACE,
    Object,
    annotations_of,
    describe_pod,
    injecting_revision,
    is_ready,
    labels_of,
    revisions,
    selects,
)
from meshbook.verdict import counted

INJECTED = "sidecar.istio.io/status"
"""Annotation that the injector leaves on a pod, with the revision that it is of."""
INJECT = "sidecar.istio.io/inject"
"""Label (formerly annotation) by which a pod refuses injection, or asks for it."""
ROOT_KEY = "root-cert.pem"


def injected_by(pod: Object) -> str:
    """Return the revision that injected a pod, from the note that the injector leaves on it; "" without injection."""
    try:
        return str(json.loads(annotations_of(pod).get(INJECTED, "{}")).get("revision", ""))
    except (ValueError, AttributeError):
        return ""


# ---- servers and clients


def servers(look: Look, asked: Asked, source: Snapshot, destination: Snapshot) -> Iterator[Finding]:
    """Look at the pods that should answer: the Service, its pods, their readiness, endpoints and sidecars."""
    where = destination.kubectl(asked.namespace)
    for view in (source, destination):
        service = view.find("Service", asked.service, asked.namespace)
        if service is None:
            there = f"{view.kubectl(asked.namespace)} create service clusterip"
            seen = f"{view.cluster} has no Service {asked.service} in {asked.namespace}."
            yield look.cause(seen, f"{there} {asked.service} --tcp={asked.port}")
            return
    ready = [pod for pod in destination.behind(service) if is_ready(pod)]
    if service and not ready:
        yield look.cause(*none_ready(service, destination, asked.service))
    else:
        known = {one.pod for one in routing.endpoints(asked.service, asked.namespace, [destination])}
        if not known & {pod["metadata"]["name"] for pod in ready}:
            seen = f"{destination.cluster}'s ready pods of {asked.service} are in no EndpointSlice."
            yield look.cause(seen, f"{where} get endpointslices -l {SERVICE_LABEL}={asked.service}")
        yield from _sidecars(look, ready, destination, asked.service)


def clients(look: Look, asked: Asked, source: Snapshot) -> Iterator[Finding]:
    """Look at the pods that ask: without a sidecar they are no part of the mesh."""
    yield from _sidecars(look, asked.clients(source), source, ", ".join(asked.client_labels.values()))


def none_ready(service: Object, view: Snapshot, called: str) -> tuple[str, str]:
    """Return what is seen of a Service that has no ready pod, and the command that mends it."""
    name, home = service["metadata"]["name"], service["metadata"]["namespace"]
    kubectl, selector = view.kubectl(home), {"matchLabels": service["spec"].get("selector") or {}}
    if pods := view.behind(service):
        seen = f"None of {view.cluster}'s {len(pods)} pods of {called} is ready ({describe_pod(pods[0])})."
        return seen, f"{kubectl} describe pod {pods[0]['metadata']['name']}"
    for found in sorted(view.list("Deployment", home), key=lambda one: int(one["spec"].get("replicas", 1))):
        if selects(selector, labels_of(found["spec"].get("template") or {"metadata": {}})):
            owner, replicas = found["metadata"]["name"], found["spec"].get("replicas", 1)
            mend = f"scale deployment {owner} --replicas=1" if not replicas else f"describe deployment {owner}"
            seen = f"{view.cluster} has no pod of {called}: Deployment {owner} has {counted(replicas, 'replica')}."
            return seen, f"{kubectl} {mend}"
    return f"{view.cluster} has no pod with the labels of Service {name}.", f"{kubectl} describe service {name}"


def _sidecars(look: Look, pods: list[Object], view: Snapshot, called: str) -> Iterator[Finding]:
    bare = [pod for pod in pods if INJECTED not in annotations_of(pod)]
    if not bare:
        if pods:
            yield look.fine(f"{len(pods)} ready pods of {called} in {view.cluster}, each with a sidecar.")
        return
    name, (why, mend) = bare[0]["metadata"]["name"], _why_bare(bare[0], view)
    seen = f"{view.cluster}'s pod {name} has no sidecar: {why}."
    yield look.cause(seen, mend) if len(bare) == len(pods) else look.noted(seen, mend)


def _why_bare(pod: Object, view: Snapshot) -> tuple[str, str]:
    """Return why a pod was not injected, and the command that mends it."""
    home = pod["metadata"].get("namespace", "")
    restart = f"{view.kubectl(home)} rollout restart deployment"
    owner = f"{view.kubectl(home)} edit deployment {_deployment_of(pod)}"
    if labels_of(pod).get(INJECT) == "false" or annotations_of(pod).get(INJECT) == "false":
        return f"its own {INJECT} is false", f"{owner} (take {INJECT} out of its template)"
    if pod["spec"].get("hostNetwork"):
        return "it has the node's network", f"{owner} (take hostNetwork out of its template)"
    namespace = view.find("Namespace", home) or {"metadata": {}}
    labels, hooks = labels_of(namespace), view.list("MutatingWebhookConfiguration")
    known, wanted = revisions(hooks), labels.get(REVISION_LABEL) or labels_of(pod).get(REVISION_LABEL, "")
    label = f"{view.kubectl('')} label namespace {home} {REVISION_LABEL}={next(iter(known), 'REVISION')} --overwrite"
    if injecting_revision(namespace, hooks) or (INJECTION_LABEL not in labels and wanted in known):
        return "it was made before injection was switched on, or the webhook did not answer", restart
    if INJECTION_LABEL in labels:
        why = f"namespace {home} has {INJECTION_LABEL}={labels[INJECTION_LABEL]}"
        why += ", and no webhook is of the default revision" if labels[INJECTION_LABEL] == "enabled" else ""
        return why, f"{label} {INJECTION_LABEL}-; then {restart}"
    if wanted:
        there = f"no injection webhook is of revision {wanted}, only of {', '.join(known) or 'none'}"
        return there, f"{label}; then {restart}"
    return f"namespace {home} has no label {REVISION_LABEL}", f"{label}; then {restart}"


def _deployment_of(pod: Object) -> str:
    """Return the name of the Deployment behind a pod; the pod's own where it has none."""
    owners = pod["metadata"].get("ownerReferences") or [{"name": pod["metadata"]["name"]}]
    return str(owners[0]["name"]).removesuffix(f"-{labels_of(pod).get('pod-template-hash', '')}")


def url_at(pod: Object, port: int, path: str, view: Snapshot, *, else_port: int = 0) -> str:
    """Return the URL of a pod itself: at the port that a Service in front of it sends ``port`` to.

    Where no Service has that, ``else_port`` counts, or ``port`` itself where there is none.
    """
    services = [one for one in view.list("Service", pod["metadata"]["namespace"]) if pod in view.behind(one)]
    ports = [one for service in services for one in service["spec"].get("ports") or []]
    fits = [one for one in ports if port in (one["port"], one.get("nodePort"))]
    fits = fits or [one for one in ports if one["port"] == else_port]
    targets = (_number(one.get("targetPort", one["port"]), pod) for one in fits)
    target = next(filter(None, targets), else_port or port)
    address = str(pod["status"].get("podIP", ""))
    return f"http://{f'[{address}]' if ':' in address else address}:{target}{path}"


def _number(port: int | str, pod: Object) -> int:
    """Return the number of a Service port's target on a pod; 0 where the pod names no such port."""
    if isinstance(port, int):
        return port
    named = [one for container in pod["spec"]["containers"] for one in container.get("ports") or []]
    return next((int(one["containerPort"]) for one in named if one.get("name") == port), 0)


# ---- trust


def roots(look: Look, asked: Asked, source: Snapshot, destination: Snapshot) -> Iterator[Finding]:
    """Look at the roots that both sides' proxies trust."""
    roots = [certificates(root_certificate(view, asked.namespace)) for view in (source, destination)]
    shared = len(roots[0] & roots[1])
    if not all(roots):
        bare = [view.cluster for view, own in zip((source, destination), roots, strict=True) if not own]
        yield look.not_looked_at(f"a ConfigMap {ROOT_CERTIFICATE} in {asked.namespace} ({', '.join(bare)})")
    elif roots[0] == roots[1]:
        yield look.fine("Both clusters trust the same root certificate.")
    elif shared:
        yield look.noted(
            f"{source.cluster} and {destination.cluster} trust {shared} root certificates both, others not."
        )
    else:
        yield look.cause(
            f"{source.cluster} and {destination.cluster} trust different root certificates, so mutual TLS fails.",
            "make both meshes' cacerts from one root, then restart istiod and every proxy",
        )


def certificates(pem: str) -> frozenset[str]:
    """Return the certificates of a PEM text, in whatever order and layout they stand there; without marks: the text."""
    return frozenset("".join(part.split()) for part in pem.split("-----END CERTIFICATE-----") if part.strip())


def root_certificate(view: Snapshot, namespace: str) -> str:
    """Return the root certificate (PEM) that the proxies of ``namespace`` trust; "" where none is."""
    found = view.find("ConfigMap", ROOT_CERTIFICATE, namespace) or {}
    return str((found.get("data") or {}).get(ROOT_KEY, ""))


def mutual_tls(look: Look, asked: Asked, source: Snapshot, destination: Snapshot) -> Iterator[Finding]:
    """Look at who switches mutual TLS off: a client's DestinationRule, or a PeerAuthentication of either side.

    Each side's control plane reads its own PeerAuthentication for the pods of both, so one that disables it cuts both
    directions.
    """
    for rule in routing.destination_rules(asked.host, asked, source)[:1]:
        mode = ((rule["spec"].get("trafficPolicy") or {}).get("tls") or {}).get("mode", "ISTIO_MUTUAL")
        if mode != "ISTIO_MUTUAL":
            home, name = rule["metadata"]["namespace"], rule["metadata"]["name"]
            yield look.cause(
                f"{source.cluster}'s DestinationRule {home}/{name} sets TLS mode {mode}: no gateway passes that on.",
                f"{source.kubectl(home)} patch destinationrule {name} --type merge"
                ' -p \'{"spec":{"trafficPolicy":{"tls":{"mode":"ISTIO_MUTUAL"}}}}\'',
            )
    modes = {view.cluster: peer_mode(asked, view) for view in (source, destination)}
    for view in (source, destination):
        mode, rule_name = modes[view.cluster]
        if mode == "DISABLE":
            others = [f"{name}: {found}" for name, (found, _) in modes.items() if name != view.cluster]
            home, _, name = rule_name.partition("/")
            yield look.cause(
                f"{view.cluster}'s PeerAuthentication {rule_name} disables mutual TLS ({', '.join(others)}):"
                " nothing crosses between the networks without it.",
                f"{view.kubectl(home)} patch peerauthentication {name} --type merge"
                ' -p \'{"spec":{"mtls":{"mode":"PERMISSIVE"}}}\'',
            )
            return
    yield look.fine(f"Mutual TLS: {', '.join(f'{name} {mode}' for name, (mode, _) in modes.items())}.")


def peer_mode(asked: Asked, view: Snapshot) -> tuple[str, str]:
    """Return the mode of mutual TLS of the service's pods, and the PeerAuthentication that sets it ("" for none).

    One for the pods' labels counts before their namespace's, that before the mesh's; UNSET passes on.
    """
    pods = view.behind(view.find("Service", asked.service, asked.namespace))
    labels = next((labels_of(pod) for pod in pods if is_ready(pod)), {})
    ranked = []
    for rule in view.list(PEER_AUTHENTICATION):
        home, spec = rule["metadata"].get("namespace", ""), rule.get("spec") or {}
        narrow = spec.get("selector")
        if home not in (asked.namespace, SYSTEM_NAMESPACE) or (narrow and home != asked.namespace):
            continue
        if narrow and not selects(narrow, labels):
            continue
        port = (spec.get("portLevelMtls") or {}).get(str(asked.port)) if narrow else None
        mode = (port or spec.get("mtls") or {}).get("mode", "UNSET")
        if mode != "UNSET":
            ranked.append((0 if narrow else 1 if home == asked.namespace else 2, routing.title(rule), mode))
    _, name, mode = min(ranked, default=(3, "", "PERMISSIVE"))
    return mode, name
