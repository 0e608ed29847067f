"""What each kind of fault does, and how it is undone: context managers that are entered, and left, when that is seen.

Effects act on processes that the kubelet runs and on what it tells of them, never on objects in the API. When they are
on and for how long is decided in ``manager``.
"""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass

from meshbook.errors import LabError
from meshbook.lab.faults.spec import FaultSpec
from meshbook.lab.kubelet import Container, Pod, Process, is_proxy, program_of
from meshbook.lab.loopback import fill, listeners
from meshbook.lab.topology import EAST_WEST_PORT, ClusterTopology
from meshbook.objects import EAST_WEST, condition, label_selector, labels_of

SEEN_TIMEOUT_S = 5.0
"""How long an effect may take to be seen."""
_POLL_S = 0.001


@dataclass(frozen=True, kw_only=True)
class ClusterContext:
    """One cluster as faults see it."""

    topology: ClusterTopology
    pods: Callable[[], Iterable[Pod]]
    silence: Callable[[bool], None]
    """Lets the API server leave all requests without an answer, or answer them again."""

    @property
    def name(self) -> str:
        return self.topology.name

    def ways_in(self) -> list[tuple[str, int]]:
        """Return where its east-west gateways listen."""
        listening = listeners(self.topology.block)
        return [(ip, port) for ip, port in listening if port == EAST_WEST_PORT and self.topology.owns(ip)]

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

    async def answers(self, process: Process | None, *, wanted: bool) -> None:
        """Wait until connections are accepted, or refused; a process that has ended is waited for no more."""
        deadline = time.monotonic() + SEEN_TIMEOUT_S
        while process is not None and process.returncode is None and await self._accepts() is not wanted:
            if time.monotonic() > deadline:
                raise LabError(f"{self} does not {'accept' if wanted else 'refuse'} connections")
            await asyncio.sleep(_POLL_S)

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
        await asyncio.sleep(_POLL_S)


@asynccontextmanager
async def _frozen(targets: Sequence[Target], *, unnoticed: bool = False, commands: bool = False) -> AsyncIterator[None]:
    """Processes do nothing. With ``unnoticed``, probes of the containers count as passed: the prober is cut off too."""
    containers = [target.container for target in targets]
    processes = [container.process for container in containers if container.process]
    processes += [command for container in containers for command in container.commands if commands]
    try:
        for container in containers:
            container.probes_pass = unnoticed
        for process in processes:
            process.signal_group(signal.SIGSTOP)
        await seen("processes stop", lambda: all(process.is_stopped for process in processes))
        yield
    finally:
        for process in processes:
            process.signal_group(signal.SIGCONT)
        for container in containers:
            container.probes_pass = False
        await seen("processes go on", lambda: not any(one.returncode is None and one.is_stopped for one in processes))


@asynccontextmanager
async def _cut(targets: Sequence[Target], ways_in: Sequence[tuple[str, int]]) -> AsyncIterator[None]:
    """Gateways do nothing, and who knocks at them anew is not even connected."""
    async with _frozen(targets, unnoticed=True):
        waiting = [one for place in ways_in for one in fill(*place)]
        try:
            yield
        finally:
            for one in waiting:
                one.close()


@asynccontextmanager
async def _refusing(targets: Sequence[Target]) -> AsyncIterator[None]:
    """Applications refuse connections."""
    running = [(target, target.container.process) for target in targets]

    async def all_answer(wanted: bool) -> None:
        for target, process in running:
            await target.answers(process, wanted=wanted)

    def tell(number: signal.Signals) -> None:
        for _, process in running:
            if process is not None:
                process.signal(number)

    if mute := [str(target) for target in targets if not target.port]:
        raise LabError(f"{mute[0]} cannot be told to refuse connections", hint="kill, or freeze")
    await all_answer(True)  # one that only just starts is not listening yet
    try:
        tell(signal.SIGUSR1)
        await all_answer(False)
        yield
    finally:
        tell(signal.SIGUSR2)
        await all_answer(True)


