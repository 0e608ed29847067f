from __future__ import annotations

from dataclasses import replace

from meshbook.lab.kubelet.status import ContainerView, Running, Waiting
from meshbook.lab.kubelet.telling import of_change, of_stopping

NEW = ContainerView(name="app", image="docker.io/curlimages/curl")
UP = replace(NEW, state=Running(started_at="2026-01-01T00:00:00Z"), ready=True)


def test_a_start_is_told_in_three_steps() -> None:
    assert [one.reason for one in of_change(NEW, UP)] == ["Pulled", "Created", "Started"]
    assert of_change(NEW, UP)[2].message == "Started container app"
    assert of_change(UP, replace(UP, started=True)) == []


def test_trouble_is_told_as_a_warning() -> None:
    failed = replace(NEW, state=Waiting(reason="ErrImagePull", message="no program stands for it"))
    (told,) = of_change(NEW, failed)
    assert (told.kind, told.reason, told.message) == ("Warning", "Failed", "no program stands for it")
    assert of_change(failed, failed) == []
    assert [one.reason for one in of_change(UP, replace(UP, ready=False))] == ["Unhealthy"]


def test_a_stop_is_told_of_what_runs_only() -> None:
    assert [one.message for one in of_stopping(UP)] == ["Stopping container app"]
    assert of_stopping(NEW) == []
