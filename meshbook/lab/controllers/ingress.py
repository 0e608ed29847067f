"""MultiClusterIngress and MultiClusterService → derived Services, backends and frontends. Pure; no clock, no files.

What Google's controller would refuse is a ``Refusal`` here, in words that name the missing object. What this lab's load
balancer cannot do is refused as well, rather than left out in silence.
"""

from __future__ import annotations

import json
from collections.abc import Iterable

from meshbook.errors import LabError
from meshbook.lab.client import BACKEND_CONFIGS, ENDPOINT_SLICES, MULTI_CLUSTER_SERVICES
from meshbook.lab.controllers.endpoints import SERVICE_NAME
from meshbook.lab.controllers.objects import Object, annotations_of, labels_of, short_hash
from meshbook.lab.controllers.world import World
from meshbook.lab.envoy import Backend, HealthCheck
from meshbook.lab.topology import ClusterTopology, LabTopology, reachable

PARENT = "networking.gke.io/multiclusterservice-parent"
NEG = "cloud.google.com/neg"
BACKEND_CONFIG = "cloud.google.com/backend-config"
LONGEST_NAME = 38
"""What of an MCS's name fits into a derived Service's."""

CHECK_FIELDS = {
    "requestPath": "request_path",
    "port": "port",
    "checkIntervalSec": "interval_s",
    "timeoutSec": "timeout_s",
    "healthyThreshold": "healthy_threshold",
    "unhealthyThreshold": "unhealthy_threshold",
}


class Refusal(LabError):
    """A MultiClusterIngress cannot be translated; the message says why."""


def derived_name(service: Object) -> str:
    """Return the name of the Services that are derived from an MCS: the same in every member cluster."""
    metadata = service["metadata"]
    return f"mci-{metadata['name'][:LONGEST_NAME]}-svc-{short_hash([metadata['namespace'], metadata['name']], 16)}"


def derived_service(service: Object) -> Object:
    """Return the headless Service that an MCS becomes in a member cluster."""
    metadata, spec = service["metadata"], service["spec"]["template"]["spec"]
    parent = {"Namespace": metadata["namespace"], "Name": metadata["name"]}
    exposed: Object = {str(port["port"]): {} for port in spec.get("ports") or []}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": derived_name(service),
            "namespace": metadata["namespace"],
            "labels": labels_of(service),
            "annotations": {PARENT: json.dumps(parent), NEG: json.dumps({"exposed_ports": exposed})},
        },
        "spec": {"clusterIP": "None", "selector": spec.get("selector") or {}, "ports": spec.get("ports") or []},
    }


def is_derived(service: Object) -> bool:
    return PARENT in annotations_of(service)


def is_member(cluster: ClusterTopology, service: Object) -> bool:
    """Whether an MCS reaches into a cluster: GKE clusters only, and those of ``spec.clusters`` where it is given."""
    links = [entry.get("link", "") for entry in service["spec"].get("clusters") or []]
    location, name = cluster.membership.split("/")[3::2]
    return cluster.is_gke and (not links or f"{location}/{name}" in links)


def backend_of(topology: LabTopology, config: World, members: Iterable[World], ingress: Object) -> Backend:
    """Return what stands behind an MCI now; ``Refusal`` when it cannot be told."""
    service, port = _wanted(config, ingress)
    name = "mci-{namespace}-{name}".format(**ingress["metadata"])
    found = [address for world in members for address in ready_addresses(topology, world, service, port)]
    return Backend(
        name=name, endpoints=tuple(sorted(found)), health_check=_health_check(topology, config, service, port)
    )


def _wanted(config: World, ingress: Object) -> tuple[Object, Object]:
    """Return the MCS and the port of it that an MCI names."""
    spec, namespace = ingress["spec"]["template"]["spec"], ingress["metadata"]["namespace"]
    for field in ("rules", "tls"):
        if spec.get(field):
            raise Refusal(f"spec.template.spec.{field}: this lab's load balancer knows the default backend only")
    backend = spec.get("backend") or {}
    name, wanted = backend.get("serviceName"), backend.get("servicePort")
    if not name or not wanted:
        raise Refusal("spec.template.spec.backend: serviceName and servicePort are required")
    service = config.get(MULTI_CLUSTER_SERVICES, (namespace, name))
    if service is None:
        raise Refusal(f"missing MultiClusterService {namespace}/{name}")
    ports = service["spec"]["template"]["spec"].get("ports") or []
    port = next((port for port in ports if wanted in (port["port"], port.get("name"))), None)
    if port is None:
        offered = ", ".join(str(port["port"]) for port in ports) or "none"
        raise Refusal(f"MultiClusterService {namespace}/{name} has no port {wanted!r}; it has {offered}")
    return service, port


def _health_check(topology: LabTopology, config: World, service: Object, port: Object) -> HealthCheck:
    name, namespace = _backend_config_name(service, port), service["metadata"]["namespace"]
    if not name:
        return HealthCheck()
    found = config.get(BACKEND_CONFIGS, (namespace, name))
    if found is None:
        raise Refusal(
            f"missing BackendConfig {namespace}/{name}, which MultiClusterService {_full_name(service)} names"
        )
    check = (found.get("spec") or {}).get("healthCheck") or {}
    if check.get("type", "HTTP") != "HTTP":
        raise Refusal(f"BackendConfig {namespace}/{name}: this lab's load balancer checks by HTTP, not {check['type']}")
    given = {CHECK_FIELDS[field]: value for field, value in check.items() if field in CHECK_FIELDS}
    if "port" in given:
        given["port"] = topology.bindable(given["port"])
    return HealthCheck(**given)


def _backend_config_name(service: Object, port: Object) -> str:
    text = annotations_of(service).get(BACKEND_CONFIG, "")
    try:
        bound = json.loads(text or "{}")
        by_port = bound.get("ports") or {}
        names = [by_port.get(str(port["port"])), by_port.get(port.get("name", "")), bound.get("default")]
    except (ValueError, AttributeError) as error:
        raise Refusal(
            f"MultiClusterService {_full_name(service)}: annotation {BACKEND_CONFIG} is not JSON: {text}"
        ) from error
    return next((name for name in names if name), "")


def _full_name(service: Object) -> str:
    return f"{service['metadata']['namespace']}/{service['metadata']['name']}"


def ready_addresses(topology: LabTopology, member: World, service: Object, port: Object) -> set[tuple[str, int]]:
    """Return (address, port) of the ready pods of one member cluster, as the gateways there listen."""
    found: set[tuple[str, int]] = set()
    for endpoints in member.list(ENDPOINT_SLICES, service["metadata"]["namespace"]):
        if labels_of(endpoints).get(SERVICE_NAME) != derived_name(service):
            continue
        same_name = (each for each in endpoints.get("ports") or [] if (each.get("name") or "") == port.get("name", ""))
        number = next((each["port"] for each in same_name), None)
        ready = [one for one in endpoints.get("endpoints") or [] if one["conditions"].get("ready")]
        if number is not None:
            found |= {(reachable(ip), topology.bindable(number)) for one in ready for ip in one["addresses"]}
    return found