@asynccontextmanager
async def _killed(targets: Sequence[Target]) -> AsyncIterator[None]:
    """Applications are gone; they are started again when the fault ends."""
    containers = [target.container for target in targets]
    try:
        for container in containers:
            container.hold(True)
            container.kill_process()
        await seen("processes end", lambda: all(container.process is None for container in containers))
        yield
    finally:
        for container in containers:
            container.hold(False)
        await seen("containers run again", lambda: all(one.is_over or one.process is not None for one in containers))
        for target in targets:
            if target.port:
                await target.answers(target.container.process, wanted=True)


@asynccontextmanager
async def _unready(targets: Sequence[Target]) -> AsyncIterator[None]:
    """Pods are shown as not ready, and so leave their Services' endpoints."""
    pods = [target.pod for target in targets]
    try:
        for target in targets:
            target.container.withhold(True)
        await seen("pods are shown as not ready", lambda: not any(map(_shown_ready, pods)))
        yield
    finally:
        for target in targets:
            target.container.withhold(False)
        due = [pod for pod in pods if all(one.status["ready"] for one in pod.containers)]
        await seen("pods are shown as ready", lambda: all(pod.is_leaving or _shown_ready(pod) for pod in due))


def _shown_ready(pod: Pod) -> bool:
    """Say whether the API server has last been told that a pod is ready."""
    return bool(condition({"status": pod.reported}, "Ready").get("status") == "True")


@asynccontextmanager
async def _down(cluster: ClusterContext) -> AsyncIterator[None]:
    """Nothing of a cluster answers: API server, pods, and commands that run in them."""
    cluster.silence(True)
    try:
        async with _frozen(cluster.targets(), unnoticed=True, commands=True):
            yield
    finally:
        cluster.silence(False)


@dataclass(frozen=True, kw_only=True)
class Effect:
    """A fault that can be entered once and left once; one that cannot begin is undone by itself."""

    targets: tuple[str, ...]
    """What it breaks, as paths from the cluster to the container."""
    change: AbstractAsyncContextManager[None]


POD_EFFECTS: Mapping[str, Callable[[Sequence[Target]], AbstractAsyncContextManager[None]]] = {
    "freeze": _frozen,
    "refuse": _refusing,
    "kill": _killed,
    "unready": _unready,
}


def effect(spec: FaultSpec, clusters: Mapping[str, ClusterContext]) -> Effect:
    """Return the effect that is wanted, aimed; ``LabError`` when there is nothing to aim it at."""
    if spec.context not in clusters:
        raise LabError(f"this lab has no cluster {spec.context!r}", hint=f"one of {', '.join(clusters)}")
    cluster = clusters[spec.context]
    if spec.kind == "cluster-down":
        return Effect(targets=(cluster.name,), change=_down(cluster))
    if spec.kind == "link-cut":
        return _link_cut(spec, clusters)
    targets = _chosen(spec, cluster)
    return Effect(targets=tuple(map(str, targets)), change=POD_EFFECTS[spec.kind](targets))


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


def _link_cut(spec: FaultSpec, clusters: Mapping[str, ClusterContext]) -> Effect:
    """Aim at the proxies that all mesh requests in the wanted direction must pass."""
    ways = {"in": [spec.context], "out": [name for name in clusters if name != spec.context], "both": list(clusters)}
    is_gateway = label_selector(EAST_WEST)
    found = []
    for name in ways[spec.direction]:
        pods = [pod for pod in clusters[name].pods() if is_gateway(labels_of(pod.object))]
        found += [target for target in clusters[name].targets(pods) if target.container.process is not None]
    if not found:
        raise LabError(f"no east-west gateway runs in {', '.join(ways[spec.direction])}")
    ways_in = [place for name in ways[spec.direction] for place in clusters[name].ways_in()]
    return Effect(targets=tuple(map(str, found)), change=_cut(found, ways_in))
