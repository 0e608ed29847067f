"""Pieces that several Envoy resources share: typed messages, addresses, durations, mutual TLS, the access log. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from meshbook.lab.envoy.resources import SECRET
from meshbook.lab.topology import TRUST_DOMAIN

Json = dict[str, Any]

ADS: Json = {"ads": {}, "resource_api_version": "V3"}
"""Where an Envoy gets what is only named: from whom its bootstrap names."""

CERTIFICATE, TRUSTED_ROOT = "default", "ROOTCA"
"""Secrets of every workload, by Istio's names."""

_LOGGED = {
    "start_time": "[%START_TIME%]",
    "request": '"%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%"',
    "response_code": "%RESPONSE_CODE%",
    "response_flags": "%RESPONSE_FLAGS%",
    "response_code_details": "%RESPONSE_CODE_DETAILS%",
    "connection_termination_details": "%CONNECTION_TERMINATION_DETAILS%",
    "upstream_transport_failure_reason": '"%UPSTREAM_TRANSPORT_FAILURE_REASON%"',
    "bytes_received": "%BYTES_RECEIVED%",
    "bytes_sent": "%BYTES_SENT%",
    "duration": "%DURATION%",
    "upstream_service_time": "%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)%",
    "x_forwarded_for": '"%REQ(X-FORWARDED-FOR)%"',
    "user_agent": '"%REQ(USER-AGENT)%"',
    "request_id": '"%REQ(X-REQUEST-ID)%"',
    "authority": '"%REQ(:AUTHORITY)%"',
    "upstream_host": '"%UPSTREAM_HOST%"',
    "upstream_cluster": "%UPSTREAM_CLUSTER_RAW%",
    "upstream_local_address": "%UPSTREAM_LOCAL_ADDRESS%",
    "downstream_local_address": "%DOWNSTREAM_LOCAL_ADDRESS%",
    "downstream_remote_address": "%DOWNSTREAM_REMOTE_ADDRESS%",
    "requested_server_name": "%REQUESTED_SERVER_NAME%",
    "route_name": "%ROUTE_NAME%",
}
"""What Istio's proxies log unless they are told a format: in text by this order, in JSON by these names."""
ACCESS_LOG_TEXT = " ".join(_LOGGED.values()) + "\n"
_IN_JSON = ("method", "path", "protocol")
"""Names of what is one word in the text: the request."""
ACCESS_LOG_JSON = {name: text.strip('[]"') for name, text in _LOGGED.items() if name != "request"} | dict(
    zip(_IN_JSON, _LOGGED["request"].strip('"').split(" "), strict=True)
)


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


def http2() -> Json:
    """Return the extension of a cluster by which it speaks HTTP/2 without asking."""
    options = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
    return {options: typed(options, explicit_http_config={"http2_protocol_options": {}})}


def access_log(text: str = ACCESS_LOG_TEXT, *, json: Mapping[str, str] | None = None) -> list[Json]:
    """Return a log to standard output, where ``kubectl logs -c istio-proxy`` finds it; ``json`` counts before text."""
    stdout = "envoy.extensions.access_loggers.stream.v3.StdoutAccessLog"
    log_format: Json = {"json_format": dict(json)} if json else {"text_format_source": {"inline_string": text}}
    return [part("envoy.access_loggers.stdout", stdout, log_format=log_format)]


def identity(namespace: str, service_account: str) -> str:
    """Return the SPIFFE URI of a workload."""
    return f"spiffe://{TRUST_DOMAIN}/ns/{namespace}/sa/{service_account}"


def client_tls(*, sni: str, identities: str, speaks_http2: bool) -> Json:
    """Return the transport socket of a client that accepts only servers whose SPIFFE URI starts with ``identities``."""
    message = "envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext"
    common = _common_tls(identities, ["istio", "h2"] if speaks_http2 else ["istio"])
    return part("envoy.transport_sockets.tls", message, sni=sni, common_tls_context=common)


def server_tls() -> Json:
    """Return the transport socket of a server that accepts every workload of the trust domain and nobody else."""
    message = "envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext"
    common = _common_tls(f"spiffe://{TRUST_DOMAIN}/", ["h2", "http/1.1"])
    return part("envoy.transport_sockets.tls", message, require_client_certificate=True, common_tls_context=common)


def workload_secrets(certificate: str, key: str, root: str) -> list[Json]:
    """Return what a workload shows to others and what it knows them by; all as PEM."""
    shown = {"certificate_chain": {"inline_string": certificate}, "private_key": {"inline_string": key}}
    return [
        typed(SECRET, name=CERTIFICATE, tls_certificate=shown),
        typed(SECRET, name=TRUSTED_ROOT, validation_context={"trusted_ca": {"inline_string": root}}),
    ]


def _common_tls(identities: str, protocols: list[str]) -> Json:
    matcher = {"san_type": "URI", "matcher": {"prefix": identities}}
    return {
        "tls_params": {"tls_minimum_protocol_version": "TLSv1_2"},
        "tls_certificate_sds_secret_configs": [{"name": CERTIFICATE, "sds_config": ADS}],
        "combined_validation_context": {
            "default_validation_context": {"match_typed_subject_alt_names": [matcher]},
            "validation_context_sds_secret_config": {"name": TRUSTED_ROOT, "sds_config": ADS},
        },
        "alpn_protocols": protocols,
    }
