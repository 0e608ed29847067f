"""The fleet's ingress controller: MultiClusterService and MultiClusterIngress → derived Services, a VIP, the balancer.

It stands in for Google's hosted one, once per lab: it reads the config cluster, writes member clusters, and publishes
what the load balancer is to serve. Without the fleet feature nothing is made, a MultiClusterIngress (MCI) gets its VIP
after a while, and the load balancer answers 404 and then 502 before it is programmed. What Google's controller would
refuse, and what this lab's load balancer cannot do, is a ``Refusal`` in words that name the missing object.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable
from dataclasses import dataclass

import aiohttp

from meshbook.errors import LabError
from meshbook.lab.client import (
    BACKEND_CONFIGS,
    ENDPOINT_SLICES,
    MULTI_CLUSTER_INGRESSES,
    MULTI_CLUSTER_SERVICES,
    SERVICES,
    Client,
    Informer,
    key_of,
)
from meshbook.lab.controllers.controller import (
    Actions,
    Cache,
    WorkQueue,
    all_synced,
    emit,
    patch_status,
    perform,
    settle,
    short_hash,
)
from meshbook.lab.envoy import Backend, Frontend, HealthCheck, Resources, load_balancer
from meshbook.lab.topology import PROJECT, ClusterTopology, LabTopology, reachable
from meshbook.objects import SERVICE_LABEL, Object, annotations_of, condition, labels_of

log = logging.getLogger(__name__)

_COMPONENT = "multi-cluster-ingress-controller"
FEATURE = f"/v1/projects/{PROJECT}/locations/global/features/multiclusteringress"
_WATCHED = (MULTI_CLUSTER_SERVICES, MULTI_CLUSTER_INGRESSES, BACKEND_CONFIGS, SERVICES, ENDPOINT_SLICES)
EVERYTHING = "all"
"""The only key of the queue: every decision looks at all MCIs, since they share the load balancer."""
VIP_PORT = 80
VIPS = 100
PARENT = "networking.gke.io/multiclusterservice-parent"
NEG = "cloud.google.com/neg"
BACKEND_CONFIG = "cloud.google.com/backend-config"
LONGEST_NAME = 38
"""What of a MultiClusterService's name fits into a derived Service's."""
CHECK_FIELDS = {
    "requestPath": "request_path",
    "port": "port",
    "checkIntervalSec": "interval_s",
    "timeoutSec": "timeout_s",
    "healthyThreshold": "healthy_threshold",
    "unhealthyThreshold": "unhealthy_threshold",
}


@dataclass(frozen=True, kw_only=True)
class Pace:
    """How long Google's side takes (minutes there, seconds here)."""

    vip_s: float = 0.5
    """From a valid MCI to its VIP."""
    programmed_s: float = 0.5
    """From the VIP to good answers: 404 in the first half of it, 502 in the second."""
    feature_poll_s: float = 0.3


@dataclass(kw_only=True)
class Progress:
    """How far one MCI is."""

    since: float
    """Loop time at which it was first found valid."""
    backend: Backend
    """The last good translation: what is served on while a later one is refused."""


class Refusal(LabError):
    """A MultiClusterIngress cannot be translated; the message says why."""


