"""Pieces that several Envoy resources share: typed messages, addresses, durations, mutual TLS, the access log. Pure."""

from __future__ import annotations

from typing import Any

from meshbook.lab.envoy.folder import ProxyFolder
from meshbook.lab.topology import TRUST_DOMAIN

Json = dict[str, Any]

ACCESS_LOG = {
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
"""Istio's JSON names, as with ``accessLogFile: /dev/stdout``; absent values are null.

The count of attempts is extra, as in a mesh whose ``accessLogFormat`` asks for it.
"""


def typed(message: str, **fields: Any) -> Json:
    """Return a message of a named protobuf type (``message`` without the ``type.googleapis.com/`` before it)."""
    return {"@type": f"type.googleapis.com/{message}", **fields}


def part(name: str, message: str, **fields: Any) -> Json:
    """Return a named extension: a filter, a transport socket, a predicate."""
    return {"name": name, "typed_config": typed(message, **fields)}


def address(ip: str, port: int) -> Json:
    return {"socket_address": {"address": ip, "port_value": port}}


def seconds(value: float) -> str:
    """Return a duration as protobuf's JSON writes it."""
    return f"{value:g}s"


def access_log() -> list[Json]:
    """Return a log to standard output, where ``kubectl logs -c istio-proxy`` finds it."""
    stdout = "envoy.extensions.access_loggers.stream.v3.StdoutAccessLog"
    return [part("envoy.access_loggers.stdout", stdout, log_format={"json_format": ACCESS_LOG})]


def identity(namespace: str, service_account: str) -> str:
    """Return the SPIFFE URI of a workload."""
    return f"spiffe://{TRUST_DOMAIN}/ns/{namespace}/sa/{service_account}"


def client_tls(folder: ProxyFolder, *, sni: str, identities: str) -> Json:
    """Return the transport socket of a client that accepts only servers whose SPIFFE URI starts with ``identities``."""
    message = "envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext"
    common = _common_tls(folder, identities, ["h2"])
    return part("envoy.transport_sockets.tls", message, sni=sni, common_tls_context=common)


def server_tls(folder: ProxyFolder) -> Json:
    """Return the transport socket of a server that accepts every workload of the trust domain and nobody else."""
    message = "envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext"
    common = _common_tls(folder, f"spiffe://{TRUST_DOMAIN}/", ["h2", "http/1.1"])
    return part("envoy.transport_sockets.tls", message, require_client_certificate=True, common_tls_context=common)


def _common_tls(folder: ProxyFolder, identities: str, protocols: list[str]) -> Json:
    matcher = {"san_type": "URI", "matcher": {"prefix": identities}}
    return {
        "tls_params": {"tls_minimum_protocol_version": "TLSv1_2"},
        "tls_certificates": [
            {
                "certificate_chain": {"filename": str(folder.path / folder.certificate)},
                "private_key": {"filename": str(folder.path / folder.key)},
            }
        ],
        "validation_context": {
            "trusted_ca": {"filename": str(folder.path / folder.trusted_root)},
            "match_typed_subject_alt_names": [matcher],
        },
        "alpn_protocols": protocols,
    }
