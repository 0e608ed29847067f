"""Which notebooks a run takes, in which order: stages by number or name. Reads folder listings only."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from pathlib import Path

from meshbook.errors import UsageError

_STAGE = re.compile(r"(\d\d)_(\w+)\.ipynb")


def runbook_folder() -> Path:
    """Return the repository's ``notebooks`` folder, which lies beside the installed package."""
    folder = Path(__file__).resolve().parents[2] / "notebooks"
    if not folder.is_dir():
        raise UsageError(
            "no notebooks beside the installed package",
            hint="install from a clone: git clone …, then pip install -e .",
            looked_at=folder,
        )
    return folder


def stages(folder: Path) -> dict[str, Path]:
    """Return every stage of the runbook in reading order: ``01_connectivity`` → its notebook."""
    return {path.stem: path for path in sorted(folder.glob("*.ipynb")) if _STAGE.fullmatch(path.name)}


def select(folder: Path, wanted: Sequence[str]) -> list[Path]:
    """Return the notebooks that ``wanted`` names (``1``, ``01``, ``connectivity``, ``01_connectivity``); none: all."""
    known = stages(folder)
    if not wanted:
        return list(known.values())
    chosen = {_stage(known, word) for word in wanted}
    return [path for stem, path in known.items() if stem in chosen]


def _stage(known: dict[str, Path], word: str) -> str:
    word = word.removesuffix(".ipynb").rpartition("/")[2]
    for stem in known:
        number, _, name = stem.partition("_")
        if word in (stem, number, name) or (word.isdigit() and int(word) == int(number)):
            return stem
    near = difflib.get_close_matches(word, [stem.partition("_")[2] for stem in known], n=1)
    raise UsageError(
        f"no stage {word!r} in the runbook",
        hint=f"did you mean {near[0]}?" if near else "",
        stages=", ".join(known),
    )
