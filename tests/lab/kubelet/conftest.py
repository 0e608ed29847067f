from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from node import Node, nodes

from meshbook.lab.kubelet import ProcessTable
from meshbook.lab.topology import LabTopology


@pytest.fixture
async def processes(topology: LabTopology) -> AsyncIterator[ProcessTable]:
    table = ProcessTable(topology)
    yield table
    await table.close()


@pytest.fixture
async def node(topology: LabTopology, processes: ProcessTable) -> AsyncIterator[Node]:
    async with nodes(topology, processes) as (first, _):
        yield first
