"""A target in two clusters that a fake API server has: how it answers is each test's word."""

from __future__ import annotations

from pathlib import Path

import pytest
from busy_pods import asked
from plans import Checks, plan

from meshbook import experiment, gkehub, mesh, outage, probes
from meshbook.clusters import Fleet
from meshbook.experiment import Limits, LoadProfile, Step, Target
from meshbook.outage import Check, Safeguards

CONNECTIVITY = Path(__file__).parents[2] / "manifests" / "connectivity" / "helloworld.yaml"


@pytest.fixture
def served(bare_fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> Fleet:
    for cluster, version in zip(bare_fleet, ("v1", "v2"), strict=True):
        cluster.create_namespace("sample")
        cluster.create_namespace("gateways")
        for part in ("service=helloworld", f"version={version}"):
            cluster.apply(CONNECTIVITY, "sample", part)
    head = {"name": "edge", "namespace": "gateways"}
    bare_fleet["cluster2"].create("MultiClusterIngress", {"metadata": head, "spec": {"template": {"spec": {}}}})
    monkeypatch.setattr(gkehub, "wait_for_vip", lambda cluster, *_, **__: f"vip-of-{cluster.name}")
    return bare_fleet


@pytest.fixture
def asked_target(served: Fleet, monkeypatch: pytest.MonkeyPatch) -> Target:
    """A target of which each pod answers a request in 45 ms, one at a time."""
    service_s = {"v1": 0.045, "v2": 0.045}
    # these rows say who answered
    monkeypatch.setattr(mesh, "looked_up", lambda _, __, ask, *args, **how: ask(*args, **how))
    monkeypatch.setattr(probes, "curl_from_here", lambda _, requests, **__: asked(service_s, 1, requests))
    monkeypatch.setattr(probes, "curl_from_pods", lambda *_, requests, **__: asked(service_s, 1, requests))
    monkeypatch.setattr(probes, "send_many", lambda *_, **__: asked(service_s, 8, 16))
    return experiment.find_target(served, "sample", "gateways")


@pytest.fixture
def checks(served: Fleet, monkeypatch: pytest.MonkeyPatch) -> Checks:
    """What a load adds to the plan of a step, by name."""
    target, step = experiment.find_target(served, "sample", "gateways"), Step(mode="scale-to-zero", context="cluster1")
    monkeypatch.setattr(outage, "plan", lambda _: plan())

    def found(load: LoadProfile, limits: Limits | None = None) -> dict[str, Check]:
        (plan,) = experiment.plans([step], target, Safeguards(), load, limits)
        return {check.name: check for check in plan.checks}

    return found
