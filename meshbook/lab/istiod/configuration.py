"""What one Envoy serves: a proxy and the mesh in, the content of its folder out. Pure.

``sidecar`` and ``gateway`` make listeners and routes, ``upstreams`` the clusters and endpoints of both.
"""

from __future__ import annotations

from meshbook.lab.envoy.folders import ProxyFolder
from meshbook.lab.istiod import gateway, sidecar
from meshbook.lab.istiod.proxies import Proxy
from meshbook.lab.istiod.upstreams import Files, Mesh


def files(proxy: Proxy, mesh: Mesh, folder: ProxyFolder) -> Files:
    """Return file names (relative to ``folder``) and contents; certificates are not among them."""
    make = gateway.files if proxy.router else sidecar.files
    return make(proxy, mesh, folder)
