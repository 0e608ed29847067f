"""Mutual TLS between workloads: certificates from files, identities as SPIFFE URIs."""

from __future__ import annotations

from meshbook.lab.envoy.elements import Json, part
from meshbook.lab.envoy.folders import ProxyFolder
from meshbook.lab.topology import TRUST_DOMAIN

UPSTREAM = "envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext"
DOWNSTREAM = "envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext"


def identity(namespace: str, service_account: str) -> str:
    """Return the SPIFFE URI of a workload."""
    return f"spiffe://{TRUST_DOMAIN}/ns/{namespace}/sa/{service_account}"


def client(folder: ProxyFolder, *, sni: str, identities: str) -> Json:
    """Return the transport socket of a client that accepts only servers whose SPIFFE URI starts with ``identities``."""
    return part(
        "envoy.transport_sockets.tls", UPSTREAM, sni=sni, common_tls_context=_common(folder, identities, ["h2"])
    )


def server(folder: ProxyFolder) -> Json:
    """Return the transport socket of a server that accepts every workload of the trust domain and nobody else."""
    return part(
        "envoy.transport_sockets.tls",
        DOWNSTREAM,
        require_client_certificate=True,
        common_tls_context=_common(folder, f"spiffe://{TRUST_DOMAIN}/", ["h2", "http/1.1"]),
    )


def _common(folder: ProxyFolder, identities: str, protocols: list[str]) -> Json:
    own = {
        "certificate_chain": {"filename": folder.file(folder.certificate)},
        "private_key": {"filename": folder.file(folder.key)},
    }
    matcher = {"san_type": "URI", "matcher": {"prefix": identities}}
    return {
        "tls_params": {"tls_minimum_protocol_version": "TLSv1_2"},
        "tls_certificates": [own],
        "validation_context": {
            "trusted_ca": {"filename": folder.file(folder.trusted_root)},
            "match_typed_subject_alt_names": [matcher],
        },
        "alpn_protocols": protocols,
    }
