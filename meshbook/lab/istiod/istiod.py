"""One cluster's istiod: follows the API servers, and publishes what every proxy is to serve after each change.

What that is is decided in ``configuration``, how it gets there in ``discovery``; certificates are issued here.
"""

from __future__ import annotations

import asyncio
import base64
import logging
import time
from dataclasses import replace

from meshbook.errors import LabError
from meshbook.lab import client as api
from meshbook.lab.client import ApiError, Client, Informer, key_of
from meshbook.lab.discovery import DiscoveryServer
from meshbook.lab.envoy import Resources, workload_secrets
from meshbook.lab.istiod import configuration, registry
from meshbook.lab.istiod.injection import ROOT_CONFIG_MAP, Webhook
from meshbook.lab.istiod.meshconfig import CONFIG_MAP, MeshConfig, mesh_config
from meshbook.lab.istiod.registry import Mesh, Proxy
from meshbook.lab.istiod.sources import EVERYWHERE, OWN_ONLY, SYNC_TIMEOUT_S, RemoteClusters, Source
from meshbook.lab.pki import Authority
from meshbook.lab.topology import ClusterTopology, LabTopology
from meshbook.objects import SYSTEM_NAMESPACE, Object, is_deleting

log = logging.getLogger(__name__)

_QUIET_S = 0.1
"""Istio's debounce: changes that follow each other sooner than this go out as one."""
LONGEST_QUIET_S = 1.0
"""Changes are not held back for longer than this, however many there are."""

PLUGGED_IN = "cacerts"
"""Secret of the system namespace with a root of one's own."""
ROOT_LABELS = {"istio.io/config": "true"}
ROOT_KEY = "root-cert.pem"
_RETRY_S = 1.0


class Debounce:
    """Collects notifications into one, as istiod does before it pushes."""

    def __init__(self, quiet_s: float = _QUIET_S, longest_s: float = LONGEST_QUIET_S) -> None:
        self._quiet_s = quiet_s
        self._longest_s = longest_s
        self._changed = asyncio.Event()

    def notify(self) -> None:
        self._changed.set()

    async def settled(self) -> None:
        """Wait for a notification, and then until there was none for a while."""
        await self._changed.wait()
        deadline = time.monotonic() + self._longest_s
        while self._changed.is_set() and (left_s := deadline - time.monotonic()) > 0:
            self._changed.clear()
            try:
                async with asyncio.timeout(min(self._quiet_s, left_s)):
                    await self._changed.wait()
            except TimeoutError:
                return


