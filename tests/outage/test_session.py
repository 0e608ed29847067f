"""An outage always ends: on success, on an error, on Ctrl-C, twice Ctrl-C, after a crash, whatever others do."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any, cast

import pytest
from outage_fleet import (
    NAMESPACE,
    SYSTEM,
    TARGETS,
    deployment,
    intent,
    interrupted,
    must_not_begin,
    record,
    replicas,
    shape,
)

from meshbook import outage
from meshbook.clusters import Cluster, Fleet
from meshbook.errors import ClusterError, NotRestoredError, OutageError, WaitTimeout
from meshbook.objects import annotations_of

PROGRAM = """
    import sys, time
    from meshbook import Fleet, outage
    fleet = Fleet.connect(["cluster1", "cluster2"], sys.argv[1])
    with outage.outage(outage.Intent(cluster=fleet["cluster1"], deployment="web", namespace="sample", timeout_s=20)):
        print("down", flush=True)
        time.sleep(60)
"""


def _before_the_next(monkeypatch: pytest.MonkeyPatch, verb: str, act: Callable[[], object]) -> None:
    """Have somebody else ``act`` right before the next time that a cluster is asked to ``verb``."""
    real = getattr(Cluster, verb)

    def overtaken(self: Cluster, *args: Any, **options: Any) -> Any:
        monkeypatch.setattr(Cluster, verb, real)
        act()
        return real(self, *args, **options)

    monkeypatch.setattr(Cluster, verb, overtaken)


@pytest.mark.parametrize("mode", TARGETS)
def test_what_a_mode_changes_is_recorded_before_and_as_before_after(fleet: Fleet, target: Cluster, mode: str) -> None:
    before, wanted = shape(target), intent(fleet, mode)
    with outage.outage(wanted) as going_on:
        notes = target.get(*TARGETS[mode])["metadata"]["annotations"]
        assert (notes[outage.RUN], notes[outage.MODE], notes[outage.OF]) == (wanted.run, mode, NAMESPACE)
        assert shape(target) != before
    assert shape(target) == before
    times = [going_on.down_requested, going_on.down_accepted, going_on.down]
    times += [going_on.restore_requested, going_on.restore_accepted, going_on.ready_again]
    assert None not in times
    assert (times == sorted(times, key=str)) or mode == "pods-deleted"
    assert outage.restore(fleet) == []


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_however_the_block_ends_all_is_restored_and_one_that_broke_off_says_so(
    fleet: Fleet, target: Cluster, error: type[BaseException], capfd: pytest.CaptureFixture[str]
) -> None:
    before, told = shape(target), "scale-to-zero was broken off; what was down is restored, 2/2 ready\n"
    with outage.outage(intent(fleet)):
        pass
    assert told not in capfd.readouterr().err
    with pytest.raises(error), outage.outage(intent(fleet)):
        raise error
    assert shape(target) == before
    assert told in capfd.readouterr().err


def test_a_second_ctrl_c_does_not_stop_the_restoring(
    fleet: Fleet, target: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    def impatient() -> None:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGTERM)

    before, former = shape(target), signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt), outage.outage(intent(fleet)):
        _before_the_next(monkeypatch, "wait_for_rollout", impatient)
    assert shape(target) == before
    assert signal.getsignal(signal.SIGTERM) == former


def test_ctrl_c_again_and_again_on_the_way_out_of_the_block_loses_nothing(fleet: Fleet, target: Cluster) -> None:
    before, pressed = shape(target), []

    def press(frame: FrameType, event: str, _: object) -> Any:
        if frame.f_code.co_filename.endswith(("contextlib.py", "outage/session.py")):
            pressed.append(event)
            signal.raise_signal(signal.SIGINT)
        return press

    def first() -> None:
        try:
            signal.raise_signal(signal.SIGINT)
        finally:
            sys.settrace(press)

    tracing = sys.gettrace()
    try:
        with pytest.raises(KeyboardInterrupt), outage.outage(intent(fleet)):
            first()
    finally:
        sys.settrace(tracing)
    assert len(pressed) > 20  # all of them were pressed, and none broke anything off
    assert shape(target) == before


@pytest.mark.parametrize("way", ["in", "out"])
def test_ctrl_c_while_python_enters_or_leaves_the_block_loses_nothing(fleet: Fleet, target: Cluster, way: str) -> None:
    before, taken_down = shape(target), cast(Any, outage.outage(intent(fleet)))
    restoring = taken_down.gen
    press = map(signal.raise_signal, [signal.SIGINT])  # from C, so that it is pressed within contextlib
    taken_down.gen = zip(restoring, press, strict=False) if way == "in" else restoring

    def block() -> None:
        with taken_down:
            taken_down.gen = restoring
            if way == "in":
                threading.Event().wait(60)  # the signal ends it, and not its time
            taken_down.gen = itertools.chain(filter(None, press), restoring)

    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        block()
    assert shape(target) == before
    assert time.monotonic() - began < 50


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, -signal.SIGINT), (signal.SIGKILL, -signal.SIGKILL)]
)
def test_a_signal_ends_the_program_and_all_is_restored(
    fleet: Fleet, target: Cluster, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    before = shape(target)
    argv = [sys.executable, "-c", textwrap.dedent(PROGRAM), str(tmp_path / "kubeconfig")]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as program:
        assert program.stdout is not None
        assert program.stdout.readline() == "down\n"
        os.kill(program.pid, number)
        assert program.wait(20) == code
    restored = outage.restore(fleet, NAMESPACE, timeout_s=10)
    assert len(restored) == (1 if number == signal.SIGKILL else 0)
    assert shape(target) == before


def test_ctrl_c_between_the_record_and_the_request_leaves_everything_as_it_was(
    fleet: Fleet, target: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt() -> None:
        assert record(target)[outage.REPLICAS] == "2"
        raise KeyboardInterrupt

    before = shape(target)
    _before_the_next(monkeypatch, "scale", interrupt)
    with pytest.raises(KeyboardInterrupt):
        must_not_begin(intent(fleet))
    assert shape(target) == before


def test_every_target_is_recorded_before_the_first_is_changed(
    fleet: Fleet, target: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    target.create("Deployment", deployment("west", SYSTEM, {"istio": "eastwestgateway", "app": "west"}))
    seen: list[bool] = []
    both = ("gateway", "west")
    _before_the_next(monkeypatch, "scale", lambda: seen.extend(bool(record(target, one, SYSTEM)) for one in both))
    with outage.outage(intent(fleet, "east-west-down")):
        assert [replicas(target, one, SYSTEM) for one in both] == [0, 0]
    assert seen == [True, True]


def test_pods_that_do_not_go_end_the_outage_and_all_is_restored(fleet: Fleet, target: Cluster) -> None:
    before = shape(target)
    labels = deployment("web", NAMESPACE, {"app": "stuck"})["spec"]["template"]["metadata"]
    target.create("Deployment", deployment("stuck", NAMESPACE, labels["labels"]))
    target.wait_for_rollout(NAMESPACE, ["stuck"], timeout_s=10)
    target.create("Pod", _held_pod(labels["labels"]))
    with pytest.raises(WaitTimeout, match=r"pods of stuck gone not within 0.5 s[\s\S]*pod held"):
        must_not_begin(intent(fleet, deployment="stuck", survivors=(), timeout_s=0.5))
    assert replicas(target, "stuck") == 2
    assert shape(target).items() >= before.items()


def _held_pod(labels: dict[str, str]) -> dict[str, Any]:
    head = {"name": "held", "namespace": NAMESPACE, "labels": labels, "finalizers": ["example.com/held"]}
    return {"metadata": head, "spec": {"containers": [{"name": "app", "image": "web"}]}}


def test_a_workload_that_cannot_be_restored_keeps_its_record_and_says_how_to_go_on(
    fleet: Fleet, target: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: Any, **__: Any) -> None:
        raise ClusterError("the API server is away")

    with (
        pytest.raises(
            OutageError, match=r"was not restored as it was \(2 replicas\)[\s\S]*server is away[\s\S]*restore"
        ),
        outage.outage(intent(fleet, timeout_s=2.0)),
    ):
        monkeypatch.setattr(Cluster, "scale", away)
    assert record(target)[outage.REPLICAS] == "2"


def test_the_next_outage_of_the_same_kind_restores_first(fleet: Fleet, target: Cluster) -> None:
    before = shape(target)
    interrupted(intent(fleet))
    with outage.outage(intent(fleet)) as going_on:
        assert going_on.replicas == 2
    assert shape(target) == before


def test_an_object_that_gets_a_record_meanwhile_is_refused_and_left_to_the_other_run(
    fleet: Fleet, target: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    def overtake() -> None:
        theirs = {"metadata": {"annotations": {outage.RUN: "theirs", outage.REPLICAS: "2"}}}
        target.patch("Deployment", "web", theirs, namespace=NAMESPACE)
        target.scale("web", 0, NAMESPACE)

    _before_the_next(monkeypatch, "patch", overtake)
    with pytest.raises(OutageError, match=r"is being changed by someone else[\s\S]*run: theirs[\s\S]*restore"):
        must_not_begin(intent(fleet))
    assert (replicas(target), record(target)[outage.RUN]) == (0, "theirs")


@pytest.mark.parametrize("mode", ["scale-to-zero", "readiness-lost", "east-west-down"])
def test_an_outage_that_somebody_else_ends_is_over_at_once_and_told_with_who_it_was(
    fleet: Fleet, target: Cluster, mode: str
) -> None:
    kind, name, namespace = TARGETS[mode]
    part = {"replicas": 1} if kind == "Deployment" else {"selector": {"meshbook.io/down": None}}
    path, merge = target.resource(kind).path(namespace, name), "application/merge-patch+json"

    def restored_by_others() -> None:
        with outage.outage(intent(fleet, mode)) as going_on:
            gitops = {"query": {"fieldManager": "gitops"}, "content_type": merge}
            target.connection.request("PATCH", path, body={"spec": part}, **gitops)
            going_on.hold(60)

    began = time.monotonic()
    with pytest.raises(OutageError, match=rf"did not last: cluster1: {kind} {name} .* by gitops \(Update, 20"):
        restored_by_others()
    assert time.monotonic() - began < 30
    assert outage.restore(fleet) == []


def test_an_outage_that_is_undone_before_its_pods_have_gone_is_not_waited_for(
    fleet: Fleet, target: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    _before_the_next(monkeypatch, "wait_until", lambda: target.scale("web", 2, NAMESPACE))
    with pytest.raises(OutageError, match=r"did not last: .* was restored to 2 replicas by meshbook \(Update of scale"):
        must_not_begin(intent(fleet, timeout_s=60))
    assert (replicas(target), record(target)) == (2, {})


def test_what_another_run_has_recorded_since_is_not_touched(fleet: Fleet, target: Cluster) -> None:
    with outage.outage(intent(fleet)):
        theirs = {"metadata": {"annotations": {outage.RUN: "theirs"}}}
        target.patch("Deployment", "web", theirs, namespace=NAMESPACE)
    assert (replicas(target), record(target)[outage.RUN]) == (0, "theirs")


@pytest.mark.parametrize("mode", ["scale-to-zero", "readiness-lost"])
@pytest.mark.parametrize("taken_off", ["meshbook.io/", outage.REPLICAS])
def test_a_record_that_somebody_takes_off_leaves_nothing_down(
    fleet: Fleet, target: Cluster, mode: str, taken_off: str
) -> None:
    kind, name, namespace = TARGETS[mode]
    before, wanted = shape(target), intent(fleet, mode)
    with outage.outage(wanted) as ended:
        down = target.get(kind, name, namespace)
        notes = {key: None for key in annotations_of(down) if key.startswith(taken_off)}
        target.patch(kind, name, {"metadata": {"annotations": notes}}, namespace=namespace)
    assert shape(target) == before
    assert ended.restore_accepted is not None


def test_a_controller_that_writes_its_status_meanwhile_stops_no_outage(
    fleet: Fleet, target: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    def label(value: str | None) -> Callable[[], object]:
        change = {"metadata": {"labels": {"seen": value}}}
        return lambda: target.patch("Deployment", "web", change, namespace=NAMESPACE)

    before = shape(target)
    _before_the_next(monkeypatch, "patch", label("yes"))
    with outage.outage(intent(fleet)):
        _before_the_next(monkeypatch, "patch", label(None))
        assert replicas(target) == 0
    assert shape(target) == before


def test_a_record_whose_answer_was_lost_is_known_for_its_own(
    fleet: Fleet, target: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Cluster.patch

    def repeated(self: Cluster, *args: Any, **options: Any) -> Any:
        monkeypatch.setattr(Cluster, "patch", real)
        real(self, *args, **options)  # its answer is lost, so it is sent again
        return real(self, *args, **options)

    before = shape(target)
    monkeypatch.setattr(Cluster, "patch", repeated)
    with outage.outage(intent(fleet)):
        assert replicas(target) == 0
    assert shape(target) == before


def test_what_was_deleted_meanwhile_is_told_and_the_rest_is_restored(fleet: Fleet, target: Cluster) -> None:
    target.create("Deployment", deployment("west", SYSTEM, {"istio": "eastwestgateway", "app": "west"}))
    with (
        pytest.raises(NotRestoredError, match=r"gateway in istio-system: it was deleted meanwhile") as caught,
        outage.outage(intent(fleet, "east-west-down")),
    ):
        target.delete_object("Deployment", "gateway", SYSTEM)
    assert (caught.value.by_hand, caught.value.hint) == ({}, "apply its manifest again")
    assert (replicas(target, "west", SYSTEM), record(target, "west", SYSTEM)) == (2, {})
    assert outage.restore(fleet) == []


def test_a_count_that_somebody_sets_while_it_is_restored_is_left(
    fleet: Fleet, target: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    with outage.outage(intent(fleet)):
        _before_the_next(monkeypatch, "wait_for_rollout", lambda: target.scale("web", 4, NAMESPACE))
    assert (replicas(target), record(target)) == (4, {})


def test_the_steady_state_is_proved_again(fleet: Fleet) -> None:
    answers = iter(["", "only v1 answers", "only v1 answers", ""])
    with outage.outage(intent(fleet, steady=lambda: next(answers))):
        pass
    assert list(answers) == []


def test_a_state_that_is_not_steady_again_is_told_by_the_outage(fleet: Fleet, target: Cluster) -> None:
    answers = iter([""])
    wanted = intent(fleet, steady=lambda: next(answers, "only v1 answers"), timeout_s=2.0)
    with outage.outage(wanted) as ended:
        assert not ended.unsteady
    assert ended.unsteady == "cluster1: steady again not within 2 s: only v1 answers"
    assert replicas(target) == 2
