"""Which endpoints a proxy uses, with which weight and priority: split horizon and locality failover. Pure."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from meshbook.lab.envoy.endpoints import Endpoint, Locality
from meshbook.lab.istiod.policies import EVERYTHING, Policy
from meshbook.lab.istiod.proxies import Proxy, carries
from meshbook.lab.istiod.registry import Instance, Registry
from meshbook.lab.topology import PROXY_INBOUND_PORT


def endpoints(
    proxy: Proxy,
    instances: Sequence[Instance],
    registry: Registry,
    policy: Policy = EVERYTHING,
    bindable: Callable[[int], int] = lambda port: port,
) -> list[Endpoint]:
    """Return what ``proxy`` sees of a service port.

    Pods of its own network appear by their own address, every other network as its gateways, which weigh as much as the
    pods behind them. A network without a gateway cannot be reached, nor can a pod without a sidecar in another network.
    """
    chosen = [one for one in instances if not policy.labels or carries(one.labels, policy.labels)]
    remote = _by_gateway(proxy, chosen, registry)
    scale = math.lcm(*(len(registry.gateways[network]) for network in remote))
    found = [_direct(one, scale, bindable) for one in own_network(proxy, chosen)]
    for network, behind in remote.items():
        addresses = registry.gateways[network]
        weight = len(behind) * scale // len(addresses)
        locality = Counter(one.locality for one in behind).most_common(1)[0][0]
        found += [Endpoint(address=ip, port=port, weight=weight, locality=locality) for ip, port in addresses]
    return _by_priority(found, proxy.locality) if policy.failover else found


def own_network(proxy: Proxy, instances: Sequence[Instance]) -> list[Instance]:
    """Return the instances that the proxy reaches by their own address."""
    return [one for one in instances if one.network == proxy.network]


def passed_through(
    proxy: Proxy,
    instances: Sequence[Instance],
    policy: Policy = EVERYTHING,
) -> list[Endpoint]:
    """Return what an east-west gateway passes connections to: the mutual TLS doors of its own network."""
    chosen = [one for one in own_network(proxy, instances) if one.mtls]
    chosen = [one for one in chosen if not policy.labels or carries(one.labels, policy.labels)]
    return [_direct(one, 1, lambda port: port) for one in chosen]


def _by_gateway(proxy: Proxy, instances: Sequence[Instance], registry: Registry) -> Mapping[str, list[Instance]]:
    found: dict[str, list[Instance]] = defaultdict(list)
    for one in instances:
        if one.network != proxy.network and one.mtls and one.network in registry.gateways:
            found[one.network].append(one)
    return found


def _direct(one: Instance, weight: int, bindable: Callable[[int], int]) -> Endpoint:
    port = PROXY_INBOUND_PORT if one.mtls else bindable(one.port)
    return Endpoint(address=one.address, port=port, weight=weight, locality=one.locality, mtls=one.mtls)


def _by_priority(found: Sequence[Endpoint], own: Locality) -> list[Endpoint]:
    """Rank by distance: same zone, same region, elsewhere; Envoy wants the ranks without gaps."""
    distances = sorted({_distance(one.locality, own) for one in found})
    return [replace(one, priority=distances.index(_distance(one.locality, own))) for one in found]


def _distance(one: Locality, own: Locality) -> int:
    if one.region != own.region:
        return 2
    return 0 if one.zone == own.zone else 1
