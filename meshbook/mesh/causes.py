"""Why one cluster's clients get nothing from another's pods: every look in the order of its cost, the cause first.

``why`` reads and asks, and puts the findings in order; ``explained`` lets a verdict begin with them. What the looks
decide stands in ``routing``, ``workloads``, ``remote_secrets``, ``gateways``, ``ingress`` and ``reachability``.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import pandas as pd

from meshbook import tables
from meshbook.clusters import Fleet, gather
from meshbook.mesh import gateways, reachability, remote_secrets, routing, workloads
from meshbook.mesh.findings import AS_CONFIGURED, CAUSE, FINE, NOT_LOOKED_AT, NOTED, Direction, Finding, Look
from meshbook.mesh.ingress import ingress
from meshbook.mesh.routing import Asked
from meshbook.mesh.shares import at_gateway
from meshbook.mesh.snapshot import Snapshot, pods_by_name, take
from meshbook.verdict import PASS, Verdict

_ORDER = (CAUSE, AS_CONFIGURED, NOTED, NOT_LOOKED_AT, FINE)


def why(
    fleet: Fleet, url: str, answers: pd.DataFrame, *, namespace: str = "sample", pods: Mapping[str, str] | None = None
) -> list[Finding]:
    """Return what keeps clusters from answering those who asked ``url`` from a pod in ``namespace``; causes first.

    ``answers`` is a frame of ANSWERS. A direction without any good answer is looked at in full; of the others only what
    changes their shares. ``pods`` names the cluster of pods that are gone since; those that are there are listed.
    """
    asked = Asked.of(url, namespace)
    known = {**(pods or {}), **pods_by_name(fleet, asked.namespace)}
    mesh = _Mesh(fleet=fleet, views=take(fleet, {asked.namespace, namespace}))
    return _why(mesh, asked, answers, known, set(answers["source"]))


def why_outside(
    fleet: Fleet, url: str, answers: pd.DataFrame, *, namespace: str, gateway_namespace: str, cluster: str
) -> list[Finding]:
    """Return what keeps clusters from answering those who asked ``url`` from outside; causes first.

    ``cluster`` has the ingress gateways that the load balancer sends to, in ``gateway_namespace``; the pods that should
    answer are in ``namespace``. A direction is from those gateways to the pods of a cluster. ``answers`` may hold those
    of each gateway asked by its own address as well: a request that failed has all of them looked at.
    """
    mesh = _Mesh(fleet=fleet, views=take(fleet, {namespace, gateway_namespace}))
    failed, through = bool((answers["error"] != "").any()), answers[~tables.of_gateways(answers)].assign(source=cluster)

    def from_gateways(look: Look) -> list[Finding]:
        asked = at_gateway(mesh.views[cluster], url, gateway_namespace)
        leg = next(iter(routing.route(asked, mesh.views[cluster]).legs), None)
        if leg:
            asked = replace(asked, service=leg.service, namespace=leg.namespace, port=leg.port or asked.port)
        return _why(mesh, asked, through, pods_by_name(fleet, namespace), {cluster})

    looks: dict[Look, Callable[[Look], Iterable[Finding]]] = {
        Look(direction=Direction(source=name, destination=name), name="ingress"): partial(
            ingress, view=view, namespace=gateway_namespace, cluster=fleet[name], failed=failed
        )
        for name, view in mesh.views.items()
    }
    looks[Look(direction=Direction(source=cluster, destination=cluster), name="routes")] = from_gateways
    return _found({f"{look.direction} {look.name}": partial(look.guarded, how) for look, how in looks.items()})


@dataclass(frozen=True, kw_only=True)
class _Mesh:
    """The clusters, and what was read of them."""

    fleet: Fleet
    views: Mapping[str, Snapshot]


def _why(
    mesh: _Mesh, asked: Asked, answers: pd.DataFrame, known: Mapping[str, str], asking: Collection[str]
) -> list[Finding]:
    ways = [Direction(source=a, destination=b) for a in mesh.views for b in mesh.views if a in asking]
    came = answers.assign(cluster=answers["instance"].map(known))
    return _found({str(way): partial(_looked_at, mesh, asked, way, came[came["source"] == way.source]) for way in ways})


def _found(work: Mapping[str, Callable[[], list[Finding]]]) -> list[Finding]:
    """Do all of the work at once, and return what it found, causes first."""
    found = [finding for findings in gather(work).values() for finding in findings]
    return sorted(found, key=lambda finding: _ORDER.index(finding.state))


def _looked_at(mesh: _Mesh, asked: Asked, way: Direction, came: pd.DataFrame) -> list[Finding]:
    """Look at one direction, in full where nothing good ``came`` from its destination to its source."""
    source, destination = mesh.views[way.source], mesh.views[way.destination]
    looks: dict[str, Callable[[Look], Iterable[Finding]]] = {
        "servers": lambda look: workloads.servers(look, asked, source, destination),
        "clients": lambda look: workloads.clients(look, asked, source),
        "routes": lambda look: _routes(look, asked, mesh.views),
    }
    if way.source != way.destination:
        looks |= {
            "roots": lambda look: workloads.roots(look, asked, source, destination),
            "mutual TLS": lambda look: workloads.mutual_tls(look, asked, source, destination),
            "remote secret": lambda look: _remote_secret(look, mesh),
            "gateway": lambda look: gateways.gateway(look, source, destination, asked.host),
            "way": lambda look: _way(look, mesh, asked),
            "proxy": lambda look: _proxy(look, mesh, asked),
            "flags": lambda look: _flags(look, mesh, asked, came),
        }
    looks["answers"] = lambda look: _silence(look, mesh, asked, came)
    if (tables.good(came)["cluster"] == way.destination).any():
        looks = {"routes": lambda look: _shares(look, asked, mesh.views), "answers": lambda look: _late(look, came)}
    return [finding for name, look in looks.items() for finding in Look(direction=way, name=name).guarded(look)]


def _routes(look: Look, asked: Asked, views: Mapping[str, Snapshot]) -> Iterator[Finding]:
    """Look at what VirtualService and DestinationRule make of a direction that is silent."""
    source = views[look.direction.source]
    way = routing.route(asked, source)
    kind, _, name = way.rule.partition(" ")
    home, _, bare = name.partition("/")
    edit = f"{source.kubectl(home)} edit {kind.lower()} {bare}"
    if way.trouble:
        yield look.cause(f"{source.cluster}'s {way.rule} applies, and {way.trouble}.", edit)
        return
    for leg in (leg for leg in way.legs if leg.weight and leg.subset):
        rules = routing.destination_rules(leg.host, asked, source)
        labels = routing.policy(rules, leg.subset)[1]
        there = routing.endpoints(leg.service, leg.namespace, list(views.values()))
        if labels is None or not any(labels.items() <= one.labels.items() for one in there):
            why = "no DestinationRule has that subset" if labels is None else "no ready pod has that subset's labels"
            yield look.cause(f"{source.cluster}'s {way.rule} sends {leg}, but {why}.", edit)
    yield from _shares(look, asked, views)


def _shares(look: Look, asked: Asked, views: Mapping[str, Snapshot]) -> Iterator[Finding]:
    """Say what share the destination's pods should have, where a rule sets it."""
    source, destination = look.direction.source, look.direction.destination
    share = routing.expected(asked, views[source], list(views.values()))
    if not share.shares:
        yield look.noted(f"{source}: {share.of(destination)}.")
    elif share.rule or share.failover:
        seen = f"{destination}'s share at {source} is {share.of(destination)}."
        yield look.configured(seen, f"kubectl --context {source} get virtualservices,destinationrules -A")
    else:
        yield look.fine(f"{destination}'s share at {source} is {share.of(destination)}.")


