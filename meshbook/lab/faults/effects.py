"""What each kind of fault does, and how it is undone. ``begin`` and ``end`` return when the effect is seen.

Effects act on processes that the kubelet runs and on what it tells of them, never on objects in the API. When they are
on and for how long is decided in ``board``.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from meshbook.errors import LabError
from meshbook.lab.faults.seeing import answering, seen
from meshbook.lab.faults.wanted import Wanted
from meshbook.lab.kubelet import execution
from meshbook.lab.kubelet.containers import Container
from meshbook.lab.kubelet.pods import Pod
from meshbook.lab.kubelet.processes import Process

GATEWAY_LABELS = {"istio": "eastwestgateway"}


@dataclass(frozen=True, kw_only=True)
class Site:
    """One cluster as faults see it."""

    name: str
    pods: Callable[[], Iterable[Pod]]
    silence: Callable[[bool], None]
    """Lets the API server leave all requests without an answer, or answer them again."""


Sites = Mapping[str, Site]


@dataclass(frozen=True, kw_only=True)
class Target:
    """One container of one pod."""

    site: str
    pod: Pod
    container: Container

    def __str__(self) -> str:
        return "/".join((self.site, *self.pod.key, self.container.view.name))


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
        living = [process for process in self._stopped if process.returncode is None]
        await seen("processes go on", lambda: not any(one.returncode is None and one.is_stopped for one in living))


class Refusing:
    """Applications refuse connections."""

    def __init__(self, targets: Sequence[Target]) -> None:
        self.targets = tuple(map(str, targets))
        self._told: list[tuple[Process, str, int]] = []
        for target in targets:
            port = execution.program_of(target.container.spec).port
            process = target.container.process
            if not port or process is None:
                raise LabError(f"{target} cannot be told to refuse connections", hint="kill, or freeze")
            self._told.append((process, target.pod.address, port))

    async def begin(self) -> None:
        for process, address, port in self._told:
            await answering(process, address, port, wanted=True)  # one that only just starts is not listening yet
        for process, _, _ in self._told:
            process.signal(signal.SIGUSR1)
        for process, address, port in self._told:
            await answering(process, address, port, wanted=False)

    async def end(self) -> None:
        for process, _, _ in self._told:
            process.signal(signal.SIGUSR2)
        for process, address, port in self._told:
            await answering(process, address, port, wanted=True)


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
            container = target.container
            await seen("the container runs again", partial(_runs_or_is_over, container))
            port = execution.program_of(container.spec).port
            if port and container.process:
                await answering(container.process, target.pod.address, port, wanted=True)


class Unready:
    """Pods are shown as not ready, and so leave their Services' endpoints."""

    def __init__(self, targets: Sequence[Target]) -> None:
        self.targets = tuple(map(str, targets))
        self._targets = list(targets)

    async def begin(self) -> None:
        self._withhold(True)
        await seen("pods are shown as not ready", lambda: not any(_shown_ready(one.pod) for one in self._targets))

    async def end(self) -> None:
        self._withhold(False)
        due = [one.pod for one in self._targets if all(item.view.ready for item in one.pod.containers)]
        await seen("pods are shown as ready", lambda: all(one.is_leaving or _shown_ready(one) for one in due))

    def _withhold(self, withheld: bool) -> None:
        for target in self._targets:
            target.container.withheld = withheld
            target.container.show_again()


class ClusterDown:
    """Nothing of a cluster answers: API server, pods, and commands that run in them."""

    def __init__(self, site: Site) -> None:
        self.targets: tuple[str, ...] = (site.name,)
        self._site = site
        self._frozen = Frozen([])

    async def begin(self) -> None:
        self._site.silence(True)
        self._frozen = Frozen(targets_of(self._site, self._site.pods()), unnoticed=True, commands=True)
        await self._frozen.begin()

    async def end(self) -> None:
        await self._frozen.end()
        self._site.silence(False)


def effect(wanted: Wanted, sites: Sites) -> Effect:
    """Return the effect that is wanted, aimed; ``LabError`` when there is nothing to aim it at."""
    if wanted.context not in sites:
        raise LabError(f"this lab has no cluster {wanted.context!r}", hint=f"one of {', '.join(sites)}")
    site = sites[wanted.context]
    match wanted.kind:
        case "cluster-down":
            return ClusterDown(site)
        case "link-cut":
            return Frozen(_gateways(wanted, sites), unnoticed=True)
    chosen = _chosen(wanted, site)
    match wanted.kind:
        case "freeze":
            return Frozen(chosen)
        case "refuse":
            return Refusing(chosen)
        case "kill":
            return Killed(chosen)
        case _:
            return Unready(chosen)


def targets_of(site: Site, pods: Iterable[Pod]) -> list[Target]:
    """Return all containers of ``pods``."""
    return [Target(site=site.name, pod=pod, container=one) for pod in pods for one in (*pod.init, *pod.containers)]


def _chosen(wanted: Wanted, site: Site) -> list[Target]:
    """Return the running containers that a fault on pods is aimed at."""
    there = [pod for pod in site.pods() if pod.key[0] == wanted.namespace and not pod.is_leaving]
    labels = wanted.labels()
    pods = [pod for pod in there if (pod.key[1] == wanted.pod if wanted.pod else _carries(pod, labels))]
    found = [target for target in targets_of(site, pods) if _is_meant(target, wanted.container)]
    if not found:
        what = f"no pod {wanted.pod or wanted.selector} with a running application in {wanted.namespace}"
        raise LabError(f"{site.name}: {what}", pods=", ".join(sorted(pod.key[1] for pod in there)) or "none")
    return found


def _carries(pod: Pod, labels: Mapping[str, str]) -> bool:
    return labels.items() <= (pod.object["metadata"].get("labels") or {}).items()


def _is_meant(target: Target, container: str) -> bool:
    named = target.container.view.name == container if container else not execution.is_proxy(target.container.spec)
    return named and target.container.process is not None


def _gateways(wanted: Wanted, sites: Sites) -> list[Target]:
    """Return the proxies that all mesh requests in the wanted direction must pass."""
    ways = {"in": [wanted.context], "out": [name for name in sites if name != wanted.context], "both": list(sites)}
    found = []
    for name in ways[wanted.direction]:
        pods = [pod for pod in sites[name].pods() if _carries(pod, GATEWAY_LABELS)]
        found += [target for target in targets_of(sites[name], pods) if target.container.process is not None]
    if not found:
        raise LabError(f"no east-west gateway runs in {', '.join(ways[wanted.direction])}")
    return found


def _runs_or_is_over(container: Container) -> bool:
    return container.is_over or container.process is not None


def _shown_ready(pod: Pod) -> bool:
    conditions = pod.reported.get("conditions") or []
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)
