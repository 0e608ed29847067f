"""The smallest pieces of an Envoy configuration, each said once: addresses, typed parts, file sources, access logs."""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]

ROUTER = "envoy.extensions.filters.http.router.v3.Router"
FILE_LOG = "envoy.extensions.access_loggers.file.v3.FileAccessLog"
STDOUT_LOG = "envoy.extensions.access_loggers.stream.v3.StdoutAccessLog"

LOG_FIELDS = {
    "start": "%START_TIME%",
    "method": "%REQ(:METHOD)%",
    "authority": "%REQ(:AUTHORITY)%",
    "path": "%REQ(:PATH)%",
    "code": "%RESPONSE_CODE%",
    "flags": "%RESPONSE_FLAGS%",
    "details": "%RESPONSE_CODE_DETAILS%",
    "failure": "%UPSTREAM_TRANSPORT_FAILURE_REASON%",
    "upstream": "%UPSTREAM_HOST%",
    "cluster": "%UPSTREAM_CLUSTER%",
    "attempts": "%UPSTREAM_REQUEST_ATTEMPT_COUNT%",
    "duration_ms": "%DURATION%",
    "downstream": "%DOWNSTREAM_REMOTE_ADDRESS%",
    "sni": "%REQUESTED_SERVER_NAME%",
}
"""One line of JSON per request (or per connection, where a proxy passes TLS through); absent values are null."""

PRINTED_FIELDS = {
    "start_time": "%START_TIME%",
    "method": "%REQ(:METHOD)%",
    "path": "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%",
    "protocol": "%PROTOCOL%",
    "response_code": "%RESPONSE_CODE%",
    "response_flags": "%RESPONSE_FLAGS%",
    "response_code_details": "%RESPONSE_CODE_DETAILS%",
    "connection_termination_details": "%CONNECTION_TERMINATION_DETAILS%",
    "upstream_transport_failure_reason": "%UPSTREAM_TRANSPORT_FAILURE_REASON%",
    "duration": "%DURATION%",
    "request_id": "%REQ(X-REQUEST-ID)%",
    "authority": "%REQ(:AUTHORITY)%",
    "upstream_host": "%UPSTREAM_HOST%",
    "upstream_cluster": "%UPSTREAM_CLUSTER%",
    "upstream_request_attempt_count": "%UPSTREAM_REQUEST_ATTEMPT_COUNT%",
    "downstream_remote_address": "%DOWNSTREAM_REMOTE_ADDRESS%",
    "requested_server_name": "%REQUESTED_SERVER_NAME%",
}
"""What a pod's proxy prints: Istio's JSON names, as with ``accessLogFile: /dev/stdout``. The count of attempts is
extra, as in a mesh whose ``accessLogFormat`` asks for it."""


def typed(message: str, **fields: Any) -> Json:
    """Return a message of a named protobuf type (``message`` without the ``type.googleapis.com/`` before it)."""
    return {"@type": f"type.googleapis.com/{message}", **fields}


def part(name: str, message: str, **fields: Any) -> Json:
    """Return a named extension: a filter, a transport socket, a predicate."""
    return {"name": name, "typed_config": typed(message, **fields)}


def address(ip: str, port: int) -> Json:
    return {"socket_address": {"address": ip, "port_value": port}}


def watched_file(path: str) -> Json:
    """Return a configuration source: Envoy reads ``path`` again whenever a file is renamed to it."""
    return {"path_config_source": {"path": path}, "resource_api_version": "V3"}


def discovery_response(resources: list[Json]) -> Json:
    """Wrap resources as a file source wants them."""
    return {"resources": resources}


def access_log(path: str, direction: str) -> list[Json]:
    """Log to ``path``; ``direction`` (outbound, inbound, gateway, passthrough, edge) says which listener it was."""
    fields = {"direction": direction, **LOG_FIELDS}
    return [part("envoy.access_loggers.file", FILE_LOG, path=path, log_format={"json_format": fields})]


def printed_log() -> list[Json]:
    """Log to standard output, where ``kubectl logs -c istio-proxy`` finds it."""
    return [part("envoy.access_loggers.stdout", STDOUT_LOG, log_format={"json_format": PRINTED_FIELDS})]


def seconds(value: float) -> str:
    """Return a duration as protobuf's JSON writes it."""
    return f"{value:g}s"
