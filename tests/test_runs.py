"""A run refuses before it starts, tells a verdict from a breakdown, and leaves nothing secret behind."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import nbformat
import pytest

from meshbook import runs
from meshbook.errors import OutageError, UsageError
from meshbook.page import marks_of
from meshbook.runs import Redactor, Secrets

PARAMETERS = """\
requests: int = 20  # calls per cluster
share: float = 0.5  # expected share
namespace: str = "sample"  # namespace of the sample
contexts: list[str] = []  # contexts of the clusters
strict: bool = True  # whether to be strict
weights: dict[str, int] = {}  # weight per version
"""

VERDICT = """\
from meshbook import judge, page
page.leave_verdict(judge.Verdict(claim="both answer", outcome="{outcome}", reason="10 of 20", n=20))
"""


def write(folder: Path, name: str, *cells: str, metadata: dict[str, Any] | None = None) -> Path:
    notebook = nbformat.v4.new_notebook(metadata=metadata or {})
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    notebook.cells = [nbformat.v4.new_markdown_cell("# A stage"), nbformat.v4.new_code_cell(PARAMETERS)]
    notebook.cells[1].metadata["tags"] = ["parameters"]
    notebook.cells += [nbformat.v4.new_code_cell(source) for source in cells]
    path = folder / name
    folder.mkdir(exist_ok=True)
    nbformat.write(notebook, path)
    return path


def passing() -> str:
    return VERDICT.format(outcome="pass")


class Watcher:
    """Collects what a run tells."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.on_cell: Callable[[int], None] = lambda number: None

    def notebook_starts(self, name: str, cells: int) -> None:
        self.told.append(f"start {name} {cells}")

    def cell_starts(self, number: int, heading: str) -> None:
        self.told.append(f"cell {number} {heading}")
        self.on_cell(number)

    def announced(self, text: str) -> None:
        self.told.append(f"announced {text}")

    def notebook_ended(self, name: str, outcome: runs.Outcome, seconds: float) -> None:
        self.told.append(f"end {name} {outcome.state}")

    def restored(self, lines: Sequence[str]) -> None:
        self.told += [f"restored {line}" for line in lines]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "notebooks"


def run(
    folder: Path,
    *,
    given: Sequence[str] = (),
    watcher: Watcher | None = None,
    redactor: Redactor | None = None,
    restore: Callable[[Mapping[str, Any]], Sequence[str]] = lambda values: [],
    keep_going: bool = False,
    grace_s: float = 20,
    interrupts: runs.Interrupts | None = None,
) -> runs.Run:
    plan = runs.plan(folder, given=given)
    out = runs.new_folder(folder.parent / "outputs", plan.label, "one")
    session = runs.Session(
        plan, out, redactor or Redactor(Secrets()), watcher or Watcher(), restore, keep_going=keep_going
    )
    return session.execute(interrupts or runs.Interrupts(grace_s))


def executed(record: runs.Run, name: str) -> dict[str, Any]:
    return json.loads((record.folder / name).read_text(encoding="utf-8"))


# Parameters


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("requests=7", 7),
        ("share=1", 1.0),
        ("namespace=007", "007"),
        ("namespace=true", "true"),
        ("contexts=[a, b]", ["a", "b"]),
        ("contexts=a,b", ["a", "b"]),
        ("strict=no", False),
        ("weights={v1: 3}", {"v1": 3}),
    ],
)
def test_a_command_line_value_is_read_by_the_declared_type(folder: Path, text: str, value: object) -> None:
    write(folder, "01_one.ipynb", passing())
    name = text.partition("=")[0]
    found = runs.plan(folder, given=[text]).steps[0].given[name]
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(
    "text",
    [
        "requests=many",
        "requests=1.5",
        "requests=true",
        "share=nan",
        "share=x",
        "strict=2",
        "contexts=[1]",
        "weights={a: b}",
    ],
)
def test_a_mistyped_value_is_refused(folder: Path, text: str) -> None:
    write(folder, "01_one.ipynb", passing())
    with pytest.raises(UsageError, match="wants"):
        runs.plan(folder, given=[text])


