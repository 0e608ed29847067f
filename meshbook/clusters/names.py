"""Names of clusters for people: as they are given, else a short form of the context that no other cluster has. Pure.

``gke_my-project_asia-northeast1-a_prod`` and ``arn:aws:eks:…:cluster/prod`` are ``prod`` where no other is. A project
of Google Cloud is in no short form: a picture is the one place that it could not be taken out of.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from meshbook.errors import UsageError

LONGEST = 24
"""Signs of a name that a chart has room for beside its axis."""
_BETWEEN = {*",;:"}
"""Signs that part what a sentence says of one cluster from what it says of another."""
_PARTING = re.compile(rf"[\s{''.join(_BETWEEN)}]+")
_PROJECT = re.compile(r"(?:gke|connectgateway)_[^_]+_(?=.)|.*projects/[^/]+/(?=.)")


def display_names(contexts: Sequence[str], given: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the name of each context, in their order; UsageError where one of ``given`` cannot tell its cluster."""
    given = {context: str(name) for context, name in (given or {}).items()}
    if unknown := [context for context in given if context not in contexts]:
        raise UsageError(f"names: there is no context {unknown[0]!r} here", hint=f"one of {', '.join(contexts)}")
    for context, name in given.items():
        if not (0 < len(name) <= LONGEST and name.isprintable() and name == name.strip() and not _BETWEEN & {*name}):
            wanted = f"1 to {LONGEST} printable signs, none of them {' '.join(sorted(_BETWEEN))}, no space at an end"
            raise UsageError(f"names: {name!r} of {context} must have {wanted}")
    words = {context: as_word(name) for context, name in given.items()}
    names = _shortened([context for context in contexts if context not in given]) | words
    for context, name in names.items():
        others = {other for one, short in names.items() if one != context for other in (one, short)}
        if name in others:
            raise UsageError(f"names: {name!r} of {context} is the name of another cluster", hint="give it another one")
    return {context: names[context] for context in contexts}


def as_word(name: str) -> str:
    """Return a name that is one word in every sentence and line: what would part it is a space that does not break."""
    return _PARTING.sub("\N{NO-BREAK SPACE}", name)


def _shortened(contexts: Sequence[str]) -> dict[str, str]:
    """Return a short form of each, none of them twice: its last part, else both of its ends."""
    plain = {context: _PROJECT.sub("", context, count=1) for context in contexts}
    tails = {context: as_word(_tail(name) if len(name) > LONGEST else name) for context, name in plain.items()}
    found: dict[str, str] = {}
    for context, tail in tails.items():
        short = tail if list(tails.values()).count(tail) == 1 else as_word(_cut(plain[context]))
        found[context] = short if short not in found.values() else f"{short[: LONGEST - 4]} #{len(found) + 1}"
    return found


def _tail(name: str) -> str:
    return _cut(re.split(r"[/:_]", name)[-1] or name)


def _cut(name: str) -> str:
    return name if len(name) <= LONGEST else f"{name[:9]}…{name[-(LONGEST - 10) :]}"
