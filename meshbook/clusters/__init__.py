"""Clusters by their kubeconfig contexts: the only package that talks to Kubernetes.

``Fleet`` (several at once) and ``Cluster`` (one) are what others use, with the records that they return. Within:
``kubeconfig`` says what a context is, ``login`` and ``plugin`` who asks, ``transport`` how requests and commands get
there, ``connection`` sends them, ``api`` handles objects by kind and name, ``cluster`` has kubectl's verbs
(``records``: what they return), ``execution`` runs commands in pods, ``rollout`` follows Deployments, ``conflicts``
says what an apply may leave as others have set it, ``hints`` what to try after a refusal, ``names`` what people
call a cluster, ``concurrency`` works on several at once. Google's fleet API is ``meshbook.gkehub``.
"""

from meshbook.clusters.cluster import Cluster
from meshbook.clusters.concurrency import gather, pause
from meshbook.clusters.execution import ExecResult, ExecStreams, OnLine
from meshbook.clusters.fleet import Fleet
from meshbook.clusters.hints import refusal_hint
from meshbook.clusters.kubeconfig import Kubeconfig
from meshbook.clusters.names import display_names
from meshbook.clusters.records import Applied, DeploymentState
from meshbook.clusters.transport import is_loopback
from meshbook.objects import Object

__all__ = ["Applied", "Cluster", "DeploymentState", "ExecResult", "ExecStreams", "Fleet", "Kubeconfig"]
__all__ += ["Object", "OnLine", "display_names", "gather", "is_loopback", "pause", "refusal_hint"]
