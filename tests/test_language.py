"""What was written in English is shown in the language of its reader, and what has no translation as it was."""

from __future__ import annotations

import json
import re
from itertools import pairwise
from pathlib import Path

import pytest
import yaml
from readers import left_in_english

from meshbook.language import translate, translate_html

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "outputs/example/verdicts.json"


@pytest.mark.parametrize(
    ("english", "japanese"),
    [
        ("dry run", "ドライラン"),
        (
            "every source is answered by pods of a\N{NO-BREAK SPACE}b (v1) and c (v2)",
            "どの呼び出し元にもa\N{NO-BREAK SPACE}b (v1)とc (v2)のpodから応答が返る",
        ),
        ("a b → gateway istio-x", "a b → ゲートウェイistio-x"),
        ("1 of 20 requests failed.", "20件中1件のリクエストが失敗しました。"),
        ("cluster1 → cluster2: 0 of 60; b → a: 3 of 9.", "cluster1 → cluster2 60件中0件、b → a 9件中3件。"),
        ("a: gone. Nobody has said this yet.", "a: 削除済み。Nobody has said this yet."),
        ("Try: kubectl get pods. After 2 s.", "対処 — kubectl get pods\n2秒後に確認できました。"),
        (
            "ERROR, 1 of 1 claim passed, b did not reach its verdict",
            "エラー、確認項目1件中1件が合格、bは判定に至りませんでした",
        ),
        (
            "the survivor bears the load: 1/s from 2 sources; what it bears was not measured",
            "残る側が負荷に耐えられる: 呼び出し元2件から1/s、処理能力は測定していません",
        ),
        ("a: web: 1/1 ready; b: web: 1/1 ready", "a: web: 1/1 ready、b: web: 1/1 ready"),
        ("  PASS: gone\n  n = 3", "  合格: 削除済み\n  n = 3"),
    ],
)
def test_a_text_is_translated_sentence_by_sentence_as_far_as_it_is_known(english: str, japanese: str) -> None:
    assert translate(english, "ja") == japanese
    assert translate(english, "en") == english


def test_what_a_sentence_quotes_neither_ends_it_nor_is_translated() -> None:
    said = translate("1 of 9 requests failed. Without a good answer: 1 http_503 (“no. Not now”).", "ja")
    assert said.startswith("9件中1件のリクエストが失敗しました。")
    assert "「no. Not now」" in said


def test_in_html_texts_are_translated_and_tags_are_not() -> None:
    page = '<th class="state">state</th><td>a &lt; b</td><td>pass</td>'
    assert translate_html(page, "ja") == '<th class="state">状態</th><td>a &lt; b</td><td>合格</td>'


def test_an_endless_line_is_left_as_it_is_at_once() -> None:
    data = "every source is answered by pods of " * 1000
    assert translate(data, "ja") == data


def test_all_that_the_example_found_can_be_said_in_japanese() -> None:
    claims = [claim for one in json.loads(EXAMPLE.read_text())["notebooks"] for claim in one["verdicts"]]
    texts = {text for claim in claims for text in (claim["claim"], claim["reason"], claim["limit"])}
    texts |= {str(text) for claim in claims for row in claim["details"] for text in (*row, *row.values())}
    assert not left_in_english(texts)


_PIECES = re.compile(r"\{.*?\}|\(s\)|[,;:()“”]")
"""What stands between the pieces of a pattern: holes, and marks at which the code puts sentences together."""
_JOINED = re.compile(r"""["']\s*\n\s*f?["']""")
"""Between two lines of one text in the code."""


def _words(text: str) -> list[str]:
    return re.findall(r"[\w'%$-]+", text.replace("_", " ").lower())


def test_every_pattern_is_of_something_that_is_still_said() -> None:
    sources = [path.read_text() for path in (ROOT / "meshbook").rglob("*.py")]
    sources += [path.read_text() for path in (ROOT / "notebooks").glob("*.ipynb")]
    said = [_words(_JOINED.sub("", source)) for source in sources]
    known = {pair for words in said for pair in [*pairwise(words), *zip(words, words, strict=True)]}
    files = (ROOT / "meshbook/language").glob("ja*.yaml")
    patterns = [pattern for file in files for pattern in yaml.safe_load(file.read_text())]
    for pattern in patterns:
        words = _words(max(_PIECES.split(pattern), key=len))
        pairs = [*pairwise(words)] or [*zip(words, words, strict=True)]
        unknown = [pair for pair in pairs if pair not in known]
        assert len(unknown) <= (len(words) > 1), f"nothing says {pattern!r} any more"  # one: they are put together
