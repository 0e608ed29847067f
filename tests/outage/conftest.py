"""Two clusters in which an outage can happen; see ``builders/outage_fleet.py``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from controllers import Controllers
from outage_fleet import NAMESPACE, be_a_lab, endpoints, furnish
from waits import until

from meshbook.clusters import Cluster, Fleet


@pytest.fixture
def served(bare_fleet: Fleet) -> Iterator[Fleet]:
    """Web and an east-west gateway on both clusters, with controllers. Nothing says that this is a lab."""
    with ExitStack() as stack:
        for cluster in bare_fleet:
            furnish(cluster)
            stack.enter_context(Controllers(cluster))
        bare_fleet.wait_for_rollout(NAMESPACE, timeout_s=10)
        until(lambda: all(endpoints(cluster) == 2 for cluster in bare_fleet))
        yield bare_fleet


@pytest.fixture
def fleet(served: Fleet) -> Fleet:
    """The same on clusters of a lab, which need no word for an outage."""
    served.each(be_a_lab)
    return served


@pytest.fixture
def target(fleet: Fleet) -> Cluster:
    return fleet["cluster1"]
