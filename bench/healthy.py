"""Meshes of two clusters in which nothing is wrong, though they look unusual: ``HEALTHY`` by name, on a ``Ground``."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ground import HOST, REVISION, SERVER, Ground, Planted, created, patched, scaled, template
from planted import slow, weights

from meshbook.errors import UsageError
from meshbook.objects import PROXY_CONTAINER, REVISION_LABEL

TAG = "planted"
WEBHOOKS = "MutatingWebhookConfiguration"


def balanced(policy: str) -> Callable[[Ground], Planted]:
    rule = {"host": HOST, "trafficPolicy": {"loadBalancer": {"simple": policy}}}
    return lambda ground: created(ground.fleet, "DestinationRule", ground.namespace, spec=rule)


def locality_on(ground: Ground) -> Planted:
    rule = {"host": HOST, "trafficPolicy": {"outlierDetection": {}}}
    return created(ground.fleet, "DestinationRule", ground.namespace, spec=rule)


@contextmanager
def replicas(ground: Ground, first: int, second: int) -> Iterator[None]:
    wanted = {"helloworld-v1": (ground.first, first), SERVER: (ground.second, second)}
    with contextlib.ExitStack() as stack:
        for name, (cluster, count) in wanted.items():
            stack.enter_context(scaled(cluster, name, ground.namespace, count))
        yield


@contextmanager
def tagged(ground: Ground) -> Iterator[None]:
    """Pods are injected by a revision tag that namespaces name instead of the revision."""
    with contextlib.ExitStack() as stack:
        for cluster, name in zip(ground.fleet, ("helloworld-v1", SERVER), strict=True):
            hooks = cluster.list(WEBHOOKS, labels=f"{REVISION_LABEL}={REVISION},!istio.io/tag")[0]["webhooks"]
            told = json.dumps(hooks).replace(f'"{REVISION}"', f'"{TAG}"')
            labels = {"app": "sidecar-injector", REVISION_LABEL: REVISION, "istio.io/tag": TAG}
            metadata = {"name": f"istio-revision-tag-{TAG}", "labels": labels}
            cluster.create(WEBHOOKS, {"metadata": metadata, "webhooks": json.loads(told)})
            stack.callback(cluster.delete_object, WEBHOOKS, metadata["name"], "")
            values = ({"metadata": {"labels": {REVISION_LABEL: value}}} for value in (TAG, REVISION))
            stack.enter_context(patched(cluster, "Namespace", ground.namespace, "", *values))
            stack.enter_context(template(cluster, name, ground.namespace, {TAG: "tag"}))
            cluster.wait_for_rollout(ground.namespace, [name], timeout_s=ground.rollout_s)
        yield


@contextmanager
def native_sidecars(ground: Ground) -> Iterator[None]:
    """The second cluster's server has its sidecar as an init container."""
    note = "sidecar.istio.io/nativeSidecar"
    changes = ({"spec": {"template": {"metadata": {"annotations": {note: value}}}}} for value in ("true", None))
    with patched(ground.second, "Deployment", SERVER, ground.namespace, *changes):
        ground.second.wait_for_rollout(ground.namespace, [SERVER], timeout_s=ground.rollout_s)
        pod = ground.second.get("Pod", ground.second.ready_pod("version=v2", ground.namespace), ground.namespace)
        if not any(one["name"] == PROXY_CONTAINER for one in pod["spec"].get("initContainers", [])):
            raise UsageError("this mesh makes no native sidecars")
        yield


def unrelated(ground: Ground) -> Planted:
    """Something else in the namespace is never ready."""
    labels = {"app": "unrelated"}
    pod = {"containers": [{"name": "unrelated", "image": "unrelated.invalid/none:1"}]}
    spec = {"selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}, "spec": pod}}
    return created(ground.fleet, "Deployment", ground.namespace, spec=spec)


HEALTHY: dict[str, Callable[[Ground], Planted]] = {
    "LEAST_REQUEST": balanced("LEAST_REQUEST"),
    "RANDOM": balanced("RANDOM"),
    "ROUND_ROBIN": balanced("ROUND_ROBIN"),
    "1:3": lambda ground: replicas(ground, 1, 3),
    "locality on": locality_on,
    "revision tag": tagged,
    "native sidecars": native_sidecars,
    "three replicas": lambda ground: replicas(ground, 3, 3),
    "weights 80/20": weights(80, 20),
    "slow but healthy": lambda ground: slow(ground, clusters=2, burn_ms=300),
    "an unrelated Deployment unready": unrelated,
}
