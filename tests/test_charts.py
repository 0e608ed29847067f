"""Promises of the charts: they show what the rows hold, once, whatever the rows hold."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta

import pandas as pd
import pytest
from IPython.core.interactiveshell import InteractiveShell
from matplotlib.figure import Figure

from meshbook import charts, tables
from meshbook.charts import answers as answers_charts
from meshbook.errors import UsageError
from meshbook.judge import intervals

NOON = datetime(2026, 1, 2, 12, 0, tzinfo=UTC)
OUTAGE = NOON + timedelta(seconds=1), NOON + timedelta(seconds=2)


def answers(told: Sequence[str], source: str = "outside") -> pd.DataFrame:
    rows = []
    for number, word in enumerate(told):
        good, lost = word.startswith("v"), word in tables.NOT_MEASURED
        rows.append(
            {
                "seq": number + 1,
                "time": None if lost else NOON + timedelta(seconds=number / 10),
                "source": source,
                "version": word if good else "",
                "error": "" if good else word,
                "time_total_ms": None if lost else 20.0 + number,
            }
        )
    return tables.from_rows(rows, tables.ANSWERS)


FRAMES = {
    "healthy": answers(["v1", "v2"] * 15),
    "two sources": pd.concat([answers(["v1", "v2"] * 10, "cluster1"), answers(["v1"] * 10, "cluster2")]),
    "errors": answers(["v1", "http_503", "timeout", "lost", "garbled"] * 6),
    "only errors": answers(["refused"] * 10),
    "only lost": answers(["lost"] * 10),
    "one request": answers(["v1"]),
    "many versions": answers([f"v{number}" for number in range(9)] * 3),
    "crowded": answers(["v1", "v2"] * 200),
    "no rows": tables.empty(tables.ANSWERS),
}
CHARTS: dict[str, Callable[[pd.DataFrame], Figure]] = {
    "share_by_source": charts.share_by_source,
    "answers_over_time": charts.answers_over_time,
    "answers_over_time with outage": lambda frame: charts.answers_over_time(frame, OUTAGE),
    "latency_by_version": charts.latency_by_version,
}


def words(figure: Figure) -> str:
    figure.draw_without_rendering()
    return "\n".join(text.get_text() for text in figure.findobj(match=lambda part: hasattr(part, "get_text")))


@pytest.mark.parametrize("draw", CHARTS.values(), ids=CHARTS)
@pytest.mark.parametrize("frame", FRAMES.values(), ids=FRAMES)
def test_every_chart_draws_whatever_the_rows_hold(draw: Callable[[pd.DataFrame], Figure], frame: pd.DataFrame) -> None:
    figure = draw(frame)
    assert figure.get_size_inches()[0] == charts.WIDTH_IN
    assert words(figure)


def test_counts_and_errors_are_told_in_words() -> None:
    assert "6 of 18" in words(charts.share_by_source(FRAMES["errors"]))
    assert "no good answer" in words(charts.share_by_source(FRAMES["errors"]))
    lanes = words(charts.answers_over_time(FRAMES["errors"], OUTAGE))
    assert all(word in lanes for word in ("v1", "http_503", "timeout", "n = 6", "outage, 1.0 s"))
    assert "median 34 ms, n = 15" in words(charts.latency_by_version(FRAMES["healthy"]))


def test_rows_that_the_probe_lost_are_left_out_and_said_to_be() -> None:
    for draw in CHARTS.values():
        assert "12 of 30 requests are left out" in words(draw(FRAMES["errors"]))
        assert "left out" not in words(draw(FRAMES["healthy"]))


def test_a_frame_without_rows_says_so() -> None:
    for draw in CHARTS.values():
        assert "no requests to show" in words(draw(FRAMES["no rows"]))


def test_the_interval_drawn_is_the_interval_judged() -> None:
    for k, n in ((0, 10), (7, 20), (20, 20)):
        assert answers_charts._wilson(k, n) == pytest.approx(intervals.interval(k, n), abs=1e-9)


@pytest.mark.parametrize(
    "outage", [OUTAGE[::-1], (OUTAGE[0].replace(tzinfo=None), OUTAGE[1])], ids=["backwards", "zone"]
)
def test_an_outage_that_cannot_be_placed_in_time_is_refused(outage: tuple[datetime, datetime]) -> None:
    with pytest.raises(UsageError):
        charts.answers_over_time(FRAMES["healthy"], outage)


def test_a_figure_shows_itself_exactly_once_without_pyplot() -> None:
    shown, _ = InteractiveShell().display_formatter.format(charts.share_by_source(FRAMES["healthy"]))
    assert set(shown) == {"text/plain", "image/png"}
    assert shown["image/png"]


def test_charts_load_no_pyplot_and_so_no_global_state() -> None:
    code = "import sys, meshbook.charts; sys.exit('matplotlib.pyplot' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=30, check=False).returncode == 0
