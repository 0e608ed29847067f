"""The watched files of the global load balancer's Envoy: changed by rename, left alone where nothing changed.

Who starts that Envoy (the assembly) writes its bootstrap and first, empty files.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from meshbook.lab.envoy import edge, folders
from meshbook.lab.pki import write_private
from meshbook.lab.topology import LabTopology


def write(topology: LabTopology, frontends: Sequence[edge.Frontend]) -> None:
    """Make the files say ``frontends``, in an order that never refers to what is not written yet."""
    wanted = {name: json.dumps(content) for name, content in edge.files(frontends, topology.edge).items()}
    for name in folders.in_order(wanted):
        path = topology.edge / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists() or path.read_text() != wanted[name]:
            write_private(path, wanted[name])
    for path in topology.edge.glob("eds/[!.]*"):
        if f"eds/{path.name}" not in wanted:
            path.unlink()
