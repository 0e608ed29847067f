"""Take out of an executed notebook what must not leave this machine, and prove that it is gone.

A walk over every string of the document, and over the different texts of rows: secrets of the kubeconfigs, this
machine's folders and user, who has a mail address, Google Cloud project ids and numbers; on request addresses, or the
names of contexts and users. What stands in for them is put in square brackets, since angle ones would become tags where
an output is HTML. A picture that draws any of it is left out. Files are read (``gather_secrets``), never written here.
"""

from __future__ import annotations

import base64
import io
import ipaddress
import os
import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies

import yaml

from meshbook.errors import RunError, UsageError

if TYPE_CHECKING:
    import pandas as pd

ON_REQUEST = ("addresses", "contexts")
"""What ``--redact`` may name; everything else is always taken out."""

_SECRET_KEYS = {
    "token", "password", "client-key-data", "client-certificate-data", "certificate-authority-data", "access-token",
    "id-token", "refresh-token", "client-secret",
}  # fmt: skip
_SHORTEST_SECRET = 8
"""Characters; anything shorter would tear holes into ordinary words."""

_PEM = re.compile(r"-----BEGIN [A-Z ]+-----.*?-----END [A-Z ]+-----", re.DOTALL)
_PROJECT = re.compile(
    r"(?<=projects/)[a-z0-9][\w.:-]*|(?<=projects%2F)[a-z0-9][\w.:-]*"
    r"|(?<=[?&]project=)[\w.:-]+|(?<=@)[a-z0-9-]+(?=\.iam\.gserviceaccount\.com)"
)
_PROJECT_NUMBER = re.compile(r"""(project(?:[ _]?number|[ _]?id)?\W{1,6})\d{6,15}\b""", re.IGNORECASE)
"""Whatever stands between the two, as in ``project 123456``, ``"project": "123456"`` and ``projectNumber=123456``."""
_PROJECT_ID = re.compile(r"""(\bproject(?:_?id)?\\?["']: ?\\?["'])[a-z][\w.:-]+""", re.IGNORECASE)
"""As JSON, and as JSON in a text of JSON."""
_PROJECT_OF_NAME = re.compile(
    r"(?:gke|connectgateway)_([a-z0-9.:-]+)_[^_]+_.+|.*projects/([^/]+)/.*|.*@([a-z0-9-]+)\.iam\.gserviceaccount\.com.*"
)
"""A project in the name of a cluster, context or user, as gcloud and its fleet commands give them."""
_URL_LOGIN = re.compile(r"(?<=://)[^\s/@:\"']*:[^\s/@\"']+(?=@)")
"""Name and password of a URL, such as a proxy's."""
_MAIL = re.compile(r"(?<![\w.+-])[\w.+-]++(?=@[\w-]+(?:\.[\w-]+)*\.[A-Za-z]{2,}\b)")
"""What stands before the @ of an address: the domain may be what tells two contexts apart."""
_BY = re.compile(r"(?<= · by )(?!\[user)[^·\n]*[^·\s](?= · meshbook )")
"""This machine's user, in the line that says where a run takes place."""
_OTHER_HOME = re.compile(r"(?<=/home/)[\w.-]+|(?<=/Users/)[\w.-]+")
_IPV4 = re.compile(r"(?<![\w.])(?:\d{1,3}\.){3}\d{1,3}(?![\w.]*\w)")
_IPV6 = re.compile(r"(?<![\w:.])(?=[0-9a-fA-F:]*::|(?:[0-9a-fA-F]+:){7})[0-9a-fA-F:]{3,39}(?![\w:])")


@dataclass(frozen=True, kw_only=True)
class Secrets:
    """What one run must not show: values by the name that stands in for them."""

    values: Mapping[str, str] = field(default_factory=dict)
    """Secret value → what is shown instead."""
    folders: Mapping[str, str] = field(default_factory=dict)
    """Absolute folder → what is shown instead; longest first."""
    projects: tuple[str, ...] = ()
    contexts: tuple[str, ...] = ()
    names: Mapping[str, str] = field(default_factory=dict)
    """Context → what it is called without the user's word for it: a part of its name."""
    users: tuple[str, ...] = ()
    """What the kubeconfigs call those who ask."""
    hosts: tuple[str, ...] = ()
    """Host names of API servers, taken out with the addresses."""


def gather_secrets(
    kubeconfig: str,
    *,
    root: Path,
    contexts: Sequence[str] = (),
    names: Mapping[str, str] | None = None,
    extra_projects: Iterable[str] = (),
) -> Secrets:
    """Gather what to take out: from the kubeconfig files of ``kubeconfig``, from this machine, from the names given."""
    files = [Path(part).expanduser().absolute() for part in kubeconfig.split(os.pathsep) if part]
    documents = [_document(file) for file in files]
    found = [
        pair for file, document in zip(files, documents, strict=True) for pair in _walk_secrets(document, file.parent)
    ]
    found += [pair for proxy in getproxies().values() for pair in _password_in(proxy)]
    values = {value: f"[{key}]" for key, value in found if len(value) >= _SHORTEST_SECRET}
    projects = {project for document in documents for project in _projects(document)}
    projects |= {project for name in contexts for project in _projects_of(name)}
    servers = [str(entry["cluster"].get("server", "")) for document in documents for entry in _clusters(document)]
    hosts = {urlsplit(server).hostname or "" for server in servers} - {""}
    return Secrets(
        values=values,
        projects=tuple(sorted({*projects, *extra_projects} - {""})),
        folders=_folders(root),
        contexts=tuple(dict.fromkeys(contexts)),
        names=names or {},
        users=tuple(dict.fromkeys(_users(documents, contexts))),
        hosts=tuple(sorted(host for host in hosts if not _is_address(host))),
    )


