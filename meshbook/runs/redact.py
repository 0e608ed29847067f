"""Take out of an executed notebook what must not leave this machine, and prove that it is gone. Pure.

A walk over every string of the document, and over the different texts of rows: ``secrets``, however they are written
(in JSON, a URL, HTML, a Python literal), who has a mail address, Google Cloud project ids and numbers; on request
addresses, or the names of contexts and users. What stands in for them is put in square brackets, since angle ones would
become tags where an output is HTML. A picture that draws any of it is left out.
"""

from __future__ import annotations

import base64
import html
import io
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from meshbook.errors import RunError, UsageError
from meshbook.runs.secrets import SHORTEST_SECRET, Secrets

if TYPE_CHECKING:
    import pandas as pd

ON_REQUEST = ("addresses", "contexts")
"""What ``--redact`` may name; everything else is always taken out."""

_PEM = re.compile(r"-----BEGIN [A-Z ]+-----.*?-----END [A-Z ]+-----", re.DOTALL)
_PROJECT = re.compile(
    r"(?<=projects/)[a-z0-9][\w.:-]*|(?<=projects%2F)[a-z0-9][\w.:-]*"
    r"|(?<=[?&]project=)[\w.:-]+|(?<=@)[a-z0-9-]+(?=\.iam\.gserviceaccount\.com)|[a-z0-9-]+(?=\.svc\.id\.goog)"
)
_PROJECT_NUMBER = re.compile(
    r"""((?:project(?:[ _]?number|[ _]?id)?|container[ _]?info)\W{1,6})\d{6,15}\b""", re.IGNORECASE
)
"""Whatever stands between the two, as in ``project 123456``, ``"project": "123456"`` and ``projectNumber=123456``."""
_PROJECT_ID = re.compile(r"""(\bproject(?:_?id)?\\?["']: ?\\?["'])[a-z][\w.:-]+""", re.IGNORECASE)
"""As JSON, and as JSON in a text of JSON."""
_PROJECT_KEY = re.compile(r".*project(?:_?number|_?id)?|container_?info", re.IGNORECASE)
_PROJECT_VALUE = re.compile(r"\d{6,15}|[a-z][\w.:-]+")
_URL_LOGIN = re.compile(r"(?<=://)[^\s/@:\"']*:[^\s/@\"']+(?=@)")
"""Name and password of a URL, such as a proxy's."""
_MAIL = re.compile(r"(?<![\w.+-])[\w.+-]++(?=@[\w-]+(?:\.[\w-]+)*\.[A-Za-z]{2,}\b)")
"""What stands before the @ of an address: the domain may be what tells two contexts apart."""
_BY = re.compile(r"(?<= · by )(?!\[user)[^·\n]*[^·\s](?= · meshbook )")
"""This machine's user, in the line that says where a run takes place."""
_HOLDER = re.compile(r"(\bprocess \d+ at )[\w.-]+")
"""The machine of a run that holds a Lease."""
_OTHER_HOME = re.compile(r"(?<=/home/)[\w.-]+|(?<=/Users/)[\w.-]+")
_START = r"(?:(?<![\w.])|(?<=\\[nrt])|(?<=%[0-9A-Fa-f]{2}))"
"""Where a name or an address may begin: no letter before it but that of ``\\n`` or ``%2F`` in a text within a text."""
_IPV4 = re.compile(_START + r"(?:\d{1,3}\.){3}\d{1,3}(?![\w.]*\w)")
_IPV6 = re.compile(_START + r"(?<!:)(?=[0-9a-fA-F:]*::|(?:[0-9a-fA-F]+:){7})[0-9a-fA-F:]{3,39}(?![\w:])")


