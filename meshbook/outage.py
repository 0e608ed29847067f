"""Take a workload away and always bring it back.

The former replica count is written on the Deployment before anything is taken, so that ``restore`` can bring it back
after a crash, from any machine. Measuring what users notice meanwhile is ``probes``' and ``judge``'s work.
"""

from __future__ import annotations

import signal
import threading
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from meshbook.clusters import Cluster, Fleet, Object, waiting
from meshbook.errors import ClusterError, MeshbookError, OutageError

REPLICAS, RUN, SINCE = (f"meshbook.io/{name}" for name in ("replicas-before", "outage-run", "outage-since"))
"""Annotations of a Deployment that has been taken away: the record that outlives the process."""


@dataclass(kw_only=True)
class Outage:
    """One outage, filled in as it goes. Times are UTC, of this machine's clock, when the API server had answered."""

    context: str
    namespace: str
    deployment: str
    replicas: int
    """Replica count before, and to be again."""
    run: str
    patch_accepted: datetime | None = None
    pods_gone: datetime | None = None
    scaled_back: datetime | None = None
    ready_again: datetime | None = None

    @property
    def span(self) -> tuple[datetime, datetime]:
        """Return (start, end) as ``charts.answers_over_time`` wants them; an outage that goes on ends now."""
        now = datetime.now(UTC)
        return self.patch_accepted or now, self.ready_again or now


@dataclass(frozen=True, kw_only=True)
class Restored:
    """What ``restore`` did for one Deployment."""

    context: str
    namespace: str
    deployment: str
    replicas: int
    outcome: Literal["brought back", "was already back"]


@dataclass(frozen=True, kw_only=True)
class _Target:
    cluster: Cluster
    namespace: str
    name: str
    timeout_s: float

    def read(self) -> Object:
        return self.cluster.get("Deployment", self.name, self.namespace)

    def annotate(self, values: Mapping[str, str | None], version: str = "") -> None:
        """Write annotations; with ``version`` only when nobody changed the Deployment since."""
        metadata: Object = {"annotations": dict(values), **({"resourceVersion": version} if version else {})}
        self.cluster.patch("Deployment", self.name, {"metadata": metadata}, namespace=self.namespace)

    def __str__(self) -> str:
        return f"{self.cluster.name}: Deployment {self.name} in {self.namespace}"


@contextmanager
def scaled_to_zero(
    cluster: Cluster,
    deployment: str,
    *,
    namespace: str,
    survivors: Iterable[Cluster] = (),
    run: str = "",
    timeout_s: float = 120,
) -> Iterator[Outage]:
    """Scale a Deployment to 0 for the length of a ``with`` block, and bring it back however the block ends.

    Does not start unless one of ``survivors`` (a fleet, say) other than ``cluster`` has a ready replica of the same
    app; without ``survivors`` that is not asked. ``timeout_s`` bounds both ways, the going and the coming back.
    """
    target = _Target(cluster=cluster, namespace=namespace, name=deployment, timeout_s=timeout_s)
    found = target.read()
    if REPLICAS in _annotations(found):
        _verify(target, _scale_back(target, found))
        found = target.read()
    _require_replicas(target, found)
    _require_survivor(target, found, list(survivors))
    outage = Outage(
        context=cluster.name,
        namespace=namespace,
        deployment=deployment,
        replicas=_replicas(found),
        run=run or uuid.uuid4().hex[:8],
    )
    try:
        _take_away(target, found, outage)
        yield outage
    finally:
        with _signals_held_back():
            _bring_back(target, outage)


def restore(where: Cluster | Fleet, namespace: str, *, timeout_s: float = 120) -> list[Restored]:
    """Bring back every Deployment that an interrupted outage left away; with nothing to do it returns an empty list."""
    fleet = Fleet([where]) if isinstance(where, Cluster) else where

    def restore_cluster(cluster: Cluster) -> list[Restored]:
        away = [found for found in cluster.list("Deployment", namespace) if REPLICAS in _annotations(found)]
        names = [str(found["metadata"]["name"]) for found in away]
        targets = [_Target(cluster=cluster, namespace=namespace, name=name, timeout_s=timeout_s) for name in names]
        restored = [_scale_back(target, found) for target, found in zip(targets, away, strict=True)]
        for target, record in zip(targets, restored, strict=True):
            _verify(target, record)
        return restored

    return [restored for results in fleet.each(restore_cluster).values() for restored in results]


