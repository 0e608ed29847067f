"""What a multi-cluster mesh is configured to do, and why a cluster does not answer another's clients.

- ``why``: the cause tree, direction by direction (``why_outside``: from the ingress gateways on); ``explained`` puts
  what it found in front of a verdict, ``in_words`` says it.
- ``expected_share``: which share of the answers each cluster should give, and why.
- ``between``: those of its looks that need no request before, for ``preflight``.
- ``Entry``: an address for requests from outside, and where it leads; ``entries_of`` those that have one;
  ``expected_by`` their shares. ``ingress_gateways``: the pods by which they come in, so that each can be asked.
- ``places``: which clusters these are, as a reader of a report knows them.
- ``looked_up``: answers with the cluster that has the pod of each, by ``pods_by_name`` and ``answered_by``;
  ``injected_by``: who made a pod's sidecar; ``certificates``: the roots that it trusts.

Reads objects of the API through ``clusters``, and looks from within pods where it may; changes nothing. What may not be
read is "not looked at". ``snapshot`` reads; ``routing``, ``workloads``, ``remote_secrets``, ``gateways``, ``ingress``
and ``reachability`` decide, ``causes`` puts their ``findings`` in order. Requests are sent by ``probes`` and judged by
``analysis``.
"""

from meshbook.mesh.causes import between, explained, in_words, why, why_outside
from meshbook.mesh.findings import CAUSE, NOT_LOOKED_AT, Direction, Finding
from meshbook.mesh.ingress import Entry, IngressGateway, entries_of, ingress_gateways
from meshbook.mesh.places import Place, places
from meshbook.mesh.shares import expected_by, expected_share
from meshbook.mesh.snapshot import answered_by, looked_up, pods_by_name
from meshbook.mesh.workloads import certificates, injected_by

__all__ = ["CAUSE", "NOT_LOOKED_AT", "Direction", "Entry", "Finding", "IngressGateway", "Place"]
__all__ += ["answered_by", "between", "certificates", "entries_of", "expected_by", "expected_share"]
__all__ += ["explained", "in_words", "ingress_gateways", "injected_by", "looked_up", "places", "pods_by_name"]
__all__ += ["why", "why_outside"]
