"""Stop a process in a pod for a known time: the script that does it there, and the talk with it.

No clock of the pod is asked. What was done in the pod lies between the moment a word was sent and the moment its echo
was heard, both on this machine's clock. What is stopped is ``scratch``'s to say.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from datetime import UTC, datetime

from meshbook.analysis import Fault
from meshbook.clusters import pause
from meshbook.errors import OutageError, UsageError
from meshbook.experiment.freezing import fault_between

PID_FILE = "meshbook-scratch.pid"
LONGEST_S = 8.0
"""Less than the workload's own LONGEST_S, after which its shell lets it go on by itself."""
_AHEAD_S = 0.3
"""Seconds that a word may be waited for in ``say``: a little longer than the time from one asking to the next."""

SCRIPT = rf"""place=.
[ -w . ] || place=/tmp
read -r pid <"$place/{PID_FILE}" || exit 3
trap 'kill -CONT "$pid"' EXIT
trap 'exit 1' HUP INT PIPE TERM
echo ready
while read -r word; do
case $word in
freeze)
kill -STOP "$pid" || exit 4
looks=0 state=
while [ "$state" != T ]; do
[ "$looks" -lt 1000 ] || exit 5
looks=$((looks + 1))
read -r _ _ state _ <"/proc/$pid/stat" || exit 4
done
echo frozen ;;
thaw)
kill -CONT "$pid" || exit 4
echo thawed
exit 0 ;;
esac
done
"""
"""For any POSIX shell. It hears ``freeze`` and ``thaw`` and tells ``ready``, ``frozen`` and ``thawed``.

The process goes on however the script ends, the end of its input included; if the script itself is killed, the
workload's own shell sees to that."""


def require_possible(lengths_s: Iterable[float]) -> None:
    """Refuse lengths for which nothing can be stopped."""
    for length_s in lengths_s:
        if not 0 < length_s <= LONGEST_S:
            raise UsageError(f"the scratch workload is frozen for 0 to {LONGEST_S:g} s, not for {length_s:g} s")


class Hold:
    """One freeze: a ``clusters.ExecStreams`` of the script: when each word was sent, when its echo came."""

    def __init__(self, length_s: float) -> None:
        self.length_s = length_s
        self._sent: dict[str, datetime] = {}
        self._heard: dict[str, datetime] = {}
        self._since, self._until = 0.0, 0.0

    def on_line(self, line: str, when: datetime) -> None:
        self._heard[line] = when
        self._until = time.monotonic()

    def stdin(self) -> str:
        if "ready" in self._heard and "freeze" not in self._sent:
            self._since = time.monotonic()
            return self._word("freeze")
        if "frozen" in self._heard and "thaw" not in self._sent and self._is_due():
            return self._word("thaw")
        return ""

    def _is_due(self) -> bool:
        """Tell whether it is time to let go on, waiting for it when it comes before the next asking."""
        left_s = self._since + self.length_s - time.monotonic()
        if left_s > _AHEAD_S:
            return False
        pause(max(0.0, left_s))
        return True

    def _word(self, word: str) -> str:
        self._sent[word] = datetime.now(UTC)
        return f"{word}\n"

    def fault(self, name: str) -> Fault:
        """Return when it was stopped in truth; OutageError when that is not known."""
        told = ", ".join(self._heard) or "nothing"
        if not {"frozen", "thawed"} <= self._heard.keys():
            raise OutageError(f"{name}: it is not known whether it was", told=told)
        if self._until - self._since > LONGEST_S + 1:
            raise OutageError(f"{name}: the word to go on came so late that it may have gone on before by itself")
        start = (self._sent["freeze"], self._heard["frozen"])
        return fault_between(name, start, (self._sent["thaw"], self._heard["thawed"]))
