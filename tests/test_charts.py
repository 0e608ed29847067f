"""Promises of the charts: they show what the rows hold, once, whatever the rows hold."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest
from IPython.core.interactiveshell import InteractiveShell
from matplotlib.figure import Figure
from PIL import Image
from readers import left_in_english

from meshbook import analysis, charts, tables

NOON = datetime(2026, 1, 2, 12, 0, tzinfo=UTC)


def answers(told: Sequence[str], source: str = "external client", cluster: str = "") -> pd.DataFrame:
    rows = []
    for number, word in enumerate(told):
        good, lost = word.startswith("v"), word in tables.NOT_MEASURED
        rows.append(
            {
                "seq": number + 1,
                "time": None if lost else NOON + timedelta(seconds=number / 10),
                "source": source,
                "version": word if good else "",
                "cluster": cluster if good else "",
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
    "clusters": pd.concat([answers(["v1", "v2"] * 9, cluster=name) for name in ("east", "west", tables.UNKNOWN)]),
    "no rows": tables.empty(tables.ANSWERS),
}
CHARTS: dict[str, Callable[[pd.DataFrame], Figure]] = {
    "share_by_source": charts.share_by_source,
    "latency_by_cluster": charts.latency_by_cluster,
}


def words(figure: Figure) -> str:
    figure.draw_without_rendering()
    return "\n".join(text.get_text() for text in figure.findobj(match=lambda part: hasattr(part, "get_text")))


@pytest.mark.parametrize("chart", CHARTS.values(), ids=CHARTS)
def test_who_answers_is_a_cluster_with_all_versions_that_came_from_it(chart: Callable[[pd.DataFrame], Figure]) -> None:
    told = words(chart(FRAMES["clusters"]))
    assert all(f"{name} (v1, v2)" in told for name in ("east", "west", tables.UNKNOWN))


@pytest.mark.parametrize("draw", CHARTS.values(), ids=CHARTS)
@pytest.mark.parametrize("frame", FRAMES.values(), ids=FRAMES)
def test_every_chart_draws_whatever_the_rows_hold(draw: Callable[[pd.DataFrame], Figure], frame: pd.DataFrame) -> None:
    assert words(draw(frame))


def test_a_matrix_tells_each_state_its_counts_and_whose_pods_answered() -> None:
    rows = pd.concat([answers(["v1"] * 9, cluster="east"), answers(["v2"], "west", cluster="west")])
    rows["path"] = ["vip"] * 9 + ["gateway istio-ingressgateway-5f6-abc"]
    parts = (analysis.Part(), analysis.Part(name="after", since=NOON + timedelta(hours=1)))
    told = charts.coverage(analysis.coverage(rows, {"east": "v1", "west": "v2"}, parts=parts)).html
    for text in ("external client → the VIP", "proven<br>9 of 9", "undecided<br>0 of 9", "not tested</td>", "after: "):
        assert text in told
    assert told.count("east (v1)") == 2
    assert "west → gateway istio-ingressgateway-5f6-abc" in told
    assert "no requests to show" in charts.coverage(tables.empty(tables.COVERAGE)).html


def test_counts_and_errors_are_told_in_words() -> None:
    assert "6 of 18" in words(charts.share_by_source(FRAMES["errors"]))
    assert "no good answer" in words(charts.share_by_source(FRAMES["errors"]))
    assert "median 34 ms, n = 15" in words(charts.latency_by_cluster(FRAMES["healthy"]))


def test_rows_that_the_probe_lost_are_left_out_and_said_to_be() -> None:
    for draw in CHARTS.values():
        assert "12 of 30 requests are left out" in words(draw(FRAMES["errors"]))
        assert "left out" not in words(draw(FRAMES["healthy"]))


def test_a_frame_without_rows_says_so() -> None:
    for draw in CHARTS.values():
        assert "no requests to show" in words(draw(FRAMES["no rows"]))


def test_a_figure_shows_itself_exactly_once_without_pyplot() -> None:
    shown, _ = InteractiveShell().display_formatter.format(charts.share_by_source(FRAMES["healthy"]))
    assert set(shown) == {"text/plain", "image/png"}
    assert shown["image/png"]


def test_charts_load_no_pyplot_and_so_no_global_state() -> None:
    code = "import sys, meshbook.charts; sys.exit('matplotlib.pyplot' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=30, check=False).returncode == 0


def phases_of(*told: tuple[str, str, str, float | None, float | None]) -> pd.DataFrame:
    rows = []
    for number, (part, phase, place, low, high) in enumerate(told, start=1):
        start = NOON + timedelta(seconds=0 if part == "outage" else 2)
        times = (
            {}
            if low is None or high is None
            else {
                "not_before": start + timedelta(seconds=low),
                "not_after": start + timedelta(seconds=high),
                "low_s": low,
                "high_s": high,
            }
        )
        fixed = {"mode": "scale-to-zero", "context": "cluster1", "trial": 1, "number": number}
        rows.append({**fixed, "part": part, "phase": phase, "place": place, "detail": "none in 30 requests", **times})
    return tables.from_rows(rows, tables.PHASES)


PHASES = phases_of(
    ("outage", "request accepted", "API server of cluster1", 0.0, 0.02),
    ("outage", "endpoints gone", "API server of cluster1", 0.05, 0.3),
    ("outage", "first failure", "external client", None, None),
    ("restore", "restore request accepted", "API server of cluster1", 0.0, 0.01),
    ("restore", "first answer again", "external client", 0.4, 0.5),
)


@pytest.mark.parametrize("requests", [900, 20_000], ids=["ticks", "bars"])
def test_a_single_failed_request_is_seen_among_many(requests: int) -> None:
    def red(*failed: str) -> int:
        rows = answers(["v1"] * requests).assign(time_total_ms=20.0)
        rows["time"] = NOON + pd.to_timedelta(range(len(rows)), unit="ms")
        rows.loc[requests // 3, "error"] = failed[0] if failed else ""
        png, _ = charts.timeline(PHASES, rows)._repr_png_()
        with Image.open(io.BytesIO(png)) as picture:
            pixels = np.asarray(picture.convert("RGB"), dtype=int)
        return int((np.abs(pixels - (0xA3, 0x23, 0x1A)).max(axis=2) < 24).sum())

    assert red("http_503") > 50 > red()


def test_bars_tell_how_many_requests_of_each_kind_there_are_and_how_long_a_bar_is() -> None:
    rows = answers(["v1", "v2", "v1", "timeout"] * 1000).assign(time_total_ms=20.0)
    told = words(charts.timeline(PHASES, rows))
    assert "v1 (2000)" in told
    assert "failed (1000)" in told
    assert "a bar is 1 s" in told
    assert "each tick is one HTTP request" in words(charts.timeline(PHASES, FRAMES["errors"]))


def test_a_line_of_many_answers_reaches_from_the_quickest_to_the_slowest() -> None:
    rows = answers(["v1"] * 30_000)
    rows["time_total_ms"] = 20.0
    rows.loc[[7, 9], "time_total_ms"] = [1.5, 900.0]
    line = charts.latency_by_cluster(rows).axes[0].lines[0]
    assert (min(line.get_xdata()), max(line.get_xdata()), max(line.get_ydata())) == (1.5, 900.0, 100.0)
    assert len(line.get_xdata()) < 2000


def trials_of(*told: tuple[str, float | None, float | None, int]) -> pd.DataFrame:
    fixed = {"mode": "scale-to-zero", "context": "cluster1", "path": "vip", "sent": 60}
    return tables.from_rows(
        (
            fixed | {"source": source, "low_ms": low, "high_ms": high, "windows": windows, "failed": 3 * windows}
            for source, low, high, windows in told
        ),
        tables.TRIALS,
    )


@pytest.mark.parametrize("frame", FRAMES.values(), ids=FRAMES)
@pytest.mark.parametrize("phases", [PHASES, tables.empty(tables.PHASES)], ids=["phases", "no phases"])
def test_a_timeline_draws_whatever_was_seen(phases: pd.DataFrame, frame: pd.DataFrame) -> None:
    assert words(charts.timeline(phases, frame, ["nobody noticed"]))


def test_a_timeline_tells_every_phase_in_words_and_what_was_not_seen() -> None:
    told = words(charts.timeline(PHASES, FRAMES["errors"], ["outside: unavailable for 120 to 340 ms"]))
    for text in (
        "scale-to-zero at cluster1",
        "unavailable for 120 to 340 ms",
        "endpoints gone\n50–300 ms",
        "outage: seconds since it was requested",
    ):
        assert text in told
    assert "first failure\nnone in 30 requests" in told
    assert "failed" in told


def test_the_downtime_tells_seen_unseen_unknown_and_open_ends_apart() -> None:
    figure = charts.downtime_by_step(
        trials_of(
            ("external client", 120, 340, 1),
            ("cluster1", 0, 90, 0),
            ("cluster2", None, None, 0),
            ("cluster3", 500, None, 2),
            ("cluster4", 0, None, 0),
        ),
        limit_s=0.3,
    )
    told = words(figure)
    for text in ("scale-to-zero\nat cluster1", "3 of 60 failed", "not known", "6 of 60 failed, end not seen", "limit"):
        assert text in told
    assert "did not watch from before to after" in told
    hollow = [line for line in figure.axes[0].lines if line.get_markerfacecolor() == "white"]
    assert [line.get_xdata()[0] for line in hollow] == [90]


def test_the_downtime_of_no_trials_says_so() -> None:
    assert "no requests to show" in words(charts.downtime_by_step(tables.empty(tables.TRIALS)))


@pytest.mark.parametrize("names", [("ニフクラ", "東京"), ("a" * 24, "b" * 24)], ids=["japanese", "long"])
@pytest.mark.parametrize("draw", CHARTS.values(), ids=CHARTS)
def test_japanese_names_and_the_longest_are_drawn_within_the_picture(
    draw: Callable[[pd.DataFrame], Figure], names: tuple[str, str]
) -> None:
    sources = [(source, name) for name in names for source in (name, f"external client via {name}")]
    figure = draw(pd.concat([answers(["v1", "v2"] * 4, source, cluster=name) for source, name in sources]))
    figure._repr_png_()  # a letter that no font has, or a chart without room, is a warning, and so an error
    assert all(name in words(figure) for name in names)
    drawn = figure.get_tightbbox()
    assert drawn.x0 >= 0
    assert drawn.x1 <= figure.get_figwidth()


def test_a_sign_that_no_font_has_is_drawn_as_a_box_and_no_warning() -> None:
    assert charts.share_by_source(answers(["v1"], "\N{WORLD MAP}"))._repr_png_()  # type: ignore[operator]


def test_clusters_keep_their_order_and_colours_whatever_they_are_called() -> None:
    frame = pd.concat([answers(["v1", "v2"], name, cluster="west") for name in ("west", "east")])
    frame.loc[frame["version"] == "v2", "cluster"] = "east"
    (axes,) = charts.share_by_source(frame).axes
    assert [label.get_text() for label in axes.get_yticklabels()] == [
        "west   west (v1)",
        "east (v2)",
        "east   west (v1)",
        "east (v2)",
    ]
    shares = analysis.ExpectedShares(shares={"east": 0.5, "west": 0.5}, why="")
    (turned,) = charts.share_by_source(frame, {"west": shares}).axes
    colours = [axes.lines[0].get_color(), turned.lines[0].get_color()]
    assert colours[0] == colours[1]
    assert next(label.get_text() for label in turned.get_yticklabels()) == "west   east (v2)"


def test_a_finding_is_told_in_lines_that_fit() -> None:
    finding = f"none of 226 requests failed; {'an outage that is shorter than this ' * 5}0.50 s"
    lines = charts.timeline(PHASES, FRAMES["errors"], [finding]).axes[0].get_title(loc="left").splitlines()
    assert " ".join(lines) == finding
    assert max(map(len, lines)) <= 115


def test_a_finding_in_japanese_breaks_between_no_number_and_its_unit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MESHBOOK_LANGUAGE", "ja")
    longest = "no good answer for 6.15 to 8.91 s at the longest"
    finding = f"external client: degraded for 83.1 to 85.2 s, 4 times, {longest}; 14 of 128 requests failed, 12 late"
    lines = charts.timeline(PHASES, FRAMES["errors"], [finding]).axes[0].get_title(loc="left").splitlines()
    assert len(lines) > 1
    assert all(line.endswith("、") for line in lines[:-1])


def test_the_share_that_is_expected_is_marked_and_no_other() -> None:
    frame = pd.concat([answers(["v1"] * 3, "east", cluster="east"), answers(["v2"], "east", cluster="west")])
    wanted = {
        "east": analysis.ExpectedShares(
            shares={"east": 0.75, "west": 0.25},
            why="each ready endpoint counts the same (1 in cluster1, 3 in cluster2)",
        )
    }
    (axes,) = charts.share_by_source(frame, wanted).axes
    upright = [
        line.get_xdata()[0] for line in axes.lines if len(set(line.get_xdata())) == 1 and len(line.get_xdata()) == 2
    ]
    assert sorted(upright) == [25, 75]
    assert "upright: the expected share" in words(charts.share_by_source(frame, wanted))
    assert "expected" not in words(charts.share_by_source(frame))


def test_a_chart_is_in_the_language_of_who_reads_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MESHBOOK_LANGUAGE", "ja")
    png, _ = charts.share_by_source(FRAMES["errors"])._repr_png_()  # type: ignore[attr-defined]
    with Image.open(io.BytesIO(png)) as picture:
        words = str(picture.text["Description"]).splitlines()  # type: ignore[attr-defined]
    assert {"外部クライアント   v1", "正常な応答なし", "18件中6件"} <= {*words}
    assert not left_in_english(words)
