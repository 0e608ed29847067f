"""The lab's controllers: what kube-controller-manager, kube-scheduler and GKE's fleet controllers do, over HTTP.

Door: ``manager.Manager`` (one cluster's set) and ``manager.MultiClusterIngressController`` (once per lab). Both reach
the API through ``meshbook.lab.client`` alone, so they run as well over a real kube-apiserver.

Every controller is a pure function ``decide(world, key) -> actions`` plus the kinds whose changes concern it
(``loop.Controller``); ``loop`` queues and retries, ``world`` is the cached cluster and carries actions out.

- ``replicasets`` · ``deployments`` (sizes in ``rollout``, conditions in ``deploymentstatus``) · ``scheduler``
- ``jobs`` · ``endpoints`` · ``loadbalancers`` · ``autoscaler`` · ``disruption`` · ``namespaces`` · ``garbage``
- ``multiclusteringress`` (the loop) · ``ingress`` (its pure half)

A new controller is a new module and one line in ``manager``. Nothing here starts processes or answers requests.
"""
