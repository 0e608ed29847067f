"""Why one cluster's clients get nothing from another's pods: every look in the order of its cost, the cause first.

``why`` reads and asks, and puts the findings in order; ``explained`` lets a verdict begin with them. What the looks
decide stands in ``routing``, ``workloads``, ``remote_secrets``, ``gateways``, ``ingress`` and ``reachability``.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import pandas as pd

from meshbook import tables
from meshbook.clusters import Fleet, gather
from meshbook.mesh import gateways, reachability, remote_secrets, routing, workloads
from meshbook.mesh.findings import AS_CONFIGURED, CAUSE, FINE, NOT_LOOKED_AT, NOTED, Direction, Finding, Look
from meshbook.mesh.ingress import Entry, ingress
from meshbook.mesh.routing import Asked
from meshbook.mesh.shares import at_gateway
from meshbook.mesh.snapshot import NotSeen, Snapshot, take
from meshbook.verdict import PASS, WORST_FIRST, Verdict

How = Callable[[Look], Iterable[Finding]]
Looks = dict[Look, How]
"""What is looked at of which direction, and how."""
_ORDER = (CAUSE, AS_CONFIGURED, NOTED, NOT_LOOKED_AT, FINE)


def why(fleet: Fleet, url: str, answers: pd.DataFrame, *, namespace: str = "sample") -> list[Finding]:
    """Return what keeps clusters from answering those who asked ``url`` from a pod in ``namespace``; causes first.

    ``answers`` is a frame of ANSWERS, looked up. A direction without any good answer is looked at in full; of the
    others only what changes their shares.
    """
    asked = Asked.of(url, namespace)
    return _found(_ways(asked, take(fleet, {asked.namespace, namespace}), answers))


def why_outside(
    fleet: Fleet, entries: Sequence[Entry], answers: pd.DataFrame, *, namespace: str, gateway_namespace: str
) -> list[Finding]:
    """Return what keeps clusters from answering those who asked from outside; causes first.

    The ingress gateways that the ``entries`` lead to are in ``gateway_namespace``, the pods that should answer in
    ``namespace``. A direction is from the gateways of one cluster to the pods of another. ``answers``, looked up, may
    hold those of each gateway asked by its own address as well: a request that failed has all of them looked at.
    """
    views = take(fleet, {namespace, gateway_namespace})
    failed = bool((answers["error"] != "").any())
    looks: Looks = {
        _look(name, name, "ingress"): partial(ingress, view=view, namespace=gateway_namespace, failed=failed)
        for name, view in views.items()
    }
    unseen: list[Finding] = []
    for cluster in {name: None for entry in entries for name in entry.clusters}:
        ways = [entry for entry in entries if cluster in entry.clusters]
        try:
            asked = at_gateway(views[cluster], ways[0].url, gateway_namespace)
            leg = next(iter(routing.route(asked, views[cluster]).legs), None)
        except NotSeen as error:
            unseen.append(_look(cluster, cluster, "routes").not_looked_at(error.need))
            continue
        if leg:
            asked = replace(asked, service=leg.service, namespace=leg.namespace, port=leg.port or asked.port)
        came = answers["source"].isin([one.source for one in ways]) & ~tables.of_gateways(answers)
        looks |= _ways(asked, views, answers[came].assign(source=cluster), {cluster})
    return [*_found(looks), *unseen]


def between(fleet: Fleet) -> list[Finding]:
    """Look at what lies between the clusters, whoever asks whom: gateways, the way there, and remote secrets."""
    views = take(fleet)
    looks: Looks = {}
    for a, b in itertools.permutations(views.values(), 2):
        looks |= {
            _look(a.cluster, b.cluster, "gateway"): partial(gateways.gateway, source=a, destination=b),
            _look(a.cluster, b.cluster, "way"): partial(reachability.way, source=a, destination=b),
            _look(a.cluster, b.cluster, "remote secret"): partial(remote_secrets.secret, source=a, destination=b),
        }
    return _found(looks)


def _look(source: str, destination: str, name: str) -> Look:
    return Look(direction=Direction(source=source, destination=destination), name=name)


def _found(looks: Looks) -> list[Finding]:
    """Look at everything at once, and return what was found: causes first, then by the order of the looks."""
    found = gather({f"{look.direction} {look.name}": partial(look.guarded, how) for look, how in looks.items()})
    return sorted(itertools.chain(*found.values()), key=lambda finding: _ORDER.index(finding.state))


def _ways(asked: Asked, views: Mapping[str, Snapshot], answers: pd.DataFrame, asking: Collection[str] = ()) -> Looks:
    """Return the looks at each direction from those who asked (default: all), in full where nothing good came."""
    looks: Looks = {}
    for a in asking or [name for name in views if name in set(answers["source"])]:
        for b in views:
            mine = answers[answers["source"] == a]
            heard = (tables.good(mine)["cluster"] == b).any()
            found = _of_heard(mine, asked, views) if heard else _of_silent(mine, asked, views, views[a], views[b])
            looks |= {_look(a, b, name): how for name, how in found.items()}
    return looks


def _of_heard(came: pd.DataFrame, asked: Asked, views: Mapping[str, Snapshot]) -> dict[str, How]:
    return {"routes": partial(_shares, asked=asked, views=views), "answers": partial(_late, came=came, views=views)}


def _of_silent(
    came: pd.DataFrame, asked: Asked, views: Mapping[str, Snapshot], source: Snapshot, destination: Snapshot
) -> dict[str, How]:
    if not asked.service:  # no route of a gateway takes it, so that it is for nobody
        return {"routes": partial(_routes, asked=asked, views=views)}
    ends: dict[str, Any] = {"asked": asked, "source": source, "destination": destination}
    looks: dict[str, How] = {
        "servers": partial(workloads.servers, **ends),
        "clients": partial(workloads.clients, asked=asked, source=source),
        "routes": partial(_routes, asked=asked, views=views),
    }
    if source is not destination:
        looks |= {
            "roots": partial(workloads.roots, **ends),
            "mutual TLS": partial(workloads.mutual_tls, **ends),
            "remote secret": partial(remote_secrets.secret, source=source, destination=destination),
            "gateway": partial(gateways.gateway, source=source, destination=destination, host=asked.host),
            "way": partial(reachability.way, **ends),
            "proxy": partial(reachability.known, **ends),
            "flags": partial(reachability.response_flags, asked=asked, source=source, since=came["time"].min()),
        }
    return looks | {"answers": partial(_silence, asked=asked, came=came, destination=destination)}


def _routes(look: Look, asked: Asked, views: Mapping[str, Snapshot]) -> Iterator[Finding]:
    """Look at what VirtualService and DestinationRule make of a direction that is silent."""
    source = views[look.direction.source]
    way = routing.route(asked, source)
    kind, _, name = way.rule.partition(" ")
    home, _, bare = name.partition("/")
    edit = f"{source.kubectl(home)} edit {kind.lower()} {bare}"
    if way.trouble and not way.rule:
        yield look.cause(f"{source.cluster}: {way.trouble}.", f"{source.kubectl('')} get virtualservices -A")
        return
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
        yield look.noted(f"{source}: no share can be expected: {share.why}.")
        return
    percent = f"{100 * share.shares[destination]:.3g} %"
    seen = f"{destination}'s share at {source} is expected {percent}: {share.why}."
    if share.by_rule:
        yield look.configured(seen, f"{views[source].kubectl('')} get virtualservices,destinationrules -A")
    else:
        yield look.fine(seen)


def _silence(look: Look, asked: Asked, came: pd.DataFrame, destination: Snapshot) -> Iterator[Finding]:
    """Say how the requests failed; where they took all their time, ask a pod that should have answered itself."""
    source, kinds = look.direction.source, came["error"][came["error"] != ""].value_counts()
    if len(kinds) and source != destination.cluster:
        yield look.noted(f"{source} got {', '.join(f'{count} {kind}' for kind, count in kinds.items())}.")
    if tables.TIMEOUT in kinds:
        yield from reachability.within(look, destination, asked)


def _late(look: Look, came: pd.DataFrame, views: Mapping[str, Snapshot]) -> Iterator[Finding]:
    """Say where one cluster's answers are late, and another's are not."""
    source, destination = look.direction.source, look.direction.destination
    half = (tables.good(came).groupby("cluster")["time_total_ms"].median() / 1000).to_dict()
    mine, others = half.pop(destination), list(half.values())
    if mine > reachability.LATE_S and others and mine > 5 * min(others):
        seen = f"{destination}'s pods answer {source} late: half take {mine:.1f} s or more"
        yield look.cause(f"{seen}, the others' {min(others):.2f} s.", f"{views[destination].kubectl('')} top pods")


def explained(findings: Sequence[Finding], *verdicts: Verdict) -> list[Verdict]:
    """Return the verdicts; the first of the worst begins with the cause, by direction, and what mends it."""
    worst = min(verdicts, key=lambda verdict: WORST_FIRST.index(verdict.outcome))
    if worst.outcome == PASS:
        return list(verdicts)
    told, reason = in_words(findings), worst.reason
    if told:
        reason = f"{told} {reason}"
    elif needs := dict.fromkeys(one.mend for one in findings if one.state == NOT_LOOKED_AT):
        reason = f"{reason} No cause was seen; to look further: {', '.join(needs)}."
    return [replace(one, reason=reason) if one is worst else one for one in verdicts]


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
