"""Restoring works with few rights, and through a kubeconfig that names a lab which is gone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from meshbook import outage
from meshbook.clusters import Fleet
from meshbook.errors import GatheredError

FORBIDDEN = (403, {"kind": "Status", "message": "may not list all", "reason": "Forbidden", "code": 403})
KINDS = {
    "GET /apis/apps/v1": [{"resources": [{"name": "deployments", "kind": "Deployment", "namespaced": True}]}],
    "GET /api/v1": [
        {
            "resources": [
                {"name": "services", "kind": "Service", "namespaced": True},
                {"name": "namespaces", "kind": "Namespace", "namespaced": False},
            ]
        }
    ],
    "GET /apis/apps/v1/deployments": [FORBIDDEN],
    "GET /api/v1/services": [FORBIDDEN],
}
EMPTY: list[Any] = [{"items": []}]


@pytest.fixture
def fleet(scripted: Any, kubeconfig: Callable[..., str]) -> Fleet:
    lab_that_is_gone = {"endpoint": "http://127.0.0.1:9", "token-file": "/nowhere", "cluster": "cluster1"}
    scripted.script |= KINDS
    return Fleet.connect(["one"], kubeconfig({"one": scripted.url}, **{"meshbook.io/lab": lab_that_is_gone}))


def test_who_may_not_list_everything_restores_the_namespaces_that_were_named(fleet: Fleet, scripted: Any) -> None:
    for namespace in ("sample", "istio-system"):
        scripted.script[f"GET /apis/apps/v1/namespaces/{namespace}/deployments"] = EMPTY
        scripted.script[f"GET /api/v1/namespaces/{namespace}/services"] = EMPTY
    assert outage.restore(fleet, "sample") == []


def test_not_even_the_meshs_own_namespace_need_be_readable(fleet: Fleet, scripted: Any) -> None:
    for path in ("apis/apps/v1/namespaces/{}/deployments", "api/v1/namespaces/{}/services"):
        scripted.script["GET /" + path.format("sample")] = EMPTY
        scripted.script["GET /" + path.format("istio-system")] = [FORBIDDEN]
    assert outage.restore(fleet, ["sample"]) == []


def test_without_a_namespace_all_of_them_must_be_readable(fleet: Fleet) -> None:
    with pytest.raises(GatheredError, match="may not list all"):
        outage.restore(fleet)