def test_an_unknown_name_is_refused_with_what_may_have_been_meant(folder: Path) -> None:
    write(folder, "01_one.ipynb", passing())
    with pytest.raises(UsageError, match="did you mean namespace"):
        runs.plan(folder, given=["namespcae=sample"])


def test_a_file_may_name_what_only_an_unselected_notebook_knows_but_no_more(folder: Path) -> None:
    write(folder, "01_one.ipynb", passing())
    other = write(folder, "02_two.ipynb", passing())
    other.write_text(other.read_text().replace("namespace: str", "gateway: str"))
    file = folder / "lab.yaml"
    file.write_text("gateway: g\nrequests: 5\n")
    chosen = runs.plan(folder, ["1"], file=file).steps
    assert [step.given for step in chosen] == [{"requests": 5}]
    file.write_text("gatewy: g\n")
    with pytest.raises(UsageError, match="gatewy"):
        runs.plan(folder, file=file)


@pytest.mark.parametrize("content", ["requests: '5'", "contexts: one", "requests: 5.0", "- a", "{", "strict: 1"])
def test_a_file_that_does_not_fit_is_refused(folder: Path, content: str) -> None:
    write(folder, "01_one.ipynb", passing())
    file = folder / "lab.yaml"
    file.write_text(content)
    with pytest.raises(UsageError):
        runs.plan(folder, file=file)


@pytest.mark.parametrize("word", ["1", "01", "one", "01_one", "01_one.ipynb", "notebooks/01_one.ipynb"])
def test_a_stage_is_named_by_number_or_word(folder: Path, word: str) -> None:
    write(folder, "01_one.ipynb", passing())
    write(folder, "02_two.ipynb", passing())
    assert [step.name for step in runs.plan(folder, [word]).steps] == ["01_one"]


def test_a_dry_run_leaves_out_what_changes_something_and_has_no_dry_run(folder: Path) -> None:
    for name in ("00_look", "01_change", "02_outage", "03_more"):
        write(folder, f"{name}.ipynb", passing(), metadata={"meshbook": {"reads_only": name == "00_look"}})
    outage = folder / "02_outage.ipynb"
    outage.write_text(outage.read_text().replace("strict: bool", "dry_run: bool"))
    plan = runs.plan(folder)
    assert [step.name for step in plan.dry(reading_only=True).steps] == ["00_look", "02_outage"]
    everything = plan.dry(reading_only=False)
    assert [step.given for step in everything.steps] == [{}, {}, {"dry_run": True}, {}]


def test_stages_without_a_dry_run_are_not_run_in_one(folder: Path) -> None:
    write(folder, "01_one.ipynb", passing())
    with pytest.raises(UsageError, match="none of these stages has a dry run"):
        runs.plan(folder).dry(reading_only=False)


def test_an_unknown_stage_is_refused(folder: Path) -> None:
    write(folder, "01_connectivity.ipynb", passing())
    with pytest.raises(UsageError, match="did you mean connectivity"):
        runs.plan(folder, ["conectivity"])


def test_two_runs_never_share_a_folder(tmp_path: Path) -> None:
    assert runs.new_folder(tmp_path, "lab").name != runs.new_folder(tmp_path, "lab").name
    runs.new_folder(tmp_path, "lab", "example")
    with pytest.raises(UsageError, match="already"):
        runs.new_folder(tmp_path, "lab", "example")


# Executing


def test_a_notebook_that_leaves_its_verdict_passes(folder: Path) -> None:
    write(folder, "01_one.ipynb", "print(requests)", passing())
    watcher = Watcher()
    record = run(folder, given=["requests=7"], watcher=watcher)
    notebook = executed(record, "01_one.ipynb")
    assert record.outcome == "pass"
    assert watcher.told == ["start 01_one 4", *(f"cell {n} A stage" for n in (1, 2, 3, 4)), "end 01_one pass"]
    assert notebook["cells"][3]["outputs"][0]["text"] == ["7\n"]
    assert notebook["metadata"]["papermill"]["output_path"] == "01_one.ipynb"
    assert json.loads((record.folder / "run.json").read_text())["outcome"] == "pass"


