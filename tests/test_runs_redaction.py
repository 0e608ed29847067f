"""A run leaves nothing secret behind in what it keeps."""

from __future__ import annotations

import base64
import json
import tempfile
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import yaml
from aiohttp import web
from stage_runs import passing, run, write

from meshbook import charts, runs, tables
from meshbook.errors import UsageError
from meshbook.place import place_of, place_text
from meshbook.runs import Redactor, Secrets

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)
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


CONTEXT, PASSWORD, NUMBER = 'arn:aws:eks:x:cluster/"prod" é', 'pass "word"/&é', "987654321098"
LOGIN = """\
#!/bin/sh
echo '{"apiVersion": "client.authentication.k8s.io/v1", "status": {"token": "a-plugins-own-token"}}'
"""
SAID = f"""
-----BEGIN CERTIFICATE-----\\nMIIB\\n-----END CERTIFICATE-----
projects/acme-other/locations/global/memberships/m acme-third.svc.id.goog ada@other.example process 7 at adas-laptop
203.0.113.9:443 2001:db8::7 /home/somebody/x consumer projects/{NUMBER}
"""
LEAKY = [
    "import html, json, os, sys, tempfile\nfrom functools import partial\nfrom pathlib import Path\n"
    "from urllib.parse import quote\n"
    "import pandas as pd\nfrom meshbook import clusters, errors, notebook",
    "files = [Path(folder, name).read_text() for name in ('kubeconfig', 'token', 'said')]\n"
    "names = json.loads(Path(folder, 'names').read_text())\n"
    "told = [*files, *names, os.getcwd(), str(Path.home() / 'x'), namespace]\n"
    "written = [form(text) for text in told for form in (str, json.dumps, repr, html.escape)]\n"
    "written += [form(name) for name in names for form in (quote, partial(quote, safe=''))]\n"
    "written += [json.dumps(json.dumps(told)), quote('in acme-fleet')]",
    "print(*written, sep='\\n')\nprint(*written, file=sys.stderr)\nwritten",
    "notebook.keep_table(pd.DataFrame({'told': written}), 'told')",
    "display({'application/json': {'projectNumber': 987654321098, 'containerInfo': '987654321098',\n"
    "  'project': 'acme-4', 'user': 'ada'}}, raw=True)",
    "try:\n    clusters.Cluster(clusters.Kubeconfig(str(Path(folder, 'kubeconfig'))), names[0]).version()\n"
    "except errors.ClusterError as error:\n    print(error)",
    "Path(tempfile.mkdtemp(), 'left').write_text('\\n'.join(written))\nos.kill(os.getpid(), 9)",
]