def _document(path: Path) -> dict[str, Any]:
    try:
        loaded = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return {}  # whoever needs the file says what is wrong with it; there is nothing in it to hide
    return loaded if isinstance(loaded, dict) else {}


def _walk_secrets(node: Any, folder: Path) -> Iterator[tuple[str, str]]:
    if isinstance(node, Mapping):
        for key, value in node.items():
            if key in _SECRET_KEYS and isinstance(value, str):
                yield key, value.strip()
            elif key in ("token-file", "tokenFile") and isinstance(value, str):
                yield from _token_in(folder / Path(value).expanduser())
            elif key == "proxy-url" and isinstance(value, str):
                yield from _password_in(value)
            else:
                yield from _walk_secrets(value, folder)
    elif isinstance(node, list):
        for item in node:
            yield from _walk_secrets(item, folder)


def _password_in(url: str) -> Iterator[tuple[str, str]]:
    """Yield a URL's password as it stands there, and as it is meant."""
    password = url.rpartition("@")[0].rpartition("://")[2].partition(":")[2]
    yield from (("password", found) for found in {password, unquote(password)})


def _token_in(path: Path) -> Iterator[tuple[str, str]]:
    try:
        yield "token", path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return


def _projects(document: Mapping[str, Any]) -> Iterator[str]:
    for entry in _clusters(document):
        for extension in entry["cluster"].get("extensions") or []:
            project = (extension.get("extension") or {}).get("project")
            if isinstance(project, str) and project:
                yield project
    entries = [one for kind in ("clusters", "contexts", "users") for one in document.get(kind) or []]
    for entry in filter(lambda one: isinstance(one, dict), entries):
        yield from _projects_of(str(entry.get("name", "")))


def _projects_of(name: str) -> Iterator[str]:
    if found := _PROJECT_OF_NAME.fullmatch(name):
        yield from filter(None, found.groups())


def _users(documents: Iterable[Mapping[str, Any]], contexts: Sequence[str]) -> Iterator[str]:
    for entry in (one for document in documents for one in document.get("contexts") or []):
        if isinstance(entry, dict) and entry.get("name") in contexts and isinstance(entry.get("context"), dict):
            yield from filter(None, [str(entry["context"].get("user") or "")])


def _clusters(document: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for entry in document.get("clusters") or []:
        if isinstance(entry, dict) and isinstance(entry.get("cluster"), dict):
            yield entry


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _folders(root: Path) -> dict[str, str]:
    home = os.path.expanduser("~")  # "~" itself where nobody knows
    named = {str(root): "[repo]", str(root.resolve()): "[repo]", home: "~", tempfile.gettempdir(): "[tmp]"}
    usable = {path: shown for path, shown in named.items() if len(path) > 1}
    return dict(sorted(usable.items(), key=lambda item: -len(item[0])))


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
        self._addresses = _address_patterns(secrets) if "addresses" in self._wanted else []

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


def _always(secrets: Secrets) -> Iterator[Rule]:
    yield _PEM, "[certificate]"
    for value, shown in sorted(secrets.values.items(), key=lambda item: -len(item[0])):
        yield re.compile(re.escape(value)), shown
    yield _URL_LOGIN, "[login]"
    yield _MAIL, "[user]"
    for project in secrets.projects:
        yield re.compile(rf"(?<![a-z0-9]){re.escape(project)}(?![a-z0-9])"), "[project]"
    for folder, shown in secrets.folders.items():
        yield re.compile(rf"(?<![\w.~\]-]){re.escape(folder)}(?![\w-])"), shown
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
        where = r"(?<=\bas )" if name not in names and len(name) < _SHORTEST_SECRET else r"(?<!\w)"
        yield re.compile(rf"{where}{re.escape(name)}(?!\w)"), shown[name]
    yield _BY, "[user]"


def _address_patterns(secrets: Secrets) -> list[re.Pattern[str]]:
    return [*(re.compile(re.escape(host)) for host in secrets.hosts), _IPV4, _IPV6]


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
            yield key
            yield from () if _is_picture(key, value) else _strings(value)
    elif isinstance(node, list | tuple):
        for item in node:
            yield from _strings(item)


_BETWEEN = "\n\x1f\n"
"""Stands between texts that are redacted together: no pattern but that of a certificate reaches across it."""

_BLANK = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mNk+A8AAQUBAScY42YAAAAASUVORK5CYII="
"""A one-pixel PNG: a chart carries context names as pixels, so it is left out where names are."""
