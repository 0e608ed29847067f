"""What istiod reads: its own cluster's API server and those that remote secrets name, as ``ClusterView``."""

from __future__ import annotations

import asyncio
import base64
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import yaml

from meshbook.errors import LabError
from meshbook.lab import client as api
from meshbook.lab.client import Client, Informer, Resource, key_of
from meshbook.lab.istiod.registry import ClusterView
from meshbook.objects import SYSTEM_NAMESPACE, Object, is_deleting, labels_of

log = logging.getLogger(__name__)

REMOTE_SECRETS = "istio/multiCluster=true"
SYNC_TIMEOUT_S = 30.0
REMOTE_SYNC_TIMEOUT_S = 3.0
"""How long the first push waits for a remote cluster; later the mesh goes on with what was last seen of it."""

EVERYWHERE = (api.NAMESPACES, api.SERVICES, api.ENDPOINT_SLICES, api.PODS, api.NODES)
OWN_ONLY = (api.GATEWAYS, api.VIRTUAL_SERVICES, api.DESTINATION_RULES, api.PEER_AUTHENTICATIONS)

Notify = Callable[[], None]


class Source:
    """What is followed of one cluster. ``notify`` is called when something changed that the mesh depends on."""

    def __init__(self, name: str, client: Client, resources: Sequence[Resource], notify: Notify) -> None:
        self.name = name
        self.client = client
        self.informers = {resource: Informer(client, resource) for resource in resources}
        self._notify = notify
        self._seen: dict[tuple[str, str, str], Any] = {}
        for informer in self.informers.values():
            informer.subscribe(self._changed)

    def view(self) -> ClusterView:
        namespaces, services, slices, pods, nodes = (self.informers[resource].objects for resource in EVERYWHERE)
        return ClusterView(
            name=self.name, namespaces=namespaces, services=services, slices=slices, pods=pods, nodes=nodes
        )

    def listed(self, resource: Resource) -> list[Object]:
        return [obj for _, obj in sorted(self.informers[resource].objects.items())]

    async def run(self) -> None:
        """Follow the cluster; ends by cancellation."""
        async with asyncio.TaskGroup() as tasks:
            for informer in self.informers.values():
                tasks.create_task(informer.run())

    async def synced(self, timeout_s: float) -> None:
        for informer in self.informers.values():
            await informer.synced(timeout_s)

    def _changed(self, event: str, obj: Object) -> None:
        """Pass on what matters: most changes of pods and nodes are of their conditions, which nobody here reads."""
        key = (obj["kind"], *key_of(obj))
        now = None if event == "DELETED" else _essence(obj)
        if self._seen.get(key) != now:
            self._seen[key] = now
            self._notify()


def _essence(obj: Object) -> Any:
    status = obj.get("status", {})
    if obj["kind"] == "Node":
        return dict(labels_of(obj))
    if obj["kind"] == "Pod":
        ended = status.get("phase") in ("Succeeded", "Failed")
        return dict(labels_of(obj)), status.get("podIP"), ended, is_deleting(obj)
    return obj["metadata"]["resourceVersion"]


class RemoteClusters:
    """The clusters that remote secrets in the system namespace name: each is followed while its secret is there."""

    def __init__(self, client: Client, notify: Notify) -> None:
        self._notify = notify
        self._secrets = Informer(client, api.SECRETS, namespace=SYSTEM_NAMESPACE, labels=REMOTE_SECRETS)
        self._secrets.subscribe(lambda _event, _secret: self._changed.set())
        self._changed = asyncio.Event()
        self._followed: dict[str, tuple[str, Source, asyncio.Task[None]]] = {}
        self._tasks = asyncio.TaskGroup()
        self._one_at_a_time = asyncio.Lock()

    def views(self) -> list[ClusterView]:
        return [source.view() for _, (_, source, _) in sorted(self._followed.items())]

    async def run(self) -> None:
        """Follow the secrets, and the clusters that they name; ends by cancellation."""
        async with self._tasks:
            self._tasks.create_task(self._secrets.run())
            while True:
                await self._changed.wait()
                self._changed.clear()
                await self._reconcile()

    async def synced(self) -> None:
        """Wait until the clusters that are named now are known; one that does not answer is not waited for long."""
        await self._secrets.synced(SYNC_TIMEOUT_S)
        await self._reconcile()
        for name, (_, source, _) in list(self._followed.items()):
            try:
                await source.synced(REMOTE_SYNC_TIMEOUT_S)
            except LabError as error:
                log.warning("remote cluster %s is not known yet: %s", name, error.message)

    async def _reconcile(self) -> None:
        async with self._one_at_a_time:
            named = self._kubeconfigs()
            for name in [name for name, (text, _, _) in self._followed.items() if named.get(name) != text]:
                _, source, task = self._followed.pop(name)
                task.cancel()
                await asyncio.wait([task])  # a watch whose connection is closed under it fails, and all with it
                await source.client.close()
                self._notify()
            for name in sorted(named.keys() - self._followed.keys()):
                self._follow(name, named[name])

    def _kubeconfigs(self) -> Mapping[str, str]:
        """Return kubeconfigs by cluster name: every data value of every remote secret is one."""
        return {
            name: base64.b64decode(value).decode(errors="replace")
            for secret in self._secrets.objects.values()
            for name, value in (secret.get("data") or {}).items()
        }

    def _follow(self, name: str, text: str) -> None:
        try:
            config = yaml.safe_load(text)
            client = Client.from_config(config, config["current-context"])
        except (yaml.YAMLError, KeyError, TypeError, ValueError, OSError) as error:
            log.warning("remote secret for %s holds no usable kubeconfig: %r", name, error)
            return
        source = Source(name, client, EVERYWHERE, self._notify)
        self._followed[name] = (text, source, self._tasks.create_task(source.run()))
