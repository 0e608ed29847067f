"""A reader of Japanese, who sees at once what was not translated."""

from __future__ import annotations

import re
from collections.abc import Iterable

from meshbook.language import translate

_ENGLISH = re.compile(
    r"(?<![\w/.`-])(?:the|is|are|was|were|not|no|and|of|from|its?|none|that|has|have|which|there)(?![\w/.`-])"
)
"""Words that a sentence which was not translated still has, and hardly any name or command."""
_QUOTED = re.compile(r"「.*?」|`.*?`")


def left_in_english(texts: Iterable[str]) -> dict[str, str]:
    """Return those of ``texts`` that are not in Japanese when they are shown, with what is shown of them."""
    said = {text: translate(text, "ja") for text in texts}
    return {text: shown for text, shown in said.items() if _ENGLISH.search(_QUOTED.sub("", shown))}
