"""The measurement's own error: a server stopped for known times, and what was measured of that.

The server is the scratch workload of ``manifests/scratch``, on lab and cluster alike: it serves nobody else, is reached
by the same ways as the application, and is deleted again however the block ends. What a crash left behind is used or
deleted by the next calibration. Its process is stopped by SIGSTOP through exec. Comparing what was measured with the
truth is ``analysis.compare_with_truth``'s work.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

import pandas as pd

from meshbook import analysis, mesh, notebook, probes, tables
from meshbook.analysis import Fault
from meshbook.clusters import Cluster, Object, pause
from meshbook.errors import MeshbookError, OutageError, UsageError
from meshbook.experiment.plan import LoadProfile, Target
from meshbook.manifests import is_owned
from meshbook.mesh import Entry
from meshbook.outage import interrupted_once

LONGEST_PAUSE_S = 8.0
"""Less than the workload's own LONGEST_S, after which its shell lets the process go on by itself."""
SCRATCH, CONTAINER, PORT = "meshbook-scratch", "server", 5000
GATEWAY = "helloworld-gateway"
_KINDS = ("Deployment", "Service", "VirtualService")
_SERVER, _OTHERS = "app.kubernetes.io/component=server", "app.kubernetes.io/component!=server"
_SLACK_S = 15.0
_REMOVAL_S = 60.0
_SETTLE_S = 1.0
"""Seconds after each pause, and before the first one, so that its edges stand alone."""
_AHEAD_S = 0.3
"""Seconds that a word may be waited for in ``stdin``: a little longer than the time from one asking to the next."""
_BATCH = 6
"""Requests of each source that must all be answered before anything is measured."""

PAUSE_SCRIPT = rf"""place=.
[ -w . ] || place=/tmp
read -r pid <"$place/{SCRATCH}.pid" || exit 3
trap 'kill -CONT "$pid"' EXIT
trap 'exit 1' HUP INT PIPE TERM
echo ready
while read -r word; do
case $word in
stop)
kill -STOP "$pid" || exit 4
looks=0 state=
while [ "$state" != T ]; do
[ "$looks" -lt 1000 ] || exit 5
looks=$((looks + 1))
read -r _ _ state _ <"/proc/$pid/stat" || exit 4
done
echo stopped ;;
continue)
kill -CONT "$pid" || exit 4
echo continued
exit 0 ;;
esac
done
"""
"""For any POSIX shell. It reads ``stop`` and ``continue`` and writes ``ready``, ``stopped`` and ``continued``.

The process goes on however the script ends, the end of its input included; if the script itself is killed, the
workload's own shell sees to that."""


def calibrate(target: Target, load: LoadProfile, lengths_s: Sequence[float]) -> pd.DataFrame:
    """Stop the scratch workload for each of ``lengths_s`` under requests from everywhere; return CALIBRATION."""
    if not lengths_s:
        return tables.empty(tables.CALIBRATION)
    for length_s in lengths_s:
        if not 0 < length_s <= LONGEST_PAUSE_S:
            raise UsageError(f"the scratch workload is stopped for 0 to {LONGEST_PAUSE_S:g} s, not for {length_s:g} s")
    asked = {"rate_per_s": load.rate_per_s, "timeout_s": load.patience_s}
    faults = []
    with (
        scratch_workload(target) as scratch,
        probes.watch(target.fleet, scratch.outside, scratch.inside, namespace=target.namespace, **asked) as watch,
    ):
        pause(_SETTLE_S + 10 / load.rate_per_s)
        for length_s in lengths_s:
            faults.append(scratch.pause_process(length_s))
            pause(_SETTLE_S + load.slow_after_s)
        return analysis.compare_with_truth(watch.stop(), faults)


@dataclass(frozen=True, kw_only=True)
class Scratch:
    """The workload while it is there, and the addresses at which it is asked."""

    cluster: Cluster
    pod: Object
    outside: Sequence[Entry]
    inside: str

    def pause_process(self, length_s: float) -> Fault:
        """Stop the server for ``length_s``, and return when that was in truth."""
        paused, metadata = ProcessPause(length_s), self.pod["metadata"]
        result = self.cluster.exec_interactive(
            metadata["name"],
            ["/bin/sh", "-c", PAUSE_SCRIPT],
            paused,
            namespace=metadata["namespace"],
            container=CONTAINER,
            timeout_s=length_s + _SLACK_S,
        )
        if result.exit_code:
            raise OutageError(
                f"{self.cluster.name}: the server in {metadata['name']} could not be stopped "
                f"(exit code {result.exit_code})",
                saw=result.stderr.strip()[-300:],
            )
        return paused.fault(f"scratch stopped for {length_s:g} s")


