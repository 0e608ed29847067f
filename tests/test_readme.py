"""README in both languages: the same commands under as many headings, and the same links."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ENGLISH, JAPANESE = ((ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "README.ja.md"))


def commands(text: str) -> list[str]:
    blocks = re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    return [line.partition(" # ")[0].rstrip() for block in blocks for line in block.splitlines()]


def test_they_hold_the_same_commands() -> None:
    assert commands(ENGLISH) == commands(JAPANESE) != []


@pytest.mark.parametrize("what", [r"^#+ ", r"^\|", r"^- \[", r"\]\((?!README)[^)]+\)"])
def test_they_have_the_same_shape_and_links(what: str) -> None:
    both = [re.findall(what, text, re.MULTILINE) for text in (ENGLISH, JAPANESE)]
    assert both[0] == both[1] != []


def test_what_is_code_in_one_is_code_in_the_other() -> None:
    both = [
        set(re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))) for text in (ENGLISH, JAPANESE)
    ]
    assert both[0] == both[1]


def test_each_names_the_other_in_its_first_lines() -> None:
    assert "](README.ja.md)" in "".join(ENGLISH.splitlines()[:3])
    assert "](README.md)" in "".join(JAPANESE.splitlines()[:3])
