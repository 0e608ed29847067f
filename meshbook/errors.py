"""Every error that meshbook raises on purpose, drawn as one tree.

::

    MeshbookError                    what failed, where, what to try
    ├── UsageError                   bad parameter, unknown context, unreadable manifest: nothing was started
    ├── ClusterError                 a cluster refused or did not answer (context, kind, name, HTTP status)
    │   └── ExecError                a command could not be started, or its stream broke
    ├── WaitTimeout                  a bounded wait ended; says what it last saw
    ├── FleetError                   the fleet (GKE Hub) refused or did not answer
    ├── OutageError                  a workload could not be taken away safely, or not be brought back
    ├── RunError                     a notebook stopped, or left no verdict
    └── LabError                     the lab could not start, or broke

``UsageError`` means exit code 2; the others are what the runbook found out.
"""

from __future__ import annotations


class MeshbookError(Exception):
    """Base of all. ``hint`` says what to try; ``evidence`` holds what was seen (short strings by name)."""

    def __init__(self, message: str, *, hint: str = "", **evidence: object) -> None:
        self.message = message
        self.hint = hint
        self.evidence = {name: value for name, value in evidence.items() if value not in (None, "")}
        super().__init__(message)

    def __str__(self) -> str:
        parts = [self.message]
        parts += [f"  {name}: {value}" for name, value in self.evidence.items()]
        if self.hint:
            parts.append(f"  try: {self.hint}")
        return "\n".join(parts)


class UsageError(MeshbookError):
    """Input that cannot be acted on. Nothing was started."""


class ClusterError(MeshbookError):
    """A cluster refused a request or did not answer it."""


class ExecError(ClusterError):
    """A command in a pod could not be started, or its stream broke."""


class WaitTimeout(MeshbookError):
    """A bounded wait ended before its condition held."""


class FleetError(MeshbookError):
    """The fleet API refused a request or did not answer it."""


class OutageError(MeshbookError):
    """A workload could not be taken away safely, or could not be brought back."""


class RunError(MeshbookError):
    """A notebook stopped before its end, or ended without a verdict."""


class LabError(MeshbookError):
    """The lab could not start, or broke."""