def _annotations(deployment: Object) -> dict[str, str]:
    return deployment["metadata"].get("annotations") or {}


def _replicas(deployment: Object) -> int:
    return int(deployment["spec"].get("replicas", 1))


def _require_replicas(target: _Target, deployment: Object) -> None:
    if _replicas(deployment) == 0:
        raise OutageError(
            f"{target} has 0 replicas already, so there is nothing to take away",
            hint=f"kubectl scale deployment {target.name} --replicas=1 -n {target.namespace}",
        )


def _require_survivor(target: _Target, deployment: Object, survivors: list[Cluster]) -> None:
    app = (deployment["spec"]["template"]["metadata"].get("labels") or {}).get("app", target.name)
    others = [other for other in survivors if other.name != target.cluster.name]
    for other in others:
        if any(map(waiting.is_ready, other.list("Pod", target.namespace, labels=f"app={app}"))):
            return
    if survivors:
        raise OutageError(
            f"{target} is not taken away: no other cluster has a ready pod of app {app}",
            hint="bring the survivor up first, or the outage would be a real one",
            looked_at=", ".join(other.name for other in others) or "no other cluster",
        )


def _take_away(target: _Target, found: Object, outage: Outage) -> None:
    since = datetime.now(UTC).isoformat(timespec="seconds")
    try:
        target.annotate(
            {REPLICAS: str(outage.replicas), RUN: outage.run, SINCE: since}, found["metadata"]["resourceVersion"]
        )
    except ClusterError as error:
        if error.code == 409:
            raise OutageError(f"{target} is being changed by someone else", hint="try again") from error
        raise
    target.cluster.scale(target.name, 0, target.namespace)
    outage.patch_accepted = datetime.now(UTC)
    _wait_for_no_pods(target, waiting.selector_of(found))
    outage.pods_gone = datetime.now(UTC)


def _wait_for_no_pods(target: _Target, labels: str) -> None:
    def look() -> tuple[bool | None, str]:
        pods = target.cluster.list("Pod", target.namespace, labels=labels)
        return (None if pods else True), "; ".join(map(waiting.describe_pod, pods))

    waiting.until(target.cluster, f"pods of {target.name} gone", look, target.timeout_s)


def _bring_back(target: _Target, outage: Outage) -> None:
    """Undo one outage, if it is this one that the Deployment's record tells of."""
    try:
        found = target.read()
        if _annotations(found).get(RUN) != outage.run:
            return
        restored = _scale_back(target, found)
        outage.scaled_back = datetime.now(UTC)
        _verify(target, restored)
        outage.ready_again = datetime.now(UTC)
    except MeshbookError as error:
        raise OutageError(
            f"{target} did not come back to {outage.replicas} replicas",
            hint="outage.restore(fleet, namespace): the former count is written on the Deployment",
            saw=error,
        ) from error


def _scale_back(target: _Target, found: Object) -> Restored:
    """Scale to what the Deployment's record says, unless somebody has scaled it up again already."""
    record, away = _annotations(found)[REPLICAS], _replicas(found) == 0
    if not record.isdigit():
        raise OutageError(f"{target}: cannot read its annotation {REPLICAS}: {record!r}", hint="scale it by hand")
    if away:
        target.cluster.scale(target.name, int(record), target.namespace)
    return Restored(
        context=target.cluster.name,
        namespace=target.namespace,
        deployment=target.name,
        replicas=int(record) if away else _replicas(found),
        outcome="brought back" if away else "was already back",
    )


def _verify(target: _Target, restored: Restored) -> None:
    """Wait until the replicas are there and ready, and only then take the record off the Deployment."""
    states = target.cluster.wait_for_rollout(target.namespace, [target.name], timeout_s=target.timeout_s)
    if states[0].desired != restored.replicas:
        raise OutageError(f"{target} was scaled to {states[0].desired} while it came back to {restored.replicas}")
    target.annotate({REPLICAS: None, RUN: None, SINCE: None})


@contextmanager
def _signals_held_back() -> Iterator[None]:
    """Let no SIGINT or SIGTERM cut the block; one that came meanwhile counts as Ctrl-C when it is done."""
    heard: list[int] = []
    if threading.current_thread() is not threading.main_thread():  # signals do not reach other threads
        yield
        return

    def note(number: int, _: object) -> None:
        heard.append(number)

    former = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler or signal.SIG_DFL)
    if heard:
        raise KeyboardInterrupt
