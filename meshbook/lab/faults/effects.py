"""What each kind of fault does, and how it is undone. ``begin`` and ``end`` return when the effect is seen.

Effects act on processes that the kubelet runs and on what it tells of them, never on objects in the API. When they are
on and for how long is decided in ``manager``.
"""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from meshbook.errors import LabError
from meshbook.lab.faults.spec import FaultSpec
from meshbook.lab.kubelet import Container, Pod, Process, is_proxy, program_of
from meshbook.objects import condition, label_selector, labels_of

GATEWAY = "istio=eastwestgateway"
SEEN_TIMEOUT_S = 5.0
"""How long an effect may take to be seen."""
POLL_S = 0.001


@dataclass(frozen=True, kw_only=True)
class ClusterContext:
    """One cluster as faults see it."""

    name: str
    pods: Callable[[], Iterable[Pod]]
    silence: Callable[[bool], None]
    """Lets the API server leave all requests without an answer, or answer them again."""

    def targets(self, pods: Iterable[Pod] | None = None) -> list[Target]:
        """Return all containers of ``pods`` (default: of the cluster)."""
        chosen = self.pods() if pods is None else pods
        return [Target(self.name, pod, one) for pod in chosen for one in (*pod.init, *pod.containers)]


@dataclass(frozen=True)
class Target:
    """One container of one pod."""

    cluster: str
    pod: Pod
    container: Container

    def __str__(self) -> str:
        return "/".join((self.cluster, *self.pod.key, self.container.name))

    @property
    def port(self) -> int:
        """Where the application listens, if it can be told to refuse connections; else 0."""
        return program_of(self.container.spec).port

    async def answers(self, process: Process, *, wanted: bool) -> None:
        """Wait until connections are accepted, or refused; a process that has ended is waited for no more."""
        deadline = time.monotonic() + SEEN_TIMEOUT_S
        while process.returncode is None and await self._accepts() is not wanted:
            if time.monotonic() > deadline:
                raise LabError(f"{self} does not {'accept' if wanted else 'refuse'} connections")
            await asyncio.sleep(POLL_S)

    async def _accepts(self) -> bool:
        try:
            async with asyncio.timeout(SEEN_TIMEOUT_S):
                _, writer = await asyncio.open_connection(self.pod.address, self.port)
        except (OSError, TimeoutError):
            return False
        writer.close()
        return True


async def seen(what: str, holds: Callable[[], object]) -> None:
    """Wait until an effect is there; ``LabError`` when it does not come."""
    deadline = time.monotonic() + SEEN_TIMEOUT_S
    while not holds():
        if time.monotonic() > deadline:
            raise LabError(f"it was waited for that {what}, for {SEEN_TIMEOUT_S:g} s in vain")
        await asyncio.sleep(POLL_S)


class Effect(Protocol):
    """A fault that can be switched on once and off once; ``end`` undoes also what ``begin`` did only in part."""

    targets: tuple[str, ...]

    async def begin(self) -> None: ...

    async def end(self) -> None: ...


class Frozen:
    """Processes do nothing. With ``unnoticed``, probes of the containers count as passed: the prober is cut off too."""

    def __init__(self, targets: Sequence[Target], *, unnoticed: bool = False, commands: bool = False) -> None:
        self.targets = tuple(map(str, targets))
        self._containers = [target.container for target in targets]
        self._unnoticed, self._commands = unnoticed, commands
        self._stopped: list[Process] = []

    async def begin(self) -> None:
        for container in self._containers:
            container.probes_pass = self._unnoticed
            self._stopped += [container.process] if container.process else []
            self._stopped += container.commands if self._commands else []
        for process in self._stopped:
            process.signal_group(signal.SIGSTOP)
        await seen("processes stop", lambda: all(process.is_stopped for process in self._stopped))

    async def end(self) -> None:
        for process in self._stopped:
            process.signal_group(signal.SIGCONT)
        for container in self._containers:
            container.probes_pass = False
        await seen(
            "processes go on", lambda: not any(one.returncode is None and one.is_stopped for one in self._stopped)
        )


class Refusing:
    """Applications refuse connections."""

    def __init__(self, targets: Sequence[Target]) -> None:
        self.targets = tuple(map(str, targets))
        self._told: list[tuple[Target, Process]] = []
        for target in targets:
            if not target.port or target.container.process is None:
                raise LabError(f"{target} cannot be told to refuse connections", hint="kill, or freeze")
            self._told.append((target, target.container.process))

    async def begin(self) -> None:
        await self._answer(True)  # one that only just starts is not listening yet
        await self._tell(signal.SIGUSR1, answers=False)

    async def end(self) -> None:
        await self._tell(signal.SIGUSR2, answers=True)

    async def _tell(self, number: signal.Signals, *, answers: bool) -> None:
        for _, process in self._told:
            process.signal(number)
        await self._answer(answers)

    async def _answer(self, wanted: bool) -> None:
        for target, process in self._told:
            await target.answers(process, wanted=wanted)


