"""What a pod finds of the API: token, root certificate and namespace in files, and where the API server is.

Projected volumes with a token are written as a real kubelet writes them, asked for with the pod's name and renewed in
time. Containers are processes of this machine, so a mount lies below the pod's own folder, whose path they find in
``CONTAINER_SANDBOX_MOUNT_POINT``, as host processes on Windows do. Other volumes are not mounted.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from meshbook.lab.client import ApiError
from meshbook.lab.pki import write_private
from meshbook.lab.topology import API_PORT, ClusterTopology

SANDBOX = "CONTAINER_SANDBOX_MOUNT_POINT"
ROOT_CERTIFICATE = "kube-root-ca.crt"
RENEWED_AFTER = 0.8
"""Share of its lifetime after which a token is asked for anew."""
DEFAULT_LIFE_S = 3600
RENEW_RETRY_S = 10.0

Object = dict[str, Any]
Ask = Callable[[Object, Object], Awaitable[str]]
"""Returns a token for a pod (first) as a ``serviceAccountToken`` source (second) wants it, or raises ``ApiError``."""


def environment(cluster: ClusterTopology, folder: Path) -> dict[str, str]:
    """Return what every container is told of the API server, and where its mounts lie."""
    port = str(API_PORT)
    names = {"KUBERNETES_SERVICE_HOST": cluster.api_address, "KUBERNETES_SERVICE_PORT": port}
    return names | {"KUBERNETES_SERVICE_PORT_HTTPS": port, SANDBOX: str(folder)}


def request(pod: Object, source: Mapping[str, Any]) -> Object:
    """Return the TokenRequest for a pod: bound to it, so that the token ends with the pod."""
    metadata = pod["metadata"]
    bound = {"apiVersion": "v1", "kind": "Pod", "name": metadata["name"], "uid": metadata["uid"]}
    spec: Object = {"boundObjectRef": bound, "expirationSeconds": source.get("expirationSeconds", DEFAULT_LIFE_S)}
    if audience := source.get("audience"):
        spec["audiences"] = [audience]
    head = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest"}
    return head | {"metadata": {"namespace": metadata["namespace"]}, "spec": spec}


def account_of(pod: Object) -> str:
    return str(pod["spec"].get("serviceAccountName") or "default")


def within(*parts: str) -> PurePosixPath:
    """Return a path of a container as one that leads nowhere but into its pod's folder: relative, without ``..``."""
    steps = [step for part in parts for step in part.split("/") if step not in ("", ".", "..")]
    return PurePosixPath(*steps)


class Credentials:
    """The files of one pod. ``folder`` is the pod's own, ``root`` the API server's root certificate."""

    def __init__(self, pod: Object, folder: Path, root: Path, ask: Ask) -> None:
        self._pod = pod
        self._folder = folder
        self._root = root
        self._ask = ask
        self._mounts = list(_mounts(pod["spec"]))

    async def write(self) -> None:
        """Ask for the tokens and write all files; ``ApiError`` when a token is refused."""
        for path, sources in self._mounts:
            for name, text in [item async for item in self._files(sources)]:
                file = self._folder / within(path, name)
                file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                write_private(file, text)

    async def keep(self) -> None:
        """Write the files anew before their tokens expire, until cancelled."""
        while self._mounts:
            await asyncio.sleep(RENEWED_AFTER * min(_life_s(sources) for _, sources in self._mounts))
            while not await self._renewed():
                await asyncio.sleep(RENEW_RETRY_S)

    async def _renewed(self) -> bool:
        with contextlib.suppress(ApiError):
            await self.write()
            return True
        return False

    async def _files(self, sources: list[Object]) -> AsyncIterator[tuple[str, str]]:
        """Yield (name, content) of the files of one volume."""
        for source in sources:
            if token := source.get("serviceAccountToken"):
                yield token["path"], await self._ask(self._pod, token)
            for item in source.get("configMap", {}).get("items", ()):
                if source["configMap"].get("name") == ROOT_CERTIFICATE:
                    yield item["path"], self._root.read_text()
            for item in source.get("downwardAPI", {}).get("items", ()):
                if item.get("fieldRef", {}).get("fieldPath") == "metadata.namespace":
                    yield item["path"], self._pod["metadata"]["namespace"]


def _mounts(spec: Object) -> Iterator[tuple[str, list[Object]]]:
    """Yield (path, sources) of each place at which a volume with a token is mounted."""
    containers = [*spec.get("containers", ()), *spec.get("initContainers", ())]
    places = {(mount["name"], mount["mountPath"]) for one in containers for mount in one.get("volumeMounts", ())}
    for volume in spec.get("volumes", ()):
        sources = volume.get("projected", {}).get("sources") or []
        if any("serviceAccountToken" in source for source in sources):
            for name, path in sorted(places):
                if name == volume["name"]:
                    yield path, sources


def _life_s(sources: list[Object]) -> float:
    tokens = [source["serviceAccountToken"] for source in sources if "serviceAccountToken" in source]
    return min(float(token.get("expirationSeconds", DEFAULT_LIFE_S)) for token in tokens)