class ProcessPause:
    """One pause: the ``clusters.ExecStreams`` of PAUSE_SCRIPT, which remember when each word was sent and echoed.

    No clock of the pod is asked. What was done there lies between a word's sending and the arrival of its echo here.
    """

    def __init__(self, length_s: float) -> None:
        self.length_s = length_s
        self._sent: dict[str, datetime] = {}
        self._echoed: dict[str, datetime] = {}
        self._since, self._until = 0.0, 0.0

    def on_line(self, line: str, when: datetime) -> None:
        self._echoed[line] = when
        self._until = time.monotonic()

    def stdin(self) -> str:
        if "ready" in self._echoed and "stop" not in self._sent:
            self._since = time.monotonic()
            return self._word("stop")
        left_s = self._since + self.length_s - time.monotonic()
        if "stopped" in self._echoed and "continue" not in self._sent and left_s <= _AHEAD_S:
            pause(max(0.0, left_s))
            return self._word("continue")
        return ""

    def _word(self, word: str) -> str:
        self._sent[word] = datetime.now(UTC)
        return f"{word}\n"

    def fault(self, name: str) -> Fault:
        """Return when it was stopped in truth; OutageError when that is not known."""
        if not {"stopped", "continued"} <= self._echoed.keys():
            raise OutageError(f"{name}: it is not known whether it was", told=", ".join(self._echoed) or "nothing")
        if self._until - self._since > LONGEST_PAUSE_S + 1:
            raise OutageError(f"{name}: the word to continue came so late that it may have gone on before by itself")
        edges = [(self._sent["stop"], self._echoed["stopped"]), (self._sent["continue"], self._echoed["continued"])]
        start, end = (first + (last - first) / 2 for first, last in edges)
        widest_s = max((last - first).total_seconds() for first, last in edges)
        return Fault(name=name, start=start, end=end, error_ms=500 * widest_s)


@contextmanager
def scratch_workload(target: Target) -> Iterator[Scratch]:
    """Give the workload, rolled out and answering by every path, for the length of a ``with`` block."""
    folder = notebook.manifests_folder() / "scratch"
    target.fleet.each(lambda cluster: _require_room(cluster, target.namespace))
    with interrupted_once() as defer:
        try:
            try:
                yield _set_up(target, folder)
            finally:
                defer()
        finally:
            _remove(target, folder)


def _require_room(cluster: Cluster, namespace: str) -> None:
    """Refuse to begin where the Gateway is missing, or somebody else's objects have these names."""
    if cluster.find("Gateway", GATEWAY, namespace) is None:
        raise UsageError(
            f"{cluster.name}: no Gateway {GATEWAY} in {namespace}, so the scratch workload has no way from outside",
            hint="run stage 2 first (kubectl apply -k manifests/routing)",
        )
    for kind in _KINDS:
        found = cluster.find(kind, SCRATCH, namespace)
        if found is not None and not is_owned(found):
            raise UsageError(
                f"{cluster.name}: {kind} {SCRATCH} in {namespace} was not made by meshbook and is left alone",
                hint="rename or delete it: it has not the label app.kubernetes.io/managed-by=meshbook",
            )


def _set_up(target: Target, folder: Path) -> Scratch:
    """Apply server, Service and route, and wait until all is ready and answers."""
    home, namespace = target.fleet.clusters[0], target.namespace
    for other in target.fleet.clusters[1:]:
        other.delete(folder, namespace, _SERVER)  # left by a crash, it would answer while the one at home is stopped
    target.fleet.each(lambda cluster: cluster.apply(folder, namespace, "" if cluster is home else _OTHERS))
    home.wait_for_rollout(namespace, [SCRATCH], timeout_s=target.timeout_s)
    pod = home.get("Pod", home.ready_pod(f"app={SCRATCH}", namespace), namespace)
    if not mesh.injected_by(pod):
        raise UsageError(
            f"{home.name}: the mesh has put no sidecar into {pod['metadata']['name']}, so it is not in the mesh",
            hint=f"label the namespace {namespace} with the mesh's revision (istio.io/rev), as stage 1 does",
        )
    url = f"/{SCRATCH}"
    outside = [replace(one, url=urlsplit(one.url)._replace(path=url, query="").geturl()) for one in target.outside]
    scratch = Scratch(cluster=home, pod=pod, outside=outside, inside=f"http://{SCRATCH}.{namespace}:{PORT}/")
    _wait_until_answered(target, scratch)
    return scratch


def _wait_until_answered(target: Target, scratch: Scratch) -> None:
    """Wait until requests from everywhere are answered by the pod, and no other; WaitTimeout names what is not."""
    name = scratch.pod["metadata"]["name"]

    def look() -> tuple[bool | None, str]:
        mesh = probes.curl_from_pods(target.fleet, scratch.inside, _BATCH, namespace=target.namespace, timeout_s=2.0)
        rows = pd.concat([mesh, probes.curl_from_here(scratch.outside, _BATCH, timeout_s=2.0)])
        bad = rows[(rows["error"] != "") | (rows["instance"] != name)]
        last = bad.drop_duplicates(["source", "path"], keep="last")[["source", "path", "error", "detail"]]
        saw = [
            f"{source} by {path}: {error or 'another pod answers'} {detail}".rstrip()
            for source, path, error, detail in last.itertuples(index=False)
        ]
        return (None if saw else True), "; ".join(saw)

    hint = f"look at the VirtualService {SCRATCH}, and at other VirtualServices of {GATEWAY}"
    scratch.cluster.wait_until("the scratch workload answers by every path,", look, target.timeout_s, hint)


def _remove(target: Target, folder: Path) -> None:
    try:
        target.fleet.delete(folder, target.namespace, timeout_s=_REMOVAL_S)
    except MeshbookError as error:
        raise OutageError(
            f"the scratch workload could not be deleted from {target.namespace}; it serves nobody and harms nobody",
            hint=f"kubectl delete -k manifests/scratch -n {target.namespace}, or 99_cleanup",
            saw=error,
        ) from error
