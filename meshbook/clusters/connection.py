"""A kubeconfig's contexts, and requests to the API server of one: bounded in time and tries, refusals as ClusterError.

Credentials, TLS, proxies and the requests themselves are the official client's (``DynamicClient.request``). What the
requests mean is in ``api``; what goes on over the WebSocket of a command in ``execution``.
"""

from __future__ import annotations

import ipaddress
import json
import os
import ssl
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlencode, urlsplit

import kubernetes.client
import kubernetes.config
import urllib3
import websocket
import yaml
from kubernetes.dynamic import DynamicClient
from kubernetes.dynamic.exceptions import DynamicApiError
from urllib3.exceptions import ConnectTimeoutError, HTTPError, NewConnectionError, ProxyError, SSLError

from meshbook.clusters.concurrency import pause
from meshbook.errors import ClusterError, UsageError
from meshbook.objects import Object
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
_dynamic_client: Any = DynamicClient  # it has no annotations


class Kubeconfig:
    """One or several files, merged as kubectl merges $KUBECONFIG: the first entry of a name wins."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._contexts: dict[str, Object] = {}
        self._clusters: dict[str, Object] = {}
        for part in filter(None, path.split(os.pathsep)):
            document = _read(Path(part).expanduser())
            for section, key, found in (
                ("contexts", "context", self._contexts),
                ("clusters", "cluster", self._clusters),
            ):
                for entry in document.get(section) or []:
                    if isinstance(entry, dict) and isinstance(entry.get(key), dict):
                        found.setdefault(str(entry.get("name")), entry[key])

    @property
    def contexts(self) -> list[str]:
        return sorted(self._contexts)

    def require(self, names: Sequence[str]) -> None:
        """Raise UsageError unless every name is a context that leads to a cluster, each to another server."""
        unknown = [name for name in names if name not in self._contexts]
        if unknown:
            raise UsageError(
                f"no context {', '.join(map(repr, unknown))} in {self.path}",
                hint="name the contexts with contexts=[…], or set CTX_CLUSTER1 and CTX_CLUSTER2",
                contexts=", ".join(self.contexts) or "none",
            )
        seen: dict[str, str] = {}
        for name in names:
            server = str(self.cluster(name)["server"]).rstrip("/")
            refuse_same_cluster(seen.setdefault(server, name), name, server)

    def user(self, context: str) -> str:
        """Return the name of the user entry that ``context`` refers to."""
        return str(self._contexts[context].get("user", ""))

    def cluster(self, context: str) -> Object:
        """Return the cluster entry that ``context`` refers to."""
        name = self._contexts[context].get("cluster", "")
        found = self._clusters.get(name)
        if not found or not found.get("server"):
            raise UsageError(f"context {context!r} refers to cluster {name!r}, which has no server in {self.path}")
        return found

    def extension(self, context: str, name: str) -> Object:
        """Return what extension ``name`` of the context's cluster entry holds; empty when there is none."""
        for found in self.cluster(context).get("extensions") or []:
            if found.get("name") == name and isinstance(found.get("extension"), dict):
                return dict(found["extension"])
        return {}


def _read(path: Path) -> Object:
    if not path.exists():  # kubectl skips missing files of a list; settings saw that one is there
        return {}
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UsageError(f"cannot read the kubeconfig {path}: {error}") from error
    if not isinstance(document, dict):
        raise UsageError(f"{path} is no kubeconfig: it holds a {type(document).__name__}, not a mapping")
    return document


def refuse_same_cluster(first: str, second: str, sign: str) -> None:
    """Raise UsageError when two different contexts mean one cluster; ``sign`` tells how it shows."""
    if first != second:
        raise UsageError(
            f"contexts {first!r} and {second!r} are the same cluster",
            hint="name one context per cluster; a fleet needs different ones",
            both=sign,
        )


