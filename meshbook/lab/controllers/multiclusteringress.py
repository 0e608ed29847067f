"""The fleet's ingress controller: once per lab, reads the config cluster, writes member clusters and the load balancer.

It stands in for Google's hosted one: without the fleet feature nothing is made, an MCI gets its VIP after a while, and
the load balancer answers 404 and then 502 before it is programmed. What is derived and how an MCI is translated stands
in ``ingress.py``.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
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
)
from meshbook.lab.controllers.ingress import Refusal, backend_of, derived_service, is_derived, is_member
from meshbook.lab.controllers.loop import WorkQueue, all_synced
from meshbook.lab.controllers.objects import Object, annotations_of, difference, key_of, with_condition
from meshbook.lab.controllers.world import Actions, Create, Delete, Patch, World, emit, patch_status, perform
from meshbook.lab.envoy import Backend, Frontend, load_balancer, write_resources
from meshbook.lab.topology import PROJECT, ClusterTopology, LabTopology

log = logging.getLogger(__name__)

COMPONENT = "multi-cluster-ingress-controller"
FEATURE = f"/v1/projects/{PROJECT}/locations/global/features/multiclusteringress"
WATCHED = (MULTI_CLUSTER_SERVICES, MULTI_CLUSTER_INGRESSES, BACKEND_CONFIGS, SERVICES, ENDPOINT_SLICES)
EVERYTHING = "all"
"""The only key of the queue: every decision looks at all MCIs, since they share the load balancer."""
VIP_PORT = 80
VIPS = 100


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


class MultiClusterIngressController:
    """Follow the fleet feature and the GKE clusters' objects; keep derived Services, VIPs and balancer right."""

    def __init__(
        self,
        topology: LabTopology,
        clients: Mapping[str, Client],
        fleet_url: str,
        fleet_token: str,
        pace: Pace | None = None,
    ) -> None:
        self._topology = topology
        self._pace = pace or Pace()
        self._fleet = (fleet_url + FEATURE, {"authorization": f"Bearer {fleet_token}"})
        self._members = {cluster.name: cluster for cluster in topology.clusters if cluster.is_gke}
        self._clients = {name: clients[name] for name in self._members}
        self._informers = {
            name: {resource: Informer(client, resource) for resource in WATCHED}
            for name, client in self._clients.items()
        }
        self._worlds = {
            name: World({resource: informer.objects for resource, informer in informers.items()})
            for name, informers in self._informers.items()
        }
        self._queue: WorkQueue[str] = WorkQueue("multiclusteringress", lambda _: self._sync())
        self._config: ClusterTopology | None = None
        self._feature_known = asyncio.Event()
        self._progress: dict[str, Progress] = {}
        self._told: dict[str, str] = {}

    async def run(self) -> None:
        """Run until cancelled."""
        informers = [informer for of_cluster in self._informers.values() for informer in of_cluster.values()]
        async with asyncio.TaskGroup() as tasks:
            for informer in informers:
                informer.subscribe(lambda *_: self._queue.add(EVERYTHING))
                tasks.create_task(informer.run())
            await all_synced(informers)
            tasks.create_task(self._follow_feature())
            await self._feature_known.wait()
            tasks.create_task(self._queue.run())

    async def _follow_feature(self) -> None:
        timeout = aiohttp.ClientTimeout(total=5)
        async with aiohttp.ClientSession(timeout=timeout, headers=self._fleet[1]) as session:
            while True:
                try:
                    config = await self._config_cluster(session)
                except (LabError, aiohttp.ClientError, TimeoutError) as error:
                    log.warning("the fleet API did not tell the feature, so all stays as it is: %s", error)
                else:
                    if config is not self._config or not self._feature_known.is_set():
                        self._config = config
                        self._feature_known.set()
                        self._queue.add(EVERYTHING)
                await asyncio.sleep(self._pace.feature_poll_s)

    async def _config_cluster(self, session: aiohttp.ClientSession) -> ClusterTopology | None:
        async with session.get(self._fleet[0]) as response:
            if response.status == 404:
                return None
            if response.status != 200:
                raise LabError(f"GET {self._fleet[0]}: HTTP {response.status}")
            feature = await response.json()
        if feature.get("resourceState", {}).get("state") != "ACTIVE":
            return None
        wanted = feature["spec"]["multiclusteringress"]["configMembership"]
        return next((cluster for cluster in self._members.values() if cluster.membership == wanted), None)

    async def _sync(self) -> float | None:
        await self._derive()
        frontends: list[Frontend] = []
        due: list[float] = []
        for name, world in self._worlds.items():
            in_charge = self._config is not None and self._config.name == name
            for ingress in world.list(MULTI_CLUSTER_INGRESSES):
                if in_charge:
                    frontend, after_s = await self._serve(name, ingress)
                    frontends += [frontend] if frontend else []
                    due += [after_s] if after_s else []
                else:
                    await self._withdraw(name, ingress)
        write_resources(self._topology.edge, load_balancer(frontends, self._topology.edge))
        return min(due, default=None)

    async def _derive(self) -> None:
        """Make the derived Services of all members those of the config cluster's MCSs."""
        config = self._worlds[self._config.name] if self._config else World({MULTI_CLUSTER_SERVICES: {}})
        for name, world in self._worlds.items():
            services = [one for one in config.list(MULTI_CLUSTER_SERVICES) if is_member(self._members[name], one)]
            await perform(self._clients[name], world, derivation(world, services))

    async def _serve(self, cluster: str, ingress: Object) -> tuple[Frontend | None, float | None]:
        """Take one MCI as far as its age allows; return its frontend and the seconds until the next stage."""
        uid, world = ingress["metadata"]["uid"], self._worlds[cluster]
        try:
            backend = backend_of(self._topology, world, self._worlds.values(), ingress)
        except Refusal as refusal:
            await self._refuse(cluster, ingress, refusal.message)
        else:
            self._told.pop(uid, None)
            since = asyncio.get_running_loop().time() - (3600.0 if vip_of(ingress) else 0.0)
            self._progress.setdefault(uid, Progress(since=since, backend=backend)).backend = backend
        if uid not in self._progress:
            return None, None
        progress = self._progress[uid]
        age_s = asyncio.get_running_loop().time() - progress.since
        if age_s < self._pace.vip_s:
            return None, self._pace.vip_s - age_s
        vip = vip_of(ingress) or self._free_vip()
        if uid not in self._told:
            await perform(self._clients[cluster], world, _accepted(world, ingress, vip))
        stage, after_s = stage_of(age_s - self._pace.vip_s, self._pace, progress.backend)
        address, _, port = vip.partition(":")
        return Frontend(name=progress.backend.name, address=address, port=int(port or VIP_PORT), backend=stage), after_s

    def _free_vip(self) -> str:
        taken = {vip_of(one) for world in self._worlds.values() for one in world.list(MULTI_CLUSTER_INGRESSES)}
        port = self._topology.bindable(VIP_PORT)
        suffix = "" if port == VIP_PORT else f":{port}"
        free = (f"{self._topology.vip(number)}{suffix}" for number in range(VIPS))
        return next(vip for vip in free if vip not in taken)

    async def _refuse(self, cluster: str, ingress: Object, why: str) -> None:
        """Tell once, as an Event and in the status, why an MCI cannot be served."""
        uid, world = ingress["metadata"]["uid"], self._worlds[cluster]
        if self._told.get(uid) == why:
            return
        full_name = "/".join(key_of(ingress))
        message = f"error translating MCI {full_name}: {why}"
        actions: Actions = [emit(ingress, reason="SYNC", message=message, component=COMPONENT, kind="Warning")]
        await perform(self._clients[cluster], world, [*actions, *_condition(world, ingress, "TranslationError", why)])
        self._told[uid] = why

    async def _withdraw(self, cluster: str, ingress: Object) -> None:
        """Take back what an MCI was given when its cluster is not the config cluster (any more)."""
        self._progress.pop(ingress["metadata"]["uid"], None)
        if vip_of(ingress):
            patches = patch_status(MULTI_CLUSTER_INGRESSES, ingress, {"VIP": None})
            await perform(self._clients[cluster], self._worlds[cluster], patches)
        in_charge = f"the config cluster is {self._config.name}" if self._config else "it is not enabled"
        await self._refuse(cluster, ingress, f"fleet feature multiclusteringress: {in_charge}")