class Istiod:
    """Serves injection, signs workload certificates and configures all proxies of one cluster."""

    def __init__(self, topology: LabTopology, cluster: ClusterTopology, client: Client, authority: Authority) -> None:
        self._topology = topology
        self._cluster = cluster
        self._authority = authority
        self._debounce = Debounce()
        self._own = Source(cluster.name, client, (*EVERYWHERE, *OWN_ONLY), self._debounce.notify)
        self._remotes = RemoteClusters(client, self._debounce.notify)
        self._config_map = Informer(
            client, api.CONFIG_MAPS, namespace=SYSTEM_NAMESPACE, fields=f"metadata.name={CONFIG_MAP}"
        )
        self._config_map.subscribe(lambda _event, _obj: self._debounce.notify())
        self._config = MeshConfig()
        self._roots = RootCertificates(client, authority.root_pem, self._own.informers[api.NAMESPACES])
        self._issuer = authority
        """Of workloads' certificates: the lab's authority, or the one that is plugged in."""
        self._plugged_in = Informer(
            client, api.SECRETS, namespace=SYSTEM_NAMESPACE, fields=f"metadata.name={PLUGGED_IN}"
        )
        self._plugged_in.subscribe(self._plug_in)
        tls = authority.server_context(f"{cluster.name}-istiod", [cluster.istiod_address])
        self._webhook = Webhook(cluster, tls, native=topology.native_sidecars)
        self._discovery = DiscoveryServer(cluster.name, cluster.istiod_address, authority)
        self._secrets: dict[str, list[Object]] = {}
        """Of each node: a workload keeps its certificate for as long as it is there."""
        for resource in (api.GATEWAYS, api.VIRTUAL_SERVICES, api.PEER_AUTHENTICATIONS):
            self._own.informers[resource].subscribe(_warn)

    async def run(self) -> None:
        """Serve until cancelled; the first push waits until all clusters are known."""
        await self._webhook.start()
        await self._discovery.start()
        try:
            async with asyncio.TaskGroup() as tasks:
                for work in (self._own, self._remotes, self._roots, self._config_map, self._plugged_in):
                    tasks.create_task(work.run())
                await self._own.synced(SYNC_TIMEOUT_S)
                await self._config_map.synced(SYNC_TIMEOUT_S)
                await self._remotes.synced()
                while True:
                    self._push()
                    await self._debounce.settled()
        finally:
            await self._discovery.stop()
            await self._webhook.stop()

    def _push(self) -> None:
        """Bring all proxies up to date. One that cannot be configured must not keep the others from theirs."""
        try:
            self._config = mesh_config(self._config_map.objects.get((SYSTEM_NAMESPACE, CONFIG_MAP)))
        except ValueError as error:
            log.warning("%s; what held before goes on", error)
        istio = {
            "config": self._config,
            "gateway_objects": self._own.listed(api.GATEWAYS),
            "virtual_services": self._own.listed(api.VIRTUAL_SERVICES),
            "destination_rules": self._own.listed(api.DESTINATION_RULES),
            "peer_authentications": self._own.listed(api.PEER_AUTHENTICATIONS),
        }
        mesh = registry.mesh(self._own.view(), self._remotes.views(), istio, self._topology.bindable)
        for proxy in mesh.proxies:
            try:
                self._discovery.publish(proxy.node, self._served(proxy, mesh))
            except (LabError, KeyError, TypeError, ValueError, AttributeError):
                log.exception("%s: proxy of %s/%s not configured", proxy.cluster, proxy.namespace, proxy.name)
        nodes = {proxy.node for proxy in mesh.proxies}
        self._discovery.retain(nodes)
        self._secrets = {node: secrets for node, secrets in self._secrets.items() if node in nodes}

    def _served(self, proxy: Proxy, mesh: Mesh) -> Resources:
        if proxy.node not in self._secrets:
            certificate, key = self._issuer.issue_workload(proxy.identity)
            self._secrets[proxy.node] = workload_secrets(certificate, key, self._issuer.root_pem)
        return replace(configuration.resources(proxy, mesh), secrets=self._secrets[proxy.node])

    def _plug_in(self, event: str, secret: Object) -> None:
        """Issue by the root in the Secret ``cacerts`` from now on; a real istiod does so once it is restarted."""
        issuer = self._authority
        if event != "DELETED":
            try:
                data = secret["data"]
                given = tuple(base64.b64decode(data[name]).decode() for name in ("ca-cert.pem", "ca-key.pem"))
                issuer = Authority(
                    self._topology.pki / f"{self._cluster.name}-{PLUGGED_IN}", given=(given[0], given[1])
                )
            except (LookupError, TypeError, ValueError) as error:
                log.warning("Secret %s holds no root: %r", PLUGGED_IN, error)
                return
        self._issuer = issuer
        self._secrets = {}
        self._roots.trust(issuer.root_pem)
        self._debounce.notify()


class RootCertificates:
    """Keeps the ConfigMap ``istio-ca-root-cert``, the root that workloads trust, in all namespaces that stay."""

    def __init__(self, client: Client, root_pem: str, namespaces: Informer) -> None:
        self._client = client
        self._root_pem = root_pem
        self._namespaces = namespaces
        labels = ",".join(f"{key}={value}" for key, value in ROOT_LABELS.items())
        self._config_maps = Informer(client, api.CONFIG_MAPS, labels=labels)
        self._changed = asyncio.Event()
        for informer in (namespaces, self._config_maps):
            informer.subscribe(lambda _event, _obj: self._changed.set())

    def trust(self, root_pem: str) -> None:
        self._root_pem = root_pem
        self._changed.set()

    async def run(self) -> None:
        """Put the ConfigMap wherever it is missing or differs; ends by cancellation."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._config_maps.run())
            while True:
                await self._changed.wait()
                self._changed.clear()
                if not await self._reconcile():
                    await asyncio.sleep(_RETRY_S)
                    self._changed.set()

    async def _reconcile(self) -> bool:
        """Return whether every namespace has the ConfigMap now."""
        complete = True
        for (_, namespace), obj in sorted(self._namespaces.objects.items()):
            present = self._config_maps.objects.get((namespace, ROOT_CONFIG_MAP), {}).get("data") or {}
            if is_deleting(obj) or present.get(ROOT_KEY) == self._root_pem:
                continue
            metadata = {"name": ROOT_CONFIG_MAP, "namespace": namespace, "labels": ROOT_LABELS}
            data = {ROOT_KEY: self._root_pem}
            wanted = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}
            try:
                await self._client.apply(api.CONFIG_MAPS, wanted, manager="istiod")
            except ApiError as error:
                complete = False
                log.info("root certificate for namespace %s: %s", namespace, error.message)
        return complete


def _warn(event: str, obj: Object) -> None:
    """Say in the log what of an object the lab does not do."""
    if event != "DELETED" and (missing := configuration.unsupported(obj)):
        namespace, name = key_of(obj)
        log.warning("%s %s/%s: the lab does not do %s", obj["kind"], namespace, name, ", ".join(missing))
