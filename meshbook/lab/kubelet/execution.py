"""How a container's processes are run: image and spec become a program, its arguments, environment and files.

What cannot be run is refused here with the reason that kubectl shows. Envoy is special: it needs a bootstrap before it
starts, and is told to drain before it ends. What it serves, istiod tells it (``meshbook.lab.discovery``).
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp

from meshbook.errors import LabError
from meshbook.lab import images
from meshbook.lab.envoy import Node, prepare_envoy
from meshbook.lab.kubelet.context import PodContext
from meshbook.lab.kubelet.processes import base_environment
from meshbook.lab.pki import write_private
from meshbook.lab.topology import API_PORT, PROXY_ADMIN_PORT, PROXY_OUTBOUND_PORT
from meshbook.objects import PROXY_CONTAINER, Object, containers_of

SANDBOX = "CONTAINER_SANDBOX_MOUNT_POINT"
"""Where a pod's mounts lie, as Windows' host processes are told: containers here have this machine's files."""
TOKEN_MOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"
ADMIN_TIMEOUT = aiohttp.ClientTimeout(total=0.5)


class CannotRun(LabError):
    """A container that cannot be started as it is written. ``reason`` is what its status says it waits for."""

    def __init__(self, message: str, *, reason: str = "CreateContainerConfigError") -> None:
        self.reason = reason
        super().__init__(message)


@dataclass(frozen=True, kw_only=True)
class Execution:
    """What to run for a container, at its start and for commands that are run in it later."""

    argv: tuple[str, ...]
    environment: Mapping[str, str]
    cwd: Path
    commands: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """What stands for programs that the image has and this machine lacks."""

    def command(self, argv: Sequence[str]) -> tuple[str, ...]:
        """Return what runs for a command in the container."""
        return (*self.commands.get(argv[0], argv[:1]), *argv[1:]) if argv else ()


def prepare(container: Object, pod: PodContext) -> Execution:
    """Return what a container runs, with its folder made; ``CannotRun`` says why it cannot."""
    if container.get("lifecycle"):
        raise _unsupported(container, "lifecycle hooks")
    if container.get("restartPolicy") and container not in pod.object["spec"].get("initContainers", ()):
        raise _unsupported(container, "restart policies of single containers")
    program = program_of(container)
    own = _own_environment(container, pod)
    command, args = (tuple(expanded(word, own) for word in container.get(part) or ()) for part in ("command", "args"))
    argv = program.argv(command, args)
    if program.kind == "proxy":
        namespace, name = pod.key
        cluster = pod.node.cluster
        node = Node(
            cluster=cluster.name,
            name=f"{name}.{namespace}",
            admin_address=pod.address,
            discovery_address=cluster.istiod_address,
            drain_s=pod.node.topology.pace.drain_s,
        )
        argv = tuple(prepare_envoy(argv[0], pod.proxy_folder, node, pod.node.authority))
    cwd = pod.folder / container["name"]
    cwd.mkdir(parents=True, exist_ok=True, mode=0o700)
    environment = base_environment() | dict(program.environment) | _given_environment(container, pod) | own
    return Execution(argv=argv, environment=environment, cwd=cwd, commands=program.commands)


def _given_environment(container: Object, pod: PodContext) -> dict[str, str]:
    """Return what a container is told without asking. A pod with a sidecar speaks through it."""
    port = str(API_PORT)
    given = dict(pod.node.topology.container_environment)
    given |= {"HOSTNAME": pod.key[1], "POD_IP": pod.address, SANDBOX: str(pod.folder)}
    given |= {"KUBERNETES_SERVICE_HOST": pod.node.cluster.api_address, "KUBERNETES_SERVICE_PORT": port}
    sidecars = [one for one in containers_of(pod.object) if one["name"] == PROXY_CONTAINER]
    if sidecars and container["name"] != PROXY_CONTAINER:
        given |= {"http_proxy": f"http://{pod.address}:{PROXY_OUTBOUND_PORT}", "no_proxy": "localhost,127.0.0.0/8"}
    return given