def derivation(member: World, services: list[Object]) -> Actions:
    """Say what must change in a member cluster so that its derived Services are those of ``services``."""
    wanted = {key_of(found): found for found in map(derived_service, services)}
    known = {key_of(found): found for found in member.list(SERVICES) if is_derived(found)}
    created = [Create(resource=SERVICES, obj=obj) for key, obj in wanted.items() if key not in known]
    deleted = [Delete(resource=SERVICES, of=obj) for key, obj in known.items() if key not in wanted]
    changed = [_update(known[key], obj) for key, obj in wanted.items() if key in known and _differs(known[key], obj)]
    return [*created, *changed, *deleted]


def _differs(known: Object, wanted: Object) -> bool:
    if known["spec"].get("selector") != (wanted["spec"]["selector"] or None):
        return True
    offered, ports = known["spec"].get("ports") or [], wanted["spec"]["ports"]
    same = len(offered) == len(ports) and all(
        was.items() >= port.items() for was, port in zip(offered, ports, strict=True)
    )
    return not same or not annotations_of(known).items() >= annotations_of(wanted).items()


def _update(known: Object, wanted: Object) -> Patch:
    spec = {name: wanted["spec"][name] for name in ("ports", "selector")}
    spec["selector"] = difference(known["spec"].get("selector") or {}, spec["selector"])
    patch = {"metadata": {"annotations": annotations_of(wanted)}, "spec": spec}
    return Patch(resource=SERVICES, of=known, patch=patch)


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


def _accepted(world: World, ingress: Object, vip: str) -> Actions:
    actions = _condition(world, ingress, "Synced", "the load balancer follows this object", holds=True)
    if vip != vip_of(ingress):
        actions += patch_status(MULTI_CLUSTER_INGRESSES, ingress, {"VIP": vip})
        actions.append(emit(ingress, reason="UPDATE", message=f"VIP {vip} assigned", component=COMPONENT))
    return actions


def _condition(world: World, ingress: Object, reason: str, message: str, *, holds: bool = False) -> Actions:
    before = (ingress.get("status") or {}).get("conditions") or []
    fresh = {"type": "Synced", "status": str(holds), "reason": reason, "message": message}
    after = with_condition(before, fresh, world.now())
    return patch_status(MULTI_CLUSTER_INGRESSES, ingress, {"conditions": after} if after != before else {})
