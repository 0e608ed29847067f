"""The whole lab: its parts started in order, watched, and taken down in reverse.

One process runs the control planes of all clusters; the pods and Envoys are processes of their own. A part that breaks
takes the lab down with a message in the log, rather than leave half a lab that looks alive.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import functools
import json
import logging
import os
import secrets
import signal
import sys
import time
from collections.abc import AsyncIterator, Coroutine, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from meshbook.errors import LabError
from meshbook.lab import pki, prerequisites
from meshbook.lab.apiserver import ApiServer, User, service_account
from meshbook.lab.client import DEPLOYMENTS, NODES, ApiError, Client, resource_of
from meshbook.lab.controllers import Manager, MultiClusterIngressController
from meshbook.lab.discovery import DiscoveryServer
from meshbook.lab.envoy import Node, Resources, prepare_envoy
from meshbook.lab.faults import ClusterContext, FaultManager, FaultServer
from meshbook.lab.gkehub import FleetServer
from meshbook.lab.images import ENVOY
from meshbook.lab.istiod import Istiod
from meshbook.lab.kubelet import Kubelet, ProcessTable, Timing, base_environment
from meshbook.lab.launch import Choice, LabState, start_ticks
from meshbook.lab.loopback import claim_block, lowest_port, require_ports
from meshbook.lab.pki import Authority
from meshbook.lab.realapiserver import Programs, RealApiServer, find
from meshbook.lab.topology import FAST, ClusterTopology, LabFolder, LabTopology, Pace, two_clouds
from meshbook.objects import SYSTEM_NAMESPACE

log = logging.getLogger(__name__)

READY_TIMEOUT_S = 60.0
_POLL_S = 0.05
EDGE = "global-load-balancer"
"""What the load balancer's Envoy is called; it belongs to no cluster."""

EDGE_DRAIN_S = 1
"""How long requests of a frontend that is gone are still answered."""
EDGE_PAUSE_S = 0.5
"""Pause before an Envoy of the load balancer that ended is started again."""

_MANAGER = "meshbook-lab"
"""Field manager of the prerequisites."""


AnyApiServer = ApiServer | RealApiServer


@dataclass(frozen=True, kw_only=True)
class LabContext:
    """What every part of one lab is given."""

    topology: LabTopology
    authority: Authority
    processes: ProcessTable
    tokens: dict[str, str]
    """By user name: the owner, the viewer and the other istiods' reader of each cluster."""
    fleet_token: str
    control_token: str
    programs: Programs | None
    """Of a real control plane; None: the API servers are emulated."""


