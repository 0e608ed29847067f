"""Programs that stand in for kube-apiserver and etcd: the emulated API server as a process of its own.

It takes the command line of the real one, reads the same files, and refuses what a real one refuses of addresses:
endpoints that are on loopback. Run as ``standin_apiserver.py kube-apiserver|etcd --flag=value…``.
"""

from __future__ import annotations

import asyncio
import csv
import ipaddress
import json
import ssl
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from aiohttp import web

from meshbook.lab.apiserver import ApiServer, User
from meshbook.lab.topology import two_clouds

VERSIONS = {"kube-apiserver": "Kubernetes v1.36.0", "etcd": "etcd Version: 3.6.1"}


def special_addresses(body: Any) -> Iterator[str]:
    """Yield what ValidateNonSpecialIP of Kubernetes objects to: it is asked for Endpoints and EndpointSlices."""
    found = [address for endpoint in body.get("endpoints") or [] for address in endpoint["addresses"]]
    lists = [subset.get(name) or [] for subset in body.get("subsets") or [] for name in _LISTS]
    for address in (*found, *(entry["ip"] for entries in lists for entry in entries)):
        ip = ipaddress.IPv4Address(address)
        if ip.is_loopback or ip.is_unspecified or ip.is_link_local or ip in _LINK_LOCAL_MULTICAST:
            yield address


_LISTS = ("addresses", "notReadyAddresses")
_TAKEN = "/apis/apiextensions.k8s.io/"
_LINK_LOCAL_MULTICAST = ipaddress.IPv4Network("224.0.0.0/24")


@web.middleware
async def as_a_real_one(request: web.Request, handler: Any) -> web.StreamResponse:
    """Take what only a real server does something with, and refuse addresses that it refuses."""
    if request.method == "PATCH" and request.path.startswith(_TAKEN):
        return web.json_response(json.loads(await request.read()))
    if request.method in ("POST", "PUT", "PATCH") and "/endpoint" in request.path:
        wrong = list(special_addresses(json.loads(await request.read())))
        if wrong:
            message = f"{wrong} may not be unspecified, loopback or link-local"
            status = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "Invalid", "code": 422}
            return web.json_response(status | {"message": message}, status=422)
    response: web.StreamResponse = await handler(request)
    return response


def _client_tls(root: str, certificate: str, key: str) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=root)
    context.load_cert_chain(certificate, key)
    return context


def _server_tls(certificate: str, key: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context


def _tokens(path: str) -> dict[str, User]:
    with Path(path).open() as lines:
        return {token: User(name=name, groups=tuple(groups.split(","))) for token, name, _, groups in csv.reader(lines)}


async def serve_api(flags: dict[str, str]) -> None:
    """Be a kube-apiserver: it has to reach its etcd first."""
    etcd = urlsplit(flags["etcd-servers"])
    tls = _client_tls(flags["etcd-cafile"], flags["etcd-certfile"], flags["etcd-keyfile"])
    _, writer = await asyncio.open_connection(etcd.hostname, etcd.port, ssl=tls)
    writer.close()
    block = int(flags["bind-address"].split(".")[1])
    clusters = two_clouds(Path("/"), block).clusters
    server = ApiServer(
        next(cluster for cluster in clusters if cluster.api_address == flags["bind-address"]),
        _server_tls(flags["tls-cert-file"], flags["tls-private-key-file"]),
        _tokens(flags["token-auth-file"]),
        _client_tls(
            flags["kubelet-certificate-authority"], flags["kubelet-client-certificate"], flags["kubelet-client-key"]
        ),
        [as_a_real_one],
    )
    await server.start()
    await asyncio.Event().wait()


async def serve_etcd(flags: dict[str, str]) -> None:
    """Be an etcd that lets its clients connect, if they show a certificate, and nothing more."""
    address = urlsplit(flags["listen-client-urls"])
    tls = _server_tls(flags["cert-file"], flags["key-file"])
    tls.verify_mode = ssl.CERT_REQUIRED
    tls.load_verify_locations(flags["trusted-ca-file"])
    async with await asyncio.start_server(lambda _, writer: writer.close(), address.hostname, address.port, ssl=tls):
        await asyncio.Event().wait()


def main(program: str, arguments: list[str]) -> None:
    if arguments == ["--version"]:
        sys.stdout.write(VERSIONS[program] + "\n")
        return
    flags = dict(argument.removeprefix("--").split("=", 1) for argument in arguments)
    asyncio.run(serve_api(flags) if program == "kube-apiserver" else serve_etcd(flags))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
