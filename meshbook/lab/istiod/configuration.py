"""What one Envoy serves: a proxy and the mesh in, the content of its folder out. Pure.

``sidecar`` and ``gateway`` make listeners and routes, ``upstreams`` the clusters and endpoints of both.
"""

from __future__ import annotations

from pathlib import Path

from meshbook.lab.envoy import tls
from meshbook.lab.envoy.folders import ProxyFolder
from meshbook.lab.istiod import gateway, sidecar
from meshbook.lab.istiod.proxies import Proxy
from meshbook.lab.istiod.upstreams import Files, Mesh


def files(proxy: Proxy, mesh: Mesh, folder: Path) -> Files:
    """Return file names (relative to ``folder``) and contents; certificates are not among them."""
    paths = ProxyFolder(path=folder)
    make = gateway.files if proxy.router else sidecar.files
    return tls.secrets(paths) | make(proxy, mesh, paths)
