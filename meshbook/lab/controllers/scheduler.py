"""Pods → nodes: binds each new pod to a ready node that its nodeSelector allows. No resources, taints or affinities."""

from __future__ import annotations

from meshbook.lab.client import NODES, PODS
from meshbook.lab.controllers.loop import Controller
from meshbook.lab.controllers.objects import (
    Key,
    Object,
    condition,
    contains,
    is_active,
    is_ready,
    key_of,
    labels_of,
    with_condition,
)
from meshbook.lab.controllers.world import Actions, Create, World, emit, patch_status

COMPONENT = "default-scheduler"


def decide(world: World, key: Key) -> Actions:
    """Bind a waiting pod, or say in its status why that is not possible."""
    pod = world.get(PODS, key)
    if pod is None or not _is_waiting(pod):
        return []
    nodes = world.list(NODES)
    fitting = [node for node in nodes if _fits(pod, node)]
    if not fitting:
        return _unschedulable(world, pod, len(nodes))
    name = min(fitting, key=lambda node: _load(world, node))["metadata"]["name"]
    message = f"Successfully assigned {'/'.join(key)} to {name}"
    return [_bind(pod, name), emit(pod, reason="Scheduled", message=message, component=COMPONENT)]


def _is_waiting(pod: Object) -> bool:
    return not pod["spec"].get("nodeName") and not pod["spec"].get("schedulingGates") and is_active(pod)


def _fits(pod: Object, node: Object) -> bool:
    wanted = pod["spec"].get("nodeSelector") or {}
    return is_ready(node) and not node.get("spec", {}).get("unschedulable") and contains(labels_of(node), wanted)


def _load(world: World, node: Object) -> tuple[int, str]:
    name: str = node["metadata"]["name"]
    return sum(pod["spec"].get("nodeName") == name for pod in world.list(PODS)), name


def _bind(pod: Object, node: str) -> Create:
    metadata = pod["metadata"]
    identity = {name: metadata[name] for name in ("name", "namespace", "uid")}
    target = {"apiVersion": "v1", "kind": "Node", "name": node}
    binding = {"apiVersion": "v1", "kind": "Binding", "metadata": identity, "target": target}
    return Create(resource=PODS, obj=binding, name=metadata["name"], subresource="binding")


def _unschedulable(world: World, pod: Object, nodes: int) -> Actions:
    message = f"0/{nodes} nodes are available: none is ready and fits the pod's nodeSelector."
    if condition(pod, "PodScheduled").get("message") == message:
        return []
    fresh = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
    conditions = with_condition((pod.get("status") or {}).get("conditions") or [], fresh, world.now())
    told = emit(pod, reason="FailedScheduling", message=message, component=COMPONENT, kind="Warning")
    return [*patch_status(PODS, pod, {"conditions": conditions}), told]


def _waiting(world: World, _: Object) -> list[Key]:
    return [key_of(pod) for pod in world.list(PODS) if _is_waiting(pod)]


CONTROLLER = Controller(name="scheduler", decide=decide, concerns={PODS: lambda _, pod: [key_of(pod)], NODES: _waiting})