class Redactor:
    """Replaces in text and documents; ``leaks`` says what is still there. The same address keeps the same number."""

    def __init__(self, secrets: Secrets, on_request: Iterable[str] = ()) -> None:
        self._wanted = frozenset(on_request)
        unknown = sorted(self._wanted - set(ON_REQUEST))
        if unknown:
            raise UsageError(f"cannot redact {', '.join(unknown)}", hint=f"one or more of {', '.join(ON_REQUEST)}")
        self._numbers: dict[str, str] = {}
        # contexts first: without the project in it a name would not be known again
        self._rules = [*(_contexts(secrets) if "contexts" in self._wanted else ()), *_always(secrets)]
        hosts = [re.compile(re.escape(host)) for host in secrets.hosts]
        self._addresses = [_IPV4, _IPV6, *hosts] if "addresses" in self._wanted else []

    def text(self, text: str) -> str:
        """Return ``text`` without what must not be shown."""
        for pattern, shown in self._rules:
            text = pattern.sub(shown, text)
        for pattern in self._addresses:
            text = pattern.sub(self._numbered, text)
        return text

    def _numbered(self, match: re.Match[str]) -> str:
        return self._numbers.setdefault(match[0], f"[address {len(self._numbers) + 1}]")

    def document(self, node: Any) -> Any:
        """Return a copy of JSON data with every string redacted, keys included.

        Pictures stay as they are, or are left out: where they show what is to go, and where names are to go and a
        picture does not say what it shows.
        """
        if isinstance(node, str):
            return self.text(node)
        if isinstance(node, Mapping):
            return {self.text(key): self._value(key, value) for key, value in node.items()}
        if isinstance(node, list | tuple):
            return [self.document(item) for item in node]
        return node

    def table(self, table: pd.DataFrame) -> pd.DataFrame:
        """Return rows with every text redacted, names of columns included. Numbers and times are no texts."""
        clean = {self.text(str(name)): self._column(table[name]) for name in table.columns}
        return table.assign(**clean)[list(clean)]

    def _column(self, column: pd.Series[Any]) -> pd.Series[Any]:
        texts = _texts(column)
        clean = self._each(texts)
        return column if clean == texts else column.map(dict(zip(texts, clean, strict=True))).astype(column.dtype)

    def _each(self, texts: Sequence[str]) -> list[str]:
        """Redact all of ``texts`` at once, since a pattern is found faster in one long text than in many short ones."""
        clean = self.text(_BETWEEN.join(texts)).split(_BETWEEN)
        return clean if len(clean) == len(texts) else [self.text(text) for text in texts]

    def _value(self, key: str, value: Any) -> Any:
        if not _is_picture(key, value):
            if _names_project(key, value):
                return "[project]"
            return "[user]" if key == "user" and value and "contexts" in self._wanted else self.document(value)
        words = _words_of(value)
        unknown = words is None and "contexts" in self._wanted
        return _BLANK if unknown or self.leaks(words or "") else value

    def leaks(self, node: Any) -> list[str]:
        """Return what the strings of ``node`` still show, by the names that should stand there; empty when clean."""
        found: set[str] = set()
        for text in _strings(node):
            found |= {shown.removeprefix(r"\1") for pattern, shown in self._rules if pattern.search(text)}
            found |= {"[address]" for pattern in self._addresses if pattern.search(text)}
        return sorted(found)

    def require_clean(self, node: Any, *, name: str) -> None:
        """Raise RunError when ``node`` still shows something: a file that leaks is not written."""
        found = self.leaks(node)
        if found:
            raise RunError(f"{name} would still show {', '.join(found)}, so it was not written")

    def require_clean_table(self, table: pd.DataFrame, *, name: str) -> None:
        """Raise RunError when rows still show something: a file that leaks is not left."""
        texts = [*map(str, table.columns), *(text for column in table.columns for text in _texts(table[column]))]
        if self.leaks(_BETWEEN.join(texts)):
            self.require_clean(texts, name=name)


Rule = tuple[re.Pattern[str], str]


