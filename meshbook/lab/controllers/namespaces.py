"""Namespaces: each gets its default ServiceAccount and root certificate; a deleted one is emptied, then let go."""

from __future__ import annotations

from meshbook.lab.client import CONFIG_MAPS, NAMESPACES, SERVICE_ACCOUNTS, Client, Informer, Resource
from meshbook.lab.controllers.loop import Controller, WorkQueue
from meshbook.lab.controllers.objects import Key, Object, difference, is_deleting, key_of
from meshbook.lab.controllers.world import Actions, Create, Delete, Patch, World, perform

ROOT_CERTIFICATE = "kube-root-ca.crt"
FINALIZER = "kubernetes"
LOOK_AGAIN_S = 0.1
VERBS = {"list", "delete"}


def furnisher(root_pem: str) -> Controller:
    """Return the controller that furnishes namespaces; ``root_pem`` is the API server's own root certificate."""

    def decide(world: World, key: Key) -> Actions:
        name = key[1]
        namespace = world.get(NAMESPACES, key)
        if namespace is None or is_deleting(namespace):
            return []
        actions: Actions = []
        if world.get(SERVICE_ACCOUNTS, (name, "default")) is None:
            account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default", "namespace": name}}
            actions.append(Create(resource=SERVICE_ACCOUNTS, obj=account))
        return [*actions, *_certificate(world, name, root_pem)]

    return Controller(
        name="namespaces",
        decide=decide,
        concerns={
            NAMESPACES: lambda _, namespace: [key_of(namespace)],
            SERVICE_ACCOUNTS: lambda _, account: [("", account["metadata"]["namespace"])],
            CONFIG_MAPS: lambda _, found: [("", found["metadata"]["namespace"])],
        },
    )


def _certificate(world: World, namespace: str, root_pem: str) -> Actions:
    known, data = world.get(CONFIG_MAPS, (namespace, ROOT_CERTIFICATE)), {"ca.crt": root_pem}
    if known is None:
        metadata = {"name": ROOT_CERTIFICATE, "namespace": namespace}
        fresh = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}
        return [Create(resource=CONFIG_MAPS, obj=fresh)]
    changes = difference(known.get("data") or {}, data)
    return [Patch(resource=CONFIG_MAPS, of=known, patch={"data": changes})] if changes else []


class Terminator:
    """Empty the namespaces that are being deleted: everything that discovery names, whoever made it."""

    def __init__(self, client: Client, world: World, namespaces: Informer) -> None:
        self._client = client
        self._world = world
        self._namespaces = namespaces
        self._queue: WorkQueue[str] = WorkQueue("terminator", self._terminate)

    async def run(self) -> None:
        """Follow the namespaces (which are synced already) until cancelled."""
        for namespace in list(self._namespaces.objects.values()):
            self._note("ADDED", namespace)
        self._namespaces.subscribe(self._note)
        await self._queue.run()

    def _note(self, _: str, namespace: Object) -> None:
        if is_deleting(namespace):
            self._queue.add(namespace["metadata"]["name"])

    async def _terminate(self, name: str) -> float | None:
        namespace = self._world.get(NAMESPACES, ("", name))
        if namespace is None or FINALIZER not in (namespace["spec"].get("finalizers") or []):
            return None
        if await self._empty(name):
            return LOOK_AGAIN_S
        kept = [finalizer for finalizer in namespace["spec"]["finalizers"] if finalizer != FINALIZER]
        final = {**namespace, "spec": {**namespace["spec"], "finalizers": kept}}
        await self._client.replace(NAMESPACES, final, subresource="finalize")
        return None

    async def _empty(self, namespace: str) -> int:
        """Delete what is in a namespace; return how much is left of it."""
        left = 0
        for resource in await deletable(self._client):
            objects, _ = await self._client.list(resource, namespace)
            left += len(objects)
            doomed = [obj for obj in objects if not is_deleting(obj)]
            await perform(self._client, self._world, [Delete(resource=resource, of=obj) for obj in doomed])
        return left


async def deletable(client: Client) -> list[Resource]:
    """Return all namespaced kinds that can be listed and deleted, each in its group's preferred version."""
    groups = (await client.request("GET", "/apis"))["groups"]
    paths = ["/api/v1", *[f"/apis/{group['preferredVersion']['groupVersion']}" for group in groups]]
    found = []
    for path in paths:
        answer = await client.request("GET", path)
        group, _, version = answer["groupVersion"].rpartition("/")
        found += [
            Resource(group=group, version=version, plural=kind["name"], kind=kind["kind"])
            for kind in answer["resources"]
            if kind["namespaced"] and "/" not in kind["name"] and set(kind["verbs"]) >= VERBS
        ]
    return found
