"""How requests reach one API server: proxy, TLS and login. REST and WebSockets go the same way, by the same settings.

The sockets are urllib3's, for both: the official client is given ``Transport`` in place of its own pool. What is sent,
and what is tried again, is in ``connection``.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from http import HTTPStatus
from typing import Any
from urllib.parse import unquote, urlsplit

import urllib3
from urllib3 import HTTPHeaderDict
from urllib3.exceptions import InsecureRequestWarning, ProxyError
from urllib3.util.ssl_ import create_urllib3_context

from meshbook.clusters.kubeconfig import Kubeconfig, content
from meshbook.clusters.login import impersonation, login_of
from meshbook.clusters.plugin import Credential, Plugin
from meshbook.errors import UsageError
from meshbook.objects import Object
from meshbook.settings import Patience

_SOCKS = {"socks5": "socks5h", "socks5h": "socks5h"}
"""As kubectl, names are left to the proxy."""
_PROXIES = ("http", "https", *_SOCKS)
_KEPT_OPEN = 32
"""Connections: the lists of a mesh in three namespaces, 23, are read at once."""
_SHORTEST_SECRET = 8


class Transport:
    """The way to the API server of one context. Threads may share it."""

    def __init__(self, kubeconfig: Kubeconfig, context: str, patience: Patience) -> None:
        self._cluster, user = kubeconfig.cluster(context), kubeconfig.user(context)
        self.server = str(self._cluster["server"]).rstrip("/")
        url = urlsplit(self.server)
        if url.scheme not in ("http", "https") or not url.hostname:
            raise UsageError(f"context {context!r}: its server is no https URL: {self.server}")
        self._proxy = proxy_of(self.server, self._cluster, os.environ)
        self._connect_s = patience.connect_s
        self._shows_itself = url.scheme == "https" or is_loopback(self.server)  # kubectl keeps it, too
        self._acts_as = impersonation(user)
        self._login = login_of(kubeconfig, context, patience)
        self._building = threading.Lock()
        self._manager: urllib3.PoolManager | None = None
        self._shown = b""
        self._secrets: set[str] = set()
        credential = Credential() if isinstance(self._login, Plugin) else self.credential()
        self.headers(credential)  # what is wrong is told before anything is asked
        self._pools(credential)

    def request(self, method: str, url: str, *, headers: Mapping[str, str], **options: Any) -> urllib3.BaseHTTPResponse:
        """Send what the official client has made, and once more where a login is refused and there is another.

        The client has this object in place of its own pool of connections.
        """
        for may_renew in (True, False):
            credential, shown = self.credential(), HTTPHeaderDict(headers)
            for name, value in self.headers(credential):
                shown.add(name, value.encode().decode("latin-1"))  # what urllib3 sends as Latin-1 is UTF-8 so
            response = self._pools(credential).request(method, url, headers=shown, redirect=False, **options)
            if response.status != HTTPStatus.UNAUTHORIZED or not may_renew or not self.renew(credential):
                break
            response.drain_conn()
        return response

    def credential(self) -> Credential:
        """Return what requests show now; a plugin may have to be called for it."""
        return self._login.get() if self._shows_itself else Credential()

    def renew(self, refused: Credential) -> bool:
        """Replace a credential that the server has refused; False where there is no other."""
        return self._shows_itself and self._login.renew(refused)

    def headers(self, credential: Credential) -> list[tuple[str, str]]:
        """Return the headers that say who asks."""
        if not self._shows_itself:
            return []
        login = [("Authorization", credential.authorization)] if credential.authorization else []
        self._secrets |= {value.rpartition(" ")[2] for _, value in login}
        for name, value in (found := login + self._acts_as):
            if any(letter < " " or letter == "\x7f" for letter in value):
                raise UsageError(f"the kubeconfig's user cannot be sent as {name}: it has a line break or the like")
        return found

    def clean(self, text: str) -> str:
        """Return what a server has said without the login that it may repeat."""
        for secret in tuple(self._secrets):  # other threads may add one
            text = text.replace(secret, "[login]") if len(secret) >= _SHORTEST_SECRET else text
        return text

    def open_socket(self, credential: Credential) -> Any:
        """Return a new connection, with its TLS done, that requests do not use."""
        pool = self._pools(credential).connection_from_url(self.server)
        connection = pool._new_conn()  # proxies, SOCKS and TLS in TLS included; urllib3 has no public word for it
        if pool.proxy:
            url = urlsplit(self.server)
            port = url.port or {"https": 443, "http": 80}[url.scheme]
            tunnel = {"headers": pool.proxy_headers, "scheme": pool.proxy.scheme or "http"}
            connection.set_tunnel(str(url.hostname), port, **tunnel)  # type: ignore[arg-type]
        try:
            connection.connect()
        except OSError as error:
            connection.close()
            if pool.proxy and not connection.has_connected_to_proxy:  # as it is told of a request
                raise ProxyError("Unable to connect to proxy", error) from error
            raise
        connection.sock._closed = False  # type: ignore[attr-defined] # else one of TLS in TLS is never closed
        return connection.sock  # type: ignore[attr-defined]

    def close(self) -> None:
        """Close the connections that are kept open; the next request opens new ones."""
        with self._building:
            closed, self._manager = self._manager, None
        if closed is not None:
            pools = [closed.pools[key] for key in closed.pools.keys()]  # noqa: SIM118 - it cannot be iterated
            closed.clear()
            for pool in pools:
                pool.close()

    def _pools(self, credential: Credential) -> urllib3.PoolManager:
        with self._building:
            if self._manager is None or self._shown != credential.certificate:  # its TLS settings have another one
                self._manager, self._shown = self._new_manager(credential), credential.certificate
            return self._manager

    def _new_manager(self, credential: Credential) -> urllib3.PoolManager:
        tls = _tls(self._cluster, credential)
        options: dict[str, Any] = {
            "ssl_context": tls,
            "cert_reqs": tls.verify_mode,
            "server_hostname": self._cluster.get("tls-server-name"),
            "retries": False,
            "timeout": urllib3.Timeout(connect=self._connect_s),
            "maxsize": _KEPT_OPEN,
        }
        if not self._proxy:
            return urllib3.PoolManager(**options)
        url = urlsplit(self._proxy)
        address, login = f"{url.scheme}://{url.netloc.rpartition('@')[2]}", (url.username, url.password)
        name, password = (None if part is None else unquote(part) for part in login)
        if url.scheme in _SOCKS:
            address = address.replace(url.scheme, _SOCKS[url.scheme], 1)
            return _socks_manager()(address, username=name, password=password, **options)
        basic = urllib3.make_headers(proxy_basic_auth=f"{name or ''}:{password or ''}") if name or password else {}
        return urllib3.ProxyManager(address, proxy_headers=basic, proxy_ssl_context=tls, **options)


def _socks_manager() -> Callable[..., urllib3.PoolManager]:
    try:
        from urllib3.contrib.socks import SOCKSProxyManager
    except ImportError as error:
        raise UsageError("a SOCKS proxy needs the library PySocks", hint="pip install PySocks") from error
    return SOCKSProxyManager


def _tls(cluster: Object, credential: Credential) -> ssl.SSLContext:
    """Return the TLS settings of a cluster. Certificates are judged as kubectl judges them.

    An authority that is named is trusted, be it the last of its chain or not, and need not have what newer Pythons ask
    of one.
    """
    insecure, authority = cluster.get("insecure-skip-tls-verify", False), content(cluster, "certificate-authority")
    if insecure and authority:
        raise UsageError("the kubeconfig's cluster has a certificate-authority and insecure-skip-tls-verify: take one")
    if insecure:
        urllib3.disable_warnings(InsecureRequestWarning)  # it is what the user asked for, and kubectl does not warn
    context = create_urllib3_context(cert_reqs=ssl.CERT_NONE if insecure else ssl.CERT_REQUIRED)
    context.verify_flags = context.verify_flags & ~ssl.VERIFY_X509_STRICT | ssl.VERIFY_X509_PARTIAL_CHAIN
    try:
        if authority:
            context.load_verify_locations(cadata=authority.decode("ascii", "ignore"))
        elif not insecure:
            context.load_default_certs()
    except (OSError, ValueError) as error:
        raise UsageError(f"the kubeconfig's certificate-authority cannot be used: {error}") from error
    if credential.certificate:
        try:
            with _readable_once(credential.certificate) as certificate, _readable_once(credential.key) as key:
                context.load_cert_chain(certificate, key, _no_password)
        except (OSError, ValueError) as error:
            raise UsageError(f"the client certificate cannot be used: {error}") from error
    return context


@contextlib.contextmanager
def _readable_once(data: bytes) -> Iterator[str]:
    """Yield a path by which ``data`` can be read once: a pipe, since a private key must not lie in a file."""
    reader, writer = os.pipe()

    def write() -> None:
        with contextlib.suppress(OSError), open(writer, "wb") as pipe:  # whoever reads may have seen enough
            pipe.write(data)

    thread = threading.Thread(target=write, name="meshbook certificate", daemon=True)
    thread.start()
    try:
        yield f"/dev/fd/{reader}"
    finally:
        os.close(reader)
        thread.join()


def _no_password() -> bytes:
    raise ValueError("its key is encrypted")


def proxy_of(server: str, cluster: Object, environment: Mapping[str, str]) -> str:
    """Return the URL of the proxy to a server, empty for none: as for kubectl, ``proxy-url``, else the environment's.

    $NO_PROXY and this machine's loopback are about the latter only.
    """
    url = urlsplit(server)
    found = str(cluster.get("proxy-url", ""))
    if not found and not is_loopback(server) and not _is_excepted(url.hostname or "", url.port, environment):
        names = (f"{url.scheme.upper()}_PROXY", f"{url.scheme}_proxy")
        found = next((environment[name] for name in names if environment.get(name)), "")
        found = found if "://" in found or not found else f"http://{found}"
    try:
        _ = urlsplit(found).port
    except ValueError:  # its words may hold a part of the password
        hint = "the proxy-url of its cluster or $HTTPS_PROXY; write signs of a password as %23 for #"
        raise UsageError(f"the URL of the proxy to {server} cannot be read", hint=hint) from None
    if found and (urlsplit(found).scheme not in _PROXIES or not urlsplit(found).hostname):
        scheme, shown = urlsplit(found).scheme, ", ".join(f"{scheme}://" for scheme in _PROXIES)
        raise UsageError(f"a proxy's URL of the scheme {scheme!r} cannot be used for {server}", hint=f"one of {shown}")
    return found


def _is_excepted(host: str, port: int | None, environment: Mapping[str, str]) -> bool:
    """Tell whether $NO_PROXY names a host: by name, parent domain, address or network, with a port or without."""
    listed = environment.get("NO_PROXY") or environment.get("no_proxy") or ""
    for entry in filter(None, (part.strip().lower() for part in listed.split(","))):
        if entry == "*":
            return True
        with contextlib.suppress(ValueError):
            if ipaddress.ip_address(host) in ipaddress.ip_network(entry, strict=False):
                return True
        name, colon, of = entry.rpartition(":")
        name, of = (name, of) if colon and of.isdigit() else (entry, "")
        name = name.removeprefix("*").strip("[]")
        domain = name if name.startswith(".") else f".{name}"
        if (host == name or host.endswith(domain)) and of in ("", str(port or 443)):
            return True
    return False


def is_loopback(url: str) -> bool:
    """Tell whether the URL's host is this machine."""
    host = urlsplit(url).hostname or ""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
