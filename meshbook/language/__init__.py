"""What people read, in their language: sentences that are written in English are translated when they are shown.

Judges, tables and charts write English and know of nothing else, and files for machines keep it. The catalogues beside
this module (``ja*.yaml``) map English patterns to the other language; what stands in a hole is translated too. What has
no pattern stays English. The text of the report's own pages is in its templates, and that of notebooks in their cells.
"""

from __future__ import annotations

import html
import os
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Final

LANGUAGES: Final = ("en", "ja")
"""Languages of readers; also the tags of the Markdown cells that are for one of them: notebooks hold these in pairs."""

VARIABLE: Final = "MESHBOOK_LANGUAGE"
"""Tells a process, and the kernels that it starts, which language its reader has."""

_HOLE = re.compile(r"\{(?P<name>\w+)(?::(?P<kind>[wlq]))?\}")
_NUMBER, _TEXT = r"-?\d[\d.,e+-]*?", r".+?"
_WORD = r"(?:external client(?: via [^ \n,;]+)?|(?:\[[^\]]*\]|[^ \n,;\[])+(?: \([^()]*\))?)"
"""A name may have spaces that do not break."""
_LIST = rf"{_WORD}(?:(?:,| and|, and| or) {_WORD})*"
_LINE = re.compile(r"(?P<clock>\d\d:\d\d:\d\d )?(?P<text>\S(?:.*\S)?)")
_SENTENCE_END = re.compile(r"(?<=\.) (?=\S)(?![^“]*”)(?![^()]*\))")
_SAYS_ALL = re.compile(r".*[すたんい]", re.DOTALL)
"""A Japanese sentence that ends here, and no mere part of one."""
_LONGEST = 4
"""Pieces that end in a full stop of which one sentence may consist: an error message that it quotes has some."""
_SEPARATORS = ("   ", "; ", ": ", ", ", " · ")
_LONGEST_LINE = 2_000
"""Signs of a line above which it is no sentence, but data."""


def of_reader() -> str:
    """Return the language of who reads what this process shows."""
    given = os.environ.get(VARIABLE, "")
    return given if given in LANGUAGES else LANGUAGES[0]


def translate(text: str, language: str = "") -> str:
    """Return a text in ``language``, line by line and sentence by sentence, as far as there are patterns for it.

    Without a ``language`` it is that of who reads what this process shows.
    """
    return _translated(text, language or of_reader())


@lru_cache(maxsize=20_000)
def _translated(text: str, language: str) -> str:
    if language == LANGUAGES[0]:
        return text
    catalogue = _catalogue(language)

    def said(line: re.Match[str]) -> str:
        return line[0] if len(line[0]) > _LONGEST_LINE else f"{line['clock'] or ''}{catalogue.text(line['text'])}"

    return _LINE.sub(said, text)


def translate_html(source: str, language: str = "") -> str:
    """Return HTML whose texts, between its tags, are in ``language``; what is preformatted stays as it is."""
    if (language or of_reader()) == LANGUAGES[0]:
        return source

    def said(found: re.Match[str]) -> str:
        text = found["text"]
        return html.escape(translate(html.unescape(text), language), quote=False) if text else found[0]

    return re.sub(r"<pre.*?</pre>|(?<=>)(?P<text>[^<>]+)(?=<)", said, source, flags=re.DOTALL)


def padded(text: str, columns: int) -> str:
    """Return a text that fills so many columns of a terminal: a Japanese letter takes two."""
    return f"{text}{' ' * (columns - width(text))}"


def width(text: str) -> int:
    """Return how many columns of a terminal a text takes."""
    return sum(2 if unicodedata.east_asian_width(letter) in "FW" else 1 for letter in text)


@dataclass(frozen=True, kw_only=True)
class _Pattern:
    literals: tuple[str, ...]
    """What every text has that fits: looked for first, since that is quick."""
    regex: re.Pattern[str]
    quoted: frozenset[str]
    """Holes whose text stays as it is."""
    translation: str


