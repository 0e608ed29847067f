"""Namespaces: each gets its default ServiceAccount and root certificate; a deleted one is emptied, then let go."""

from __future__ import annotations

from meshbook.lab.client import CONFIG_MAPS, NAMESPACES, SERVICE_ACCOUNTS, Client, Informer, Key, Resource
from meshbook.lab.controllers.controller import (
    Actions,
    Cache,
    Controller,
    Create,
    Delete,
    Patch,
    WorkQueue,
    difference,
    itself,
    perform,
)
from meshbook.objects import Object, is_deleting

ROOT_CERTIFICATE = "kube-root-ca.crt"
FINALIZER = "kubernetes"
LOOK_AGAIN_S = 0.1


def furnisher(root_pem: str) -> Controller:
    """Return the controller that furnishes namespaces; ``root_pem`` is the API server's own root certificate."""

    def decide(cache: Cache, key: Key) -> Actions:
        name, namespace = key[1], cache.get(NAMESPACES, key)
        if namespace is None or is_deleting(namespace):
            return []
        actions: Actions = []
        if cache.get(SERVICE_ACCOUNTS, (name, "default")) is None:
            account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default", "namespace": name}}
            actions.append(Create(resource=SERVICE_ACCOUNTS, obj=account))
        known, data = cache.get(CONFIG_MAPS, (name, ROOT_CERTIFICATE)), {"ca.crt": root_pem}
        if known is None:
            metadata = {"name": ROOT_CERTIFICATE, "namespace": name}
            fresh = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}
            actions.append(Create(resource=CONFIG_MAPS, obj=fresh))
        elif changes := difference(known.get("data") or {}, data):
            actions.append(Patch(resource=CONFIG_MAPS, of=known, patch={"data": changes}))
        return actions

    def around(_: Cache, obj: Object) -> list[Key]:
        return [("", obj["metadata"]["namespace"])]

    watches = {NAMESPACES: itself, SERVICE_ACCOUNTS: around, CONFIG_MAPS: around}
    return Controller(name="namespaces", decide=decide, watches=watches)


class Terminator:
    """Empty the namespaces that are being deleted: everything that discovery names, whoever made it."""

    def __init__(self, client: Client, cache: Cache, namespaces: Informer) -> None:
        self._client = client
        self._cache = cache
        self._namespaces = namespaces
        self._queue: WorkQueue[str] = WorkQueue("terminator", self._terminate)

    async def run(self) -> None:
        """Follow the namespaces (which are synced already) until cancelled."""
        self._namespaces.subscribe(self._note)
        await self._queue.run()

    def _note(self, _: str, namespace: Object) -> None:
        if is_deleting(namespace):
            self._queue.add(namespace["metadata"]["name"])

    async def _terminate(self, name: str) -> float | None:
        namespace = self._cache.get(NAMESPACES, ("", name))
        if namespace is None or FINALIZER not in (namespace["spec"].get("finalizers") or []):
            return None
        left = [(kind, obj) for kind in await self._deletable() for obj in (await self._client.list(kind, name))[0]]
        if left:
            doomed = [Delete(resource=kind, of=obj) for kind, obj in left if not is_deleting(obj)]
            await perform(self._client, self._cache, doomed)
            return LOOK_AGAIN_S
        kept = [finalizer for finalizer in namespace["spec"]["finalizers"] if finalizer != FINALIZER]
        final = {**namespace, "spec": {**namespace["spec"], "finalizers": kept}}
        await self._client.replace(NAMESPACES, final, subresource="finalize")
        return None

    async def _deletable(self) -> list[Resource]:
        """Return all namespaced kinds that can be listed and deleted, each in its group's preferred version."""
        groups = (await self._client.request("GET", "/apis"))["groups"]
        found = []
        for path in ["/api/v1", *[f"/apis/{group['preferredVersion']['groupVersion']}" for group in groups]]:
            answer = await self._client.request("GET", path)
            group, _, version = answer["groupVersion"].rpartition("/")
            found += [
                Resource(group=group, version=version, plural=kind["name"], kind=kind["kind"])
                for kind in answer["resources"]
                if kind["namespaced"] and "/" not in kind["name"] and {"list", "delete"} <= set(kind["verbs"])
            ]
        return found