def test_what_a_cell_announces_is_told_at_once_and_without_secrets(folder: Path) -> None:
    path = write(folder, "01_one.ipynb", "print('plan for projects/secret-1')", "print('quiet')", passing())
    notebook = nbformat.read(path, as_version=4)
    notebook.cells[2].metadata["tags"] = ["announce"]
    nbformat.write(notebook, path)
    watcher = Watcher()
    run(folder, watcher=watcher)
    told = [line for line in watcher.told if line.startswith(("announced", "cell"))]
    assert told[1:3] == ["cell 2 A stage", "announced plan for projects/[project]\n"]
    assert "quiet" not in "".join(told)


@pytest.mark.parametrize("outcome", ["fail", "inconclusive"])
def test_a_verdict_that_does_not_pass_is_no_breakdown(folder: Path, outcome: str) -> None:
    write(folder, "01_one.ipynb", VERDICT.format(outcome=outcome))
    record = run(folder)
    notebook = executed(record, "01_one.ipynb")
    assert record.outcome == outcome
    assert marks_of(notebook).verdict is not None
    assert not any("Exception was encountered" in "".join(cell["source"]) for cell in notebook["cells"])
    assert "1 of 1 claims did not pass" in json.dumps(notebook)


@pytest.mark.parametrize(
    ("cells", "error"),
    [
        (["1 / 0", passing()], "ZeroDivisionError"),
        ([passing(), "1 / 0"], "ZeroDivisionError"),
        (["import sys; sys.exit(0)", passing()], "RunError"),
        (["import sys; sys.exit(3)", passing()], "SystemExit"),
        (["import os; os._exit(1)", passing()], "DeadKernelError"),
        (["print('done')"], "RunError"),
        ([passing(), "print('a cell too much')"], "RunError"),
    ],
    ids=["raises", "raises after", "exit 0", "exit 3", "kernel dies", "no mark", "mark not last"],
)
def test_what_does_not_reach_its_verdict_is_an_error(folder: Path, cells: list[str], error: str) -> None:
    write(folder, "01_one.ipynb", *cells)
    record = run(folder)
    assert (record.notebooks[0].state, record.notebooks[0].error) == ("error", error)
    notebook = executed(record, "01_one.ipynb")
    ran = [cell for cell in notebook["cells"] if cell["cell_type"] == "code" and cell["execution_count"]]
    status = [cell["metadata"]["papermill"]["status"] for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert status == ["completed"] * (len(ran) - 1) + ["failed"] + ["pending"] * (len(status) - len(ran))


def test_a_cell_past_its_deadline_is_interrupted_and_its_finally_runs(folder: Path, tmp_path: Path) -> None:
    proof = tmp_path / "proof"
    source = f"import time\ntry:\n    time.sleep(30)\nfinally:\n    open({str(proof)!r}, 'w').close()"
    path = write(folder, "01_one.ipynb", source, passing())
    notebook = nbformat.read(path, as_version=4)
    notebook.cells[2].metadata["meshbook"] = {"timeout_s": 1}
    nbformat.write(notebook, path)
    record = run(folder)
    assert record.notebooks[0].error == "CellTimeout"
    assert proof.exists()


def test_later_stages_are_skipped_after_one_that_did_not_pass(folder: Path) -> None:
    write(folder, "01_one.ipynb", "1 / 0")
    write(folder, "02_two.ipynb", passing())
    record = run(folder)
    assert [ended.state for ended in record.notebooks] == ["error", "skipped"]
    assert record.notebooks[1].message == "not started: 01_one did not pass"


def test_keep_going_runs_them_all_the_same(folder: Path) -> None:
    write(folder, "01_one.ipynb", "1 / 0")
    write(folder, "02_two.ipynb", passing())
    assert [ended.state for ended in run(folder, keep_going=True).notebooks] == ["error", "pass"]


# Signals


def interrupting(number: int, times: int = 1, wait_s: float = 0.7) -> Watcher:
    """Return a watcher that sends this process a signal, soon after code cell 2 has started."""
    watcher = Watcher()

    def send() -> None:
        for _ in range(times):
            time.sleep(wait_s)
            os.kill(os.getpid(), number)

    def on_cell(cell: int) -> None:
        if cell == 2:
            threading.Thread(target=send, daemon=True).start()

    watcher.on_cell = on_cell
    return watcher


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_lets_the_cell_clean_up_then_restores_and_starts_nothing_more(
    folder: Path, tmp_path: Path, number: int
) -> None:
    proof = tmp_path / "proof"
    source = (
        f"import time\ntry:\n    time.sleep(30)\nfinally:\n    time.sleep(1)\n    open({str(proof)!r}, 'w').close()"
    )
    write(folder, "03_one.ipynb", source, passing(), metadata={"meshbook": {"disrupts": True}})
    write(folder, "99_two.ipynb", passing())
    seen: list[Mapping[str, Any]] = []

    def restore(values: Mapping[str, Any]) -> list[str]:
        seen.append(values)
        return ["helloworld-v1 back to 1"]

    watcher = interrupting(number)
    began = time.monotonic()
    record = run(folder, watcher=watcher, restore=restore)
    assert time.monotonic() - began < 15
    assert proof.exists()
    assert [ended.state for ended in record.notebooks] == ["interrupted", "skipped"]
    assert (record.outcome, record.restored) == ("interrupted", ["helloworld-v1 back to 1"])
    assert seen[0]["namespace"] == "sample"
    assert executed(record, "03_one.ipynb")["metadata"]["meshbook"]["state"] == "interrupted"
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_a_second_signal_breaks_off_at_once(folder: Path) -> None:
    source = "import time\ntry:\n    time.sleep(30)\nfinally:\n    time.sleep(30)"
    write(folder, "03_one.ipynb", source, passing())
    began = time.monotonic()
    record = run(folder, watcher=interrupting(signal.SIGINT, times=2))
    assert record.outcome == "interrupted"
    assert time.monotonic() - began < 15


def test_the_first_signal_is_answered_once_and_at_once(folder: Path) -> None:
    write(folder, "03_one.ipynb", "import time\ntry:\n    time.sleep(30)\nfinally:\n    time.sleep(1)", passing())
    heard: list[float] = []
    watcher = interrupting(signal.SIGINT)
    interrupts = runs.Interrupts(told=lambda: heard.append(time.monotonic()))
    run(folder, watcher=watcher, interrupts=interrupts)
    assert len(heard) == 1
    assert time.monotonic() - heard[0] > 1, "before the cell had cleaned up"


def test_a_cell_that_swallows_the_interrupt_is_broken_off_after_the_grace_period(folder: Path) -> None:
    source = "import time\nwhile True:\n    try:\n        time.sleep(30)\n    except KeyboardInterrupt:\n        pass"
    write(folder, "03_one.ipynb", source, passing())
    record = run(folder, watcher=interrupting(signal.SIGINT), grace_s=1)
    assert record.outcome == "interrupted"


def test_a_restore_that_fails_is_told_and_the_run_still_recorded(folder: Path) -> None:
    write(folder, "03_one.ipynb", "1 / 0", metadata={"meshbook": {"disrupts": True}})

    def restore(values: Mapping[str, Any]) -> list[str]:
        raise OutageError("no answer from cluster1")

    record = run(folder, restore=restore)
    assert "no answer from cluster1" in record.restored[0]
    assert "meshbook restore" in record.restored[0]


# Redaction

KUBECONFIG = """\
clusters:
- name: gke_acme-prod_us-central1_one
  cluster:
    server: https://api.acme.example:6443
    certificate-authority-data: LS0tLS1CRUdJTi1DQQ==
    extensions:
    - name: gkehub.googleapis.com
      extension: {token-file: TOKENFILE, project: acme-fleet}
users:
- name: admin
  user:
    token: s3cret-bearer-token
    client-key-data: S0VZREFUQQ==
    auth-provider: {config: {access-token: ya29.abcdefgh}}
"""


@pytest.fixture
def kubeconfig(tmp_path: Path) -> Path:
    (tmp_path / "fleet-token").write_text("fleet-token-value\n")
    path = tmp_path / "kubeconfig"
    path.write_text(KUBECONFIG.replace("TOKENFILE", str(tmp_path / "fleet-token")))
    return path


def test_nothing_secret_is_left_in_an_executed_copy(folder: Path, kubeconfig: Path) -> None:
    leaky = [
        f"text = open({str(kubeconfig)!r}).read()\nprint(text)\ntext",
        "import os, pathlib\nprint(pathlib.Path.home() / 'x', os.getcwd(), '/home/somebody/x', namespace)",
        "print('-----BEGIN CERTIFICATE-----\\nMIIB\\nMIIC\\n-----END CERTIFICATE-----')",
        "print('projects/acme-other/locations/global/memberships/m', '203.0.113.9:443', '2001:db8::7')",
        "raise ValueError(namespace + ' at ' + str(pathlib.Path.home()))",
    ]
    write(folder, "01_one.ipynb", *leaky)
    redactor = Redactor(runs.gather(str(kubeconfig), root=folder.parent), ["addresses"])
    record = run(folder, given=["namespace=s3cret-bearer-token"], redactor=redactor)
    text = "".join(path.read_text(encoding="utf-8") for path in record.folder.iterdir())
    secret = [
        "s3cret-bearer-token", "LS0tLS1CRUdJTi1DQQ", "S0VZREFUQQ", "ya29.abcdefgh", "acme", "MIIB", "somebody",
        str(Path.home()) + "/", str(folder.parent), "203.0.113.9", "2001:db8::7",
    ]  # fmt: skip
    assert [word for word in secret if word in text] == []
    assert "[token]" in text
    assert "~/x" in text


def test_the_token_behind_a_token_file_is_a_secret_too(kubeconfig: Path) -> None:
    found = runs.gather(str(kubeconfig), root=Path("/nowhere"))
    assert found.values["fleet-token-value"] == "[token]"
    assert found.projects == ("acme-fleet", "acme-prod")


def test_contexts_go_on_request_and_charts_with_them() -> None:
    redactor = Redactor(Secrets(contexts=("cluster1", "cluster2")), ["contexts"])
    sizes = {"image/png": {"width": 640}}
    document = {"text": "cluster1: cluster10 cluster2.", "image/png": "cGljdHVyZQ==", "metadata": sizes}
    clean = redactor.document(document)
    assert clean["metadata"] == sizes
    assert clean["text"] == "[context 1]: cluster10 [context 2]."
    assert clean["image/png"] != document["image/png"]


def test_the_same_address_keeps_its_number_and_versions_stay() -> None:
    redactor = Redactor(Secrets(), ["addresses"])
    assert redactor.text("10.0.0.1 10.0.0.2:80 10.0.0.1.") == "[address 1] [address 2]:80 [address 1]."
    assert redactor.text("1.17.5 12:30:45 v1.2.3.4-asm") == "1.17.5 12:30:45 v1.2.3.4-asm"


def test_a_file_that_would_still_leak_is_not_written(folder: Path) -> None:
    class Blind(Redactor):
        def text(self, text: str) -> str:
            return text

    write(folder, "01_one.ipynb", "print('s3cret-bearer-token')", passing())
    record = run(folder, redactor=Blind(Secrets(values={"s3cret-bearer-token": "[token]"})))
    assert record.notebooks[0].state == "error"
    assert not (record.folder / "01_one.ipynb").exists()


def test_what_can_be_redacted_is_told_for_anything_else() -> None:
    with pytest.raises(UsageError, match="addresses, contexts"):
        Redactor(Secrets(), ["names"])
