"""Programs that stand in for kube-apiserver and etcd: the emulated API server as a process of its own.

It takes the command line of the real one, reads the same files, and refuses what a real one refuses of addresses:
endpoints that are on loopback. Run as ``standin_apiserver.py kube-apiserver|etcd --flag=value…``.
"""

from __future__ import annotations

import asyncio
import csv
import ipaddress
import ssl
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from meshbook.lab.apiserver import ApiServer, User, writing
from meshbook.lab.apiserver.failures import Cause, bad_value, invalid
from meshbook.lab.apiserver.kinds import Kind
from meshbook.lab.topology import two_clouds

VERSION = "Kubernetes v1.33.0"


def special_addresses(kind: str, obj: dict[str, Any]) -> Iterator[Cause]:
    """Yield what ValidateNonSpecialIP of Kubernetes objects to: it is asked for Endpoints and EndpointSlices."""
    found = []
    if kind == "EndpointSlice":
        found = [address for endpoint in obj.get("endpoints") or [] for address in endpoint["addresses"]]
    if kind == "Endpoints":
        lists = [subset.get(name) or [] for subset in obj.get("subsets") or [] for name in _LISTS]
        found = [entry["ip"] for entries in lists for entry in entries]
    for address in found:
        ip = ipaddress.IPv4Address(address)
        if ip.is_loopback or ip.is_unspecified or ip.is_link_local or ip in _LINK_LOCAL_MULTICAST:
            yield bad_value("address", address, "may not be unspecified, loopback or link-local")


_LISTS = ("addresses", "notReadyAddresses")
_LINK_LOCAL_MULTICAST = ipaddress.IPv4Network("224.0.0.0/24")
_check = writing.check


def _strict_check(kind: Kind, obj: dict[str, Any], before: dict[str, Any] | None) -> None:
    _check(kind, obj, before)
    causes = list(special_addresses(kind.kind, obj))
    if causes:
        raise invalid(kind, obj["metadata"]["name"], causes)


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
    writing.check = _strict_check
    block = int(flags["bind-address"].split(".")[1])
    clusters = two_clouds(Path("/"), block).clusters
    server = ApiServer(
        next(cluster for cluster in clusters if cluster.api_address == flags["bind-address"]),
        _server_tls(flags["tls-cert-file"], flags["tls-private-key-file"]),
        _tokens(flags["token-auth-file"]),
        _client_tls(
            flags["kubelet-certificate-authority"], flags["kubelet-client-certificate"], flags["kubelet-client-key"]
        ),
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
        sys.stdout.write(VERSION + "\n")
        return
    flags = dict(argument.removeprefix("--").split("=", 1) for argument in arguments)
    asyncio.run(serve_api(flags) if program == "kube-apiserver" else serve_etcd(flags))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
