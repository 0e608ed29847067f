"""The way to an API server, for requests and commands alike: proxies, TLS, and whom one acts as."""

from __future__ import annotations

import base64
import contextlib
import json
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import web
from cryptography import x509
from proxies import Proxy

from meshbook.clusters import Cluster, Kubeconfig
from meshbook.errors import ClusterError, ExecError, MeshbookError, UsageError
from meshbook.lab.pki import Authority
from meshbook.settings import Patience

QUICK = Patience(connect_s=2, read_s=2, attempts=1, pause_s=0.01)
HOST = "api.example.test"
SERVER = f"https://{HOST}:6443"
EXEC = "GET /api/v1/namespaces/sample/pods/p/exec"
LOGIN = "someone:p@ss/word"
QUOTED = "someone:p%40ss%2Fword"

Write = Callable[..., str]


async def _says_hi(request: web.Request) -> web.StreamResponse:
    socket = web.WebSocketResponse(protocols=("v5.channel.k8s.io", "v4.channel.k8s.io"))
    await socket.prepare(request)
    await socket.send_bytes(b"\1hi\n")
    await socket.send_bytes(b"\3" + json.dumps({"status": "Success"}).encode())
    await socket.close()
    return socket


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("pki"))


def _tls_of(host: str, authority: Authority) -> ssl.SSLContext:
    """Return what a server shows that is ``host`` and no other; it asks for a client's certificate."""
    certificate, key = authority.issue(host, [x509.DNSName(host)])
    chain = authority.folder / f"{host}.pem"
    chain.write_text(certificate + key)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(chain)
    tls.verify_mode = ssl.CERT_OPTIONAL
    tls.load_verify_locations(cadata=authority.root_pem)
    return tls


@pytest.fixture
def secure(background: Any, scripted: Any, authority: Authority) -> Iterator[Any]:
    """Yield a scripted server that is HOST."""
    api = type(scripted)()
    api.script[EXEC] = [_says_hi]
    background.run(api.start(_tls_of(HOST, authority)))
    yield api
    background.run(api.stop())


@pytest.fixture
def kubeconfig(tmp_path: Path, authority: Authority) -> Write:
    """Return a writer of a kubeconfig with one context, c1, whose authority is known."""

    def write(server: str, cluster: dict[str, Any] | None = None, user: dict[str, Any] | None = None) -> str:
        known = {"certificate-authority-data": base64.b64encode(authority.root_pem.encode()).decode()}
        document = {
            "clusters": [{"name": "c1", "cluster": {"server": server, **(known if cluster is None else cluster)}}],
            "users": [{"name": "c1", "user": {"token": "token-of-c1"} if user is None else user}],
            "contexts": [{"name": "c1", "context": {"cluster": "c1", "user": "c1"}}],
        }
        path = tmp_path / "kubeconfig"
        path.write_text(yaml.safe_dump(document))
        return str(path)

    return write


@pytest.fixture
def proxy(background: Any, secure: Any) -> Iterator[Callable[..., Proxy]]:
    started: list[Proxy] = []

    def start(login: str = "", tls: ssl.SSLContext | None = None) -> Proxy:
        started.append(Proxy(secure.url, login))
        background.run(started[-1].start(tls))
        return started[-1]

    yield start
    for one in started:
        background.run(one.stop())


def _cluster(path: str) -> Cluster:
    return Cluster(Kubeconfig(path), "c1", QUICK)


def _hint_of_both(cluster: Cluster, hint: str) -> None:
    with pytest.raises(ClusterError, match=hint):
        cluster.version()
    with pytest.raises(ExecError, match=hint):
        cluster.exec("p", "true", namespace="sample")


def _both_ways(cluster: Cluster) -> None:
    assert cluster.version() == "v1.33.1"
    assert cluster.exec("p", "true", namespace="sample").stdout == "hi\n"
    cluster.connection.close()


