"""The lab's controllers: what kube-controller-manager, kube-scheduler and GKE's fleet controllers do, over HTTP.

``Manager`` runs one cluster's set, ``MultiClusterIngressController`` runs once per lab. Both reach the API through
``meshbook.lab.client`` alone, so they run as well over a real kube-apiserver.

Every one of ``controllers`` is data: a pure function ``decide(cache, key) -> actions``, and the kinds whose changes it
watches. ``controller`` says what that is, queues, retries and carries actions out; the rest is by what is controlled:
``deployments`` (with autoscalers), ``pods`` (ReplicaSets and the scheduler), ``services`` (endpoints and load balancer
addresses), ``namespaces``, ``ownership`` (garbage) and ``multiclusteringress``.

A new controller is a function beside its kin and one name in ``manager``. Nothing here starts processes or answers
requests.
"""

from meshbook.lab.controllers.controller import (
    Again,
    Cache,
    Controller,
    Create,
    Delete,
    Patch,
    WorkQueue,
    difference,
)
from meshbook.lab.controllers.manager import Manager, controllers
from meshbook.lab.controllers.multiclusteringress import (
    MultiClusterIngressController,
    Pace,
    Refusal,
    backend_of,
    derivation,
)
from meshbook.lab.controllers.ownership import collect

__all__ = [
    "Again",
    "Cache",
    "Controller",
    "Create",
    "Delete",
    "Manager",
    "MultiClusterIngressController",
    "Pace",
    "Patch",
    "Refusal",
    "WorkQueue",
    "backend_of",
    "collect",
    "controllers",
    "derivation",
    "difference",
]
