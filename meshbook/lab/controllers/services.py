"""What a Service is made of: its EndpointSlices and Endpoints, and the address of its load balancer.

A pod that terminates leaves the ready endpoints at once. Only the address of a load balancer is given here; who answers
on it is the data plane's business: gateways' Envoys bind the addresses of the Services that select them.
"""

from __future__ import annotations

import json
from collections.abc import Callable

from meshbook.lab.client import ENDPOINT_SLICES, ENDPOINTS, NODES, PODS, SERVICES, Key, key_of
from meshbook.lab.controllers.controller import (
    Actions,
    Cache,
    Controller,
    emit,
    itself,
    patch_status,
    settle,
    short_hash,
)
from meshbook.lab.controllers.ownership import is_controlled_by, owner_reference
from meshbook.lab.topology import ClusterTopology
from meshbook.objects import (
    SERVICE_LABEL,
    Object,
    condition,
    containers_of,
    is_deleting,
    labels_of,
    load_balancer_ips,
)

MANAGED_BY = {"endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io"}
ENDPOINTS_MANAGED_BY = {"endpoints.kubernetes.io/managed-by": "endpoint-controller"}
HEADLESS = "service.kubernetes.io/headless"
ZONE = "topology.kubernetes.io/zone"
_COMPONENT = "service-controller"
LOAD_BALANCER_ADDRESSES = 100

Group = tuple[list[Object], list[Object]]
"""Ports, and the endpoints that have just these: one slice, or one subset."""


def decide(cache: Cache, key: Key) -> Actions:
    """Make Endpoints and EndpointSlices of one Service what its pods are."""
    service, known = cache.get(SERVICES, key), cache.get(ENDPOINTS, key)
    endpoints = [known] if known and (service or labels_of(known).items() >= ENDPOINTS_MANAGED_BY.items()) else []
    if service is None:
        return settle(ENDPOINTS, endpoints, [], _ours)
    if is_deleting(service) or not service["spec"].get("selector"):
        return []
    slices = [
        found
        for found in cache.list(ENDPOINT_SLICES, key[0])
        if labels_of(found).items() >= MANAGED_BY.items() and is_controlled_by(found, service)
    ]
    groups = _groups(cache, service)
    wanted = [_slice(service, ports, members) for ports, members in groups or [([], [])]]
    return [
        *settle(ENDPOINT_SLICES, slices, wanted, _ours),
        *settle(ENDPOINTS, endpoints, [_endpoints(service, groups)], _ours),
    ]


def _ours(obj: Object) -> Object:
    lists = {name: obj.get(name) or [] for name in ("endpoints", "ports", "subsets")}
    return {"metadata": {"labels": labels_of(obj)}, **lists}


def _groups(cache: Cache, service: Object) -> list[Group]:
    """Return the endpoints of a Service, those with the same ports together."""
    selector = service["spec"]["selector"]
    pods = [pod for pod in cache.list(PODS, service["metadata"]["namespace"]) if _is_member(pod, selector)]
    groups: dict[str, Group] = {}
    for pod in sorted(pods, key=lambda pod: str(pod["status"]["podIP"])):
        ports = ports_of(service, pod)
        groups.setdefault(json.dumps(ports), (ports, []))[1].append(_endpoint(cache, service, pod))
    return list(groups.values())


def _is_member(pod: Object, selector: dict[str, str]) -> bool:
    status = pod.get("status") or {}
    runs = bool(status.get("podIP")) and status.get("phase") not in ("Succeeded", "Failed")
    return runs and labels_of(pod).items() >= selector.items()


def ports_of(service: Object, pod: Object) -> list[Object]:
    """Return a Service's ports with this pod's target numbers; a named port that the pod does not have is left out."""
    found = []
    for port in service["spec"].get("ports") or []:
        protocol, number = port.get("protocol", "TCP"), _target_port(port, pod)
        if number is not None:
            kept = {"appProtocol": port["appProtocol"]} if port.get("appProtocol") else {}
            found.append({"name": port.get("name", ""), "port": number, "protocol": protocol, **kept})
    return found


def _target_port(port: Object, pod: Object) -> int | None:
    target = port.get("targetPort") or port["port"]
    if isinstance(target, int):
        return target
    offered = [offer for container in containers_of(pod) for offer in container.get("ports") or []]
    wanted = (target, port.get("protocol", "TCP"))
    same = (offer for offer in offered if (offer.get("name"), offer.get("protocol", "TCP")) == wanted)
    return next((offer["containerPort"] for offer in same), None)


def _endpoint(cache: Cache, service: Object, pod: Object) -> Object:
    """Return a pod as an endpoint of a slice."""
    spec, metadata = pod["spec"], pod["metadata"]
    published = bool(service["spec"].get("publishNotReadyAddresses"))
    serving, terminating = published or condition(pod, "Ready").get("status") == "True", is_deleting(pod)
    ready = serving and (published or not terminating)
    node = cache.get(NODES, ("", spec.get("nodeName", ""))) or {"metadata": {}}
    hostname = spec.get("hostname") if spec.get("subdomain") == service["metadata"]["name"] else ""
    place = {"nodeName": spec.get("nodeName"), "zone": labels_of(node).get(ZONE), "hostname": hostname}
    return {
        "addresses": [pod["status"]["podIP"]],
        "conditions": {"ready": ready, "serving": serving, "terminating": terminating},
        "targetRef": {"kind": "Pod", **{name: metadata[name] for name in ("name", "namespace", "uid")}},
        **{name: value for name, value in place.items() if value},
    }