@pytest.mark.parametrize("login", ["", LOGIN], ids=["open", "asks for a login"])
@pytest.mark.parametrize("told", ["proxy-url", "HTTPS_PROXY", "https_proxy without a scheme", "socks5"])
def test_requests_and_commands_take_the_proxy(
    proxy: Any, kubeconfig: Write, authority: Authority, monkeypatch: pytest.MonkeyPatch, told: str, login: str
) -> None:
    between, shown = proxy(login), f"{QUOTED}@" if login else ""
    cluster = {"certificate-authority": str(authority.root_file)}
    if told == "socks5":
        pytest.importorskip("socks")
    if "_" in told:
        scheme = "http://" if told.isupper() else ""
        monkeypatch.setenv(told.partition(" ")[0], f"{scheme}{shown}{between.address}")
    else:
        scheme = "socks5" if told == "socks5" else "http"
        cluster["proxy-url"] = f"{scheme}://{shown}{between.address}"
    _both_ways(_cluster(kubeconfig(SERVER, cluster)))
    assert between.asked == 2 * [f"{HOST}:6443"]


@pytest.mark.parametrize("login", ["", LOGIN], ids=["open", "asks for a login"])
def test_requests_and_commands_take_a_proxy_by_tls(
    proxy: Any, kubeconfig: Write, authority: Authority, login: str
) -> None:
    between, shown = proxy(login, _tls_of("localhost", authority)), f"{QUOTED}@" if login else ""
    url = f"https://{shown}{between.address.replace('127.0.0.1', 'localhost')}"
    cluster = {"certificate-authority": str(authority.root_file), "proxy-url": url}
    _both_ways(_cluster(kubeconfig(SERVER, cluster)))
    assert between.asked == 2 * [f"{HOST}:6443"]


def test_a_proxy_that_shows_another_certificate_gets_neither_requests_nor_commands(
    proxy: Any, kubeconfig: Write, authority: Authority
) -> None:
    between = proxy(LOGIN, _tls_of("other.test", authority))
    url = f"https://{QUOTED}@{between.address.replace('127.0.0.1', 'localhost')}"
    cluster = {"certificate-authority": str(authority.root_file), "proxy-url": url}
    _hint_of_both(_cluster(kubeconfig(SERVER, cluster)), r"not valid for 'localhost'[\s\S]*does the proxy")
    assert between.asked == []


