"""The lab's API servers over TLS with nothing behind them: no controller, no node."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from meshbook.lab import pki
from meshbook.lab.apiserver import ApiServer, User
from meshbook.lab.topology import LabTopology

ADMIN = User(name="admin", groups=("system:masters",))


@asynccontextmanager
async def api_servers(topology: LabTopology) -> AsyncIterator[pki.Authority]:
    """Serve each cluster's API, and write the kubeconfig that leads there; yields who signed the certificates."""
    authority = pki.Authority(topology.pki)
    tokens = {cluster.name: f"token-of-{cluster.name}" for cluster in topology.clusters}
    pki.write_private(topology.kubeconfig, pki.fleet_kubeconfig(topology, authority.root_pem, tokens))
    servers = []
    for cluster in topology.clusters:
        tls = authority.server_context(cluster.name, [cluster.api_address])
        servers.append(ApiServer(cluster, tls, {tokens[cluster.name]: ADMIN}))
    for server in servers:
        await server.start()
    yield authority
    for server in servers:
        await server.stop()
