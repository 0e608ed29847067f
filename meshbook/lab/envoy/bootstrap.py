"""How an Envoy is started: its bootstrap, which says who it is and who tells it what to serve, and its command line.

The bootstrap is all that an Envoy reads from disk, once; everything else comes by aggregated discovery (ADS). So an
Envoy takes none of the few inotify instances that Linux lends to a user.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from meshbook.lab.envoy.elements import ADS, Json, address, http2, part
from meshbook.lab.pki import Authority, write_private
from meshbook.lab.topology import PROXY_ADMIN_PORT, XDS_PORT, Pace

BOOTSTRAP = "bootstrap.json"
XDS_CLUSTER = "xds-grpc"

LOG_FLUSH_MS = 100
"""Access logs are evidence: they must be there soon after the answer."""


@dataclass(frozen=True, kw_only=True)
class Node:
    """Who an Envoy is, and whom it asks."""

    cluster: str
    name: str
    """Unique within the cluster."""
    admin_address: str
    discovery_address: str
    drain_s: int = Pace().drain_s
    """How long connections live on after the listener that took them is gone, or told to drain."""


def node_token(authority: Authority, cluster: str, name: str) -> str:
    """Return the token by which the discovery server of ``cluster`` knows one of its nodes."""
    return authority.token(f"{cluster}/{name}")


def prepare_envoy(program: str | Path, folder: Path, node: Node, authority: Authority) -> list[str]:
    """Write the bootstrap, for nobody else to read, and return the command line; Envoy logs to standard error.

    It knows the discovery server by ``authority``, and the server it.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_private(folder / BOOTSTRAP, json.dumps(_bootstrap(node, authority)))
    return [
        str(program),
        *("--config-path", str(folder / BOOTSTRAP)),
        *("--concurrency", "1"),
        "--disable-hot-restart",
        *("--drain-strategy", "immediate"),
        *("--drain-time-s", str(node.drain_s)),
        *("--file-flush-interval-msec", str(LOG_FLUSH_MS)),
        *("--log-level", "warning"),
        "--skip-deprecated-logs",
    ]


def _bootstrap(node: Node, authority: Authority) -> Json:
    token = node_token(authority, node.cluster, node.name)
    service = {
        "envoy_grpc": {"cluster_name": XDS_CLUSTER},
        "initial_metadata": [{"key": "authorization", "value": f"Bearer {token}"}],
    }
    # Without a limit: an Envoy that starts before it is known must not begin with nothing.
    source = {**ADS, "initial_fetch_timeout": "0s"}
    return {
        "node": {"id": node.name, "cluster": node.cluster},
        "admin": {"address": address(node.admin_address, PROXY_ADMIN_PORT)},
        "dynamic_resources": {
            "ads_config": {
                "api_type": "GRPC",
                "transport_api_version": "V3",
                "set_node_on_first_message_only": True,
                "grpc_services": [service],
            },
            "cds_config": source,
            "lds_config": source,
        },
        "static_resources": {"clusters": [_discovery(node, authority.root_pem)]},
    }


def _discovery(node: Node, root_pem: str) -> Json:
    """Return the cluster of the discovery server, which must show that this address was certified to it."""
    message = "envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext"
    name = {"san_type": "IP_ADDRESS", "matcher": {"exact": node.discovery_address}}
    trusted = {"trusted_ca": {"inline_string": root_pem}, "match_typed_subject_alt_names": [name]}
    common = {"validation_context": trusted, "alpn_protocols": ["h2"]}
    endpoint = {"endpoint": {"address": address(node.discovery_address, XDS_PORT)}}
    return {
        "name": XDS_CLUSTER,
        "connect_timeout": "1s",
        "load_assignment": {"cluster_name": XDS_CLUSTER, "endpoints": [{"lb_endpoints": [endpoint]}]},
        "transport_socket": part("envoy.transport_sockets.tls", message, common_tls_context=common),
        "typed_extension_protocol_options": http2(),
    }
