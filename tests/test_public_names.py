"""The package's own names: few, light to import, and all in its docstring."""

from __future__ import annotations

import subprocess
import sys

import pytest

import meshbook

HEAVY = ("pandas", "kubernetes", "matplotlib", "scipy", "papermill", "google.cloud", "aiohttp")


def test_importing_the_package_loads_nothing_heavy() -> None:
    code = f"import sys, meshbook; print([name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30)
    assert done.stdout.strip() == "[]"


def test_all_that_notebooks_import_leaves_out_what_only_a_chart_or_a_verdict_needs() -> None:
    names = ", ".join(name for name in meshbook.__all__ if name != "report")
    code = f"import sys; from meshbook import {names}; print([name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30)
    assert done.stdout.strip() == "['pandas', 'kubernetes']"


def test_the_names_are_few_and_all_are_in_the_docstring() -> None:
    assert len(meshbook.__all__) <= 15
    assert [name for name in meshbook.__all__ if f"``{name}``" not in str(meshbook.__doc__)] == []
    assert set(meshbook.__all__) <= set(dir(meshbook))


def test_each_name_is_there() -> None:
    assert all(getattr(meshbook, name) for name in meshbook.__all__)


def test_an_unknown_name_says_what_there_is() -> None:
    with pytest.raises(AttributeError, match=r"no attribute 'flete'; it has .*Fleet"):
        meshbook.flete  # noqa: B018


def test_an_error_shows_its_evidence_and_what_to_try() -> None:
    error = meshbook.MeshbookError("it broke", hint="mend it", saw="smoke", nothing="")
    assert str(error) == "it broke\n  saw: smoke\n  try: mend it"
