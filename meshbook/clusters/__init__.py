"""Clusters by their kubeconfig contexts: the only room that talks to Kubernetes.

``Fleet`` (several, side by side) and ``Cluster`` (one) are what others use, with the records that they return. Within:
``kubeconfig`` and ``connection`` reach an API server, ``api`` handles single objects, ``applying``, ``waiting`` and
``execution`` do what takes more than one request, ``following`` reads watches and logs as they come, ``together`` works
on several clusters side by side. Google's fleet API is ``meshbook.gkehub``.
"""

from meshbook.clusters.cluster import Cluster
from meshbook.clusters.connection import is_loopback
from meshbook.clusters.execution import ExecStreams, OnLine
from meshbook.clusters.fleet import Fleet
from meshbook.clusters.following import Listing, Scope, WatchEvent
from meshbook.clusters.kubeconfig import Kubeconfig
from meshbook.clusters.records import Access, Applied, DeploymentState, ExecResult
from meshbook.clusters.together import pause
from meshbook.clusters.waiting import describe_pod
from meshbook.objects import Object

__all__ = ["Access", "Applied", "Cluster", "DeploymentState", "ExecResult", "ExecStreams", "Fleet", "Kubeconfig"]
__all__ += ["Listing", "Object", "OnLine", "Scope", "WatchEvent", "describe_pod", "is_loopback", "pause"]
