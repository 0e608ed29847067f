"""istiod: makes a mesh of Envoys out of what the API servers say. One instance per cluster.

    Istiod(topology, cluster, client, authority).run()      # ends by cancellation

Pure core: ``registry`` (services of all clusters) · ``proxies`` (which Envoys there are) · ``balancing`` (endpoints,
weights, priorities) · ``policies`` (DestinationRule) · ``virtualservices`` · ``sidecar``, ``gateway``, ``upstreams``,
``configuration`` (what each Envoy serves) · ``injection``, ``templates`` (what becomes of a pod).
Thin edge: ``webhook`` (HTTPS) · ``distribution`` (files) · ``sources`` (informers of the API servers) · ``istiod``.

A new Istio API or field goes into the pure room of its name, and into that room's list of what is understood.
"""

from meshbook.lab.istiod.istiod import Istiod

__all__ = ["Istiod"]
