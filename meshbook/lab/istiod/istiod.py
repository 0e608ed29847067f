"""One cluster's istiod: follows the API servers, and brings every proxy's folder up to date after each change."""

from __future__ import annotations

import asyncio
import logging
import time

from meshbook.lab import client as api
from meshbook.lab.client import Client
from meshbook.lab.istiod import configuration, distribution, gateway, proxies, registry, virtualservices
from meshbook.lab.istiod.certificates import RootCertificates
from meshbook.lab.istiod.proxies import Proxy
from meshbook.lab.istiod.registry import Object
from meshbook.lab.istiod.sources import EVERYWHERE, OWN_ONLY, SYNC_TIMEOUT_S, RemoteClusters, Source
from meshbook.lab.istiod.upstreams import Mesh
from meshbook.lab.istiod.webhook import Webhook
from meshbook.lab.pki import Authority
from meshbook.lab.topology import ClusterTopology, LabTopology

log = logging.getLogger(__name__)

QUIET_S = 0.1
"""Istio's debounce: changes that follow each other sooner than this go out as one."""
LONGEST_QUIET_S = 1.0
"""Changes are not held back for longer than this, however many there are."""


class Debounce:
    """Collects notifications into one, as istiod does before it pushes."""

    def __init__(self, quiet_s: float = QUIET_S, longest_s: float = LONGEST_QUIET_S) -> None:
        self._quiet_s = quiet_s
        self._longest_s = longest_s
        self._changed = asyncio.Event()

    def notify(self) -> None:
        self._changed.set()

    async def settled(self) -> None:
        """Wait for a notification, and then until there was none for a while."""
        await self._changed.wait()
        deadline = time.monotonic() + self._longest_s
        while self._changed.is_set() and time.monotonic() < deadline:
            self._changed.clear()
            await self._quiet(deadline)

    async def _quiet(self, deadline: float) -> None:
        try:
            async with asyncio.timeout(min(self._quiet_s, deadline - time.monotonic())):
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
        self._roots = RootCertificates(client, authority, self._own.informers[api.NAMESPACES])
        tls = authority.server_context(f"{cluster.name}-istiod", [cluster.istiod_address])
        self._webhook = Webhook(cluster, tls)
        self._own.informers[api.GATEWAYS].subscribe(lambda event, one: _warn(event, one, gateway.unsupported(one)))
        self._own.informers[api.VIRTUAL_SERVICES].subscribe(
            lambda event, one: _warn(event, one, virtualservices.unsupported(one))
        )

    async def run(self) -> None:
        """Serve until cancelled; the first push waits until all clusters are known."""
        await self._webhook.start()
        try:
            async with asyncio.TaskGroup() as tasks:
                for work in (self._own, self._remotes, self._roots):
                    tasks.create_task(work.run())
                await self._own.synced(SYNC_TIMEOUT_S)
                await self._remotes.synced()
                while True:
                    self.push()
                    await self._debounce.settled()
        finally:
            await self._webhook.stop()

    def push(self) -> int:
        """Bring all proxies' folders up to date; return the number of files that changed."""
        own = self._own.view()
        mesh = Mesh(
            registry=registry.build([own, *self._remotes.views()]),
            services=list(own.services.values()),
            gateways=self._listed(api.GATEWAYS),
            virtual_services=self._listed(api.VIRTUAL_SERVICES),
            destination_rules=self._listed(api.DESTINATION_RULES),
            bindable=self._topology.bindable,
        )
        return sum(self._configure(proxy, mesh) for proxy in proxies.of_cluster(own))

    def _configure(self, proxy: Proxy, mesh: Mesh) -> int:
        """Write one proxy's files. One that cannot be configured must not keep the others from theirs."""
        path = self._topology.proxy_folder(self._cluster.name, proxy.namespace, proxy.name)
        if proxy.terminating and not path.exists():
            return 0
        folder = distribution.folder_of(path, self._authority)
        try:
            certificates = distribution.certificates(folder, proxy.identity, self._authority)
            files = configuration.files(proxy, mesh, folder)
            return len(distribution.write(path, {**certificates, **files}))
        except (KeyError, TypeError, ValueError, AttributeError, OSError):
            log.exception("%s: proxy of %s/%s not configured", self._cluster.name, proxy.namespace, proxy.name)
            return 0

    def _listed(self, resource: api.Resource) -> list[Object]:
        return [obj for _, obj in sorted(self._own.objects(resource).items())]


def _warn(event: str, obj: Object, unsupported: list[str]) -> None:
    if unsupported and event != "DELETED":
        metadata = obj["metadata"]
        name = f"{obj['kind']} {metadata.get('namespace', '')}/{metadata['name']}"
        log.warning("%s: the lab does not do %s", name, ", ".join(unsupported))
