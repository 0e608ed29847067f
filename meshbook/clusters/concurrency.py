"""Work on several clusters at once: threads that are gathered, and that stop when the caller is interrupted.

Every pause of a wait goes through ``pause``, so a wait in a thread ends soon after Ctrl-C in the main one.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import TypeVar

from meshbook.errors import GatheredError, MeshbookError, UsageError

T = TypeVar("T")
_ENDING_S = 1.0
"""Seconds that interrupted threads get to close their connections."""

_thread = threading.local()


class Cancelled(BaseException):
    """Raised in a worker whose caller was interrupted; nobody reports it."""


def pause(seconds: float) -> None:
    """Sleep for ``seconds``, or end this worker at once when its caller has been interrupted."""
    stop: threading.Event | None = getattr(_thread, "stop", None)
    if stop is None:
        time.sleep(seconds)
    elif stop.wait(seconds):
        raise Cancelled


def gather(work: Mapping[str, Callable[[], T]]) -> dict[str, T]:
    """Do all ``work`` at once and return each result by name.

    All of it is left to finish; then GatheredError is raised when some failed, or the UsageError when the input was at
    fault everywhere.
    """
    results: dict[str, T] = {}
    errors: dict[str, Exception] = {}
    stop: threading.Event = getattr(_thread, "stop", None) or threading.Event()  # a worker's own work ends with it

    def run(name: str, task: Callable[[], T]) -> None:
        _thread.stop = stop
        try:
            results[name] = task()
        except Exception as error:  # noqa: BLE001 - raised again by the caller's thread
            errors[name] = error
        except Cancelled:
            return

    threads = [
        threading.Thread(target=run, args=item, name=f"meshbook {item[0]}", daemon=True) for item in work.items()
    ]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    except BaseException:
        stop.set()
        deadline = time.monotonic() + _ENDING_S
        for thread in filter(threading.Thread.is_alive, threads):
            thread.join(max(0.0, deadline - time.monotonic()))
        raise
    _raise_gathered(errors, {name: results[name] for name in work if name in results})
    return {name: results[name] for name in work}


def _raise_gathered(errors: Mapping[str, Exception], results: Mapping[str, object]) -> None:
    if not errors:
        return
    for error in errors.values():
        if not isinstance(error, MeshbookError):
            raise error
    expected = {name: error for name, error in errors.items() if isinstance(error, MeshbookError)}
    first = next(iter(expected.values()))
    if not results and all(isinstance(error, UsageError) for error in expected.values()):
        raise first
    raise GatheredError(expected, results) from first
