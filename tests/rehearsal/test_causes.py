"""Faults planted on a lab, one at a time: for each, the cause tree names what was done before anything else.

Those that show soonest; ``bench/causes.py`` plants them all, and healthy variants of a mesh.
"""

from __future__ import annotations

import time
from functools import partial

import pytest
from causes import Bench
from ground import Ground
from healthy import HEALTHY

from meshbook import Fleet, analysis, mesh, probes
from meshbook.lab.faults import FaultClient
from meshbook.lab.launch import LabState

pytestmark = [pytest.mark.envoy, pytest.mark.rehearsal, pytest.mark.timeout(120)]

URL = "http://helloworld.sample:5000/hello"
FIRST, SECOND = "cluster1", "cluster2"
EFFECT_S = 15.0
SOON = [
    "remote secret gone, one side",
    "remote secrets gone, both",
    "remote secret's token expired",
    "link cut inward",
    "different root",
    "wrong revision",
    "readiness false",
    "scaled to 0",
    "mesh weights 90/10",
    "traffic to an empty subset",
    "mutual TLS that disagrees",
]
CONFIGURED: dict[str, tuple[dict[str, float], str]] = {
    "weights 80/20": ({FIRST: 0.2, SECOND: 0.2}, "VirtualService sample/planted sends 80 % to v1"),
    "locality on": ({FIRST: 0.0, SECOND: 1.0}, "DestinationRule sample/planted has outlierDetection"),
    "1:3": ({FIRST: 0.75, SECOND: 0.75}, "each ready endpoint counts the same (1 in cluster1, 3 in cluster2)"),
}


@pytest.fixture
def ground(lab: LabState, fleet: Fleet) -> Ground:
    ground = Ground(fleet=fleet, lab=FaultClient.of(lab.root), rollout_s=30)
    ground.deploy()
    return ground


@pytest.mark.parametrize("fault", SOON)
def test_a_planted_fault_is_named_first(ground: Ground, fault: str) -> None:
    bench = Bench(ground=ground, vip="", effect_s=EFFECT_S, timeout_s=0.5)
    named, _, said = bench.named_first(fault)
    assert named == "first", said
    assert ("Mend: " in said, "NOT MENDED" in said) == (True, False), said


@pytest.mark.parametrize("variant", CONFIGURED)
def test_what_the_mesh_is_configured_for_is_expected_and_comes(ground: Ground, variant: str) -> None:
    shares, why = CONFIGURED[variant]
    fleet, versions = ground.fleet, {FIRST: "v1", SECOND: "v2"}
    with HEALTHY[variant](ground):
        found = mesh.expected_share(fleet, URL)
        assert {source: round(one.shares[SECOND], 2) for source, one in found.items()} == shares
        assert why in found[FIRST].why
        test = analysis.split_test(found, SECOND, 0.25)
        ask = partial(mesh.looked_up, fleet, "sample", probes.curl_from_pods, fleet, URL, timeout_s=2)
        deadline = time.monotonic() + EFFECT_S
        while True:
            answers = test.until_decided(ask, ask(requests=20))
            verdicts = [
                analysis.answers_as_expected(answers, versions, found),
                analysis.split_as_expected(answers, test),
            ]
            if all(verdict.outcome == "pass" for verdict in verdicts):
                break
            assert time.monotonic() < deadline, verdicts
        assert not [one for one in mesh.why(fleet, URL, answers) if one.state == "cause"]
