"""How long a day of requests takes to be read, judged, drawn, kept and reported, and how much memory.

Every step runs in a process of its own over the same made-up rows (``long_watch``); what it needs is there before its
clock starts. ``MB`` is the highest resident size of that process, imports and rows included. The sum is that of one
run. ``--linear`` does it again with four times as many rows, and prints the ratio of the two times.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from itertools import count, islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

sys.path.insert(0, str(Path(__file__).parent))

import nbformat
import pandas as pd
from long_watch import BEGIN, SOURCES, answers, outages

from meshbook import analysis, charts, marks, notebook, probes, report, runs, tables
from meshbook import rows as row_files
from meshbook.analysis import ChangeRequest, TrialRecord
from meshbook.clusters import ExecStreams, Fleet
from meshbook.probes import ClosedLoop
from meshbook.rows import PLACE_VARIABLE

ROWS, STAGE = "rows.parquet", "03_failover"
Work = Callable[[], object]


def _span(rows: pd.DataFrame) -> tuple[datetime, datetime]:
    """Return begin and end of the outage that is nearest to the middle."""
    seconds = (rows["scheduled"].max() - rows["scheduled"].min()).total_seconds()
    middle = min(outages(seconds), key=lambda each: abs(each.start - seconds / 2))
    start, end = (datetime.fromtimestamp(BEGIN + at, UTC) for at in (middle.start, middle.end))
    return start, end


def _record(rows: pd.DataFrame) -> TrialRecord:
    start, end = _span(rows)
    moments = [ChangeRequest(asked=at, accepted=at + timedelta(milliseconds=20)) for at in (start, end)]
    return TrialRecord(
        mode="scale-to-zero",
        context="cluster1",
        trial=1,
        outage=moments[0],
        restore=moments[1],
        answers=rows,
        changes=(),
        contexts=list(SOURCES)[1:],
        stopped="cluster1",
    )


class _Pod:
    """A prober pod that has sent everything already: it tells one source's rows as fast as they are taken."""

    def __init__(self, name: str, rows: pd.DataFrame) -> None:
        self.name = name
        bodies = {row.version: f"Hello version: {row.version}, instance: {row.instance}\n" for row in _kinds(rows)}
        sent = rows["scheduled"].astype("int64").to_numpy() / 1e6
        took = rows["time_total_ms"].fillna(0.0).to_numpy() * 1000
        told = zip(count(1), sent.tolist(), took.astype(int).tolist(), rows["version"].tolist(), strict=False)
        each = ([n, at, 50, 300, us, us, 200, 0, bodies[v], ""] for n, at, us, v in told)
        self.lines = [json.dumps({"rows": part}) for part in iter(lambda: list(islice(each, 50)), [])]

    def ready_pod(self, selector: str, namespace: str) -> str:
        return "prober"

    def get(self, kind: str, name: str, namespace: str) -> dict[str, Any]:
        return {"spec": {"containers": [{"name": "prober"}]}}

    def exec_interactive(self, pod: str, command: Sequence[str], streams: ExecStreams, **_: Any) -> Any:
        streams.stdin()
        streams.on_line('{"ready": "10.96.0.14"}', datetime.now(UTC))
        while "first" not in (words := json.loads(streams.stdin() or "{}")):
            if "clock" in words:
                streams.on_line(json.dumps({"clock": words["clock"], "time": time.time()}), datetime.now(UTC))
        for line in self.lines:
            streams.on_line(line, datetime.now(UTC))
        return SimpleNamespace(exit_code=0, stderr="")


def _kinds(rows: pd.DataFrame) -> Iterable[Any]:
    return rows[["version", "instance"]].drop_duplicates().itertuples()


def receive(rows: pd.DataFrame, folder: Path) -> Work:
    """What four senders tell, to rows."""
    parts = [rows[rows["source"] == source] for source in SOURCES]
    pods = [_Pod(source, part) for source, part in zip(SOURCES, parts, strict=True)]
    loop = ClosedLoop(requests=len(parts[0]), timeout_s=60)

    def work() -> None:
        found = probes.send_many(cast(Fleet, pods), inside="http://helloworld.sample:5000/hello", loop=loop)
        assert len(found) == len(rows) == found["time"].notna().sum()

    return work


def claims(rows: pd.DataFrame, folder: Path) -> Work:
    """All that the stages claim: who answers, how even, how often not, and through an outage."""
    start, end = _span(rows)
    versions = {"cluster1": "v1", "cluster2": "v2"}
    even = analysis.ExpectedShares(
        shares=dict.fromkeys(versions, 0.5), why="each ready endpoint counts the same (1 in cluster1, 1 in cluster2)"
    )
    test = analysis.split_test(dict.fromkeys(SOURCES, even), "cluster1", 0.1)

    def work() -> list[object]:
        return [
            analysis.answers_as_expected(rows, versions),
            analysis.split_as_expected(rows, test),
            analysis.all_answered(rows, 0.05),
            analysis.carried_by_the_others(rows, start, end, versions, down="cluster1", gone_at=start),
            analysis.few_fail(rows, start, end),
            analysis.interrupted_at_most(rows, start, end, max_gap_s=2.0),
        ]

    return work


def downtime(rows: pd.DataFrame, folder: Path) -> Work:
    return lambda: analysis.downtime(rows, *_span(rows))