class Connection:
    """The API server of one context of a kubeconfig. Threads may share it."""

    def __init__(self, kubeconfig: Kubeconfig, context: str, patience: Patience) -> None:
        self.context, self.patience = context, patience
        self._configuration = _configuration(kubeconfig, context)
        self.server = str(self._configuration.host)
        client = kubernetes.client.ApiClient(self._configuration)
        self._pool = client.rest_client.pool_manager
        # Without the client's own discovery: for one kind it may ask for all groups, it takes a 503 for "no such kind",
        # has no time limit, and leaves a file in the temporary folder. ``Api.resource`` asks for one group version.
        self._client: Any = _dynamic_client(client, discoverer=lambda *_: None)

    def request(
        self, method: str, path: str, *, query: Query = (), body: Any = None, content_type: str = JSON
    ) -> tuple[int, Object]:
        """Send one request and return (HTTP status, JSON answer); refusals and silence become ClusterError.

        Tried again after a lost connection or a transient status, unless it is a POST, which could act twice. Not by
        the client's ``retries``: those do not repeat what breaks off within the answer, and sleep through an interrupt.
        """
        timeout, wait_s = (self.patience.connect_s, self.patience.read_s), self.patience.pause_s
        for attempts_left in reversed(range(self.patience.attempts)):
            try:
                response = self._send(method, path, timeout, query=query, body=body, content_type=content_type)
                return response.status, self.decoded(response.data)
            except (DynamicApiError, HTTPError) as error:
                if not attempts_left or not _may_repeat(method, error):
                    refused = self._error(method, path, error)
                    refused.retry_after_s = _retry_after(error)
                    refused.fields = _causes(getattr(error, "body", ""))
                    raise refused from error
                wait_s = max(wait_s, min(_retry_after(error), self.patience.longest_pause_s))
            pause(wait_s)
            wait_s = min(2 * wait_s, self.patience.longest_pause_s)
        raise AssertionError("attempts is at least 1")

    def read_once(self, path: str, *, query: Query = (), silence_s: float) -> bytes:
        """Send one GET in one try, so that its times mean something; ``silence_s`` bounds the time without a byte."""
        timeout = (min(silence_s, self.patience.connect_s), silence_s)
        try:
            return bytes(self._send("GET", path, timeout, query=query).data)
        except (DynamicApiError, HTTPError) as error:
            raise self._error("GET", path, error) from error

    def open_websocket(self, path: str, query: Query) -> Any:
        """Open a WebSocket that speaks one of ``EXEC_PROTOCOLS``; the caller closes it."""
        settings = self._configuration
        tls = {
            "cert_reqs": ssl.CERT_REQUIRED if settings.verify_ssl else ssl.CERT_NONE,
            "ca_certs": settings.ssl_ca_cert,
            "certfile": settings.cert_file,
            "keyfile": settings.key_file,
            "server_hostname": getattr(settings, "tls_server_name", None),
        }
        # The way of all other requests. websocket-client would ask $HTTPS_PROXY itself, and is kept from it only so.
        route: dict[str, Any] = {"http_proxy_host": "none", "http_proxy_port": 1, "http_no_proxy": ["*"]}
        if proxy := self._pool.proxy:
            login = tuple(unquote(part) for part in proxy.auth.split(":", 1)) if proxy.auth else None
            route = {"http_proxy_host": proxy.host, "http_proxy_port": proxy.port or 80, "http_proxy_auth": login}
        return websocket.create_connection(
            "ws" + self.server.removeprefix("http") + path + "?" + urlencode(query),
            timeout=self.patience.connect_s,
            header=[f"{auth['key']}: {auth['value']}" for auth in settings.auth_settings().values() if auth["value"]],
            subprotocols=EXEC_PROTOCOLS,
            sslopt=tls,
            skip_utf8_validation=True,
            suppress_origin=True,
            **route,
        )

    def close(self) -> None:
        """Close the connections that are kept open; the next request opens new ones."""
        pools = [self._pool.pools[key] for key in self._pool.pools.keys()]  # noqa: SIM118 - it cannot be iterated
        self._pool.clear()
        for pool in pools:
            pool.close()

    def decoded(self, data: bytes) -> Object:
        """Return an answer's JSON."""
        try:
            answer = json.loads(data or b"{}")
        except ValueError as error:
            message = f"{self.context}: the answer is not JSON: {data[:80]!r}"
            raise ClusterError(message, hint="is there a proxy in between?") from error
        return answer if isinstance(answer, dict) else {"items": answer}

    def _send(self, method: str, path: str, timeout: tuple[float, float], *, query: Query, **options: Any) -> Any:
        pairs = list(query.items()) if isinstance(query, Mapping) else list(query)
        return self._client.request(
            method, path, query_params=pairs, serialize=False, _request_timeout=timeout, **options
        )

    def _error(self, method: str, path: str, error: Any) -> ClusterError:
        if status := getattr(error, "status", 0):
            message, reason = status_message(error.body)
            return ClusterError(
                f"{self.context}: {message}",
                code=status,
                reason=reason,
                request=f"{method} {path}",
                hint=_HINTS.get(status, ""),
            )
        hint = "is the cluster up, and its API server reachable from here?"
        if isinstance(error, ProxyError):
            hint = "does the proxy (the kubeconfig's proxy-url, or $HTTPS_PROXY) answer, and its login fit?"
        elif _is_tls(error):
            hint = "the kubeconfig's certificate-authority-data does not fit this server"
        saw = getattr(error, "reason", "") or error
        return ClusterError(
            f"no answer from {self.context}", request=f"{method} {self.server}{path}", saw=str(saw), hint=hint
        )


