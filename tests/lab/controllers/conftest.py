"""A cluster of plain dicts on which the controllers' decisions can be played through, one action at a time."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from meshbook.lab.apiserver import merge_patch
from meshbook.lab.client import (
    BACKEND_CONFIGS,
    DEPLOYMENTS,
    ENDPOINT_SLICES,
    ENDPOINTS,
    EVENTS,
    HPAS,
    MULTI_CLUSTER_INGRESSES,
    MULTI_CLUSTER_SERVICES,
    NODES,
    PODS,
    REPLICA_SETS,
    SERVICES,
    Resource,
    key_of,
)
from meshbook.lab.controllers import Again, Cache, Create, Delete, Patch, controllers
from meshbook.lab.topology import two_clouds
from meshbook.objects import Object, timestamp

KINDS = (
    *(BACKEND_CONFIGS, DEPLOYMENTS, ENDPOINT_SLICES, ENDPOINTS, EVENTS, HPAS, MULTI_CLUSTER_INGRESSES),
    *(MULTI_CLUSTER_SERVICES, NODES, PODS, REPLICA_SETS, SERVICES),
)


class Playground:
    """Objects by kind, changed by hand or by the actions that a controller asks for."""

    def __init__(self) -> None:
        self.objects: dict[Resource, dict[tuple[str, str], Object]] = {resource: {} for resource in KINDS}
        self.time = datetime(2026, 1, 1, tzinfo=UTC)
        self.cache = Cache(self.objects, lambda: self.time)
        lab = two_clouds(Path("/lab"), 64)
        self.controllers = controllers(lab.cluster("cluster1"), "root", lab.bindable)
        self._numbers = itertools.count(1)

    def pass_s(self, seconds: float) -> None:
        self.time += timedelta(seconds=seconds)

    def add(self, resource: Resource, obj: Object) -> Object:
        """Store an object as an API server would: with identity, version and generation."""
        number = next(self._numbers)
        made = {"apiVersion": resource.api_version, "kind": resource.kind, **copy.deepcopy(obj)}
        metadata = made["metadata"]
        metadata.setdefault("name", f"{metadata.get('generateName', '')}{number:05d}")
        if resource.namespaced:
            metadata.setdefault("namespace", "sample")
        metadata.setdefault("creationTimestamp", timestamp(self.time))
        metadata |= {"uid": f"uid-{number}", "resourceVersion": str(number), "generation": 1}
        self.objects[resource][key_of(made)] = made
        return made

    def patch(self, resource: Resource, name: str, patch: Object) -> Object:
        key = ("sample" if resource.namespaced else "", name)
        before = self.objects[resource][key]
        after: Object = merge_patch(before, patch)
        after["metadata"] = {**after["metadata"], "resourceVersion": str(next(self._numbers))}
        if before.get("spec") != after.get("spec"):
            after["metadata"]["generation"] += 1
        self.objects[resource][key] = after
        return after

    def remove(self, resource: Resource, name: str) -> Object:
        return self.objects[resource].pop(("sample" if resource.namespaced else "", name))

    def apply(self, actions: list[Any]) -> None:
        for action in actions:
            match action:
                case Create(subresource=""):
                    self.add(action.resource, action.obj)
                case Create():
                    self.patch(action.resource, action.parent, {"spec": {"nodeName": action.obj["target"]["name"]}})
                case Patch():
                    self.patch(action.resource, action.of["metadata"]["name"], self._checked(action))
                case Delete():
                    self.remove(action.resource, action.of["metadata"]["name"])
                case Again():
                    pass

    def _checked(self, action: Patch) -> Object:
        """Refuse a patch that was decided on an older version, as the API server does."""
        version = action.patch.get("metadata", {}).get("resourceVersion")
        current = self.objects[action.resource][key_of(action.of)]["metadata"]["resourceVersion"]
        assert version in (None, current), "conflict"
        return action.patch

    def play(self, *names: str, check: Callable[[], None] = lambda: None) -> None:
        """Let the controllers of these names decide in turn until none has anything left to do."""
        for _ in range(200):
            actions: list[Any] = []
            for name in names:
                for key in self._keys(name):
                    actions = [action for action in self.decide(name, key[1], key[0]) if not isinstance(action, Again)]
                    if actions:
                        self.time += timedelta(microseconds=1)
                        self.apply(actions)
                        check()
                        break
                if actions:
                    break
            if not actions:
                return
        raise AssertionError(f"not quiet after 200 decisions; the last asked for {actions}")

    def decide(self, name: str, obj: str, namespace: str = "sample") -> list[Any]:
        """Return what the controller ``name`` asks for on one object."""
        return self.controllers[name].decide(self.cache, (namespace, obj))

    def _keys(self, name: str) -> list[tuple[str, str]]:
        found = {
            key: None
            for resource, keys_of in self.controllers[name].watches.items()
            for obj in list(self.objects[resource].values())
            for key in keys_of(self.cache, obj)
        }
        return list(found)

    def pods(self) -> list[Object]:
        return self.cache.list(PODS)

    def make_ready(self, pod: Object, *, ready: bool = True) -> None:
        """Do what a kubelet does: address, phase and the Ready condition."""
        number = int(pod["metadata"]["uid"].removeprefix("uid-"))
        since = timestamp(self.time)
        told = [{"type": "Ready", "status": str(ready), "lastTransitionTime": since}]
        status = {"phase": "Running", "podIP": f"127.64.11.{number}", "conditions": told}
        self.patch(PODS, pod["metadata"]["name"], {"status": status})


@pytest.fixture
def play() -> Playground:
    return Playground()


@pytest.fixture
def deployment() -> Object:
    template = {
        "metadata": {"labels": {"app": "helloworld"}},
        "spec": {
            "containers": [{"name": "helloworld", "image": "v1", "ports": [{"name": "web", "containerPort": 5000}]}]
        },
    }
    spec = {"replicas": 1, "selector": {"matchLabels": {"app": "helloworld"}}, "template": template}
    return {"metadata": {"name": "helloworld"}, "spec": spec}
