"""Promises of what the ladder is asked for: rungs in order, and a refusal of those that cannot be before one starts."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import pytest

from meshbook import experiment
from meshbook.clusters import Fleet
from meshbook.errors import UsageError
from meshbook.experiment import Pace, Scene
from meshbook.outage import Safeguards


def test_rungs_go_from_mode_to_mode_each_in_every_cluster_in_turn(bare_fleet: Fleet) -> None:
    found = experiment.rungs(bare_fleet, ["scale-to-zero", "pods-deleted"], ["cluster2", "cluster1"], 2)
    assert [str(rung) for rung in found][:3] == [
        "scale-to-zero at cluster2, no. 1",
        "scale-to-zero at cluster2, no. 2",
        "scale-to-zero at cluster1, no. 1",
    ]
    assert len(found) == 8
    assert [rung.context for rung in experiment.rungs(bare_fleet, ["scale-to-zero"], [], 1)] == ["cluster1"]


def test_rungs_that_do_not_exist_are_refused_with_those_that_do(bare_fleet: Fleet) -> None:
    with pytest.raises(UsageError, match="explode") as caught:
        experiment.rungs(bare_fleet, ["explode"], [], 1)
    assert "scale-to-zero" in caught.value.hint
    with pytest.raises(UsageError):
        experiment.rungs(bare_fleet, ["scale-to-zero"], [], 0)
    with pytest.raises(UsageError, match="no cluster 'nowhere'"):
        experiment.rungs(bare_fleet, ["scale-to-zero"], ["nowhere"], 1)
    with pytest.raises(UsageError, match="1 values for 2 clusters"):
        experiment.by_context(bare_fleet, ["v1"])
    with pytest.raises(UsageError):
        Pace(outage_s=0)


def test_a_deployment_is_named_after_service_and_version_unless_it_is_named(bare_fleet: Fleet) -> None:
    scene = Scene(
        fleet=bare_fleet,
        config=bare_fleet["cluster2"],
        outside="http://127.0.0.1:9/hello",
        namespace="sample",
        gateway_namespace="gateways",
        versions=experiment.by_context(bare_fleet, ["v1", "v2"]),
    )
    assert scene.deployment("cluster2") == "helloworld-v2"
    assert replace(scene, deployments={"cluster2": "web"}).deployment("cluster2") == "web"
    assert scene.inside == "http://helloworld.sample:5000/hello"


def test_a_calibration_is_refused_where_it_cannot_be(bare_fleet: Fleet) -> None:
    scene: Any = type("Scene", (), {"fleet": bare_fleet})
    assert experiment.calibrate(scene, Pace(), []).empty
    with pytest.raises(UsageError, match="only a lab"):
        experiment.calibrate(scene, Pace(), [0.3], "application")
    with pytest.raises(UsageError, match="cannot freeze 'everything'"):
        experiment.calibrate(scene, Pace(), [0.3], "everything")
    with pytest.raises(UsageError, match="for 0 to 8 s, not for 9 s"):
        experiment.calibrate(scene, Pace(), [0.3, 9.0])


def test_a_watchdog_that_would_cut_every_outage_short_is_refused_before_one_starts() -> None:
    with pytest.raises(UsageError, match="would cut an outage of 30 s short"):
        experiment.climb([], cast(Any, None), Pace(outage_s=30), Safeguards(watchdog_s=10))
    assert experiment.climb([], cast(Any, None), Pace(outage_s=30), Safeguards(watchdog_s=300)) == []