def test_nothing_secret_is_left_in_any_file_of_a_run_whose_kernel_was_killed(
    folder: Path, tmp_path: Path, scripted: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def repeat(request: web.Request) -> web.Response:
        message = f"who is {request.headers['Authorization']}? consumer 'project_number:{NUMBER}'"
        return web.json_response({"message": message}, status=403)

    scripted.script["GET /version"] = [repeat]
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    given = tmp_path / "given"
    given.mkdir()
    document = yaml.safe_load(KUBECONFIG.replace("TOKENFILE", "token"))
    called = {"apiVersion": "client.authentication.k8s.io/v1", "command": "./login", "interactiveMode": "Never"}
    called["env"] = [{"name": "CLIENT_SECRET", "value": "s3cret-of-the-plugin"}]
    document["clusters"] += [{"name": "one", "cluster": {"server": scripted.url}}]
    document["clusters"] += [{"name": "far", "cluster": {"proxy-url": "http://bob:proxy-secret@proxy:3128"}}]
    document["users"] += [{"name": "plugged", "user": {"exec": called}}]
    document["users"] += [{"name": "basic", "user": {"username": "ada", "password": PASSWORD}}]
    document["contexts"] = [{"name": CONTEXT, "context": {"cluster": "one", "user": "plugged"}}]
    files = {"kubeconfig": yaml.safe_dump(document), "token": "fleet-token-value\n", "said": SAID, "login": LOGIN}
    for name, content in {**files, "names": json.dumps([CONTEXT, PASSWORD])}.items():
        (given / name).write_text(content)
    (given / "login").chmod(0o700)
    write(folder, "01_one.ipynb", f"folder = {str(given)!r}", *LEAKY)
    found = runs.gather_secrets(str(given / "kubeconfig"), root=tmp_path, contexts=[CONTEXT])
    record = run(folder, given=["namespace=s3cret-bearer-token"], redactor=Redactor(found, ["addresses", "contexts"]))
    assert record.notebooks[0].error == "DeadKernelError"
    made = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    made = {path: content for path, content in made.items() if path.parent not in (given, folder)}
    assert {path.suffix for path in made if path.parent == record.folder} == {".ipynb", ".csv", ".json"}
    text = (record.folder / "01_one.ipynb").read_text()
    assert [word for word in ("who is Bearer [login]?", "[token]", "[context 1]", "~/x") if word not in text] == []
    secret = [
        "s3cret-bearer-token", "LS0tLS1CRUdJTi1DQQ", "S0VZREFUQQ", "ya29.abcdefgh", "fleet-token-value", "proxy-secret",
        "a-plugins-own-token", "s3cret-of-the-plugin", "acme", NUMBER, "ada@", "adas-laptop", "MIIB", "somebody",
        "203.0.113.9", "2001:db8::7", *written(CONTEXT), *written(PASSWORD),
    ]  # fmt: skip
    assert [(word, path.name) for path, content in made.items() for word in secret if word.encode() in content] == []
    assert [path.name for path in record.folder.iterdir() if str(tmp_path) in path.read_text()] == []


def written(text: str) -> list[str]:
    quoted = json.dumps(text)[1:-1]
    return [text, quoted, json.dumps(quoted)[1:-1], repr(text)[1:-1], quote(text), quote(text, safe=""), escape(text)]


def test_the_token_behind_a_token_file_is_a_secret_too(kubeconfig: Path) -> None:
    found = runs.gather_secrets(str(kubeconfig), root=Path("/nowhere"))
    assert found.values["fleet-token-value"] == "[token]"
    assert found.projects == ("acme-fleet", "acme-prod")


def test_a_proxys_password_and_a_token_beside_the_kubeconfig_are_secrets_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "token").write_text("token-beside-it\n")
    cluster = "{server: 'https://api', proxy-url: 'http://ada:p%40ss%23word@proxy:3128'}"
    (tmp_path / "kubeconfig").write_text(
        f"clusters: [{{cluster: {cluster}}}]\nusers: [{{user: {{tokenFile: token}}}}]\n"
    )
    monkeypatch.setenv("HTTPS_PROXY", "http://bob:environments@proxy:3128")
    redactor = Redactor(runs.gather_secrets(str(tmp_path / "kubeconfig"), root=Path("/nowhere")))
    said = "http://ada:p%40ss%23word@proxy:3128 p@ss#word token-beside-it environments socks5://c:short@proxy"
    shown = redactor.text(said)
    assert [word for word in ("p%40", "ss#", "token-b", "environments", "short") if word in shown] == [], shown
    assert redactor.leaks(said)
    assert redactor.leaks(shown) == []


def test_contexts_go_on_request_and_what_they_are_called_for_short() -> None:
    secrets = Secrets(contexts=("cluster1", "arn:aws:eks:x:cluster/prod"), names={"arn:aws:eks:x:cluster/prod": "prod"})
    redactor = Redactor(secrets, ["contexts"])
    sizes = {"image/png": {"width": 640}}
    document = {"text": "cluster1: cluster10 prod, arn:aws:eks:x:cluster/prod product", "metadata": sizes}
    assert redactor.document(document) == {
        "text": "[context 1]: cluster10 [context 2], [context 2] product",
        "metadata": sizes,
    }


def timeline(name: str) -> str:
    phase = {"part": "outage", "phase": "request accepted", "low_s": 0.0, "high_s": 0.1, "not_after": NOON}
    rows = [{"source": "external client", "cluster": "east", "version": "v1", "error": "", "time": NOON}]
    drawn = tables.from_rows([phase], tables.PHASES), tables.from_rows(rows, tables.ANSWERS)
    png, _ = charts.timeline(*drawn, [f"{'word ' * 21}{name}"])._repr_png_()  # type: ignore[operator]
    return base64.b64encode(png).decode()


def chart(name: str) -> str:
    rows = tables.from_rows([{"source": name, "cluster": name, "version": "v1", "error": ""}], tables.ANSWERS)
    return base64.b64encode(charts.share_by_source(rows)._repr_png_()[0]).decode()  # type: ignore[operator]


