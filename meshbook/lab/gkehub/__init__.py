"""The lab's fleet API: GKE Hub v1 over plain HTTP on loopback, as far as enabling MultiClusterIngress needs it.

``fleet.py`` holds memberships, features and long-running operations (no I/O, its clock is given); ``server.py`` puts
them behind Google's paths, bearer token and error bodies, plus the few Service Usage calls that gcloud makes first.
Nothing here touches a cluster: the MultiClusterIngress controller reads the feature over HTTP like everyone else.
A new feature of the fleet goes into ``fleet.py``; a new path into ``server.py``.
"""

from meshbook.lab.gkehub.server import FleetServer

__all__ = ["FleetServer"]
