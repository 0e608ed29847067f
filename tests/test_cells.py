"""A verdict rests on cells that ran to their end, none of them before what it reads was written again."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from meshbook.cells import Cells, watch

STAGE = {
    "parameters": "tolerance = 0.2",
    "measure": "pods = listed()\nanswers = curl(pods)",
    "sample": "more = curl(tolerance)\nanswers = joined(answers, more)",
    "look": "display(answers)",
    "verdict": "leave(answers, tolerance)",
}


def ran(*cells: str, broken: str = "") -> str:
    """Run cells in this order, with their ids, and return why the last must not judge; ``broken`` ran but not ended."""
    found = Cells()
    for cell in cells:
        found.begins(STAGE[cell.rstrip("!")], cell.rstrip("!"))
        if cell != cells[-1]:
            found.ended(not cell.endswith("!"))
    return found.stale()


@pytest.mark.parametrize(
    ("order", "why"),
    [
        ("measure sample look verdict", ""),
        ("parameters measure sample verdict parameters measure sample verdict", ""),
        ("measure sample sample verdict", ""),
        ("measure sample! sample verdict", ""),
        ("measure sample look! verdict", ""),
        ("measure sample! verdict", "answers is left from before: the cell that measures it (more ="),
        ("measure sample measure! verdict", "answers is left from before: the cell that measures it (pods ="),
        ("measure sample measure! sample verdict", "did not run to its end"),
        ("measure sample parameters verdict", "answers is left from before: tolerance has changed since"),
        ("parameters measure sample parameters verdict", "in the cell tolerance = 0.2"),
    ],
)
def test_a_verdict_is_judged_by_what_ran_in_order_and_to_its_end(order: str, why: str) -> None:
    found = ran(*order.split())
    assert why in found
    assert bool(found) == bool(why)


def test_names_inside_of_a_comprehension_and_magics_are_nobodys_inputs() -> None:
    found = Cells()
    for source in ("name = broken()", "%matplotlib inline", "shown = [name for name in names]"):
        found.begins(source)
        found.ended(source != "name = broken()")
    found.begins("leave(shown)")
    assert found.stale() == ""


@pytest.mark.parametrize(
    "judge",
    [
        "%%time\nleave(shown)",
        "%time leave(shown)",
        "%matplotlib inline\nleave(shown)",
        "%%capture kept\nfor one in [shown]:\n    %time leave(one)",
        "files = !ls\nleave(shown)",
        "def judge(): leave(shown)",
    ],
)
def test_names_beside_magics_and_in_functions_are_inputs(judge: str) -> None:
    found = Cells()
    found.begins("%time shown = broken()")
    found.ended(False)
    found.begins(judge)
    assert found.stale().startswith("shown is left from before")


def test_names_of_a_function_of_a_lambda_and_of_an_error_are_their_own() -> None:
    found = Cells()
    cells = (
        "shown = sorted(names, key=lambda row: row.name)",
        "def longest(rows):\n    found = max(rows)\n    return found\nlast = longest(shown)",
        "try:\n    more = asked(last)\nexcept OSError as error:\n    more = str(error)",
        "for row in rows:\n    found = error = row",
    )
    for source in cells:
        found.begins(source)
        found.ended(True)
    found.begins("leave(more)")
    assert found.stale() == ""


@pytest.mark.parametrize("edited", ["other = curl()", "answers = curl("])
def test_a_name_whose_cell_has_been_changed_and_writes_it_no_more_is_left_from_before(edited: str) -> None:
    found = Cells()
    for source in ("answers = curl()", edited):
        found.begins(source, "measure")
        found.ended(True)
    found.begins("leave(answers)", "verdict")
    assert found.stale() == f"answers is left from before: its cell does not write it any more ({edited})"


def test_a_shell_is_followed_once() -> None:
    hooks: list[tuple[str, Callable[[Any], None]]] = []
    shell = SimpleNamespace(events=SimpleNamespace(register=lambda name, hook: hooks.append((name, hook))))
    assert watch(shell) is watch(shell)
    before, after = (hook for _, hook in hooks)
    for source, success in (("answers = curl()", False), ("leave(answers)", True)):
        before(SimpleNamespace(raw_cell=source, cell_id=None))
        if source != "leave(answers)":
            after(SimpleNamespace(success=success))
    assert watch(shell).stale().startswith("answers is left from before")
