"""How a container's processes are run: image and spec become a program, its arguments and its environment.

Pure but for the registry's look at this machine. What cannot be run is refused here with the reason that kubectl shows.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from meshbook.errors import LabError
from meshbook.lab.images import registry
from meshbook.lab.kubelet.processes import base_environment
from meshbook.lab.topology import PROXY_OUTBOUND_PORT

SIDECAR = "istio-proxy"


class CannotRun(LabError):
    """A container that cannot be started as it is written. ``reason`` is what its status says it waits for."""

    def __init__(self, message: str, *, reason: str) -> None:
        self.reason = reason
        super().__init__(message)


@dataclass(frozen=True, kw_only=True)
class Execution:
    """What to run for a container, at its start and for commands that are run in it later."""

    argv: tuple[str, ...]
    environment: Mapping[str, str]
    cwd: Path


def of_container(
    pod: Mapping[str, Any], container: Mapping[str, Any], *, pod_ip: str, host_ip: str, cwd: Path
) -> Execution:
    """Return what a container runs; ``CannotRun`` says why it cannot."""
    _refuse_unsupported(container)
    program = program_of(container)
    facts = _facts(pod, pod_ip, host_ip)
    environment = base_environment() | dict(program.environment) | {"HOSTNAME": facts["metadata.name"]}
    environment["POD_IP"] = pod_ip
    if any(other["name"] == SIDECAR for other in _all_containers(pod)) and container["name"] != SIDECAR:
        environment["http_proxy"] = f"http://{pod_ip}:{PROXY_OUTBOUND_PORT}"
        environment["no_proxy"] = "localhost,127.0.0.0/8"
    own = _own_environment(container, facts)
    environment |= own
    command = tuple(expanded(word, own) for word in container.get("command") or ())
    args = tuple(expanded(word, own) for word in container.get("args") or ())
    return Execution(argv=program.argv(command, args), environment=environment, cwd=cwd)


def _refuse_unsupported(container: Mapping[str, Any]) -> None:
    """Refuse what would otherwise be passed over in silence and change how a pod starts or ends."""
    if container.get("lifecycle"):
        raise _unsupported(container, "lifecycle hooks")
    if container.get("restartPolicy"):
        raise _unsupported(container, "init containers that go on running")


def program_of(container: Mapping[str, Any]) -> registry.Program:
    try:
        return registry.find(container["image"])
    except registry.UnknownImage as error:
        raise CannotRun(error.message, reason="ErrImagePull") from error


def is_proxy(container: Mapping[str, Any]) -> bool:
    """Say whether a container is an Envoy, which starts and ends otherwise than an application."""
    try:
        return registry.find(container["image"]).kind == "proxy"
    except registry.UnknownImage:
        return False


def expanded(text: str, values: Mapping[str, str]) -> str:
    """Replace ``$(NAME)`` by its value; unknown names stay, and ``$$(NAME)`` is ``$(NAME)`` itself."""

    def replacement(match: re.Match[str]) -> str:
        if match[0].startswith("$$"):
            return match[0][1:]
        return values.get(match[1], match[0])

    return re.sub(r"\$?\$\(([^()]+)\)", replacement, text)


def _own_environment(container: Mapping[str, Any], facts: Mapping[str, str]) -> dict[str, str]:
    if container.get("envFrom"):
        raise _unsupported(container, "envFrom")
    own: dict[str, str] = {}
    for entry in container.get("env") or ():
        own[entry["name"]] = _value(entry, container, facts, own)
    return own


def _value(
    entry: Mapping[str, Any], container: Mapping[str, Any], facts: Mapping[str, str], known: Mapping[str, str]
) -> str:
    source = entry.get("valueFrom")
    if not source:
        return expanded(entry.get("value") or "", known)
    field = source.get("fieldRef", {}).get("fieldPath")
    if field is None:
        raise _unsupported(container, f"env {entry['name']} from {', '.join(source)}")
    if field in facts:
        return facts[field]
    if re.fullmatch(r"metadata\.(labels|annotations)\[.+\]", field):
        return ""
    raise _unsupported(container, f"env {entry['name']} from field {field}")


def _unsupported(container: Mapping[str, Any], what: str) -> CannotRun:
    return CannotRun(f"container {container['name']}: the lab does not do {what}", reason="CreateContainerConfigError")


def _facts(pod: Mapping[str, Any], pod_ip: str, host_ip: str) -> dict[str, str]:
    """Return what ``fieldRef`` can ask for."""
    metadata, spec = pod["metadata"], pod["spec"]
    facts = {
        "metadata.name": metadata["name"],
        "metadata.namespace": metadata["namespace"],
        "metadata.uid": metadata["uid"],
        "spec.nodeName": spec.get("nodeName", ""),
        "spec.serviceAccountName": spec.get("serviceAccountName", "default"),
        "status.podIP": pod_ip,
        "status.podIPs": pod_ip,
        "status.hostIP": host_ip,
    }
    for kind in ("labels", "annotations"):
        facts |= {f"metadata.{kind}['{name}']": value for name, value in (metadata.get(kind) or {}).items()}
    return facts


def _all_containers(pod: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [*pod["spec"].get("initContainers", ()), *pod["spec"]["containers"]]
