"""Which load balancers have nobody behind them."""

from __future__ import annotations

import pytest

from meshbook.lab.kubelet import abandoned
from meshbook.objects import Object

SERVICE: Object = {
    "metadata": {"namespace": "istio-system", "name": "gateway"},
    "spec": {"ports": [{"port": 15443}]},
    "status": {"loadBalancer": {"ingress": [{"ip": "127.64.10.100"}]}},
}


def behind(**conditions: bool) -> Object:
    labels = {"kubernetes.io/service-name": "gateway"}
    metadata = {"namespace": "istio-system", "name": "gateway-x", "labels": labels}
    return {"metadata": metadata, "endpoints": [{"conditions": conditions}]}


@pytest.mark.parametrize(
    ("slices", "is_abandoned"),
    [
        ([], True),
        ([behind(ready=False, terminating=False)], True),
        ([behind(ready=True, terminating=False)], False),
        ([behind(ready=False, terminating=True)], False),
    ],
    ids=["no pod", "not ready", "ready", "ends what it has begun"],
)
def test_a_load_balancer_is_abandoned_when_no_pod_serves_it(slices: list[Object], is_abandoned: bool) -> None:
    assert abandoned([SERVICE], slices) == ({("127.64.10.100", 15443)} if is_abandoned else set())


def test_a_service_without_a_load_balancer_is_nobody_s_matter() -> None:
    assert abandoned([{**SERVICE, "status": {}}], []) == set()
