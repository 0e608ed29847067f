"""The page on fidelity keeps its form, and every test and every file of requests that it names exists."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from pathlib import Path

TESTS = Path(__file__).parent
PAGE = TESTS.parent / "docs" / "fidelity.md"
WORDS = ("same", "simplified", "absent")


def rows() -> Iterator[tuple[str, str, str, list[str]]]:
    """Yield (what, word, in which way, names of tests and files) of each row."""
    for line in PAGE.read_text().splitlines():
        if line.startswith("| ") and not line.startswith("| what |"):
            what, word, way, held_by, *_ = (cell.strip() for cell in line.strip("|").split("|"))
            yield what, word, way, re.findall(r"`([^`]+)`", held_by)


def promises() -> set[str]:
    """Return the names of all tests, wherever they stand, and of the contract's files of requests."""
    text = "".join(file.read_text() for file in TESTS.rglob("test_*.py"))
    return set(re.findall(r"^(?:async )?def (test_\w+)", text, re.MULTILINE)) | requests()


def requests() -> set[str]:
    return {file.name for file in (TESTS / "contract" / "requests").glob("*.yaml")}


def test_each_row_has_its_word_and_how_it_is_meant() -> None:
    assert len(list(rows())) > 50
    assert [what for what, word, way, _ in rows() if word not in WORDS or not (way or word == "same")] == []


def test_each_row_is_held_by_tests_that_exist() -> None:
    assert [what for what, _, _, named in rows() if not named] == []
    there = promises()
    gone = {name for *_, named in rows() for name in named} - there
    assert {name: difflib.get_close_matches(name, there, 1) for name in gone} == {}


def test_no_file_of_requests_is_left_out() -> None:
    assert requests() - {name for *_, named in rows() for name in named} == set()