def program_of(container: Object) -> images.Program:
    """Return the program that stands for a container's image; ``CannotRun`` when none does."""
    try:
        return images.find(container["image"])
    except images.UnknownImage as error:
        raise CannotRun(error.message, reason="ErrImagePull") from error


def is_proxy(container: Object) -> bool:
    """Say whether a container is an Envoy, which starts and ends otherwise than an application."""
    try:
        return program_of(container).kind == "proxy"
    except CannotRun:
        return False


def expanded(text: str, values: Mapping[str, str]) -> str:
    """Replace ``$(NAME)`` by its value; unknown names stay, and ``$$(NAME)`` is ``$(NAME)`` itself."""

    def replacement(match: re.Match[str]) -> str:
        if match[0].startswith("$$"):
            return match[0][1:]
        return values.get(match[1], match[0])

    return re.sub(r"\$?\$\(([^()]+)\)", replacement, text)


def _own_environment(container: Object, pod: PodContext) -> dict[str, str]:
    """Return what the container's ``env`` says."""
    if container.get("envFrom"):
        raise _unsupported(container, "envFrom")
    fields = _fields(pod)
    own: dict[str, str] = {}
    for entry in container.get("env") or ():
        name, source = entry["name"], entry.get("valueFrom")
        path = (source or {}).get("fieldRef", {}).get("fieldPath", "")
        if not source:
            own[name] = expanded(entry.get("value") or "", own)
        elif path in fields or re.fullmatch(r"metadata\.(labels|annotations)\[.+\]", path):
            own[name] = fields.get(path, "")
        else:
            raise _unsupported(container, f"env {name} from {f'field {path}' if path else ', '.join(source)}")
    return own


def _fields(pod: PodContext) -> dict[str, str]:
    """Return what ``fieldRef`` can ask for."""
    metadata, spec = pod.object["metadata"], pod.object["spec"]
    fields = {f"metadata.{name}": metadata[name] for name in ("name", "namespace", "uid")}
    fields |= {
        "spec.nodeName": spec.get("nodeName", ""),
        "spec.serviceAccountName": spec.get("serviceAccountName", "default"),
        "status.podIP": pod.address,
        "status.podIPs": pod.address,
        "status.hostIP": pod.node.cluster.node_address,
    }
    for kind in ("labels", "annotations"):
        fields |= {f"metadata.{kind}['{name}']": value for name, value in (metadata.get(kind) or {}).items()}
    return fields


def _unsupported(container: Object, what: str) -> CannotRun:
    return CannotRun(f"container {container['name']}: the lab does not do {what}")


async def drain_envoy(pod_ip: str, http: aiohttp.ClientSession) -> None:
    """Ask a pod's Envoy to tell its clients that it leaves. An Envoy that does not answer has nothing to tell."""
    admin = f"http://{pod_ip}:{PROXY_ADMIN_PORT}"
    with contextlib.suppress(TimeoutError, OSError, aiohttp.ClientError):
        for path in ("/healthcheck/fail", "/drain_listeners?graceful&skip_exit"):
            async with http.post(admin + path, timeout=ADMIN_TIMEOUT) as response:
                await response.read()


def wants_token(pod: Object) -> bool:
    """Say whether a pod mounts its service account's token, as a real API server has every pod do."""
    return any(
        mount["mountPath"] == TOKEN_MOUNT for one in containers_of(pod) for mount in one.get("volumeMounts") or ()
    )


def write_token(pod: PodContext, token: str) -> None:
    """Write the files of a service account where a pod's containers find them. Other volumes are not mounted."""
    folder = pod.folder / TOKEN_MOUNT.lstrip("/")
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    root_pem = pod.node.topology.root_certificate.read_text()
    for name, text in {"token": token, "ca.crt": root_pem, "namespace": pod.key[0]}.items():
        write_private(folder / name, text)