async def serve(root: Path, choice: Choice, *, lifeline: bool) -> None:
    """Run a lab in ``root`` until SIGTERM, SIGINT or, with ``lifeline``, the end of standard input."""
    programs = find(os.environ) if choice.apiserver == "real" else None
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, _end, stop, number.name)
    if lifeline:
        loop.add_reader(sys.stdin.fileno(), _end_of_lifeline, stop)
    async with contextlib.AsyncExitStack() as stack:
        context = await stack.enter_async_context(_context(root, programs, choice))
        serving = asyncio.create_task(_serve(context, stop))
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait((serving, stopping), return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        serving.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await serving
    if not stop.is_set():
        raise LabError("the lab ended although nobody asked it to: one of its parts was cancelled from within")


def _end(stop: asyncio.Event, why: str) -> None:
    """Let the lab end, and say by whom: its log shall tell an end that was asked for from any other."""
    log.info("asked to end: %s", why)
    stop.set()


def _end_of_lifeline(stop: asyncio.Event) -> None:
    if not os.read(sys.stdin.fileno(), 1):
        asyncio.get_running_loop().remove_reader(sys.stdin.fileno())
        _end(stop, "whoever started it has let go of its standard input")


@contextlib.asynccontextmanager
async def _context(root: Path, programs: Programs | None, choice: Choice) -> AsyncIterator[LabContext]:
    with _locked(LabFolder(root=root)):
        require_ports()
        block, claim = claim_block()
        with claim:
            pace = FAST if choice.fast else Pace()
            if choice.pod_start_s is not None:
                pace = replace(pace, pod_start_s=choice.pod_start_s)
            kinds = {"real_api": programs is not None, "native_sidecars": choice.sidecars == "native"}
            topology = two_clouds(root, block, lowest_port(block), pace=pace, **kinds)
            users = [user for one in topology.clusters for user in (one.name, one.viewer, one.reader)]
            processes = ProcessTable(topology)
            await processes.start_reaper()
            try:
                yield LabContext(
                    topology=topology,
                    authority=Authority(topology.pki),
                    processes=processes,
                    tokens={user: secrets.token_urlsafe(24) for user in users},
                    fleet_token=secrets.token_urlsafe(24),
                    control_token=secrets.token_urlsafe(24),
                    programs=programs,
                )
            finally:
                await processes.close()
                topology.state_file.unlink(missing_ok=True)
                topology.kubeconfig.unlink(missing_ok=True)


@contextlib.contextmanager
def _locked(folder: LabFolder) -> Iterator[None]:
    with folder.lock.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise LabError(
                f"another lab runs in {folder.root}", hint="meshbook lab status, meshbook lab down"
            ) from error
        yield


async def _serve(context: LabContext, stop: asyncio.Event) -> None:
    topology = context.topology
    pki.write_private(topology.kubeconfig, pki.fleet_kubeconfig(topology, context.authority.root_pem, context.tokens))
    pki.write_private(topology.fleet_token_file, context.fleet_token)
    pki.write_private(topology.control_token_file, context.control_token)
    async with contextlib.AsyncExitStack() as stack:
        servers = await _start_servers(context, stack)
        clients = {}
        for cluster in topology.clusters:
            clients[cluster.name] = await Client.connect(topology.kubeconfig, cluster.name)
            stack.push_async_callback(clients[cluster.name].close)
        kubelets = {cluster.name: _kubelet(context, cluster, clients) for cluster in topology.clusters}
        async with asyncio.TaskGroup() as parts:
            for part in [*_parts(context, clients), *(kubelet.run() for kubelet in kubelets.values())]:
                parts.create_task(part)
            for server in servers.values():
                if isinstance(server, RealApiServer):
                    parts.create_task(server.watch())
            for cluster in topology.clusters:
                for obj in prerequisites.of_cluster(topology, cluster, context.authority.root_pem, context.tokens):
                    await clients[cluster.name].apply(resource_of(obj), obj, manager=_MANAGER)
            await asyncio.gather(*(_ready(client) for client in clients.values()))
            for kubelet in kubelets.values():
                kubelet.take_time()
            await _start_control(context, kubelets, servers, stack)
            _announce(context)
            await stop.wait()
            raise asyncio.CancelledError


async def _start_servers(context: LabContext, stack: contextlib.AsyncExitStack) -> dict[str, AnyApiServer]:
    fleet = FleetServer(context.topology, context.fleet_token)
    await fleet.start()
    stack.push_async_callback(fleet.stop)
    servers = {cluster.name: _api_server(context, cluster) for cluster in context.topology.clusters}
    async with asyncio.TaskGroup() as starts:
        for server in servers.values():
            stack.push_async_callback(server.stop)
            starts.create_task(server.start())
    return servers


async def _start_control(
    context: LabContext,
    kubelets: dict[str, Kubelet],
    servers: dict[str, AnyApiServer],
    stack: contextlib.AsyncExitStack,
) -> None:
    """Be ready to break things on demand; whatever is broken is mended before the parts are taken down."""
    clusters = {
        one.name: ClusterContext(topology=one, pods=kubelets[one.name].pods, silence=servers[one.name].silence)
        for one in context.topology.clusters
    }
    manager = FaultManager(clusters, context.topology.fault_log)
    stack.push_async_callback(manager.close)
    control = FaultServer(context.topology, context.control_token, manager)
    await control.start()
    stack.push_async_callback(control.stop)


async def _keep_edge(context: LabContext, discovery: DiscoveryServer) -> None:
    """Run the global load balancer's Envoy; it serves nothing until the ingress controller has said what."""
    folder, address = context.topology.edge, context.topology.edge_address
    node = Node(cluster=EDGE, name=EDGE, admin_address=address, discovery_address=address, drain_s=EDGE_DRAIN_S)
    argv = prepare_envoy(ENVOY, folder, node, context.authority)
    discovery.publish(EDGE, Resources())
    await discovery.start()
    try:
        while True:
            process = await context.processes.spawn(argv, env=base_environment(), cwd=folder, log=folder / "envoy.log")
            log.warning("the global load balancer ended with exit code %s; starting it again", await process.wait())
            await asyncio.sleep(EDGE_PAUSE_S)
    finally:
        await discovery.stop()


def _api_server(context: LabContext, cluster: ClusterTopology) -> AnyApiServer:
    authority = context.authority
    tokens = {
        context.tokens[cluster.name]: User(name="admin", groups=("system:masters", "system:authenticated")),
        context.tokens[cluster.viewer]: User(name="viewer", groups=(prerequisites.VIEWERS, "system:authenticated")),
        context.tokens[cluster.reader]: service_account(SYSTEM_NAMESPACE, prerequisites.READER),
    }
    if context.programs:
        return RealApiServer(context.topology, cluster, context.programs, context.processes, authority, tokens)
    return ApiServer(
        cluster,
        authority.server_context(f"{cluster.name}-apiserver", [cluster.api_address]),
        tokens,
        authority.client_context(f"{cluster.name}-apiserver-kubelet-client"),
    )


def _kubelet(context: LabContext, cluster: ClusterTopology, clients: dict[str, Client]) -> Kubelet:
    timing = Timing(drain_s=context.topology.pace.termination_drain_s)
    return Kubelet(context.topology, cluster, clients[cluster.name], context.processes, context.authority, timing)


def _parts(context: LabContext, clients: dict[str, Client]) -> list[Coroutine[Any, Any, None]]:
    topology, authority = context.topology, context.authority
    parts: list[Coroutine[Any, Any, None]] = []
    for cluster in topology.clusters:
        client = clients[cluster.name]
        parts.append(Istiod(topology, cluster, client, authority).run())
        only = context.programs.own_controllers if context.programs else None
        parts.append(Manager(topology, cluster, client, only).run())
    edge = DiscoveryServer(EDGE, topology.edge_address, authority)
    parts.append(_keep_edge(context, edge))
    gke = next(cluster for cluster in topology.clusters if cluster.is_gke)
    publish = functools.partial(edge.publish, EDGE)
    ingress = MultiClusterIngressController(topology, gke, clients[gke.name], context.fleet_token, publish)
    return [*parts, ingress.run()]


async def _ready(client: Client) -> None:
    """Wait until the node is ready and the east-west gateway is available."""
    deadline = time.monotonic() + READY_TIMEOUT_S
    seen = "nothing"
    while time.monotonic() < deadline:
        with contextlib.suppress(ApiError):
            nodes, _ = await client.list(NODES)
            gateway = await client.get(DEPLOYMENTS, prerequisites.GATEWAY_NAME, SYSTEM_NAMESPACE)
            available = gateway.get("status", {}).get("availableReplicas", 0)
            seen = f"{len(nodes)} nodes, {available} east-west gateways available"
            if nodes and available:
                return
        await asyncio.sleep(_POLL_S)
    raise LabError(f"{client.context} was not ready after {READY_TIMEOUT_S:g} s", last_seen=seen)


def _announce(context: LabContext) -> None:
    """Write the state file, by which the lab is found and known to be ready."""
    topology, ticks = context.topology, start_ticks(os.getpid())
    since_boot_s = time.clock_gettime(time.CLOCK_BOOTTIME)
    state = LabState(
        root=topology.root,
        pid=os.getpid(),
        start_ticks=ticks,
        kubeconfig=topology.kubeconfig,
        contexts=tuple(cluster.name for cluster in topology.clusters),
        fleet_url=topology.fleet_url,
        control_url=topology.control_url,
        ready_s=round(since_boot_s - ticks / os.sysconf("SC_CLK_TCK"), 2),
    )
    pki.write_private(topology.state_file, json.dumps(asdict(state), indent=2, default=str))
    log.info("ready after %s s", state.ready_s)