def _configuration(kubeconfig: Kubeconfig, context: str) -> Any:
    configuration: Any = kubernetes.client.Configuration()
    load: Any = kubernetes.config.load_kube_config
    try:
        load(config_file=kubeconfig.path, context=context, client_configuration=configuration, persist_config=False)
    except (kubernetes.config.ConfigException, OSError, ValueError, TypeError) as error:
        raise UsageError(f"context {context!r} of {kubeconfig.path} cannot be used: {error}") from error
    if proxy := kubeconfig.cluster(context).get("proxy-url"):
        configuration.proxy = proxy  # which older clients do not read
    elif is_loopback(configuration.host):
        configuration.proxy = None  # as kubectl: a company's proxy cannot reach this machine's loopback
    if login := urllib3.util.parse_url(configuration.proxy or "").auth:
        configuration.proxy_headers = urllib3.make_headers(proxy_basic_auth=unquote(login))
    configuration.retries = False
    settings, lock = configuration.auth_settings, threading.Lock()

    def one_login_at_a_time() -> Any:
        with lock:  # a login plugin may run to refresh the token
            return settings()

    configuration.auth_settings = one_login_at_a_time
    return configuration


def is_loopback(url: str) -> bool:
    """Tell whether the URL's host is this machine."""
    host = urlsplit(url).hostname or ""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _is_tls(error: Exception) -> bool:
    """Tell whether TLS failed: the client makes an error without a status of it for some methods."""
    return isinstance(error, SSLError | DynamicApiError) and not getattr(error, "status", 0)


def _may_repeat(method: str, error: Exception) -> bool:
    if status := getattr(error, "status", 0):
        return status == 429 or (status in _TRANSIENT and method != "POST")
    never_sent = isinstance(error, NewConnectionError | ConnectTimeoutError)
    return (method != "POST" or never_sent) and not _is_tls(error)


def _retry_after(error: Exception) -> float:
    text = (getattr(error, "headers", None) or {}).get("Retry-After", "")
    return float(text) if text.isdigit() else 0.0


def _causes(data: bytes | str) -> list[str]:
    """Return the fields that an API server's Status names as the causes of a refusal."""
    try:
        return [str(cause["field"]) for cause in json.loads(data)["details"]["causes"]]
    except (ValueError, LookupError, TypeError):
        return []


def status_message(data: bytes | str) -> tuple[str, str]:
    """Return (message, reason) of an API server's Status, or the start of whatever else it said."""
    try:
        status = json.loads(data)
        return str(status["message"]), str(status.get("reason", ""))
    except (ValueError, KeyError, TypeError, AttributeError):
        text = data.decode("utf-8", "replace") if isinstance(data, bytes) else str(data or "")
        return text[:200].strip() or "refused without a word", ""
