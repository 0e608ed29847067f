"""Promises of what an experiment is asked for: steps in order, a target that is found, refusals before one starts."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest

from meshbook import experiment, mesh
from meshbook.clusters import Fleet
from meshbook.errors import GatheredError, UsageError
from meshbook.experiment import LoadProfile
from meshbook.outage import Safeguards

CONNECTIVITY = Path(__file__).parents[2] / "manifests" / "connectivity" / "helloworld.yaml"


def test_steps_go_from_mode_to_mode_each_in_every_cluster_in_turn(bare_fleet: Fleet) -> None:
    found = experiment.steps(bare_fleet, ["scale-to-zero", "pods-deleted"], ["cluster2", "cluster1"])
    assert [str(step) for step in found] == [
        "scale-to-zero at cluster2",
        "scale-to-zero at cluster1",
        "pods-deleted at cluster2",
        "pods-deleted at cluster1",
    ]
    assert [step.context for step in experiment.steps(bare_fleet, ["scale-to-zero"])] == ["cluster1"]


def test_what_cannot_be_done_is_refused_before_anything_starts(bare_fleet: Fleet) -> None:
    with pytest.raises(UsageError, match="modes: there is no mode explode") as caught:
        experiment.steps(bare_fleet, ["explode"])
    assert "scale-to-zero" in caught.value.hint
    with pytest.raises(UsageError, match="no cluster 'nowhere'"):
        experiment.steps(bare_fleet, ["scale-to-zero"], ["nowhere"])
    with pytest.raises(UsageError, match=r"outage_s must be 0\.1 to 1000, not 0"):
        LoadProfile(outage_s=0)
    with pytest.raises(UsageError, match="once at least"):
        experiment.run([], cast(Any, None), LoadProfile(), Safeguards(), repeats=0)
    with pytest.raises(UsageError, match="would cut an outage of 30 s short"):
        experiment.run([], cast(Any, None), LoadProfile(outage_s=30), Safeguards(watchdog_s=10))
    assert experiment.run([], cast(Any, None), LoadProfile(outage_s=30), Safeguards(watchdog_s=300)).trials == []


def test_the_target_is_found_by_service_and_ingress(served: Fleet) -> None:
    target = experiment.find_target(served, "sample", "gateways")
    assert target.versions == {"cluster1": "v1", "cluster2": "v2"}
    assert target.deployments == {"cluster1": "helloworld-v1", "cluster2": "helloworld-v2"}
    assert target.outside == [mesh.Entry(url="http://vip-of-cluster2/hello", clusters=("cluster2",), path="vip")]
    assert target.inside == "http://helloworld.sample:5000/hello"
    assert "cluster1: helloworld-v1 (v1)" in str(target)


def test_a_target_that_is_not_clear_is_refused(served: Fleet) -> None:
    served["cluster1"].apply(CONNECTIVITY, "sample", "version=v2")
    with pytest.raises(GatheredError, match=r"not 2 \(helloworld-v1, helloworld-v2\)"):
        experiment.find_target(served, "sample", "gateways")
    served["cluster1"].delete(CONNECTIVITY, "sample", "version=v2")
    with pytest.raises(UsageError, match="nothing leads into elsewhere from outside"):
        experiment.find_target(served, "sample", "elsewhere")


def test_clusters_with_the_same_version_are_a_target_too(served: Fleet) -> None:
    served["cluster1"].apply(CONNECTIVITY, "sample", "version=v2")
    served["cluster1"].delete(CONNECTIVITY, "sample", "version=v1")
    assert experiment.find_target(served, "sample", "gateways").versions == {"cluster1": "v2", "cluster2": "v2"}


def test_a_calibration_is_refused_where_the_server_would_go_on_by_itself() -> None:
    assert experiment.calibrate(cast(Any, None), LoadProfile(), []).empty
    with pytest.raises(UsageError, match="for 0 to 8 s, not for 9 s"):
        experiment.calibrate(cast(Any, None), LoadProfile(), [0.3, 9.0])