def phases(rows: pd.DataFrame, folder: Path) -> Work:
    return lambda: analysis.phases(_record(rows))


def overload(rows: pd.DataFrame, folder: Path) -> Work:
    """Which requests of the second half were late for the load: nearly all, since each waits for others there."""
    start, end = rows["scheduled"].median(), rows["scheduled"].max()
    waits_ms = 900.0 * (rows["scheduled"] >= start)
    queued = rows.assign(time_total_ms=rows["time_total_ms"] + waits_ms)

    def work() -> None:
        found = analysis.overload(queued, start, end, 0.5)
        assert found.explained.sum() > len(rows) / 4

    return work


def calibration(rows: pd.DataFrame, folder: Path) -> Work:
    faults = []
    for each in outages((rows["scheduled"].max() - rows["scheduled"].min()).total_seconds()):
        start, end = (datetime.fromtimestamp(BEGIN + at, UTC) for at in (each.start, each.end))
        faults.append(analysis.Fault(name=each.kind, start=start, end=end, error_ms=20))
    return lambda: analysis.compare_with_truth(rows, faults)


def _drawn(figure: Any) -> None:
    picture, _ = figure._repr_png_()
    assert picture


def share(rows: pd.DataFrame, folder: Path) -> Work:
    return lambda: _drawn(charts.share_by_source(rows))


def latency(rows: pd.DataFrame, folder: Path) -> Work:
    return lambda: _drawn(charts.latency_by_cluster(rows))


def timeline(rows: pd.DataFrame, folder: Path) -> Work:
    found = analysis.phases(_record(rows))
    return lambda: _drawn(charts.timeline(found, rows, ["a day"]))


def keep(rows: pd.DataFrame, folder: Path) -> Work:
    """Both ends and a summary for the notebook, and all rows in a file."""
    os.environ[PLACE_VARIABLE] = str(folder / STAGE)
    return lambda: notebook.keep_rows(rows)


def redact(rows: pd.DataFrame, folder: Path) -> Work:
    """Read rows back, take out context names, addresses and secrets, prove it, and write them again."""
    kept = row_files.write(rows, folder, STAGE, "answers")
    secrets = runs.Secrets(
        values={"a-token-of-somebody": "[token]", "LS0tLS1CRUdJTiBD": "[certificate-authority-data]"},
        folders={"/home/somebody/meshbook": "[repo]", "/home/somebody": "~", "/tmp": "[tmp]"},
        projects=("acme-fleet", "acme-prod"),
        contexts=tuple(SOURCES)[1:],
        hosts=("api.acme.example",),
    )
    redactor = runs.Redactor(secrets, ["addresses", "contexts"])

    def work() -> None:
        clean = redactor.table(row_files.read(kept, folder))
        redactor.require_clean_table(clean, name=kept.file)
        row_files.write(clean, folder, f"{STAGE}_redacted", "answers")

    return work


def reported(rows: pd.DataFrame, folder: Path) -> Work:
    """The report of a run whose one notebook kept these rows."""
    kept = row_files.write(rows, folder, STAGE, "answers")
    data = {"text/plain": "rows", marks.ROWS_TYPE: kept.to_dict()}
    cell = nbformat.v4.new_code_cell("keep()", outputs=[nbformat.v4.new_output("display_data", data=data)])
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), folder / f"{STAGE}.ipynb")
    return lambda: report.write(folder)


STEPS = (receive, claims, downtime, phases, overload, calibration, share, latency, timeline, keep, redact, reported)


def one_step(name: str, folder: Path) -> None:
    """Run a step over the rows in ``folder``, and print its figures as JSON."""
    step = next(step for step in STEPS if step.__name__ == name)
    work = step(tables.conform(pd.read_parquet(folder / ROWS), tables.ANSWERS), folder)
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    spent = {"seconds": time.perf_counter() - wall, "cpu_s": time.process_time() - cpu}
    highest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    sys.stdout.write(json.dumps({"step": name, **spent, "MB": highest}) + "\n")


def every_step(rows: int, names: list[str]) -> pd.DataFrame:
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        answers(rows).to_parquet(folder / ROWS)
        found = []
        for name in names:
            argv = [sys.executable, __file__, "--step", name, "--folder", made]
            done = subprocess.run(argv, capture_output=True, text=True, check=False)
            if done.returncode:
                raise SystemExit(f"{name}: {done.stderr[-2000:]}")
            found.append(json.loads(done.stdout.splitlines()[-1]))
        return pd.DataFrame(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--linear", action="store_true", help="again with four times as many rows")
    parser.add_argument("--steps", nargs="+", default=[step.__name__ for step in STEPS])
    parser.add_argument("--step", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.rows < 100_000:
        parser.error("--rows: at least 100000, since fewer are over before the first outage")
    if given.step:
        one_step(given.step, given.folder)
        return
    found = every_step(given.rows, given.steps)
    if given.linear:
        found["ratio"] = every_step(4 * given.rows, given.steps)["cpu_s"] / found["cpu_s"]
    total = found[["seconds", "cpu_s"]].sum().to_dict() | {"step": "one run", "MB": found["MB"].max()}
    table = pd.concat([found, pd.DataFrame([total])], ignore_index=True)
    sys.stdout.write(f"{given.rows} rows\n{table.round(2).to_string(index=False, na_rep='')}\n")


if __name__ == "__main__":
    main()
