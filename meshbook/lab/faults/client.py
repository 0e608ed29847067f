"""Ask a running lab for faults, from another process. Synchronous, standard library only.

``FaultClient.of(root)`` finds the lab by its folder; the lab's manager does the rest.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from meshbook.errors import LabError
from meshbook.lab import launch
from meshbook.lab.faults.spec import FaultRecord, FaultSpec
from meshbook.lab.topology import LabFolder

TIMEOUT_S = 30.0
_POLL_S = 0.02


class FaultClient:
    """Asks one lab for faults, and for their records."""

    def __init__(self, url: str, token: str) -> None:
        self._host = urlsplit(url).netloc
        self._token = token

    @classmethod
    def of(cls, root: Path) -> FaultClient:
        """Return the client of the lab that runs in ``root``; ``LabError`` when none does."""
        lab = launch.state(root)
        if lab is None:
            raise LabError(f"no lab is up in {root}", hint="meshbook lab up")
        return cls(lab.control_url, LabFolder(root=root).control_token_file.read_text())

    def begin(self, spec: FaultSpec) -> FaultRecord:
        """Break something; return when it is broken."""
        return FaultRecord.of(self._ask("POST", "/faults", asdict(spec)))

    def end(self, identity: str) -> FaultRecord:
        """Mend it; return when it is mended. One that has ended already is no error."""
        return FaultRecord.of(self._ask("DELETE", f"/faults/{identity}"))

    def end_all(self) -> list[FaultRecord]:
        return [FaultRecord.of(found) for found in self._ask("DELETE", "/faults")]

    def active(self) -> list[FaultRecord]:
        return [FaultRecord.of(found) for found in self._ask("GET", "/faults")]

    def find(self, identity: str) -> FaultRecord:
        return FaultRecord.of(self._ask("GET", f"/faults/{identity}"))

    def wait(self, identity: str, timeout_s: float) -> FaultRecord:
        """Return the record of a fault once it has ended; ``LabError`` after ``timeout_s``."""
        deadline = time.monotonic() + timeout_s
        while (found := self.find(identity)).is_on:
            if time.monotonic() > deadline:
                raise LabError(f"{identity} is still on after {timeout_s:g} s")
            time.sleep(_POLL_S)
        return found

    @contextlib.contextmanager
    def injected(self, spec: FaultSpec) -> Iterator[FaultRecord]:
        """Break something for the length of a ``with`` block, or for its own duration if that is shorter."""
        record = self.begin(spec)
        try:
            yield record
        finally:
            self.end(record.id)

    def _ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        connection = http.client.HTTPConnection(self._host, timeout=TIMEOUT_S)
        try:
            payload = None if body is None else json.dumps(body)
            connection.request(method, path, payload, {"Authorization": f"Bearer {self._token}"})
            response = connection.getresponse()
            answer = json.loads(response.read())
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise LabError(f"the lab does not answer at {self._host}: {error}", hint="meshbook lab status") from error
        finally:
            connection.close()
        if response.status != 200:
            raise LabError(answer.get("message", f"HTTP {response.status}"), hint=answer.get("hint", ""))
        return answer
