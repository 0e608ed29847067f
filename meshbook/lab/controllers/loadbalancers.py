"""Service of type LoadBalancer → an address of its own in ``status.loadBalancer``. Only the address is given here.

Who answers on it is the data plane's business: gateways' Envoys bind the addresses of the Services that select them.
"""

from __future__ import annotations

from meshbook.lab.client import SERVICES
from meshbook.lab.controllers.loop import Controller
from meshbook.lab.controllers.objects import Key, Object, is_deleting, key_of
from meshbook.lab.controllers.world import Actions, World, emit, patch_status
from meshbook.lab.topology import ClusterTopology

COMPONENT = "service-controller"
ADDRESSES = 100


def controller(cluster: ClusterTopology) -> Controller:
    """Return the controller that hands out ``cluster``'s load balancer addresses."""

    def decide(world: World, key: Key) -> Actions:
        service = world.get(SERVICES, key)
        if service is None:
            return []
        given, wanted = address_of(service), service["spec"].get("type") == "LoadBalancer"
        if not wanted:
            return patch_status(SERVICES, service, {"loadBalancer": {"ingress": None}}) if given else []
        if given or is_deleting(service):
            return []
        return _give(world, service)

    def _give(world: World, service: Object) -> Actions:
        taken = {address_of(other) for other in world.list(SERVICES)}
        free = (cluster.load_balancer_address(number) for number in range(ADDRESSES))
        address = next((found for found in free if found not in taken), "")
        if not address:
            message = f"Error syncing load balancer: all {ADDRESSES} addresses of {cluster.name} are taken"
            reason = "SyncLoadBalancerFailed"
            return [emit(service, reason=reason, message=message, component=COMPONENT, kind="Warning")]
        ingress = [{"ip": address, "ipMode": "VIP"}]
        told = emit(service, reason="EnsuredLoadBalancer", message="Ensured load balancer", component=COMPONENT)
        return [*patch_status(SERVICES, service, {"loadBalancer": {"ingress": ingress}}), told]

    return Controller(name="loadbalancers", decide=decide, concerns={SERVICES: lambda _, service: [key_of(service)]})


def address_of(service: Object) -> str:
    """Return the address that a Service has been given, or an empty string."""
    ingress = ((service.get("status") or {}).get("loadBalancer") or {}).get("ingress") or []
    return str(ingress[0].get("ip", "")) if ingress else ""
