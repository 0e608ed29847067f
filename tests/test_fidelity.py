"""The page on fidelity keeps its form, and every test that it names exists."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import yaml

TESTS = Path(__file__).parent
PAGE = TESTS.parent / "docs" / "fidelity.md"
WORDS = ("same", "simplified", "absent")


def rows() -> Iterator[tuple[str, str, str, list[str]]]:
    """Yield (what, word, in which way, names of tests) of each row; a test's file is not looked at."""
    for line in PAGE.read_text().splitlines():
        if line.startswith("| ") and not line.startswith("| what |"):
            what, word, way, held_by = (cell.strip() for cell in line.strip("|").split("|"))
            yield what, word, way, [name.rpartition("::")[2] for name in re.findall(r"`([^`]+)`", held_by)]


@cache
def cases() -> set[str]:
    """Return the contract's requests, as they stand in the names of their tests."""
    files = (TESTS / "contract" / "requests").glob("*.yaml")
    names = [name for file in files for name in yaml.safe_load(file.read_text())["cases"]]
    return {f"contract[{name.replace(',', '').replace(' ', '-')}]" for name in names}


@cache
def promises() -> set[str]:
    """Return the names of all tests, wherever they stand."""
    text = "".join(file.read_text() for file in TESTS.rglob("test_*.py"))
    return set(re.findall(r"^(?:async )?def (test_\w+)", text, re.MULTILINE)) | cases()


def test_each_row_has_its_word_and_how_it_is_meant() -> None:
    assert len(list(rows())) > 50
    assert [what for what, word, way, _ in rows() if word not in WORDS or not (way or word == "same")] == []


def test_each_row_is_held_by_tests_that_exist() -> None:
    assert [what for what, _, _, named in rows() if not named] == []
    gone = {name: what for what, _, _, named in rows() for name in named if name not in promises()}
    assert {
        name: f"{what}: no such test; {difflib.get_close_matches(name, promises(), 1)}?" for name, what in gone.items()
    } == {}


def test_each_case_of_the_contract_has_its_row() -> None:
    assert cases() - {name for *_, named in rows() for name in named} == set()
