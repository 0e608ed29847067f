from __future__ import annotations

from typing import Any

import pytest

from meshbook.lab.kubelet.lifecycle import Timing, exit_status, grace_s, pause_before, restarts_after


@pytest.mark.parametrize(
    ("policy", "exit_code", "expected"),
    [
        ("Always", 0, True),
        ("Always", 1, True),
        ("OnFailure", 0, False),
        ("OnFailure", 1, True),
        ("Never", 1, False),
    ],
)
def test_the_policy_decides_on_a_restart(policy: str, exit_code: int, expected: bool) -> None:
    assert restarts_after(policy, exit_code) is expected


def test_pauses_double_up_to_a_limit() -> None:
    timing = Timing(back_off_s=1, longest_back_off_s=5)
    assert [pause_before(number, timing) for number in range(1, 7)] == [0, 1, 2, 4, 5, 5]


def test_death_by_a_signal_is_reported_as_runtimes_do() -> None:
    assert exit_status(-9) == (137, 9)
    assert exit_status(3) == (3, 0)


def test_the_grace_of_the_deletion_wins_over_that_of_the_spec(specs: Any) -> None:
    pod = specs.pod(terminationGracePeriodSeconds=7)
    assert grace_s(specs.terminating(pod, grace_s=1)) == 1
    assert grace_s(pod) == 7
    assert grace_s(specs.pod()) == 30
