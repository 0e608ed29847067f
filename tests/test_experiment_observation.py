"""The observer sees what happens in the API servers, goes on over what breaks, and says what it may not see."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from aiohttp import web
from waits import until

from meshbook.analysis import REACHABLE, UNREACHABLE
from meshbook.clusters import Cluster, Fleet
from meshbook.errors import GatheredError, UsageError
from meshbook.experiment import Observer

NAMESPACE = "sample"
SLICES = "GET /apis/discovery.k8s.io/v1/namespaces/sample/endpointslices"
PODS = "GET /api/v1/namespaces/sample/pods"
NOTHING = {"metadata": {"resourceVersion": "1"}, "items": []}


@pytest.fixture
def served(bare_fleet: Fleet) -> Fleet:
    for cluster in bare_fleet:
        cluster.create_namespace(NAMESPACE)
        service = {"metadata": {"name": "web", "namespace": NAMESPACE}}
        cluster.create("Service", service | {"spec": {"selector": {"app": "web"}, "ports": [{"port": 80}]}})
        _list_endpoint(cluster, "web-1", ready=True)
    return bare_fleet


def _list_endpoint(cluster: Cluster, pod: str, *, ready: bool) -> None:
    endpoint = {"addresses": ["10.0.0.1"], "conditions": {"ready": ready}, "targetRef": {"kind": "Pod", "name": pod}}
    labels = {"kubernetes.io/service-name": "web"}
    head = {"name": "web-abc", "namespace": NAMESPACE, "labels": labels}
    found = {"metadata": head, "addressType": "IPv4", "endpoints": [endpoint], "ports": []}
    if cluster.find("EndpointSlice", "web-abc", NAMESPACE):
        cluster.patch("EndpointSlice", "web-abc", {"endpoints": [endpoint]}, namespace=NAMESPACE)
    else:
        cluster.create("EndpointSlice", found)


def test_the_observer_sees_a_change_in_the_api_server_where_it_happened(served: Fleet) -> None:
    with Observer(served, "web", NAMESPACE) as observer:
        asked = datetime.now(UTC)
        _list_endpoint(served["cluster1"], "web-1", ready=False)
        accepted = datetime.now(UTC)
        until(lambda: observer.changes)
    (change,) = observer.changes
    assert (change.context, change.subject, change.before, change.after) == ("cluster1", "endpoints", ("web-1",), ())
    assert change.not_before <= accepted
    assert change.not_after >= asked
    assert change.not_after - accepted < timedelta(seconds=1)


def test_a_service_without_selector_cannot_be_observed(bare_fleet: Fleet) -> None:
    for cluster in bare_fleet:
        cluster.create_namespace(NAMESPACE)
        head = {"metadata": {"name": "web", "namespace": NAMESPACE}}
        cluster.create("Service", head | {"spec": {"ports": [{"port": 80}]}})
    with pytest.raises(UsageError, match="has no selector"):
        Observer(bare_fleet, "web", NAMESPACE)


@pytest.fixture
def scripted_fleet(scripted: Any, kubeconfig: Callable[..., str]) -> Fleet:
    """One cluster whose answers a test writes: a Service that has a selector, and nothing behind it."""
    kinds = {"namespaces": "Namespace", "services": "Service", "pods": "Pod"}
    scripted.script |= {
        "GET /api/v1": [{"resources": [_resource(name, kind) for name, kind in kinds.items()]}],
        "GET /apis/apps/v1": [{"resources": [_resource("deployments", "Deployment")]}],
        "GET /apis/discovery.k8s.io/v1": [{"resources": [_resource("endpointslices", "EndpointSlice")]}],
        "GET /api/v1/namespaces/sample/services/web": [{"spec": {"selector": {"app": "web"}}}],
        SLICES: [NOTHING],
        PODS: [NOTHING],
        "GET /apis/apps/v1/namespaces/sample/deployments": [NOTHING],
    }
    return Fleet.connect(["one"], kubeconfig({"one": scripted.url}))


def _resource(name: str, kind: str) -> dict[str, Any]:
    return {"name": name, "kind": kind, "namespaced": kind != "Namespace"}


def test_what_may_not_be_read_is_refused_and_not_told_as_unchanged(scripted: Any, scripted_fleet: Fleet) -> None:
    scripted.script[SLICES] = [(403, {"message": "slices are forbidden"})]
    with pytest.raises(GatheredError, match=r"HTTP 403[\s\S]*endpointslices"):
        Observer(scripted_fleet, "web", NAMESPACE)


def test_a_cluster_that_is_silent_for_a_while_is_told_as_unreachable(scripted: Any, scripted_fleet: Fleet) -> None:
    async def cut(request: web.Request) -> web.Response:
        assert request.transport is not None
        request.transport.close()
        return web.Response()

    scripted.script[SLICES] = [NOTHING, cut, cut, NOTHING]
    with Observer(scripted_fleet, "web", NAMESPACE) as observer:
        until(lambda: len(observer.changes) == 2)
    assert [(change.before, change.after) for change in observer.changes] == [
        (REACHABLE, UNREACHABLE),
        (UNREACHABLE, REACHABLE),
    ]


def test_an_answer_that_is_no_list_does_not_end_the_observation(scripted: Any, scripted_fleet: Fleet) -> None:
    pod = {"metadata": {"name": "web-1"}}
    scripted.script[PODS] = [NOTHING, (500, {"message": "not now"}), NOTHING | {"items": [pod]}]
    with Observer(scripted_fleet, "web", NAMESPACE) as observer:
        until(lambda: observer.changes)
    assert [change.after for change in observer.changes] == [("web-1: not ready",)]
