"""Requests to the API server of one context: bounded in time and tries, refusals as ClusterError.

The official client makes them (``DynamicClient.request``); how they get there (proxy, TLS, login) is in ``transport``.
What the requests mean is in ``api``; what goes on over the WebSocket of a command in ``execution``.
"""

from __future__ import annotations

import json
import ssl
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any
from urllib.parse import urlencode

import kubernetes.client
import websocket
from kubernetes.dynamic import DynamicClient
from kubernetes.dynamic.exceptions import DynamicApiError
from urllib3.exceptions import ConnectTimeoutError, HTTPError, NewConnectionError, ProxyError, SSLError

from meshbook.clusters.concurrency import pause
from meshbook.clusters.hints import refusal_hint
from meshbook.clusters.kubeconfig import Kubeconfig
from meshbook.clusters.plugin import Credential
from meshbook.clusters.transport import Transport
from meshbook.errors import ClusterError, UsageError
from meshbook.objects import Object
from meshbook.settings import Patience

JSON, MERGE_PATCH = "application/json", "application/merge-patch+json"
APPLY = "application/apply-patch+yaml"
EXEC_PROTOCOLS = ["v5.channel.k8s.io", "v4.channel.k8s.io"]

_TRANSIENT = {429, 500, 502, 503, 504}
_PROXY_HINT = "does the proxy (the kubeconfig's proxy-url, or $HTTPS_PROXY) answer, and its login fit?"

Query = Mapping[str, str] | Sequence[tuple[str, str]]
_dynamic_client: Any = DynamicClient  # it has no annotations


class Connection:
    """The API server of one context of a kubeconfig. Threads may share it."""

    def __init__(self, kubeconfig: Kubeconfig, context: str, patience: Patience, name: str) -> None:
        self.context, self.patience, self._name = context, patience, name
        try:
            self._transport = Transport(kubeconfig, context, patience)
        except (ValueError, LookupError, TypeError, AttributeError, OSError, HTTPError) as error:
            raise UsageError(f"context {context!r} of {kubeconfig.path} cannot be used: {error}") from error
        self.server = self._transport.server
        configuration = kubernetes.client.Configuration(host=self.server)
        configuration.proxy = None
        client = kubernetes.client.ApiClient(configuration)
        client.rest_client.pool_manager = self._transport  # type: ignore[assignment]
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
            except (DynamicApiError, HTTPError, OSError) as error:
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
        except (DynamicApiError, HTTPError, OSError) as error:
            raise self._error("GET", path, error) from error

    def open_websocket(self, path: str, query: Query) -> Any:
        """Open a WebSocket that speaks one of ``EXEC_PROTOCOLS``; the caller closes it. Errors are the libraries'."""
        credential = self._transport.credential()
        try:
            return self._opened(path, query, credential)
        except websocket.WebSocketBadStatusException as error:
            if error.status_code != HTTPStatus.UNAUTHORIZED or not self._transport.renew(credential):
                raise
            return self._opened(path, query, self._transport.credential())

    def _opened(self, path: str, query: Query, credential: Credential) -> Any:
        header = [f"{name}: {value}" for name, value in self._transport.headers(credential)]
        return websocket.create_connection(
            "ws" + self.server.removeprefix("http") + path + "?" + urlencode(query),
            socket=self._transport.open_socket(credential),
            timeout=self.patience.connect_s,
            header=header,
            subprotocols=EXEC_PROTOCOLS,
            redirect_limit=0,
            skip_utf8_validation=True,
            suppress_origin=True,
        )

    def clean(self, text: str) -> str:
        """Return what a server has said without the login that it may repeat."""
        return self._transport.clean(text)

    def close(self) -> None:
        """Close the connections that are kept open; the next request opens new ones."""
        self._transport.close()

    def decoded(self, data: bytes) -> Object:
        """Return an answer's JSON."""
        try:
            answer = json.loads(data or b"{}")
        except ValueError as error:
            message = self.clean(f"{self._name}: the answer is not JSON: {data[:80]!r}")
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
                f"{self._name}: {self.clean(message)}",
                code=status,
                reason=reason,
                request=f"{method} {path}",
                hint=refusal_hint(status, message),
            )
        return ClusterError(
            f"no answer from {self._name}",
            request=f"{method} {self.server}{path}",
            saw=self.clean(str(getattr(error, "reason", "") or error)),
            hint=hint_of(error),
        )


def hint_of(error: Exception) -> str:
    """Return what to try where no answer came."""
    if isinstance(error, ProxyError) or "tunnel connection failed" in str(error).lower():
        return _PROXY_HINT
    if _is_tls(error):
        return "the kubeconfig's certificate authority, or its tls-server-name, does not fit this server"
    return "is the cluster up, and its API server reachable from here?"


def _is_tls(error: Exception) -> bool:
    """Tell whether TLS failed: the client makes an error without a status of it."""
    return isinstance(error, SSLError | ssl.SSLError | DynamicApiError) and not getattr(error, "status", 0)


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
