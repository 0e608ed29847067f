"""The manifests are what the article's commands expect, and each folder holds together."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from meshbook import manifests

FOLDER = Path(__file__).parents[1] / "manifests"
STAGES = sorted(path.name for path in FOLDER.iterdir() if path.is_dir())


def named(objects: list[dict[str, Any]]) -> set[str]:
    return {manifests.title(found) for found in objects}


@pytest.mark.parametrize("stage", STAGES)
def test_the_kustomization_lists_every_file_of_its_folder(stage: str) -> None:
    listed = yaml.safe_load((FOLDER / stage / "kustomization.yaml").read_text())["resources"]
    files = {path.name for path in (FOLDER / stage).glob("*.yaml")} - {"kustomization.yaml"}
    assert set(listed) == files


@pytest.mark.parametrize("stage", STAGES)
def test_kustomize_builds_the_folder(stage: str) -> None:
    built = subprocess.run(["kubectl", "kustomize", FOLDER / stage], capture_output=True, text=True, check=True).stdout
    assert named(manifests.parse(built)) == named(manifests.load(FOLDER / stage))


@pytest.mark.parametrize("stage", STAGES)
def test_no_object_names_a_namespace(stage: str) -> None:
    assert [found for found in manifests.load(FOLDER / stage) if found["metadata"].get("namespace")] == []


@pytest.mark.parametrize(
    ("selector", "expected"),
    [
        ("service=helloworld", {"Service helloworld"}),
        ("version=v1", {"Deployment helloworld-v1"}),
        ("version=v2", {"Deployment helloworld-v2"}),
    ],
)
def test_the_articles_selectors_pick_one_part_each(selector: str, expected: set[str]) -> None:
    assert named(manifests.load(FOLDER / "connectivity" / "helloworld.yaml", selector)) == expected


def objects_of(kind: str) -> list[dict[str, Any]]:
    return [found for stage in STAGES for found in manifests.load(FOLDER / stage) if found["kind"] == kind]


def test_every_deployment_selects_its_own_pods_and_asks_for_resources() -> None:
    for deployment in objects_of("Deployment"):
        template = deployment["spec"]["template"]
        assert deployment["spec"]["selector"]["matchLabels"].items() <= template["metadata"]["labels"].items()
        for container in template["spec"]["containers"]:
            assert set(container["resources"]["requests"]) == {"cpu", "memory"}


def test_images_are_pinned_or_left_to_the_mesh() -> None:
    images = [c["image"] for d in objects_of("Deployment") for c in d["spec"]["template"]["spec"]["containers"]]
    assert all(image == "auto" or (":" in image and not image.endswith(":latest")) for image in images)


def test_services_and_budgets_select_pods_that_exist() -> None:
    labels = [found["spec"]["template"]["metadata"]["labels"] for found in objects_of("Deployment")]
    selectors = [found["spec"]["selector"] for found in objects_of("Service")]
    selectors += [found["spec"]["selector"]["matchLabels"] for found in objects_of("PodDisruptionBudget")]
    selectors += [found["spec"]["template"]["spec"]["selector"] for found in objects_of("MultiClusterService")]
    selectors += [found["spec"]["selector"] for found in objects_of("Gateway")]
    assert all(any(selector.items() <= pod.items() for pod in labels) for selector in selectors)


def test_a_node_drain_can_always_end() -> None:
    (scaler,), (budget,) = objects_of("HorizontalPodAutoscaler"), objects_of("PodDisruptionBudget")
    assert scaler["spec"]["minReplicas"] >= 1
    assert budget["spec"]["maxUnavailable"] >= 1
    assert "minAvailable" not in budget["spec"]


def test_the_ingress_leads_to_the_service_and_its_health_check() -> None:
    (ingress,), (service,) = objects_of("MultiClusterIngress"), objects_of("MultiClusterService")
    (check,) = objects_of("BackendConfig")
    backend = ingress["spec"]["template"]["spec"]["backend"]
    ports = {port["port"] for port in service["spec"]["template"]["spec"]["ports"]}
    assert backend["serviceName"] == service["metadata"]["name"]
    assert {backend["servicePort"], check["spec"]["healthCheck"]["port"]} <= ports
    bound = yaml.safe_load(service["metadata"]["annotations"]["cloud.google.com/backend-config"])
    assert bound == {"default": check["metadata"]["name"]}


def test_the_gateway_may_bind_port_80_without_being_root() -> None:
    gateway = next(found for found in objects_of("Deployment") if found["metadata"]["name"] == "istio-ingressgateway")
    sysctls = gateway["spec"]["template"]["spec"]["securityContext"]["sysctls"]
    assert {"name": "net.ipv4.ip_unprivileged_port_start", "value": "0"} in sysctls
    assert "replicas" not in gateway["spec"]
