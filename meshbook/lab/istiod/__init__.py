"""istiod: makes a mesh of Envoys out of what the API servers say. One instance per cluster.

    Istiod(topology, cluster, client, authority).run()      # ends by cancellation

- What each proxy should have, pure: ``registry`` (the ``mesh`` as data) · ``meshconfig`` (what holds for all) ·
  ``balancing`` (DestinationRules, endpoints, weights, priorities) · ``authentication`` (PeerAuthentications) ·
  ``virtualservices`` · ``configuration`` (a proxy's listeners, routes and clusters).
- How it gets there: ``sources`` (what is read of the API servers) · ``istiod`` (the loop, and certificates), by
  ``meshbook.lab.discovery``.
- ``injection``: what becomes of a pod, and the webhook.

A new Istio API or field goes into the pure module of its name, and into that module's list of what is understood.
"""

from meshbook.lab.istiod.configuration import resources, unsupported
from meshbook.lab.istiod.injection import Webhook, injected, review
from meshbook.lab.istiod.istiod import Debounce, Istiod
from meshbook.lab.istiod.meshconfig import MeshConfig, mesh_config
from meshbook.lab.istiod.registry import ClusterView, Mesh, Proxy, mesh

__all__ = [
    "ClusterView",
    "Debounce",
    "Istiod",
    "Mesh",
    "MeshConfig",
    "Proxy",
    "Webhook",
    "injected",
    "mesh",
    "mesh_config",
    "resources",
    "review",
    "unsupported",
]