@pytest.mark.parametrize(
    ("picture", "on_request", "stays"),
    [
        (chart("ニフクラ"), ["contexts"], True),
        (chart("prod"), ["contexts"], False),
        (chart("prod"), [], True),
        (timeline("a-cluster-in-a-long-name"), ["contexts"], False),
        (chart("ada@acme.example"), [], False),
        ("cGljdHVyZQ==", ["contexts"], False),
        ("cGljdHVyZQ==", [], True),
    ],
    ids=[
        "display name",
        "short form",
        "short form, not asked for",
        "broken in lines",
        "mail address",
        "unknown, asked for",
        "unknown",
    ],
)
def test_a_picture_stays_where_what_it_draws_may_be_shown(picture: str, on_request: list[str], stays: bool) -> None:
    contexts = {"gke_p_z_prod": "prod", "gke_p_z_long": "a-cluster-in-a-long-name"}
    redactor = Redactor(Secrets(contexts=tuple(contexts), names=contexts), on_request)
    assert (redactor.document({"image/png": picture})["image/png"] == picture) is stays


def test_who_asks_goes_with_the_contexts(tmp_path: Path) -> None:
    entries = [{"name": f"c{number}", "context": {"user": user}} for number, user in enumerate(("ada", "oidc-grace"))]
    (tmp_path / "config").write_text(json.dumps({"contexts": entries}))
    secrets = runs.gather_secrets(str(tmp_path / "config"), root=tmp_path, contexts=["c0", "c1"])
    clusters = [
        {"context": f"c{number}", "user": user, "lab": False, "provider": "", "kubernetes": "", "mesh": []}
        for number, user in enumerate(("ada", "oidc-grace"))
    ]
    place = place_of(clusters)
    redactor = Redactor(secrets, ["contexts"])
    clean = redactor.document({"text": place_text(place), "place": place, "more": "ada has adapted (oidc-grace)"})
    assert clean["text"].startswith("[context 1] (as [user 1]), [context 2] (as [user 2]) · ")
    assert " · by [user] · meshbook" in clean["text"]
    assert clean["place"]["user"] == "[user]"
    assert [one["user"] for one in clean["place"]["clusters"]] == ["[user]", "[user]"]
    assert clean["more"] == "ada has adapted ([user 2])"
    assert redactor.leaks(clean) == []


@pytest.mark.parametrize(
    "said",
    [
        '{"project": "987654321098"}',
        r"{\"projectNumber\": \"987654321098\"}",
        "project_number: 987654321098",
        "project #987654321098 is over quota",
        "projects%2F987654321098%2Flocations",
        '"consumer": "projects/987654321098"',
    ],
)
def test_a_projects_number_goes_in_whatever_form_it_is_told(said: str) -> None:
    redactor = Redactor(Secrets())
    assert redactor.leaks(said) == ["[project]"]
    assert "987654321098" not in (clean := redactor.text(said))
    assert redactor.leaks(clean) == []
    assert json.loads(redactor.text('{"project_id": "acme-1", "projects": 987654}')) == {
        "project_id": "[project]",
        "projects": 987654,
    }


CONTEXTS = (
    "connectgateway_my-project-123456_global_b",
    "gke_my-project-123456_asia-northeast1-a_prod-cluster",
    "ada@my-project-123456.iam.gserviceaccount.com",
)


@pytest.mark.parametrize("on_request", [[], ["contexts"]])
@pytest.mark.parametrize("context", CONTEXTS)
def test_a_project_goes_in_whatever_form_a_context_names_it(
    tmp_path: Path, context: str, on_request: list[str]
) -> None:
    (tmp_path / "config").write_text(f"contexts: [{{name: '{context}', context: {{user: u}}}}]\nusers: [7, x]\n")
    redactor = Redactor(runs.gather_secrets(str(tmp_path / "config"), root=tmp_path, contexts=[context]), on_request)
    said = f"{context}: GKE Hub API has not been used in project 987654321098, nor in my-project-123456 (ada@x.example)"
    clean = redactor.text(f"{said}, https://console.example/?project=my-other-1")
    assert [word for word in ("my-project", "my-other", "987654321098", "ada@") if word in clean] == []
    assert clean.startswith("[context 1]: ") is bool(on_request)
    assert redactor.leaks(clean) == []


def test_names_within_longer_names_go_too() -> None:
    secrets = Secrets(contexts=("prod", "prod-eu"), projects=("acme-1",))
    redactor = Redactor(secrets, ["contexts"])
    text = "istio-remote-secret-prod-eu, istio-remote-secret-prod, cn-acme-1-us-central1-gke, product"
    clean = redactor.text(text)
    assert clean == (
        "istio-remote-secret-[context 2], istio-remote-secret-[context 1], cn-[project]-us-central1-gke, product"
    )
    assert redactor.leaks(clean) == []


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
