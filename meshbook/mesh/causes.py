"""Why one cluster's clients get nothing from another's pods: every look in the order of its cost, the cause first.

``why`` reads and asks, and puts the findings in order; ``explained`` lets a verdict begin with them. What the looks
decide stands in ``routing``, ``workloads``, ``remote_secrets``, ``gateways``, ``ingress`` and ``reachability``.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial

import pandas as pd

from meshbook import tables
from meshbook.clusters import Fleet, gather
from meshbook.mesh import gateways, reachability, remote_secrets, routing, workloads
from meshbook.mesh.findings import AS_CONFIGURED, CAUSE, FINE, NOT_LOOKED_AT, NOTED, Direction, Finding, Look
from meshbook.mesh.ingress import ingress
from meshbook.mesh.routing import Asked
from meshbook.mesh.shares import at_gateway
from meshbook.mesh.snapshot import NotSeen, Snapshot, pods_by_name, take
from meshbook.verdict import PASS, Verdict

_ORDER = (CAUSE, AS_CONFIGURED, NOTED, NOT_LOOKED_AT, FINE)
_LATE_MS = 1000.0
"""Good answers of a cluster whose median is above this are late, where another's is a tenth of it or less."""


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
    failed = bool((answers["error"] != "").any())
    found: list[Finding] = []
    for name, view in mesh.views.items():
        look = Look(direction=Direction(source=name, destination=name), name="ingress")
        found += look.guarded(
            partial(ingress, view=view, namespace=gateway_namespace, cluster=fleet[name], failed=failed)
        )
    try:
        asked = at_gateway(mesh.views[cluster], url, gateway_namespace)
        legs = routing.route(asked, mesh.views[cluster]).legs
    except NotSeen as error:
        way = Direction(source=cluster, destination=cluster)
        return [*found, Look(direction=way, name="routes").not_looked_at(error.need)]
    if legs:
        asked = replace(asked, service=legs[0].service, namespace=legs[0].namespace, port=legs[0].port or asked.port)
    through = answers[~tables.of_gateways(answers)].assign(source=cluster)
    found += _why(mesh, asked, through, pods_by_name(fleet, namespace), {cluster})
    return sorted(found, key=lambda finding: _ORDER.index(finding.state))


@dataclass(frozen=True, kw_only=True)
class _Mesh:
    """The clusters, and what was read of them."""

    fleet: Fleet
    views: Mapping[str, Snapshot]


def _why(
    mesh: _Mesh, asked: Asked, answers: pd.DataFrame, known: Mapping[str, str], asking: Collection[str]
) -> list[Finding]:
    good = tables.good(answers)
    ways = [Direction(source=a, destination=b) for a in mesh.views for b in mesh.views if a in asking]
    heard = {f"{source} → {known.get(pod, '')}" for source, pod in zip(good["source"], good["instance"], strict=True)}
    since = answers["time"].min()
    work: dict[str, Callable[[], list[Finding]]] = {
        str(way): partial(_looked_at, mesh, asked, way, None if since is pd.NaT else since.to_pydatetime())
        for way in ways
        if str(way) not in heard
    }
    found = [finding for findings in gather(work).values() for finding in findings]
    for way in ways:
        if str(way) not in work:
            found += Look(direction=way, name="routes").guarded(lambda look: _shares(look, asked, mesh.views))
        found += Look(direction=way, name="answers").guarded(lambda look: _answers(look, answers, known))
    return sorted(found, key=lambda finding: _ORDER.index(finding.state))


def _looked_at(mesh: _Mesh, asked: Asked, way: Direction, since: datetime | None) -> list[Finding]:
    """Look at one direction in full; requests were sent ``since`` then."""
    views = mesh.views
    source, destination = views[way.source], views[way.destination]
    looks: list[tuple[str, Callable[[Look], Iterator[Finding]]]] = [
        ("servers", lambda look: workloads.servers(look, asked, source, destination)),
        ("clients", lambda look: workloads.clients(look, asked, source)),
        ("routes", lambda look: _routes(look, asked, views)),
    ]
    if way.source != way.destination:
        looks += [
            ("roots", lambda look: workloads.roots(look, asked, source, destination)),
            ("mutual TLS", lambda look: workloads.mutual_tls(look, asked, source, destination)),
            ("remote secret", lambda look: _remote_secret(look, mesh)),
            ("gateway", lambda look: gateways.gateway(look, source, destination, asked.host)),
            ("way", lambda look: _way(look, mesh, asked)),
            ("proxy", lambda look: _proxy(look, mesh, asked)),
        ]
    if way.source != way.destination and since:
        client = mesh.fleet[way.source]
        looks.append(("flags", lambda look: reachability.response_flags(look, client, source, asked, since)))
    return [finding for name, look in looks for finding in Look(direction=way, name=name).guarded(look)]


def _routes(look: Look, asked: Asked, views: Mapping[str, Snapshot]) -> Iterator[Finding]:
    """Look at what VirtualService and DestinationRule make of a direction that is silent."""
    source = views[look.direction.source]
    way = routing.route(asked, source)
    kind, _, name = way.rule.partition(" ")
    home, _, bare = name.partition("/")
    edit = f"kubectl --context {source.cluster} -n {home} edit {kind.lower()} {bare}"
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


def _answers(look: Look, answers: pd.DataFrame, known: Mapping[str, str]) -> Iterator[Finding]:
    """Look at the answers themselves: what went wrong where a direction is silent, and who is late."""
    source, destination = look.direction.source, look.direction.destination
    rows = answers[answers["source"] == source]
    cluster = rows["instance"].map(known)
    times = rows["time_total_ms"].where(rows["error"] == "").groupby(cluster).median().to_dict()
    mine, others = times.get(destination, 0.0), [ms for name, ms in times.items() if name != destination]
    if mine > _LATE_MS and others and mine > 10 * min(others):
        seen = f"{destination}'s pods answer {source} late: half take {mine / 1000:.1f} s or more"
        yield look.cause(
            f"{seen}, the others' {min(others) / 1000:.2f} s.", f"kubectl --context {destination} top pods"
        )
    if destination != source and not (cluster == destination).any():
        kinds = rows["error"][rows["error"] != ""].value_counts()
        if len(kinds):
            yield look.noted(f"{source} got {', '.join(f'{count} {kind}' for kind, count in kinds.items())}.")


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
    work: dict[str, Callable[[], list[Finding]]] = {
        f"{way} {name}": partial(Look(direction=way, name=name).guarded, look)
        for way in ways
        for name, look in looks.items()
    }
    return [finding for findings in gather(work).values() for finding in findings]


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
