from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from meshbook.lab.kubelet.execution import CannotRun, Execution, expanded, is_proxy, of_container


def execution(pod: Any, index: int = 0) -> Execution:
    container = pod["spec"]["containers"][index]
    return of_container(pod, container, pod_ip="127.64.11.5", host_ip="127.64.10.2", cwd=Path("/"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [("$(A)", "1"), ("x$(A)y$(A)", "x1y1"), ("$(UNKNOWN)", "$(UNKNOWN)"), ("$$(A)", "$(A)"), ("$A", "$A")],
)
def test_references_are_expanded_as_kubernetes_does(text: str, expected: str) -> None:
    assert expanded(text, {"A": "1"}) == expected


def test_command_and_args_may_refer_to_the_environment(specs: Any) -> None:
    env = [{"name": "A", "value": "1"}, {"name": "B", "value": "$(A)2"}]
    found = execution(specs.pod(specs.app("echo $(B)", env=env, args=["$(A)"])))
    assert found.argv == ("/bin/sh", "-c", "echo 12", "1")


def test_a_pod_with_a_sidecar_speaks_through_it(specs: Any) -> None:
    pod = specs.pod(specs.app(), specs.proxy())
    assert execution(pod).environment["http_proxy"] == "http://127.64.11.5:15001"
    assert execution(pod).environment["no_proxy"] == "localhost,127.0.0.0/8"
    assert "http_proxy" not in execution(pod, 1).environment
    assert "http_proxy" not in execution(specs.pod()).environment


def test_fields_of_the_pod_can_be_asked_for(specs: Any) -> None:
    paths = ["metadata.name", "metadata.labels['app']", "metadata.labels['none']", "status.podIP", "spec.nodeName"]
    env = [{"name": f"V{n}", "valueFrom": {"fieldRef": {"fieldPath": path}}} for n, path in enumerate(paths)]
    environment = execution(specs.pod(specs.app(env=env))).environment
    assert [environment[f"V{n}"] for n in range(5)] == ["web-0", "web", "", "127.64.11.5", "cluster1-node-1"]


def test_the_version_of_the_sample_can_be_overridden(specs: Any) -> None:
    assert execution(specs.pod(specs.web())).environment["SERVICE_VERSION"] == "v1"
    env = [{"name": "SERVICE_VERSION", "value": "v9"}]
    assert execution(specs.pod(specs.web(env=env))).environment["SERVICE_VERSION"] == "v9"


@pytest.mark.parametrize(
    "fields",
    [
        {"envFrom": [{"configMapRef": {"name": "c"}}]},
        {"env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]},
        {"lifecycle": {"preStop": {"sleep": {"seconds": 1}}}},
        {"restartPolicy": "Always"},
        {"env": [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "spec.nothing"}}}]},
    ],
)
def test_what_the_lab_cannot_provide_is_refused(specs: Any, fields: dict[str, Any]) -> None:
    with pytest.raises(CannotRun, match="the lab does not do") as refusal:
        execution(specs.pod(specs.app(**fields)))
    assert refusal.value.reason == "CreateContainerConfigError"


def test_proxies_are_told_by_their_image(specs: Any) -> None:
    assert is_proxy(specs.proxy())
    assert not is_proxy(specs.app())
    assert not is_proxy({"name": "x", "image": "unknown"})
