"""Mutual TLS between workloads: certificates from watched files, identities as SPIFFE URIs."""

from __future__ import annotations

from meshbook.lab.envoy import folders
from meshbook.lab.envoy.elements import Json, part, typed, watched_file
from meshbook.lab.envoy.folders import ProxyFolder
from meshbook.lab.topology import TRUST_DOMAIN

CERTIFICATE_SECRET, ROOT_SECRET = "default", "ROOTCA"
SECRET = "envoy.extensions.transport_sockets.tls.v3.Secret"
UPSTREAM = "envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext"
DOWNSTREAM = "envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext"


def identity(namespace: str, service_account: str) -> str:
    """Return the SPIFFE URI of a workload."""
    return f"spiffe://{TRUST_DOMAIN}/ns/{namespace}/sa/{service_account}"


def secrets(folder: ProxyFolder) -> dict[str, Json]:
    """Return the files that tell Envoy where its certificate and its root lie; the PEM files are watched too."""
    certificate = {
        "certificate_chain": {"filename": folder.file(folders.CERTIFICATE)},
        "private_key": {"filename": folder.file(folders.KEY)},
    }
    root = {"trusted_ca": {"filename": folder.file(folders.ROOT)}}
    return {
        _file(CERTIFICATE_SECRET): _secret(CERTIFICATE_SECRET, tls_certificate=certificate),
        _file(ROOT_SECRET): _secret(ROOT_SECRET, validation_context=root),
    }


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
    matcher = {"san_type": "URI", "matcher": {"prefix": identities}}
    return {
        "tls_params": {"tls_minimum_protocol_version": "TLSv1_2"},
        "tls_certificate_sds_secret_configs": [_reference(folder, CERTIFICATE_SECRET)],
        "combined_validation_context": {
            "default_validation_context": {"match_typed_subject_alt_names": [matcher]},
            "validation_context_sds_secret_config": _reference(folder, ROOT_SECRET),
        },
        "alpn_protocols": protocols,
    }


def _reference(folder: ProxyFolder, name: str) -> Json:
    return {"name": name, "sds_config": watched_file(folder.file(_file(name)))}


def _secret(name: str, **content: Json) -> Json:
    return {"resources": [typed(SECRET, name=name, **content)]}


def _file(secret: str) -> str:
    return f"sds/{secret}.json"
