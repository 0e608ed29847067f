"""The files of the global load balancer's Envoy: written whole, changed by rename, left alone where nothing changed."""

from __future__ import annotations

import json
from collections.abc import Sequence

from meshbook.lab.envoy import edge, folders
from meshbook.lab.envoy.bootstrap import bootstrap
from meshbook.lab.kubeconfig import write_private
from meshbook.lab.topology import LabTopology

NODE_ID = "global-load-balancer"


def prepare(topology: LabTopology) -> None:
    """Write all that the Envoy needs to start, for no frontend at all; keep watched files that are there already."""
    for name in folders.SUBFOLDERS:
        (topology.edge / name).mkdir(parents=True, exist_ok=True)
    start = bootstrap(node_id=NODE_ID, admin_address=topology.edge_address, folder=topology.edge)
    write_private(topology.edge / folders.BOOTSTRAP, json.dumps(start))
    if not (topology.edge / folders.LISTENERS).exists():
        write(topology, ())


def write(topology: LabTopology, frontends: Sequence[edge.Frontend]) -> None:
    """Make the watched files say ``frontends``, in an order that never refers to what is not written yet."""
    wanted = {name: json.dumps(content) for name, content in edge.files(frontends, topology.edge).items()}
    for name in folders.in_order(wanted):
        path = topology.edge / name
        if not path.exists() or path.read_text() != wanted[name]:
            write_private(path, wanted[name])
    for path in (topology.edge / "eds").glob("[!.]*"):
        if f"eds/{path.name}" not in wanted:
            path.unlink()
