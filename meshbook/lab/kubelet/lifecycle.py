"""What to do next with a pod and its containers: decisions as functions of data.

Starts, stops and waits for nothing: ``pods`` and ``containers`` do, as they are told here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Object = Mapping[str, Any]

DEFAULT_GRACE_S = 30


@dataclass(frozen=True, kw_only=True)
class Timing:
    """How long things take, in seconds."""

    drain_s: float = 0.5
    """A proxy of a terminating pod answers at least this long: others must first hear that it leaves."""
    eager_probe_s: float = 0.1
    """A container that was never ready is asked this often, if its own period is not shorter."""
    back_off_s: float = 1.0
    """Pause before the second restart; it doubles with each further one. The first restart comes at once."""
    longest_back_off_s: float = 60.0
    calm_s: float = 600.0
    """A container that ran this long begins again without a pause."""
    image_back_off_s: float = 1.0
    """ErrImagePull turns into ImagePullBackOff after this."""
    report_retry_s: float = 0.5
    """Pause before a status that the API server did not take is sent again."""
    heartbeat_s: float = 20.0


def restarts_after(policy: str, exit_code: int) -> bool:
    """Say whether a container that ended with ``exit_code`` is to be started again under a pod's ``restartPolicy``."""
    return policy == "Always" or (policy == "OnFailure" and exit_code != 0)


def pause_before(restart: int, timing: Timing) -> float:
    """Return the pause before the ``restart``-th restart in a row (from 1)."""
    if restart <= 1:
        return 0.0
    return min(timing.back_off_s * 2.0 ** (restart - 2), timing.longest_back_off_s)


def exit_status(returncode: int) -> tuple[int, int]:
    """Return (exit code, signal) as a container runtime reports them: death by signal n is exit code 128 + n."""
    return (128 - returncode, -returncode) if returncode < 0 else (returncode, 0)


def is_terminating(pod: Object) -> bool:
    return bool(pod["metadata"].get("deletionTimestamp"))


def grace_s(pod: Object) -> float:
    """Return how long a terminating pod's containers may take to end."""
    given = pod["metadata"].get("deletionGracePeriodSeconds")
    if given is None:
        given = pod["spec"].get("terminationGracePeriodSeconds")
    return float(DEFAULT_GRACE_S if given is None else given)


def is_finished(pod: Object) -> bool:
    """Say whether a pod has run to its end: it is not started again, whoever looks at it."""
    return pod.get("status", {}).get("phase") in ("Succeeded", "Failed")
