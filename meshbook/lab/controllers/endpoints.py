"""Service → Endpoints and EndpointSlices: which pods answer, on which port. A pod that terminates leaves at once."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass

from meshbook.lab.client import ENDPOINT_SLICES, ENDPOINTS, NODES, PODS, SERVICES, Resource
from meshbook.lab.controllers.loop import Controller
from meshbook.lab.controllers.objects import (
    Key,
    Object,
    contains,
    difference,
    is_controlled_by,
    is_deleting,
    is_finished,
    is_ready,
    key_of,
    labels_of,
    owner_reference,
    short_hash,
)
from meshbook.lab.controllers.world import Actions, Create, Delete, Patch, World

SERVICE_NAME = "kubernetes.io/service-name"
MANAGED_BY = "endpointslice.kubernetes.io/managed-by"
MANAGER = "endpointslice-controller.k8s.io"
HEADLESS = "service.kubernetes.io/headless"
ENDPOINTS_MANAGED_BY = {"endpoints.kubernetes.io/managed-by": "endpoint-controller"}
ZONE = "topology.kubernetes.io/zone"


@dataclass(frozen=True, kw_only=True)
class Member:
    """A pod behind a Service, with the Service's ports as this pod has them."""

    pod: Object
    ports: list[Object]
    zone: str
    ready: bool
    serving: bool

    @property
    def terminating(self) -> bool:
        return is_deleting(self.pod)

    @property
    def address(self) -> str:
        ip: str = self.pod["status"]["podIP"]
        return ip

    @property
    def target(self) -> Object:
        metadata = self.pod["metadata"]
        identity = {name: metadata[name] for name in ("name", "namespace", "uid")}
        return {"kind": "Pod", **identity}


def decide(world: World, key: Key) -> Actions:
    """Make Endpoints and EndpointSlices of one Service what its pods are."""
    service = world.get(SERVICES, key)
    known = world.get(ENDPOINTS, key)
    if service is None:
        return [Delete(resource=ENDPOINTS, of=known)] if known and _is_ours(known) else []
    if is_deleting(service) or not service["spec"].get("selector"):
        return []
    members = _members(world, service)
    return [*_slices(world, service, members), *_settle(ENDPOINTS, known, endpoints_of(service, members))]


def _is_ours(endpoints: Object) -> bool:
    return contains(labels_of(endpoints), ENDPOINTS_MANAGED_BY)


def _members(world: World, service: Object) -> list[Member]:
    unready_too = bool(service["spec"].get("publishNotReadyAddresses"))
    members = []
    for pod in world.list(PODS, service["metadata"]["namespace"]):
        if not contains(labels_of(pod), service["spec"]["selector"]):
            continue
        if is_finished(pod) or not (pod.get("status") or {}).get("podIP"):
            continue
        node = world.get(NODES, ("", pod["spec"].get("nodeName", ""))) or {"metadata": {}}
        serving = unready_too or is_ready(pod)
        ready = unready_too or (is_ready(pod) and not is_deleting(pod))
        ports, zone = ports_of(service, pod), labels_of(node).get(ZONE, "")
        members.append(Member(pod=pod, ports=ports, zone=zone, ready=ready, serving=serving))
    return sorted(members, key=lambda member: member.address)


def ports_of(service: Object, pod: Object) -> list[Object]:
    """Return a Service's ports with this pod's target numbers; a named port that the pod does not have is left out."""
    found = []
    for port in service["spec"].get("ports") or []:
        number = _target_port(port, pod)
        if number is not None:
            names = {name: port[name] for name in ("appProtocol",) if port.get(name)}
            found.append(
                {"name": port.get("name", ""), "port": number, "protocol": port.get("protocol", "TCP"), **names}
            )
    return found


def _target_port(port: Object, pod: Object) -> int | None:
    target = port.get("targetPort") or port["port"]
    if isinstance(target, int):
        return target
    containers = [*pod["spec"]["containers"], *(pod["spec"].get("initContainers") or [])]
    offered = [offer for container in containers for offer in container.get("ports") or []]
    protocol = port.get("protocol", "TCP")
    same = [offer for offer in offered if offer.get("name") == target and offer.get("protocol", "TCP") == protocol]
    return same[0]["containerPort"] if same else None


def _groups(members: Iterable[Member]) -> list[tuple[list[Object], list[Member]]]:
    """Put members with the same ports together: each group is one slice, or one subset."""
    groups: dict[str, tuple[list[Object], list[Member]]] = {}
    for member in members:
        groups.setdefault(json.dumps(member.ports), (member.ports, []))[1].append(member)
    return list(groups.values())


