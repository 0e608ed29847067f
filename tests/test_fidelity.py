"""The page on fidelity keeps its form, and every test that it names exists."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
import yaml

TESTS = Path(__file__).parent
PAGE = TESTS.parent / "docs" / "fidelity.md"
WORDS = ("same", "simplified", "absent")


def rows() -> Iterator[tuple[str, str, str, str]]:
    for line in PAGE.read_text().splitlines():
        if line.startswith("| ") and not line.startswith(("| what |", "|---")):
            what, word, way, held_by = (cell.strip() for cell in line.strip("|").split("|"))
            yield what, word, way, held_by


@cache
def cases() -> set[str]:
    """Return the names of the contract's requests, as they stand in the names of their tests."""
    files = (TESTS / "contract" / "requests").glob("*.yaml")
    names = [name for file in files for name in yaml.safe_load(file.read_text())["cases"]]
    return {name.replace(",", "").replace(" ", "-") for name in names}


@cache
def promises(file: str) -> set[str]:
    """Return the names of the tests that a file defines."""
    tree = ast.parse((TESTS / file).read_text())
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    return {node.name for node in tree.body if isinstance(node, functions) and node.name.startswith("test_")}


def test_the_page_has_rows() -> None:
    assert len(list(rows())) > 50


@pytest.mark.parametrize(("what", "word", "way", "held_by"), [pytest.param(*row, id=row[0]) for row in rows()])
def test_each_row_has_its_word_and_tests_that_exist(what: str, word: str, way: str, held_by: str) -> None:
    assert word in WORDS
    assert way or word == "same"
    named = re.findall(r"`([^`]+)`", held_by)
    assert named, f"{what}: no test holds this row"
    for node in named:
        file, _, function = node.partition("::")
        if case := re.fullmatch(r"contract\[(.+)\]", node):
            assert case[1] in cases(), f"{node}: no such case"
            continue
        assert (TESTS / file).is_file(), f"{node}: no such file"
        assert function in promises(file), f"{node}: no such test"


@pytest.mark.parametrize("case", sorted(cases()))
def test_each_case_of_the_contract_has_its_row(case: str) -> None:
    assert any(f"`contract[{case}]`" in held_by for *_, held_by in rows())
