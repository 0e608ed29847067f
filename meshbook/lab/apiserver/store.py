"""The one place where objects change: current objects, a resourceVersion that only grows, and the history for watches.

Objects belong to the store once handed over and are never changed afterwards, so readers may share them; a writer
brings a new tree. What may be written is decided in ``handlers``; nothing here knows Kubernetes' rules but names,
namespaces and resourceVersions. No I/O and no waiting: who waits subscribes a callback.
"""

from __future__ import annotations

import json
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import takewhile

from meshbook.objects import Object

HISTORY = 1000
"""Changes kept for watches, per kind."""
HISTORY_BYTES = 16 << 20
"""Of the objects in them, as JSON."""
LARGEST_OBJECT = 1536 * 1024
"""Bytes, as JSON: as etcd takes them."""
LARGEST_STORE = 64 << 20
"""Bytes of all objects: a runbook's are 2 MiB, and an object in memory is up to twenty times its JSON."""
FIRST_REVISION = 100
"""What a client knows from before, say of another lab in the same folder, is forgotten history: it is below this."""

Key = tuple[str, str]
Wake = Callable[[], None]
Selected = Callable[[Object], bool]


class AlreadyStored(Exception):
    """An object of this key is there."""


class NotStored(Exception):
    """No object of this key is there."""


class StaleWrite(Exception):
    """The object was written since it was read."""


class StoreFull(Exception):
    """An object, or all of them, would be larger than what may be."""


class HistoryGone(Exception):
    """The changes asked for are forgotten; ``oldest`` is the last forgotten revision."""

    def __init__(self, oldest: int) -> None:
        super().__init__(oldest)
        self.oldest = oldest


class Stored:
    """One state of one object, and its JSON text, made once for all readers."""

    __slots__ = ("_encoded", "object", "revision", "size")

    def __init__(self, obj: Object, revision: int) -> None:
        self.object = obj
        self.revision = revision
        self._encoded: dict[str, bytes] = {}
        self.size = len(self.encoded(obj["apiVersion"]))

    def encoded(self, api_version: str) -> bytes:
        """Return the object as JSON in ``api_version``."""
        if api_version not in self._encoded:
            self._encoded[api_version] = encode(self.object | {"apiVersion": api_version})
        return self._encoded[api_version]


def encode(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


@dataclass(frozen=True, slots=True)
class Change:
    """One write. ``before`` is None for a creation; for a deletion ``now`` is the last state."""

    revision: int
    type: str
    now: Stored
    before: Stored | None


class _Log:
    """The changes of one kind, oldest first."""

    def __init__(self) -> None:
        self.changes: deque[Change] = deque()
        self.forgotten = FIRST_REVISION
        self.wakes: set[Wake] = set()
        self._size = 0

    def append(self, change: Change) -> None:
        self.changes.append(change)
        self._size += change.now.size
        while len(self.changes) > HISTORY or (self._size > HISTORY_BYTES and len(self.changes) > 1):
            first = self.changes.popleft()
            self.forgotten = first.revision
            self._size -= first.now.size
        for wake in list(self.wakes):
            wake()


class Store:
    """All objects of one cluster."""

    def __init__(self) -> None:
        self.revision = FIRST_REVISION
        self.size = 0
        """Bytes of the current objects, as JSON."""
        self._objects: dict[str, dict[Key, Stored]] = defaultdict(dict)
        self._logs: dict[str, _Log] = defaultdict(_Log)

    def get(self, bucket: str, namespace: str, name: str) -> Stored | None:
        return self._objects[bucket].get((namespace, name))

    def list(self, bucket: str, namespace: str = "", selected: Selected = lambda _: True) -> list[Stored]:
        """Return the selected objects of a kind, in all namespaces or in one, ordered by namespace and name."""
        entries = sorted(self._objects[bucket].items())
        return [entry for (where, _), entry in entries if namespace in ("", where) and selected(entry.object)]

    def create(self, bucket: str, obj: Object) -> Stored:
        if self._key(obj) in self._objects[bucket]:
            raise AlreadyStored
        return self._write(bucket, "ADDED", obj, None)

    def replace(self, bucket: str, obj: Object, before: Stored) -> Stored:
        """Put ``obj`` in the place of ``before``, which must still be the current state."""
        self._check_current(bucket, obj, before)
        return self._write(bucket, "MODIFIED", obj, before)

    def delete(self, bucket: str, obj: Object, before: Stored) -> Stored:
        """Remove ``before``, which must still be the current state; watchers see ``obj`` as its last one."""
        self._check_current(bucket, obj, before)
        return self._write(bucket, "DELETED", obj, before)

    def changes_since(self, bucket: str, revision: int) -> Sequence[Change]:
        """Return the changes after ``revision``; ``HistoryGone`` when some are forgotten."""
        log = self._logs[bucket]
        if revision < log.forgotten:
            raise HistoryGone(log.forgotten)
        return tuple(takewhile(lambda change: change.revision > revision, reversed(log.changes)))[::-1]

    def subscribe(self, bucket: str, wake: Wake) -> Callable[[], None]:
        """Call ``wake`` at each change of a kind until the returned function is called."""
        wakes = self._logs[bucket].wakes
        wakes.add(wake)
        return lambda: wakes.discard(wake)

    @staticmethod
    def _key(obj: Object) -> Key:
        metadata = obj["metadata"]
        return metadata.get("namespace", ""), metadata["name"]

    def _check_current(self, bucket: str, obj: Object, before: Stored) -> None:
        current = self._objects[bucket].get(self._key(obj))
        if current is None:
            raise NotStored
        if current is not before:
            raise StaleWrite

    def _write(self, bucket: str, change: str, obj: Object, before: Stored | None) -> Stored:
        metadata = obj["metadata"] | {"resourceVersion": str(self.revision + 1)}
        stored = Stored(obj | {"metadata": metadata}, self.revision + 1)
        growth = (0 if change == "DELETED" else stored.size) - (before.size if before else 0)
        if growth > 0 and (stored.size > LARGEST_OBJECT or self.size + growth > LARGEST_STORE):
            raise StoreFull(
                f"request is too large: an object has at most {LARGEST_OBJECT} bytes, all have {LARGEST_STORE}"
            )
        self.revision += 1
        self.size += growth
        if change == "DELETED":
            del self._objects[bucket][self._key(obj)]
        else:
            self._objects[bucket][self._key(obj)] = stored
        self._logs[bucket].append(Change(self.revision, change, stored, before))
        return stored
