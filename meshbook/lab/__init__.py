"""The lab: a pair of clusters on this machine, with an emulated control plane and a real Envoy data plane.

It is not a second Kubernetes: it serves the runbook and an SRE beside it. What is the same as on a real cluster, what
is simpler and what is absent stands in ``docs/fidelity.md``. Helpers never import this package, and it never imports
them.
"""
