"""Requests to one API server: credentials and TLS of the official client, plain JSON, bounded time and bounded tries.

The only room that knows of the ``kubernetes`` package. What the requests mean is in ``api``; commands in pods, which
use a WebSocket of this connection, are in ``execution``.
"""

from __future__ import annotations

import ipaddress
import json
import socket
import ssl
import threading
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlencode, urlsplit

import kubernetes.client
import kubernetes.config
import urllib3
import urllib3.exceptions
import websocket

from meshbook.clusters.kubeconfig import Kubeconfig
from meshbook.clusters.together import pause
from meshbook.errors import ClusterError, UsageError
from meshbook.settings import Patience

JSON, MERGE_PATCH = "application/json", "application/merge-patch+json"
APPLY = "application/apply-patch+yaml"
EXEC_PROTOCOLS = ["v5.channel.k8s.io", "v4.channel.k8s.io"]

_TRANSIENT = {429, 500, 502, 503, 504}
_HINTS = {
    401: "the login has expired or the token is wrong; log in to this cluster again",
    403: "this context's user lacks a role; kubectl auth can-i says which",
}

Query = Mapping[str, str] | Sequence[tuple[str, str]]


class Connection:
    """One context of a kubeconfig. Threads may share it."""

    def __init__(self, kubeconfig: Kubeconfig, context: str, patience: Patience) -> None:
        self.context = context
        self.patience = patience
        self._configuration = _configuration(kubeconfig, context)
        self.server = str(self._configuration.host)
        self._pool = kubernetes.client.ApiClient(self._configuration).rest_client.pool_manager
        self._timeout = urllib3.Timeout(connect=patience.connect_s, read=patience.read_s)
        self._login = threading.Lock()

    def request(
        self, method: str, path: str, *, query: Query = (), body: Any = None, content_type: str = JSON
    ) -> tuple[int, dict[str, Any]]:
        """Send one request and return (HTTP status, JSON answer); refusals and silence become ClusterError.

        Tried again after a lost connection or a transient status, unless it is a POST, which could act twice.
        """
        wait_s = self.patience.pause_s
        for attempts_left in reversed(range(self.patience.attempts)):
            try:
                response = self._send(method, path, query, body, content_type)
            except urllib3.exceptions.HTTPError as error:
                if not attempts_left or not _may_repeat(method, error):
                    raise self._unreachable(method, path, error) from error
            else:
                if response.status < 300:
                    return response.status, _decoded(response.data)
                if not attempts_left or not _worth_repeating(method, response.status):
                    raise self._refusal(method, path, response)
                wait_s = max(wait_s, _retry_after(response, self.patience.longest_pause_s))
            pause(wait_s)
            wait_s = min(2 * wait_s, self.patience.longest_pause_s)
        raise AssertionError("attempts is at least 1")

    def open_stream(self, path: str, *, query: Query = (), silence_s: float) -> urllib3.BaseHTTPResponse:
        """Send one GET, once, and return its answer to be read as it comes; the caller closes it.

        ``silence_s`` bounds the time without a byte. A refusal is a ClusterError; silence is one here, and an
        ``urllib3`` error where the answer breaks off while it is read.
        """
        timeout = urllib3.Timeout(connect=min(silence_s, self.patience.connect_s), read=silence_s)
        options: dict[str, Any] = {"timeout": timeout, "retries": False, "redirect": False, "preload_content": False}
        try:
            headers = {"Accept": JSON, **self._credentials()}
            response: urllib3.BaseHTTPResponse
            response = self._pool.request("GET", self._url(path, query), headers=headers, **options)
            if response.status >= 300:
                response.read()
                raise self._refusal("GET", path, response)
        except urllib3.exceptions.HTTPError as error:
            raise self._unreachable("GET", path, error) from error
        return response

    def close(self) -> None:
        """Close the connections that are kept open; the next request opens new ones."""
        pools = [self._pool.pools[key] for key in self._pool.pools.keys()]  # noqa: SIM118 - it cannot be iterated
        self._pool.clear()
        for pool in pools:
            pool.close()

    def _send(self, method: str, path: str, query: Query, body: Any, content_type: str) -> urllib3.BaseHTTPResponse:
        headers = {"Accept": JSON, **self._credentials()}
        payload = None
        if body is not None:
            headers["Content-Type"] = content_type
            payload = json.dumps(body).encode()
        url = self._url(path, query)
        response: urllib3.BaseHTTPResponse = self._pool.request(
            method, url, body=payload, headers=headers, timeout=self._timeout, retries=False, redirect=False
        )
        return response

    def _url(self, path: str, query: Query) -> str:
        return f"{self.server}{path}?{urlencode(query)}" if query else f"{self.server}{path}"

    def _credentials(self) -> dict[str, str]:
        with self._login:  # a login plugin may run to refresh the token
            settings = self._configuration.auth_settings()
        found = {auth["key"]: auth["value"] for auth in settings.values() if auth["in"] == "header"}
        return {key: value for key, value in found.items() if value}

    def _unreachable(self, method: str, path: str, error: Exception) -> ClusterError:
        hint = "is the cluster up, and its API server reachable from here?"
        if isinstance(error, urllib3.exceptions.SSLError):
            hint = "the kubeconfig's certificate-authority-data does not fit this server"
        return ClusterError(
            f"no answer from {self.context}", request=f"{method} {self.server}{path}", saw=str(error), hint=hint
        )

    def _refusal(self, method: str, path: str, response: urllib3.BaseHTTPResponse) -> ClusterError:
        message, reason = status_words(response.data)
        return ClusterError(
            f"{self.context}: {message}",
            code=response.status,
            reason=reason,
            request=f"{method} {path}",
            hint=_HINTS.get(response.status, ""),
        )

    def open_websocket(self, path: str, query: Query) -> Any:
        """Open a WebSocket that speaks one of ``EXEC_PROTOCOLS``; the caller closes it."""
        url = "ws" + self._url(path, query).removeprefix("http")
        link: Any = websocket.WebSocket(skip_utf8_validation=True)
        header = [f"{key}: {value}" for key, value in self._credentials().items()]
        options: dict[str, Any] = {"header": header, "subprotocols": EXEC_PROTOCOLS, "suppress_origin": True}
        link.connect(url, timeout=self.patience.connect_s, **options, **self._route())
        return link

    def _route(self) -> dict[str, Any]:
        """Return how a WebSocket gets to the server: a connected socket, or the proxy to go through."""
        target = urlsplit(self.server)
        if self._configuration.proxy:
            proxy = urlsplit(self._configuration.proxy)
            through = {"http_proxy_host": proxy.hostname, "http_proxy_port": proxy.port or 80, "proxy_type": "http"}
            return {**through, "sslopt": {"context": self._tls()}}
        address = (target.hostname or "", target.port or (443 if target.scheme == "https" else 80))
        plain = socket.create_connection(address, timeout=self.patience.connect_s)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if target.scheme != "https":
            return {"socket": plain}
        name = getattr(self._configuration, "tls_server_name", None) or target.hostname
        return {"socket": self._tls().wrap_socket(plain, server_hostname=name)}

    def _tls(self) -> ssl.SSLContext:
        configuration = self._configuration
        context = ssl.create_default_context(cafile=configuration.ssl_ca_cert)
        if not configuration.verify_ssl:
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        if configuration.cert_file:
            context.load_cert_chain(configuration.cert_file, configuration.key_file)
        return context


