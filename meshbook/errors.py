"""Every error that meshbook raises on purpose, drawn as one tree.

::

    MeshbookError                    what failed, where, what to try
    ├── UsageError                   bad parameter, unknown context, unreadable manifest: nothing was started
    │   └── NoRunError               a folder holds nothing that was executed, only copies to step through at most
    ├── ClusterError                 a cluster refused or did not answer (context, kind, name, HTTP status)
    │   ├── ExecError                a command could not be started, or its stream broke; carries the output so far
    │   └── GatheredError            work on several clusters at once failed in some of them; carries all outcomes
    ├── WaitTimeout                  a bounded wait ended; says what it last saw
    ├── FleetError                   the fleet (GKE Hub) refused or did not answer
    ├── OutageError                  part of a cluster could not be taken down safely
    │   ├── LeftToRunError           what is down is that of a run which is alive, and is left to it
    │   └── NotRestoredError         or could not be restored: something may be down still
    ├── RunError                     a notebook stopped, or left no verdict
    └── LabError                     the lab could not start, or broke

``UsageError`` means exit code 2; the others are what the runbook found out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

TAIL = 2000
"""Characters of a command's output that an error shows; the attributes keep all of it."""


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

    def in_words(self, otherwise: str = "") -> str:
        """Return the same in sentences, for a verdict's reason; ``otherwise`` is tried where there is no hint."""
        hint = self.hint or otherwise
        evidence = (f"{name}: {value}" for name, value in self.evidence.items())
        return ". ".join([self.message, *evidence, *([f"Try: {hint}"] if hint else [])])


class UsageError(MeshbookError):
    """Input that cannot be acted on. Nothing was started."""


class NoRunError(UsageError):
    """A folder holds nothing that was executed, only copies to step through at most."""


class ClusterError(MeshbookError):
    """A cluster refused a request or did not answer it.

    ``code`` is the HTTP status, 0 when no answer came; ``reason`` the API server's word for it (``NotFound``).
    """

    retry_after_s = 0.0
    """How long the server wants to be left alone, if it said so."""
    fields: Sequence[str] = ()
    """Those of the object that the server names as the causes."""

    def __init__(self, message: str, *, code: int = 0, reason: str = "", hint: str = "", **evidence: object) -> None:
        self.code = code
        self.reason = reason
        answer = f"HTTP {code} {reason}".rstrip() if code else ""
        super().__init__(message, hint=hint, answer=answer, **evidence)


class ExecError(ClusterError):
    """A command in a pod could not be started, or its stream broke.

    ``stdout`` and ``stderr`` hold all that came before; a command that ended with a code other than 0 is no error.
    """

    def __init__(
        self, message: str, *, stdout: str = "", stderr: str = "", code: int = 0, hint: str = "", **evidence: object
    ) -> None:
        self.stdout = stdout
        self.stderr = stderr
        tails = {"stdout ended with": stdout[-TAIL:].rstrip(), "stderr ended with": stderr[-TAIL:].rstrip()}
        super().__init__(message, code=code, reason="", hint=hint, **evidence, **tails)


class GatheredError(ClusterError):
    """Work on several clusters at once failed in at least one; the others were left to finish.

    ``errors`` and ``results`` are keyed by context.
    """

    def __init__(self, errors: Mapping[str, MeshbookError], results: Mapping[str, object]) -> None:
        self.errors = dict(errors)
        self.results = dict(results)
        count = len(errors) + len(results)
        lines = [f"{len(errors)} of {count} clusters failed"]
        for context, error in errors.items():
            text = str(error).removeprefix(f"{context}: ").replace("\n", "\n  ")
            lines.append(f"{context}: {text}")
        super().__init__("\n".join(lines))


class WaitTimeout(MeshbookError):
    """A bounded wait ended before its condition held."""


class FleetError(MeshbookError):
    """The fleet API refused a request or did not answer it."""


class OutageError(MeshbookError):
    """Part of a cluster could not be taken down safely."""


class LeftToRunError(OutageError):
    """What is down belongs to a run that is alive: it is left to that, which restores it itself."""


class NotRestoredError(OutageError):
    """Something that was taken down could not be restored, and may be down still.

    ``by_hand`` has, for each such object, the commands that restore it.
    """

    def __init__(
        self, message: str, *, by_hand: Mapping[str, str] | None = None, hint: str = "", **evidence: object
    ) -> None:
        self.by_hand = dict(by_hand or {})
        super().__init__(message, hint=hint, **evidence)


class RunError(MeshbookError):
    """A notebook stopped before its end, or ended without a verdict."""


class LabError(MeshbookError):
    """The lab could not start, or broke."""