class MultiClusterIngressController:
    """Follow the fleet feature and the objects of ``cluster``, which is a GKE cluster, and keep all that follows right.

    ``publish`` takes what the load balancer is to serve, whenever that may have changed.
    Config cluster and member are one: of the lab's two clusters only one is on GKE.
    """

    def __init__(
        self,
        topology: LabTopology,
        cluster: ClusterTopology,
        client: Client,
        fleet_token: str,
        publish: Callable[[Resources], object],
        pace: Pace | None = None,
    ) -> None:
        self._topology = topology
        self._cluster = cluster
        self._client = client
        self._fleet_token = fleet_token
        self._publish = publish
        self._pace = pace or Pace()
        self._informers = {resource: Informer(client, resource) for resource in _WATCHED}
        self._cache = Cache({resource: informer.objects for resource, informer in self._informers.items()})
        self._queue: WorkQueue[str] = WorkQueue("multiclusteringress", lambda _: self._sync())
        self._enabled: bool | None = None
        """Whether the fleet feature names this cluster; None until the fleet API has said so."""
        self._progress: dict[str, Progress] = {}

    async def run(self) -> None:
        """Run until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for informer in self._informers.values():
                informer.subscribe(lambda *_: self._queue.add(EVERYTHING))
                tasks.create_task(informer.run())
            await all_synced(self._informers.values())
            tasks.create_task(self._follow_feature())
            tasks.create_task(self._queue.run())

    async def _follow_feature(self) -> None:
        headers = {"authorization": f"Bearer {self._fleet_token}"}
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5), headers=headers) as session:
            while True:
                try:
                    enabled = await self._is_enabled(session)
                except (LabError, aiohttp.ClientError, TimeoutError) as error:
                    log.warning("the fleet API did not tell the feature, so all stays as it is: %s", error)
                else:
                    if enabled is not self._enabled:
                        self._enabled = enabled
                        self._queue.add(EVERYTHING)
                await asyncio.sleep(self._pace.feature_poll_s)

    async def _is_enabled(self, session: aiohttp.ClientSession) -> bool:
        async with session.get(self._topology.fleet_url + FEATURE) as response:
            if response.status == 404:
                return False
            if response.status != 200:
                raise LabError(f"GET {FEATURE}: HTTP {response.status}")
            feature = await response.json()
        active = feature.get("resourceState", {}).get("state") == "ACTIVE"
        return bool(active and feature["spec"]["multiclusteringress"]["configMembership"] == self._cluster.membership)

    async def _sync(self) -> float | None:
        if self._enabled is None:
            return None
        services = self._cache.list(MULTI_CLUSTER_SERVICES) if self._enabled else []
        await self._perform(derivation(self._cache, self._cluster, services))
        frontends: list[Frontend] = []
        due: list[float] = []
        for ingress in self._cache.list(MULTI_CLUSTER_INGRESSES):
            if self._enabled:
                frontend, after_s = await self._serve(ingress)
                frontends += [frontend] if frontend else []
                due += [after_s] if after_s else []
            else:
                await self._withdraw(ingress)
        self._publish(load_balancer(frontends))
        return min(due, default=None)

    async def _perform(self, actions: Actions) -> None:
        await perform(self._client, self._cache, actions)

    async def _serve(self, ingress: Object) -> tuple[Frontend | None, float | None]:
        """Take one MCI as far as its age allows; return its frontend and the seconds until the next stage."""
        uid, now = ingress["metadata"]["uid"], asyncio.get_running_loop().time()
        refused = False
        try:
            backend = backend_of(self._topology, self._cache, ingress)
        except Refusal as refusal:
            refused = True
            await self._perform(_refused(self._cache, ingress, refusal.message))
        else:
            since = now - (3600.0 if vip_of(ingress) else 0.0)
            self._progress.setdefault(uid, Progress(since=since, backend=backend)).backend = backend
        progress = self._progress.get(uid)
        if progress is None:
            return None, None
        age_s = now - progress.since
        if age_s < self._pace.vip_s:
            return None, self._pace.vip_s - age_s
        vip = vip_of(ingress) or self._free_vip()
        if not refused:
            await self._perform(_accepted(self._cache, ingress, vip))
        stage, after_s = stage_of(age_s - self._pace.vip_s, self._pace, progress.backend)
        address, _, port = vip.partition(":")
        return Frontend(name=progress.backend.name, address=address, port=int(port or VIP_PORT), backend=stage), after_s

    def _free_vip(self) -> str:
        taken = {vip_of(one) for one in self._cache.list(MULTI_CLUSTER_INGRESSES)}
        port = self._topology.bindable(VIP_PORT)
        suffix = "" if port == VIP_PORT else f":{port}"
        every = (f"{self._topology.vip(number)}{suffix}" for number in range(VIPS))
        return next(vip for vip in every if vip not in taken)

    async def _withdraw(self, ingress: Object) -> None:
        """Take back what an MCI was given when the feature is not enabled (any more)."""
        self._progress.pop(ingress["metadata"]["uid"], None)
        if vip_of(ingress):
            await self._perform(patch_status(MULTI_CLUSTER_INGRESSES, ingress, {"VIP": None}))
        why = f"fleet feature multiclusteringress: it is not enabled with {self._cluster.name} as config cluster"
        await self._perform(_refused(self._cache, ingress, why))


def vip_of(ingress: Object) -> str:
    return str((ingress.get("status") or {}).get("VIP") or "")


def stage_of(age_s: float, pace: Pace, backend: Backend) -> tuple[Backend | None, float | None]:
    """Return the backend that a frontend of this age has, and the seconds until it changes.

    At first none (404), then one without endpoints (502), at last the real one.
    """
    half_s = pace.programmed_s / 2
    if age_s < half_s:
        return None, half_s - age_s
    if age_s < pace.programmed_s:
        return Backend(name=backend.name, health_check=backend.health_check), pace.programmed_s - age_s
    return backend, None


def _accepted(cache: Cache, ingress: Object, vip: str) -> Actions:
    actions = _synced(cache, ingress, "True", "Synced", "the load balancer follows this object")
    if vip != vip_of(ingress):
        actions += patch_status(MULTI_CLUSTER_INGRESSES, ingress, {"VIP": vip})
        actions.append(emit(ingress, reason="UPDATE", message=f"VIP {vip} assigned", component=_COMPONENT))
    return actions


def _refused(cache: Cache, ingress: Object, why: str) -> Actions:
    """Tell once, as an Event and in the status, why an MCI cannot be served."""
    patches = _synced(cache, ingress, "False", "TranslationError", why)
    message = f"error translating MCI {'/'.join(key_of(ingress))}: {why}"
    told = emit(ingress, reason="SYNC", message=message, component=_COMPONENT, kind="Warning")
    return [told, *patches] if patches else []


def _synced(cache: Cache, ingress: Object, status: str, reason: str, message: str) -> Actions:
    """Ask for the condition ``Synced``, unless the status says so already."""
    fresh = {"type": "Synced", "status": status, "reason": reason, "message": message}
    if condition(ingress, "Synced").items() >= fresh.items():
        return []
    return patch_status(MULTI_CLUSTER_INGRESSES, ingress, {"conditions": cache.with_condition(ingress, fresh)})


def derivation(cache: Cache, cluster: ClusterTopology, services: list[Object]) -> Actions:
    """Say what must change in ``cluster`` so that its derived Services are those of the MCSs that reach into it."""
    known = [found for found in cache.list(SERVICES) if PARENT in annotations_of(found)]
    wanted = [derived_service(service) for service in services if is_member(cluster, service)]
    return settle(SERVICES, known, wanted, _ours)


def _ours(service: Object) -> Object:
    """Return what is derived of a Service, with the defaults that an API server gives to its ports."""
    ports = [{"protocol": "TCP", "targetPort": port["port"], **port} for port in service["spec"].get("ports") or []]
    annotations = {name: text for name, text in annotations_of(service).items() if name in (PARENT, NEG)}
    spec = {"selector": service["spec"].get("selector") or {}, "ports": ports}
    return {"metadata": {"annotations": annotations}, "spec": spec}


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


def is_member(cluster: ClusterTopology, service: Object) -> bool:
    """Whether an MCS reaches into a cluster: GKE clusters only, and those of ``spec.clusters`` where it is given."""
    links = [entry.get("link", "") for entry in service["spec"].get("clusters") or []]
    location, name = cluster.membership.split("/")[3::2]
    return cluster.is_gke and (not links or f"{location}/{name}" in links)


def backend_of(topology: LabTopology, cache: Cache, ingress: Object) -> Backend:
    """Return what stands behind an MCI now; ``Refusal`` when it cannot be told."""
    service, port = _wanted(cache, ingress)
    return Backend(
        name="mci-{namespace}-{name}".format(**ingress["metadata"]),
        endpoints=tuple(sorted(_ready_addresses(topology, cache, service, port))),
        health_check=_health_check(topology, cache, service, port),
    )


def _wanted(cache: Cache, ingress: Object) -> tuple[Object, Object]:
    """Return the MCS and the port of it that an MCI names."""
    spec, namespace = ingress["spec"]["template"]["spec"], ingress["metadata"]["namespace"]
    for field in ("rules", "tls"):
        if spec.get(field):
            raise Refusal(f"spec.template.spec.{field}: this lab's load balancer knows the default backend only")
    backend = spec.get("backend") or {}
    name, wanted = backend.get("serviceName"), backend.get("servicePort")
    if not name or not wanted:
        raise Refusal("spec.template.spec.backend: serviceName and servicePort are required")
    service = cache.get(MULTI_CLUSTER_SERVICES, (namespace, name))
    if service is None:
        raise Refusal(f"missing MultiClusterService {namespace}/{name}")
    ports = service["spec"]["template"]["spec"].get("ports") or []
    port = next((port for port in ports if wanted in (port["port"], port.get("name"))), None)
    if port is None:
        offered = ", ".join(str(port["port"]) for port in ports) or "none"
        raise Refusal(f"MultiClusterService {namespace}/{name} has no port {wanted!r}; it has {offered}")
    return service, port


def _health_check(topology: LabTopology, cache: Cache, service: Object, port: Object) -> HealthCheck:
    name, namespace = _backend_config_name(service, port), service["metadata"]["namespace"]
    if not name:
        return HealthCheck()
    found = cache.get(BACKEND_CONFIGS, (namespace, name))
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


def _ready_addresses(topology: LabTopology, cache: Cache, service: Object, port: Object) -> set[tuple[str, int]]:
    """Return (address, port) of the ready pods of one member cluster, as the gateways there listen."""
    found: set[tuple[str, int]] = set()
    for endpoints in cache.list(ENDPOINT_SLICES, service["metadata"]["namespace"]):
        if labels_of(endpoints).get(SERVICE_LABEL) != derived_name(service):
            continue
        same_name = (each for each in endpoints.get("ports") or [] if (each.get("name") or "") == port.get("name", ""))
        number = next((each["port"] for each in same_name), None)
        ready = [one for one in endpoints.get("endpoints") or [] if one["conditions"].get("ready")]
        if number is not None:
            found |= {(reachable(ip), topology.bindable(number)) for one in ready for ip in one["addresses"]}
    return found