def _configuration(kubeconfig: Kubeconfig, context: str) -> Any:
    configuration = kubernetes.client.Configuration()
    load: Any = kubernetes.config.load_kube_config
    try:
        load(config_file=kubeconfig.path, context=context, client_configuration=configuration, persist_config=False)
    except (kubernetes.config.ConfigException, OSError, ValueError, TypeError) as error:
        raise UsageError(f"context {context!r} of {kubeconfig.path} cannot be used: {error}") from error
    if is_loopback(configuration.host) and not kubeconfig.cluster(context).get("proxy-url"):
        configuration.proxy = None  # as kubectl: a company's proxy cannot reach this machine's loopback
    return configuration


def is_loopback(url: str) -> bool:
    """Tell whether the URL's host is this machine."""
    host = urlsplit(url).hostname or ""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _never_sent(error: Exception) -> bool:
    return isinstance(error, urllib3.exceptions.NewConnectionError | urllib3.exceptions.ConnectTimeoutError)


def _may_repeat(method: str, error: Exception) -> bool:
    if isinstance(error, urllib3.exceptions.SSLError):
        return False
    return method != "POST" or _never_sent(error)


def _worth_repeating(method: str, status: int) -> bool:
    return status == 429 or (status in _TRANSIENT and method != "POST")


def _retry_after(response: urllib3.BaseHTTPResponse, longest_s: float) -> float:
    text = response.headers.get("Retry-After", "")
    return min(float(text), longest_s) if text.isdigit() else 0.0


def _decoded(data: bytes) -> dict[str, Any]:
    try:
        answer = json.loads(data or b"{}")
    except ValueError as error:
        raise ClusterError(f"the answer is not JSON: {data[:80]!r}", hint="is there a proxy in between?") from error
    return answer if isinstance(answer, dict) else {"items": answer}


def status_words(data: bytes) -> tuple[str, str]:
    """Return (message, reason) of an API server's Status, or the start of whatever else it said."""
    try:
        status = json.loads(data)
        return str(status["message"]), str(status.get("reason", ""))
    except (ValueError, KeyError, TypeError, AttributeError):
        return data[:200].decode("utf-8", "replace").strip() or "refused without a word", ""