def _remote_secret(look: Look, mesh: _Mesh) -> Iterator[Finding]:
    source, destination = mesh.views[look.direction.source], mesh.views[look.direction.destination]
    tried, uid = remote_secrets.tries(source), mesh.fleet[destination.cluster].uid()
    unused = any(one.unused for one in tried)
    says = remote_secrets.synced(mesh.fleet[source.cluster], source) if unused else {}
    yield from remote_secrets.judge(look, source, destination, tried, uid, says)


def _way(look: Look, mesh: _Mesh, asked: Asked | None) -> Iterator[Finding]:
    source, destination = mesh.views[look.direction.source], mesh.views[look.direction.destination]
    root = workloads.root_certificate(source, asked.client_namespace) if asked else ""
    reached = reachability.reach(mesh.fleet[source.cluster], source, destination, asked, root)
    yield from reachability.judge(look, reached)


def _proxy(look: Look, mesh: _Mesh, asked: Asked) -> Iterator[Finding]:
    source = mesh.views[look.direction.source]
    statuses = reachability.proxy_clusters(mesh.fleet[source.cluster], source, asked)
    yield from reachability.known(look, statuses, asked, mesh.views[look.direction.destination])


def _flags(look: Look, mesh: _Mesh, asked: Asked, came: pd.DataFrame) -> Iterator[Finding]:
    if pd.notna(since := came["time"].min()):
        source = mesh.views[look.direction.source]
        cluster = mesh.fleet[source.cluster]
        yield from reachability.response_flags(look, cluster, source, asked, since.to_pydatetime())


