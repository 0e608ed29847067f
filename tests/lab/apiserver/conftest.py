"""One API server of the lab over TLS, and a client of plain HTTP, so that tests see what goes over the wire."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp
import pytest

from meshbook.lab.apiserver import ApiServer, User
from meshbook.lab.pki import Authority
from meshbook.lab.topology import ClusterTopology, LabTopology

Json = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Answer:
    code: int
    body: Json
    headers: dict[str, str]

    @property
    def reason(self) -> str:
        return str(self.body.get("reason", ""))

    @property
    def message(self) -> str:
        return str(self.body.get("message", ""))

    @property
    def version(self) -> str:
        return str(self.body["metadata"]["resourceVersion"])


class Api:
    """Calls to one server; ``token`` may be replaced."""

    DEPLOYMENTS = "/apis/apps/v1/namespaces/default/deployments"
    PODS = "/api/v1/namespaces/default/pods"
    CONFIG_MAPS = "/api/v1/namespaces/default/configmaps"
    MERGE = "application/merge-patch+json"
    JSON_PATCH = "application/json-patch+json"
    APPLY = "application/apply-patch+yaml"

    def __init__(self, server: ApiServer, cluster: ClusterTopology, authority: Authority) -> None:
        self.server, self.cluster, self.authority = server, cluster, authority
        self.trust: ssl.SSLContext = ssl.create_default_context(cadata=authority.root_pem)
        self.session = aiohttp.ClientSession(cluster.api_url, connector=aiohttp.TCPConnector(ssl=self.trust))
        self.token = "full"

    async def __call__(self, method: str, path: str, body: Any = None, **more: Any) -> Answer:
        headers = {"Authorization": f"Bearer {self.token}", "User-Agent": "tester/1.0", **more.pop("headers", {})}
        headers.setdefault("Content-Type", more.pop("type", "application/json"))
        data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        async with self.session.request(method, path, data=data, headers=headers, params=more) as response:
            text = await response.text()
            kept = {name: value for name, value in response.headers.items()}
            decoded = json.loads(text) if "json" in response.content_type else {"text": text}
            return Answer(code=response.status, body=decoded, headers=kept)

    async def made(self, path: str, body: Json) -> Json:
        answer = await self("POST", path, body)
        assert answer.code == 201, answer
        return answer.body

    @staticmethod
    def deployment(name: str = "web", **spec: Any) -> Json:
        template = {
            "metadata": {"labels": {"app": name}},
            "spec": {"containers": [{"name": "app", "image": "docker.io/curlimages/curl:8.11.0"}]},
        }
        body = {"selector": {"matchLabels": {"app": name}}, "template": template} | spec
        return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": body}

    @staticmethod
    def pod(name: str = "one", **spec: Any) -> Json:
        body = {"containers": [{"name": "app", "image": "docker.io/curlimages/curl:8.11.0"}]} | spec
        return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": name}}, "spec": body}

    @staticmethod
    def config_map(name: str = "settings", **data: str) -> Json:
        return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}

    @asynccontextmanager
    async def watching(self, path: str, **query: str) -> AsyncIterator[Watcher]:
        headers = {"Authorization": f"Bearer {self.token}", "Accept": query.pop("accept", "application/json")}
        params = {"watch": "true", **query}
        async with self.session.get(path, params=params, headers=headers) as response:
            assert response.status == 200, await response.text()
            yield Watcher(response)


@dataclass
class Watcher:
    response: aiohttp.ClientResponse

    async def next(self) -> Json:
        async with asyncio.timeout(5):
            line = await self.response.content.readline()
        return json.loads(line) if line else {"type": "END"}

    async def names(self, count: int) -> list[tuple[str, str]]:
        events = [await self.next() for _ in range(count)]
        return [(event["type"], event["object"]["metadata"]["name"]) for event in events]


@pytest.fixture
async def api(topology: LabTopology) -> AsyncIterator[Api]:
    cluster, authority = topology.clusters[0], Authority(topology.pki)
    tls = authority.server_context(cluster.name, [cluster.api_address])
    readers = ("system:authenticated",)
    users = {"full": User(name="admin"), "reader": User(name="viewer", groups=readers)}
    server = ApiServer(cluster, tls, users, authority.client_context("kube-apiserver-kubelet-client"))
    await server.start()
    api = Api(server, cluster, authority)
    yield api
    await api.session.close()
    await server.stop()