class Killed:
    """Applications are gone; they are started again when the fault ends."""

    def __init__(self, targets: Sequence[Target]) -> None:
        self.targets = tuple(map(str, targets))
        self._killed = list(targets)

    async def begin(self) -> None:
        for target in self._killed:
            target.container.hold(True)
            target.container.kill_process()
        await seen("processes end", lambda: all(target.container.process is None for target in self._killed))

    async def end(self) -> None:
        for target in self._killed:
            target.container.hold(False)
        for target in self._killed:
            await seen("the container runs again", partial(_runs_or_is_over, target.container))
            if target.port and target.container.process:
                await target.answers(target.container.process, wanted=True)


def _runs_or_is_over(container: Container) -> bool:
    return container.is_over or container.process is not None


class Unready:
    """Pods are shown as not ready, and so leave their Services' endpoints."""

    def __init__(self, targets: Sequence[Target]) -> None:
        self.targets = tuple(map(str, targets))
        self._containers = [target.container for target in targets]
        self._pods = [target.pod for target in targets]

    async def begin(self) -> None:
        self._withhold(True)
        await seen("pods are shown as not ready", lambda: not any(map(_shown_ready, self._pods)))

    async def end(self) -> None:
        self._withhold(False)
        due = [pod for pod in self._pods if all(one.status["ready"] for one in pod.containers)]
        await seen("pods are shown as ready", lambda: all(pod.is_leaving or _shown_ready(pod) for pod in due))

    def _withhold(self, withheld: bool) -> None:
        for container in self._containers:
            container.withhold(withheld)


def _shown_ready(pod: Pod) -> bool:
    """Say whether the API server has last been told that a pod is ready."""
    return bool(condition({"status": pod.reported}, "Ready").get("status") == "True")


class ClusterDown:
    """Nothing of a cluster answers: API server, pods, and commands that run in them."""

    def __init__(self, cluster: ClusterContext) -> None:
        self.targets: tuple[str, ...] = (cluster.name,)
        self._cluster = cluster
        self._frozen = Frozen([])

    async def begin(self) -> None:
        self._cluster.silence(True)
        self._frozen = Frozen(self._cluster.targets(), unnoticed=True, commands=True)
        await self._frozen.begin()

    async def end(self) -> None:
        await self._frozen.end()
        self._cluster.silence(False)


POD_EFFECTS: Mapping[str, Callable[[Sequence[Target]], Effect]] = {
    "freeze": Frozen,
    "refuse": Refusing,
    "kill": Killed,
    "unready": Unready,
}


def effect(spec: FaultSpec, clusters: Mapping[str, ClusterContext]) -> Effect:
    """Return the effect that is wanted, aimed; ``LabError`` when there is nothing to aim it at."""
    if spec.context not in clusters:
        raise LabError(f"this lab has no cluster {spec.context!r}", hint=f"one of {', '.join(clusters)}")
    cluster = clusters[spec.context]
    if spec.kind == "cluster-down":
        return ClusterDown(cluster)
    if spec.kind == "link-cut":
        return Frozen(_gateways(spec, clusters), unnoticed=True)
    return POD_EFFECTS[spec.kind](_chosen(spec, cluster))


def _chosen(spec: FaultSpec, cluster: ClusterContext) -> list[Target]:
    """Return the running containers that a fault on pods is aimed at."""
    there = [pod for pod in cluster.pods() if pod.key[0] == spec.namespace and not pod.is_leaving]
    selected = label_selector(spec.selector)
    pods = [pod for pod in there if (pod.key[1] == spec.pod if spec.pod else selected(labels_of(pod.object)))]
    found = [target for target in cluster.targets(pods) if _is_meant(target.container, spec.container)]
    if not found:
        what = f"no pod {spec.pod or spec.selector} with a running application in {spec.namespace}"
        raise LabError(f"{cluster.name}: {what}", pods=", ".join(sorted(pod.key[1] for pod in there)) or "none")
    return found


def _is_meant(container: Container, name: str) -> bool:
    return container.process is not None and (container.name == name if name else not is_proxy(container.spec))


def _gateways(spec: FaultSpec, clusters: Mapping[str, ClusterContext]) -> list[Target]:
    """Return the proxies that all mesh requests in the wanted direction must pass."""
    ways = {"in": [spec.context], "out": [name for name in clusters if name != spec.context], "both": list(clusters)}
    is_gateway = label_selector(GATEWAY)
    found = []
    for name in ways[spec.direction]:
        pods = [pod for pod in clusters[name].pods() if is_gateway(labels_of(pod.object))]
        found += [target for target in clusters[name].targets(pods) if target.container.process is not None]
    if not found:
        raise LabError(f"no east-west gateway runs in {', '.join(ways[spec.direction])}")
    return found