def _written(text: str) -> str:
    """Return a pattern of a text as it stands, and as it is written in JSON, in JSON within it, a URL, HTML, Python."""
    in_json = [json.dumps(text, ensure_ascii=ascii_only)[1:-1] for ascii_only in (True, False)]
    in_urls = [quote(text), quote(text, safe="")]
    in_urls += [re.sub("%..", lambda code: code[0].lower(), found) for found in in_urls]
    again = [json.dumps(found)[1:-1] for found in in_json]
    forms = {text, *in_json, *again, *in_urls, html.escape(text), repr(text)[1:-1], ascii(text)[1:-1]}
    return f"(?:{'|'.join(re.escape(form) for form in sorted(forms, key=len, reverse=True))})"


def _always(secrets: Secrets) -> Iterator[Rule]:
    yield _PEM, "[certificate]"
    for value, shown in sorted(secrets.values.items(), key=lambda item: -len(item[0])):
        yield re.compile(_written(value)), shown
    yield _URL_LOGIN, "[login]"
    yield _MAIL, "[user]"
    for project in secrets.projects:
        yield re.compile(rf"(?:(?<![a-z0-9])|{_START}){re.escape(project)}(?![a-z0-9])"), "[project]"
    for folder, shown in secrets.folders.items():
        yield re.compile(rf"(?<![\w.~\]-]){_written(folder)}(?![\w-])"), shown
    yield _OTHER_HOME, "[user]"
    yield _PROJECT, "[project]"
    yield _PROJECT_NUMBER, r"\1[project]"
    yield _PROJECT_ID, r"\1[project]"


def _contexts(secrets: Secrets) -> Iterator[Rule]:
    """Return the rules for names of contexts and users, the longest first; also within longer names, such as a remote
    secret's. A short user's name may be any word, and goes where it is told who asks.
    """
    names = {secrets.names.get(context, context): number for number, context in enumerate(secrets.contexts, 1)}
    names |= {context: number for number, context in enumerate(secrets.contexts, 1)}
    shown = {name: f"[context {number}]" for name, number in names.items()}
    shown = {user: f"[user {number}]" for number, user in enumerate(secrets.users, 1)} | shown
    for name in sorted(shown, key=len, reverse=True):
        where = r"(?<=\bas )" if name not in names and len(name) < SHORTEST_SECRET else rf"(?:(?<!\w)|{_START})"
        yield re.compile(rf"{where}{_written(name)}(?!\w)"), shown[name]
    yield _BY, "[user]"
    yield _HOLDER, r"\1[host]"


def _names_project(key: str, value: Any) -> bool:
    """Tell whether a value of JSON is a project by the word of its key, be it a text or a number."""
    return type(value) in (int, str) and bool(_PROJECT_KEY.fullmatch(key) and _PROJECT_VALUE.fullmatch(str(value)))


def _is_picture(key: str, value: Any) -> bool:
    """Tell a picture's bytes from its measures, which stand in an output's metadata under the same key."""
    return key.startswith("image/") and key != "image/svg+xml" and not isinstance(value, Mapping)


def _words_of(picture: Any) -> str | None:
    """Return what a picture says that it shows, None where it does not say: charts do, in their PNG's description."""
    from PIL import Image

    try:
        with Image.open(io.BytesIO(base64.b64decode(picture))) as found:
            return found.info.get("Description")
    except (OSError, ValueError, TypeError):
        return None


def _texts(column: pd.Series[Any]) -> list[str]:
    """Return the different texts of a column; none where it holds numbers or times."""
    return [] if column.dtype.kind != "O" else [str(text) for text in column.dropna().unique()]


def _strings(node: Any) -> Iterator[str]:
    if isinstance(node, str):
        yield node
    elif isinstance(node, Mapping):
        for key, value in node.items():
            yield f'"project": "{value}"' if _names_project(key, value) else key
            yield from () if _is_picture(key, value) else _strings(value)
    elif isinstance(node, list | tuple):
        for item in node:
            yield from _strings(item)


_BETWEEN = "\n\x1f\n"
"""Stands between texts that are redacted together: no pattern but that of a certificate reaches across it."""

_BLANK = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mNk+A8AAQUBAScY42YAAAAASUVORK5CYII="
"""A one-pixel PNG: a chart carries context names as pixels, so it is left out where names are."""