@pytest.mark.parametrize("login", ["", "someone:else@"], ids=["none", "a wrong one"])
def test_a_proxy_that_refuses_the_login_is_told_as_such_and_not_the_login(
    proxy: Any, kubeconfig: Write, monkeypatch: pytest.MonkeyPatch, login: str
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", f"http://{login}{proxy(LOGIN).address}")
    _hint_of_both(_cluster(kubeconfig(SERVER)), r"407[\s\S]*does the proxy")


@pytest.mark.parametrize("entry", ["0.0.0.0", "0.0.0.0:{port}", "10.0.0.0/8, 0.0.0.0/31", "*", "x.test,0.0.0.0:1,*"])
def test_no_proxy_leads_requests_and_commands_past_it(
    proxy: Any, secure: Any, kubeconfig: Write, monkeypatch: pytest.MonkeyPatch, entry: str
) -> None:
    between, server = proxy(), secure.url.replace("127.0.0.1", "0.0.0.0")
    monkeypatch.setenv("HTTPS_PROXY", f"http://{between.address}")
    monkeypatch.setenv("NO_PROXY", entry.format(port=server.rpartition(":")[2]))
    _both_ways(_cluster(kubeconfig(server, {"insecure-skip-tls-verify": True})))
    assert between.asked == []


@pytest.mark.parametrize(
    ("entry", "excepted"),
    [
        pytest.param(HOST.upper(), True, id="the host"),
        pytest.param("example.test", True, id="a parent domain"),
        pytest.param(".example.test:6443", True, id="a parent domain and the port"),
        pytest.param("ample.test", False, id="the end of a name is no domain"),
        pytest.param(f"{HOST}:443", False, id="another port"),
        pytest.param("10.0.0.0/8,,", False, id="a network of others"),
    ],
)
def test_no_proxy_excepts_names_as_kubectl_does(
    proxy: Any, kubeconfig: Write, monkeypatch: pytest.MonkeyPatch, entry: str, excepted: bool
) -> None:
    between = proxy()
    monkeypatch.setenv("HTTPS_PROXY", f"http://{between.address}")
    monkeypatch.setenv("NO_PROXY", entry)
    cluster = _cluster(kubeconfig(SERVER))
    if excepted:
        with pytest.raises(ClusterError, match="no answer"):
            cluster.version()  # nobody knows this host's address
    else:
        _both_ways(cluster)
    assert bool(between.asked) is not excepted


def test_no_proxy_is_about_the_proxy_of_the_environment_alone(
    proxy: Any, kubeconfig: Write, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_PROXY", "*")
    url = f"http://{proxy().address}"
    ca = base64.b64encode(authority.root_pem.encode()).decode()
    _both_ways(_cluster(kubeconfig(SERVER, {"proxy-url": url, "certificate-authority-data": ca})))


@pytest.mark.parametrize("password", ["hid#den", "hid/den", "hid?den", "[hidden", "hid:den@den"])
def test_a_proxys_password_is_in_no_error(kubeconfig: Write, password: str) -> None:
    with pytest.raises(MeshbookError) as told:
        _cluster(kubeconfig(SERVER, {"proxy-url": f"http://ada:{password}@localhost:1"})).version()
    assert "hid" not in f"{told.value!r} {told.value}"
    assert "den" not in f"{told.value!r} {told.value}"


# TLS


@pytest.mark.parametrize(
    "cluster",
    [
        pytest.param({"certificate-authority": "pki/root.pem", "tls-server-name": HOST}, id="tls-server-name"),
        pytest.param({"insecure-skip-tls-verify": True}, id="insecure-skip-tls-verify"),
        pytest.param(
            {"certificate-authority": f"pki/{HOST}.pem", "tls-server-name": HOST}, id="the certificate itself"
        ),
    ],
)
def test_requests_and_commands_verify_alike(
    secure: Any, kubeconfig: Write, authority: Authority, cluster: dict[str, Any]
) -> None:
    path = kubeconfig(secure.url, cluster)
    (Path(path).parent / "pki").symlink_to(authority.folder)  # files are beside the kubeconfig, wherever we are
    _both_ways(_cluster(path))


def test_a_server_that_is_not_the_one_expected_gets_neither_requests_nor_commands(
    secure: Any, kubeconfig: Write, tmp_path: Path
) -> None:
    stranger = base64.b64encode(Authority(tmp_path / "stranger").root_pem.encode()).decode()
    for cluster in ({"certificate-authority-data": stranger, "tls-server-name": HOST}, None):
        _hint_of_both(
            _cluster(kubeconfig(secure.url, cluster)), "certificate authority, or its tls-server-name, does not fit"
        )
    assert secure.asked == []


def _who_shows_a_certificate(server: Any, refused: str = "") -> list[str]:
    """Have ``server`` keep the names of those who ask it, and refuse the login of one."""
    seen: list[str] = []

    async def answer(request: web.Request) -> web.StreamResponse:
        seen.append(request.get_extra_info("peercert")["subject"][0][0][1])
        if seen[-1] == refused:
            return web.json_response({"message": "who?"}, status=401)
        return await _says_hi(request) if "exec" in request.path else web.json_response({"gitVersion": "v1.33.1"})

    server.script |= {"GET /version": [answer], EXEC: [answer]}
    return seen


@pytest.mark.parametrize("first", ["request", "command"])
def test_a_plugins_certificate_is_shown_and_replaced_when_it_is_refused(
    secure: Any, kubeconfig: Write, authority: Authority, tmp_path: Path, first: str
) -> None:
    version = "client.authentication.k8s.io/v1"
    for name in ("old", "new"):
        certificate, key = authority.issue(name, [])
        status = {"clientCertificateData": certificate, "clientKeyData": key}
        credential = {"apiVersion": version, "kind": "ExecCredential", "status": status}
        (tmp_path / name).write_text(json.dumps(credential))
    (tmp_path / "plugin").write_text('#!/bin/sh\ncd "${0%/*}"; cat old 2>&- || cat new; rm -f old\n')
    (tmp_path / "plugin").chmod(0o700)
    user = {"exec": {"apiVersion": version, "command": "./plugin", "interactiveMode": "Never"}}
    known = {"certificate-authority": str(authority.root_file), "tls-server-name": HOST}
    seen = _who_shows_a_certificate(secure, refused="old")
    cluster = _cluster(kubeconfig(secure.url, known, user))
    if first == "command":
        assert cluster.exec("p", "true", namespace="sample").stdout == "hi\n"
    _both_ways(cluster)
    assert seen == ["old", *(3 if first == "command" else 2) * ["new"]]


def test_a_client_shows_its_certificate_and_leaves_no_key_in_any_file(
    secure: Any, kubeconfig: Write, authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    monkeypatch.setattr("tempfile.tempdir", None)
    seen = _who_shows_a_certificate(secure)
    pair = dict(zip(("certificate", "key"), authority.issue("me", []), strict=True))
    user = {f"client-{name}-data": base64.b64encode(pem.encode()).decode() for name, pem in pair.items()}
    known = {"certificate-authority": str(authority.root_file), "tls-server-name": HOST}
    _both_ways(_cluster(kubeconfig(secure.url, known, user)))
    assert seen == ["me", "me"]
    assert list((tmp_path / "tmp").iterdir()) == []
    with pytest.raises(UsageError, match="client certificate cannot be used"):
        _cluster(kubeconfig(secure.url, known, {**user, "client-key-data": user["client-certificate-data"]}))


# who asks


def test_requests_and_commands_are_sent_as_whom_the_user_acts_as(
    secure: Any, kubeconfig: Write, authority: Authority
) -> None:
    user = {
        "token": "token-of-admin",
        "as": "see@example.test",
        "as-uid": "u-1",
        "as-groups": ["viewers", "雪"],
        "as-user-extra": {"Scopes/a": ["x", "y"]},
    }
    known = {"certificate-authority": str(authority.root_file), "tls-server-name": HOST}
    cluster = _cluster(kubeconfig(secure.url, known, user))
    for ask in (cluster.version, lambda: cluster.exec("p", "true", namespace="sample")):
        ask()
        sent = [(name, value) for name, value in secure.headers.items() if name.startswith(("Imp", "Auth"))]
        assert sorted((name, value) for name, value in sent) == [
            ("Authorization", "Bearer token-of-admin"),
            ("Impersonate-Extra-scopes%2Fa", "x"),
            ("Impersonate-Extra-scopes%2Fa", "y"),
            ("Impersonate-Group", "viewers"),
            ("Impersonate-Group", "雪"),
            ("Impersonate-Uid", "u-1"),
            ("Impersonate-User", "see@example.test"),
        ]
    cluster.connection.close()


@pytest.mark.parametrize(
    ("cluster", "user", "message"),
    [
        pytest.param({"tls-pins": ["x"]}, {}, "key 'tls-pins', which is not supported", id="unknown key of a cluster"),
        pytest.param({}, {"as-role": "x"}, "key 'as-role', which is not supported", id="unknown key of a user"),
        pytest.param({}, {"as-groups": ["x"]}, "and no as", id="groups of nobody"),
        pytest.param({}, {"token": 7}, "token of user 'c1' in .* is a int", id="wrong type"),
        pytest.param({}, {"token": "a\nb"}, "cannot be sent as Authorization", id="two lines"),
        pytest.param({"proxy-url": "ftp://x"}, {}, "scheme 'ftp' cannot be used", id="proxy of another scheme"),
        pytest.param({"certificate-authority": "no.pem"}, {}, "cannot read the kubeconfig's cert", id="no such file"),
        pytest.param({"certificate-authority-data": "YQ=="}, {}, "authority cannot be used", id="no certificate"),
        pytest.param({}, {"client-certificate-data": "YQ=="}, "without its key", id="half a client certificate"),
        pytest.param({}, {"auth-provider": {"name": "gcp"}}, r"gcp[\s\S]*gke-gcloud-auth-plugin", id="gcp"),
        pytest.param({}, {"auth-provider": {"name": "azure"}}, r"azure[\s\S]*kubelogin", id="azure"),
        pytest.param(
            {}, {"auth-provider": {"name": "oidc", "config": {"id-token": "e30.eyJleHAiOjF9.x"}}}, "expired", id="oidc"
        ),
    ],
)
def test_what_cannot_be_obeyed_refuses_the_context(
    kubeconfig: Write, cluster: dict[str, Any], user: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        _cluster(kubeconfig(SERVER, cluster, user))


def _with_nonsense(document: Any, nonsense: Any) -> Iterator[Any]:
    """Yield the document once for each place in it, with ``nonsense`` there."""
    yield nonsense
    for key, value in document.items() if isinstance(document, dict) else enumerate(document):
        for changed in _with_nonsense(value, nonsense) if isinstance(value, dict | list) else [nonsense]:
            copy = document.copy()
            copy[key] = changed
            yield copy


@pytest.mark.parametrize("nonsense", [7, "x/y", ["a"], {7: {}}], ids=repr)
def test_a_kubeconfig_with_nonsense_in_any_place_is_refused_in_a_line_or_serves(
    kubeconfig: Write, nonsense: Any
) -> None:
    plugin = {"apiVersion": "v1", "command": "./x", "args": ["a"], "env": [{"name": "a", "value": "b"}]}
    user = {"tokenFile": "x", "client-key": "x", "client-certificate": "x", "exec": plugin, "as": "a"}
    user |= {"as-user-extra": {"a": ["b"]}, "auth-provider": {"name": "oidc", "config": {"id-token": "a.b.c"}}}
    extensions = [{"name": "client.authentication.k8s.io/exec", "extension": {"a": "b"}}]
    for chosen in (user, {"exec": {**plugin, "apiVersion": "client.authentication.k8s.io/v1"}}):
        path = Path(kubeconfig(SERVER, {"insecure-skip-tls-verify": True, "extensions": extensions}, chosen))
        for document in _with_nonsense(yaml.safe_load(path.read_text()), nonsense):
            path.write_text(json.dumps(document))
            with contextlib.suppress(UsageError):
                read = Kubeconfig(str(path))
                read.require(["c1"])
                Cluster(read, "c1", QUICK)


@pytest.mark.parametrize("server", ["https://[::1", "https://h:port", "ftp://x", "nothing", "https://"])
def test_a_server_that_is_no_address_refuses_the_context(kubeconfig: Write, server: str) -> None:
    with pytest.raises(UsageError, match="'c1'"):
        _cluster(kubeconfig(server))


@pytest.mark.parametrize("server", ["https://me:s3cret@192.0.2.1:6443", "https:/me:s3cret@192.0.2.1"])
def test_a_login_in_a_servers_url_refuses_the_context_and_is_not_told(kubeconfig: Write, server: str) -> None:
    with pytest.raises(UsageError, match="there is a login in the URL of its server") as caught:
        _cluster(kubeconfig(server))
    assert "s3cret" not in str(caught.value)


def test_no_login_goes_to_another_machine_in_the_clear(scripted: Any, kubeconfig: Write) -> None:
    scripted.script[EXEC] = [_says_hi]
    cluster = _cluster(kubeconfig(scripted.url.replace("127.0.0.1", "0.0.0.0"), {}))
    for ask in (cluster.version, lambda: cluster.exec("p", "true", namespace="sample")):
        ask()
        assert "Authorization" not in scripted.headers
    cluster.connection.close()