def _slices(world: World, service: Object, members: list[Member]) -> Actions:
    known = {
        found["metadata"]["name"]: found
        for found in world.list(ENDPOINT_SLICES, service["metadata"]["namespace"])
        if labels_of(found).get(MANAGED_BY) == MANAGER and is_controlled_by(found, service)
    }
    groups = _groups(members) or [([], [])]
    wanted = [endpoint_slice(service, ports, group) for ports, group in groups]
    names = {found["metadata"]["name"] for found in wanted}
    actions = [action for found in wanted for action in _settle(ENDPOINT_SLICES, known.get(key_of(found)[1]), found)]
    return [
        *actions,
        *[Delete(resource=ENDPOINT_SLICES, of=found) for name, found in known.items() if name not in names],
    ]


def endpoint_slice(service: Object, ports: list[Object], members: list[Member]) -> Object:
    """Return one EndpointSlice: ``members`` all have ``ports``."""
    metadata = service["metadata"]
    headless = {HEADLESS: ""} if _is_headless(service) else {}
    labels = {**labels_of(service), SERVICE_NAME: metadata["name"], MANAGED_BY: MANAGER, **headless}
    return {
        "apiVersion": ENDPOINT_SLICES.api_version,
        "kind": ENDPOINT_SLICES.kind,
        "metadata": {
            "name": f"{metadata['name']}-{short_hash([metadata['uid'], ports], 5)}",
            "namespace": metadata["namespace"],
            "labels": labels,
            "ownerReferences": [owner_reference(service)],
        },
        "addressType": "IPv4",
        "endpoints": [_endpoint(member, service) for member in members],
        "ports": ports,
    }


def _is_headless(service: Object) -> bool:
    headless: bool = service["spec"].get("clusterIP") == "None"
    return headless


def _endpoint(member: Member, service: Object) -> Object:
    conditions = {"ready": member.ready, "serving": member.serving, "terminating": member.terminating}
    spec = member.pod["spec"]
    place = {"nodeName": spec.get("nodeName"), "zone": member.zone, "hostname": _hostname(spec, service)}
    kept = {name: value for name, value in place.items() if value}
    return {"addresses": [member.address], "conditions": conditions, "targetRef": member.target, **kept}


def _hostname(spec: Object, service: Object) -> str:
    matches = spec.get("subdomain") == service["metadata"]["name"]
    return spec.get("hostname", "") if matches else ""


def endpoints_of(service: Object, members: list[Member]) -> Object:
    """Return the Endpoints object; pods that terminate are in neither of its lists."""
    metadata = service["metadata"]
    unready_too = bool(service["spec"].get("publishNotReadyAddresses"))
    shown = [member for member in members if unready_too or not member.terminating]
    subsets = []
    for ports, group in _groups(shown):
        lists: dict[str, list[Object]] = {"addresses": [], "notReadyAddresses": []}
        for member in group:
            place = {
                "ip": member.address,
                "nodeName": member.pod["spec"].get("nodeName", ""),
                "targetRef": member.target,
            }
            lists["addresses" if member.ready else "notReadyAddresses"].append(place)
        plain = [{name: value for name, value in port.items() if value} for port in ports]
        subsets.append({**{name: found for name, found in lists.items() if found}, "ports": plain})
    headless = {HEADLESS: ""} if _is_headless(service) else {}
    labels = {**labels_of(service), **ENDPOINTS_MANAGED_BY, **headless}
    identity = {"name": metadata["name"], "namespace": metadata["namespace"], "labels": labels}
    return {"apiVersion": "v1", "kind": "Endpoints", "metadata": identity, **({"subsets": subsets} if subsets else {})}


def _settle(resource: Resource, known: Object | None, wanted: Object) -> Actions:
    """Create ``wanted``, or change what is known into it; labels and lists are ours, the rest of it is kept."""
    if known is None:
        return [Create(resource=resource, obj=wanted)]
    lists = ("subsets",) if resource is ENDPOINTS else ("endpoints", "ports")
    before = {name: known[name] for name in lists if known.get(name)}
    patch = difference(before, {name: wanted[name] for name in lists if wanted.get(name)})
    labels = difference(labels_of(known), wanted["metadata"]["labels"])
    if not patch and not labels:
        return []
    return [Patch(resource=resource, of=known, patch={**patch, **({"metadata": {"labels": labels}} if labels else {})})]


def _of_pod(world: World, pod: Object) -> list[Key]:
    """All Services beside the pod: a changed label may have taken it out of any of them."""
    return [key_of(service) for service in world.list(SERVICES, pod["metadata"]["namespace"])]


def _of_slice(world: World, found: Object) -> list[Key]:
    return [(found["metadata"]["namespace"], labels_of(found).get(SERVICE_NAME, ""))]


CONTROLLER = Controller(
    name="endpoints",
    decide=decide,
    concerns={
        SERVICES: lambda _, service: [key_of(service)],
        ENDPOINTS: lambda _, endpoints: [key_of(endpoints)],
        ENDPOINT_SLICES: _of_slice,
        PODS: _of_pod,
    },
)
