from __future__ import annotations

import subprocess
import sys

import pytest

import meshbook
from meshbook.errors import MeshbookError

HEAVY = ("pandas", "kubernetes", "matplotlib", "scipy", "papermill", "google.cloud", "aiohttp")


def test_the_door_is_small() -> None:
    assert len(meshbook.__all__) <= 15


def test_opening_the_door_loads_nothing_heavy() -> None:
    code = f"import sys, meshbook; print([name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30)
    assert done.stdout.strip() == "[]"


def test_names_of_the_door_lead_to_their_rooms() -> None:
    assert meshbook.Fleet.__module__ == "meshbook.clusters.fleet"
    assert meshbook.MeshbookError is MeshbookError
    assert meshbook.outage.__name__ == "meshbook.outage"


def test_every_name_of_the_door_is_in_its_tour() -> None:
    assert meshbook.__doc__ is not None
    assert [name for name in meshbook.__all__ if f"``{name}``" not in meshbook.__doc__] == []
    assert set(meshbook.__all__) <= set(dir(meshbook))


def test_an_unknown_name_says_what_there_is() -> None:
    with pytest.raises(AttributeError, match=r"no attribute 'flete'; it has .*Fleet"):
        meshbook.flete  # noqa: B018


def test_an_error_shows_its_evidence_and_what_to_try() -> None:
    error = MeshbookError("it broke", hint="mend it", saw="smoke", nothing="")
    assert str(error) == "it broke\n  saw: smoke\n  try: mend it"