def _silence(look: Look, mesh: _Mesh, asked: Asked, came: pd.DataFrame) -> Iterator[Finding]:
    """Say how the requests failed; where they took all their time, ask a pod that should have answered itself."""
    source, destination = look.direction.source, look.direction.destination
    kinds = came["error"][came["error"] != ""].value_counts()
    if len(kinds) and source != destination:
        yield look.noted(f"{source} got {', '.join(f'{count} {kind}' for kind, count in kinds.items())}.")
    if tables.TIMEOUT in kinds:
        yield from reachability.within(look, mesh.fleet[destination], mesh.views[destination], asked)


def _late(look: Look, came: pd.DataFrame) -> Iterator[Finding]:
    """Say where one cluster's answers are late, and another's are not."""
    source, destination = look.direction.source, look.direction.destination
    half = (tables.good(came).groupby("cluster")["time_total_ms"].median() / 1000).to_dict()
    mine, others = half.pop(destination), list(half.values())
    if mine > reachability.LATE_S and others and mine > 10 * min(others):
        seen = f"{destination}'s pods answer {source} late: half take {mine:.1f} s or more"
        yield look.cause(f"{seen}, the others' {min(others):.2f} s.", f"kubectl --context {destination} top pods")


def between(fleet: Fleet) -> list[Finding]:
    """Look at what lies between the clusters, whoever asks whom: gateways, the way there, and remote secrets."""
    mesh = _Mesh(fleet=fleet, views=take(fleet))
    views = mesh.views
    looks: dict[str, Callable[[Look], Iterator[Finding]]] = {
        "gateway": lambda look: gateways.gateway(look, views[look.direction.source], views[look.direction.destination]),
        "way": lambda look: _way(look, mesh, None),
        "remote secret": lambda look: _remote_secret(look, mesh),
    }
    ways = [Direction(source=a, destination=b) for a in views for b in views if a != b]
    at_once = [(Look(direction=way, name=name), look) for way in ways for name, look in looks.items()]
    return _found({f"{look.direction} {look.name}": partial(look.guarded, how) for look, how in at_once})


def explained(findings: Sequence[Finding], *verdicts: Verdict) -> list[Verdict]:
    """Return the verdicts; the first that did not pass begins with the cause, by direction, and what mends it."""
    worst = next((position for position, verdict in enumerate(verdicts) if verdict.outcome != PASS), None)
    if worst is None:
        return list(verdicts)
    told, verdict = in_words(findings), verdicts[worst]
    if told:
        verdict = replace(verdict, reason=f"{told} {verdict.reason}")
    elif needs := dict.fromkeys(one.mend for one in findings if one.state == NOT_LOOKED_AT):
        verdict = replace(verdict, reason=f"{verdict.reason} No cause was seen; to look further: {', '.join(needs)}.")
    return [*verdicts[:worst], verdict, *verdicts[worst + 1 :]]


def in_words(findings: Sequence[Finding]) -> str:
    """Return the first cause of each direction in words; where there is none, what is configured so."""
    causes = [one for one in findings if one.state == CAUSE] or [one for one in findings if one.state == AS_CONFIGURED]
    first: dict[str, Finding] = {}
    for finding in causes:
        first.setdefault(str(finding.direction), finding)
    ways: dict[tuple[str, str], list[str]] = {}
    for way, finding in first.items():
        ways.setdefault((finding.seen, finding.mend), []).append(way)
    return " ".join(f"{', '.join(names)}: {seen} Try: {mend}." for (seen, mend), names in ways.items())
