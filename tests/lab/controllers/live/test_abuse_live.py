"""Nonsense that an API server takes does not knock over the controllers that read it."""

from __future__ import annotations

import ssl
from typing import Any

import pytest
from nonsense import Request, Wire, creation, objects, throw

from meshbook.lab.client import DEPLOYMENTS, PODS
from meshbook.lab.topology import API_PORT

REQUESTS = 500
LABELS = {"app": "sound"}


async def test_controllers_go_on_behind_generated_requests(living: Any, caplog: pytest.LogCaptureFixture) -> None:
    trust = ssl.create_default_context(cadata=living.topology.root_certificate.read_text())
    trust.check_hostname = False
    wire = Wire(living.cluster.api_address, API_PORT, trust, f"token-of-{living.cluster.name}")
    asked: list[Request] = []
    throw(REQUESTS, lambda batch: asked.extend([*map(creation, objects()), *batch]))
    for request in asked:
        await wire.ask(request)
    await wire.close()
    template = {"metadata": {"labels": LABELS}, "spec": {"containers": [{"name": "a", "image": "a"}]}}
    spec = {"replicas": 2, "selector": {"matchLabels": LABELS}, "template": template}
    await living.apply(DEPLOYMENTS, {"metadata": {"name": "sound"}, "spec": spec})
    holds = {"availableReplicas": 2, "updatedReplicas": 2}
    await living.until_there(DEPLOYMENTS, "sound", lambda found: holds.items() <= found.get("status", {}).items())
    assert len(await living.all(PODS)) == 2
    assert "a fault of the controller itself" not in caplog.text