class _Catalogue:
    def __init__(self, entries: Mapping[str, str]) -> None:
        self._whole = {english: other for english, other in entries.items() if not _HOLE.search(english)}
        patterned = [english for english in entries if english not in self._whole]
        patterned.sort(key=lambda english: -len(_HOLE.sub("", english)))
        self._patterns = [_pattern(english, entries[english]) for english in patterned]
        self._known: dict[str, str | None] = {}

    def text(self, text: str) -> str:
        """Return one line of a text, of one sentence or several."""
        pieces, told = _SENTENCE_END.split(text), ""
        while pieces:
            taken = (pieces[:count] for count in range(1, min(len(pieces), _LONGEST) + 1))
            found = next((some for some in taken if self._fitting(_bare(some)) is not None), pieces[:1])
            bare = _bare(found)
            said = self._phrase(bare)
            told += ("" if told[-1:] in ("", "。", "\n") else " ") + said
            if found[-1].endswith("."):
                # a command is copied: it ends its line, and no full stop is a part of it
                is_command = "Try: " in bare and said[-1:].isascii()
                told += "." if said == bare else "\n" if is_command else "。"
            pieces = pieces[len(found) :]
        return told.removesuffix("\n")

    def _phrase(self, text: str) -> str:
        """Return a sentence, or a part of one; where nothing fits it whole, that of each of its parts."""
        found = self._fitting(text)
        if found is not None:
            return found
        for separator in _SEPARATORS:
            first, between, rest = text.partition(separator)
            if between:
                parts = self._phrase(first), self._phrase(rest)
                return _joined(*parts) if between in ("; ", ", ") and parts != (first, rest) else between.join(parts)
        return text

    def _fitting(self, text: str) -> str | None:
        """Return the translation by the most specific pattern that fits the whole of ``text``."""
        if text not in self._known:  # parts are asked for again and again, within each whole
            self._known[text] = self._whole[text] if text in self._whole else self._by_pattern(text)
        return self._known[text]

    def _by_pattern(self, text: str) -> str | None:
        first, several, rest = text.partition("; ")
        one, other = (self._fitting(first), self._fitting(rest)) if several else (None, None)
        if one is not None and other is not None:
            return _joined(one, other)
        for pattern in self._patterns:
            match = all(literal in text for literal in pattern.literals) and pattern.regex.fullmatch(text)
            if match:
                holes = {
                    name: hole if name in pattern.quoted else self.text(hole)
                    for name, hole in match.groupdict().items()
                }
                return pattern.translation.format_map(holes)
        return None


def _joined(one: str, other: str) -> str:
    return f"{one}{'。' if _SAYS_ALL.fullmatch(one) else '、'}{other}"


def _bare(pieces: list[str]) -> str:
    return " ".join(pieces).removesuffix(".")


def _pattern(english: str, other: str) -> _Pattern:
    """Return a pattern: ``{n}``, a single letter, stands for a number, ``{name}`` for any text.

    ``{name:w}`` is one word, ``{name:l}`` a list of them, ``{name:q}`` what somebody else said, and ``(s)`` may be
    there or not.
    """
    regex, literals, at = "", [], 0
    for hole in [*_HOLE.finditer(english), None]:
        literal = english[at : hole.start() if hole else None]
        regex += re.escape(literal).replace(r"\(s\)", "s?")
        literals += literal.split("(s)")
        if hole:
            some = _NUMBER if len(hole["name"]) == 1 else _TEXT
            kind = {"w": _WORD, "l": _LIST}.get(hole["kind"], some)
            regex, at = f"{regex}(?P<{hole['name']}>{kind})", hole.end()
    quoted = frozenset(hole["name"] for hole in _HOLE.finditer(english) if hole["kind"] == "q")
    return _Pattern(
        quoted=quoted, literals=tuple(filter(None, literals)), regex=re.compile(regex, re.DOTALL), translation=other
    )


@cache
def _catalogue(language: str) -> _Catalogue:
    import yaml

    files = sorted(Path(__file__).parent.glob(f"{language}*.yaml"))
    return _Catalogue(
        {english: other for file in files for english, other in yaml.safe_load(file.read_text("utf-8")).items()}
    )
