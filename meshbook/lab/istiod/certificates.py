"""The ConfigMap ``istio-ca-root-cert`` in every namespace: the root that workloads of the mesh trust."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping

from meshbook.lab.client import CONFIG_MAPS, ApiError, Client, Informer
from meshbook.lab.istiod.registry import Object
from meshbook.lab.istiod.templates import ROOT_CONFIG_MAP
from meshbook.lab.pki import Authority

log = logging.getLogger(__name__)

LABEL, VALUE = "istio.io/config", "true"
KEY = "root-cert.pem"
MANAGER = "istiod"
RETRY_S = 1.0


class RootCertificates:
    """Keeps the ConfigMap in all namespaces that are not going away."""

    def __init__(self, client: Client, authority: Authority, namespaces: Informer) -> None:
        self._client = client
        self._authority = authority
        self._namespaces = namespaces
        self._config_maps = Informer(client, CONFIG_MAPS, labels=f"{LABEL}={VALUE}")
        self._changed = asyncio.Event()
        for informer in (namespaces, self._config_maps):
            informer.subscribe(lambda _event, _obj: self._changed.set())

    async def run(self) -> None:
        """Put the ConfigMap wherever it is missing or differs; ends by cancellation."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._config_maps.run())
            while True:
                await self._changed.wait()
                self._changed.clear()
                if not await self._reconcile():
                    await asyncio.sleep(RETRY_S)
                    self._changed.set()

    async def _reconcile(self) -> bool:
        """Return whether every namespace has the ConfigMap now."""
        complete = True
        for namespace in missing(self._namespaces.objects, self._config_maps.objects, self._authority.root_pem):
            try:
                await self._client.apply(CONFIG_MAPS, config_map(namespace, self._authority.root_pem), manager=MANAGER)
            except ApiError as error:
                complete = False
                log.info("root certificate for namespace %s: %s", namespace, error.message)
        return complete


def missing(
    namespaces: Mapping[tuple[str, str], Object], config_maps: Mapping[tuple[str, str], Object], root_pem: str
) -> list[str]:
    """Return the namespaces that are active and lack this root."""
    active = (name for (_, name), one in namespaces.items() if "deletionTimestamp" not in one["metadata"])
    return sorted(
        name for name in active if (config_maps.get((name, ROOT_CONFIG_MAP), {}).get("data") or {}).get(KEY) != root_pem
    )


def config_map(namespace: str, root_pem: str) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": ROOT_CONFIG_MAP, "namespace": namespace, "labels": {LABEL: VALUE}},
        "data": {KEY: root_pem},
    }
