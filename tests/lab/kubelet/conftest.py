from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from node import Node, nodes

from meshbook.lab.kubelet import ProcessTable
from meshbook.lab.loopback import claim_block
from meshbook.lab.topology import LabTopology, two_clouds


@pytest.fixture
def topology(tmp_path: Path) -> LabTopology:
    block, claim = claim_block()
    with claim:
        return two_clouds(tmp_path, block)


@pytest.fixture
async def processes(topology: LabTopology) -> AsyncIterator[ProcessTable]:
    table = ProcessTable(topology)
    yield table
    await table.close()


@pytest.fixture
async def node(topology: LabTopology, processes: ProcessTable) -> AsyncIterator[Node]:
    async with nodes(topology, processes) as (first, _):
        yield first