def _slice(service: Object, ports: list[Object], endpoints: list[Object]) -> Object:
    metadata = service["metadata"]
    return {
        "apiVersion": ENDPOINT_SLICES.api_version,
        "kind": ENDPOINT_SLICES.kind,
        "metadata": {
            "name": f"{metadata['name']}-{short_hash([metadata['uid'], ports], 5)}",
            "namespace": metadata["namespace"],
            "labels": {**_labels(service), SERVICE_LABEL: metadata["name"], **MANAGED_BY},
            "ownerReferences": [owner_reference(service)],
        },
        "addressType": "IPv4",
        "endpoints": endpoints,
        "ports": ports,
    }


def _labels(service: Object) -> dict[str, str]:
    return {**labels_of(service), **({HEADLESS: ""} if service["spec"].get("clusterIP") == "None" else {})}


def _endpoints(service: Object, groups: list[Group]) -> Object:
    """Return the Endpoints object; pods that terminate are in neither of its lists, unless they count as ready."""
    subsets = []
    for ports, endpoints in groups:
        lists: dict[str, list[Object]] = {"addresses": [], "notReadyAddresses": []}
        for one in endpoints:
            place = {"ip": one["addresses"][0], "nodeName": one.get("nodeName", ""), "targetRef": one["targetRef"]}
            if one["conditions"]["ready"] or not one["conditions"]["terminating"]:
                lists["addresses" if one["conditions"]["ready"] else "notReadyAddresses"].append(place)
        shown = {name: found for name, found in lists.items() if found}
        plain = [{name: value for name, value in port.items() if value} for port in ports]
        subsets += [{**shown, "ports": plain}] if shown else []
    labels = {**_labels(service), **ENDPOINTS_MANAGED_BY}
    namespace, name = key_of(service)
    identity = {"name": name, "namespace": namespace, "labels": labels}
    return {"apiVersion": "v1", "kind": "Endpoints", "metadata": identity, **({"subsets": subsets} if subsets else {})}


def _of_pod(cache: Cache, pod: Object) -> list[Key]:
    """All Services beside the pod: a changed label may have taken it out of any of them."""
    return [key_of(service) for service in cache.list(SERVICES, pod["metadata"]["namespace"])]


def _of_slice(_: Cache, found: Object) -> list[Key]:
    return [(found["metadata"]["namespace"], labels_of(found).get(SERVICE_LABEL, ""))]


ENDPOINTS_OF_SERVICES = Controller(
    name="endpoints",
    decide=decide,
    watches={SERVICES: itself, ENDPOINTS: itself, ENDPOINT_SLICES: _of_slice, PODS: _of_pod},
)


def load_balancers(cluster: ClusterTopology, bindable: Callable[[int], int]) -> Controller:
    """Return the controller that hands out ``cluster``'s load balancer addresses.

    Where a port may not be bound, the status names those that are served in its place.
    """

    def decide(cache: Cache, key: Key) -> Actions:
        service = cache.get(SERVICES, key)
        if service is None:
            return []
        if service["spec"].get("type") != "LoadBalancer":
            given = load_balancer_ips(service)
            return patch_status(SERVICES, service, {"loadBalancer": {"ingress": None}}) if given else []
        return [] if load_balancer_ips(service) or is_deleting(service) else _give(cache, service)

    def _give(cache: Cache, service: Object) -> Actions:
        taken = {ip for other in cache.list(SERVICES) for ip in load_balancer_ips(other)}
        every = (cluster.load_balancer_address(number) for number in range(LOAD_BALANCER_ADDRESSES))
        address = next((found for found in every if found not in taken), "")
        if not address:
            message = f"Error syncing load balancer: all addresses of {cluster.name} are taken"
            reason = "SyncLoadBalancerFailed"
            return [emit(service, reason=reason, message=message, component=_COMPONENT, kind="Warning")]
        told = emit(service, reason="EnsuredLoadBalancer", message="Ensured load balancer", component=_COMPONENT)
        offered = [(one["port"], one.get("protocol", "TCP")) for one in service["spec"].get("ports") or []]
        ports = [{"port": bindable(number), "protocol": protocol} for number, protocol in offered]
        moved = {"ports": ports} if [one["port"] for one in ports] != [number for number, _ in offered] else {}
        ingress = [{"ip": address, "ipMode": "VIP", **moved}]
        return [*patch_status(SERVICES, service, {"loadBalancer": {"ingress": ingress}}), told]

    return Controller(name="loadbalancers", decide=decide, watches={SERVICES: itself})
