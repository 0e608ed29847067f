"""How long the runbook takes on a lab of its own: seconds in each notebook, and what its kernel spends on imports.

Trees (folders of this repository at different commits) are run in turn, so that both meet the same load. ``run_s`` is
what ``run.json`` says; ``imports_cpu_s`` is processor time of the notebook's own import lines in a fresh interpreter;
``watch_s`` is the time in the cells that watch an outage, whose length the parameters ask for. Verdicts do not count.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

_OBSERVING = "experiment.run("


def _environment(tree: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(tree)}


def imports_s(tree: Path, notebook: Path, times: int = 3) -> float:
    """Return the least processor time that the notebook's import lines took."""
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    lines = [line for source in code for line in source.splitlines() if line.startswith(("from ", "import "))]
    program = "\n".join(["import time", *lines, "print(time.process_time())"])
    argv = [sys.executable, "-c", program]
    done = [
        subprocess.run(argv, env=_environment(tree), cwd=tree, capture_output=True, text=True, check=True)
        for _ in range(times)
    ]
    return min(float(one.stdout) for one in done)


def one_run(tree: Path, arguments: list[str]) -> Iterator[dict[str, object]]:
    """Run the tree's runbook on a lab and yield a row for each notebook."""
    with tempfile.TemporaryDirectory() as out:
        argv = [sys.executable, "-m", "meshbook", "run", "--out", out, "--run-id", "bench", "--keep-going", *arguments]
        done = subprocess.run(argv, env=_environment(tree), cwd=tree, capture_output=True, text=True, check=False)
        if not (Path(out) / "bench" / "run.json").exists():
            raise SystemExit(f"{tree}: {done.stdout[-1500:]}{done.stderr[-1500:]}")
        for ended in json.loads((Path(out) / "bench" / "run.json").read_text(encoding="utf-8"))["notebooks"]:
            name = f"{ended['notebook']}.ipynb"
            cells = json.loads((Path(out) / "bench" / name).read_text(encoding="utf-8"))["cells"]
            watched = [cell for cell in cells if _OBSERVING in "".join(cell["source"])]
            watch = sum(cell["metadata"]["papermill"]["duration"] or 0 for cell in watched)
            imports = imports_s(tree, tree / "notebooks" / name)
            yield {"notebook": ended["notebook"], "run_s": ended["seconds"], "watch_s": watch, "imports_cpu_s": imports}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("trees", nargs="*", type=Path, default=[Path(__file__).resolve().parents[1]])
    parser.add_argument("--times", type=int, default=1)
    parser.add_argument("--run", nargs=argparse.REMAINDER, default=[], help="what else meshbook run is given: 0 1 2 99")
    given = parser.parse_args()
    found = []
    for number in range(given.times):
        for tree in given.trees:
            rows = list(one_run(tree.resolve(), given.run))
            total = pd.DataFrame(rows).drop(columns="notebook").sum().to_dict()
            found += [{"tree": str(tree), "time": number + 1, **row} for row in [*rows, {"notebook": "all", **total}]]
    table = pd.DataFrame(found).groupby(["notebook", "tree"], sort=False).median().drop(columns="time")
    sys.stdout.write(f"{table.round(2).to_string()}\n")


if __name__ == "__main__":
    main()
