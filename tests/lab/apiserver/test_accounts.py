"""Service accounts: their tokens are for a time, an audience and a pod, and their rights are those of their roles."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from meshbook.lab.apiserver import accounts

Json = dict[str, Any]
ACCOUNTS = "/api/v1/namespaces/default/serviceaccounts"
ROLES = "/apis/rbac.authorization.k8s.io/v1"
REVIEWS = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
NAME = "system:serviceaccount:default:robot"


@pytest.fixture
async def robot(api: Any) -> Any:
    await api.made(ACCOUNTS, {"metadata": {"name": "robot"}})
    return api


async def token_of(api: Any, **spec: Any) -> str:
    body = {"kind": "TokenRequest", "apiVersion": "authentication.k8s.io/v1", "spec": spec}
    return str((await api.made(f"{ACCOUNTS}/robot/token", body))["status"]["token"])


async def bind(api: Any, *rules: Json, cluster_wide: bool = False, **subject: str) -> None:
    kind = "ClusterRole" if cluster_wide else "Role"
    place = ROLES if cluster_wide else f"{ROLES}/namespaces/default"
    await api.made(f"{place}/{kind.lower()}s", {"metadata": {"name": "some"}, "rules": list(rules)})
    who = {"kind": "ServiceAccount", "name": "robot", "namespace": "default"} | subject
    who |= {"apiGroup": "rbac.authorization.k8s.io"} if who["kind"] == "Group" else {}
    reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": "some"}
    binding = {"metadata": {"name": "some"}, "roleRef": reference, "subjects": [who]}
    await api.made(f"{place}/{kind.lower()}bindings", binding)


def rule(*verbs: str, resources: str = "configmaps", group: str = "", names: tuple[str, ...] = ()) -> Json:
    found: Json = {"apiGroups": [group], "resources": resources.split(), "verbs": list(verbs)}
    return found | ({"resourceNames": list(names)} if names else {})


async def test_an_account_says_who_it_is(robot: Any) -> None:
    robot.token = await token_of(robot)
    review = {"kind": "SelfSubjectReview", "apiVersion": "authentication.k8s.io/v1"}
    answer = await robot("POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", review)
    groups = ["system:serviceaccounts", "system:serviceaccounts:default", "system:authenticated"]
    assert answer.body["status"]["userInfo"] == {"username": NAME, "groups": groups}


async def test_without_a_role_an_account_may_do_nothing(robot: Any) -> None:
    robot.token = await token_of(robot)
    refused = await robot("GET", robot.CONFIG_MAPS)
    assert (refused.code, refused.reason) == (403, "Forbidden")
    words = f'User "{NAME}" cannot list resource "configmaps" in API group "" in the namespace "default"'
    assert words in refused.message


@pytest.mark.parametrize(
    ("granted", "allowed"),
    [
        (rule("create"), True),
        (rule("*", resources="*", group="*"), True),
        (rule("get", "list"), False),
        (rule("create", resources="secrets"), False),
        (rule("create", group="apps"), False),
        (rule("create", names=("settings",)), False),
    ],
    ids=["verb", "all", "other verbs", "other resource", "other group", "a name says nothing of what is to be made"],
)
async def test_a_rule_counts_by_verb_group_resource_and_name(robot: Any, granted: Json, allowed: bool) -> None:
    await bind(robot, granted)
    robot.token = await token_of(robot)
    attributes = {"verb": "create", "resource": "configmaps", "namespace": "default"}
    review = {"kind": "SelfSubjectAccessReview", "spec": {"resourceAttributes": attributes}}
    assert (await robot("POST", REVIEWS, review)).body["status"] == {"allowed": allowed}
    assert (await robot("POST", robot.CONFIG_MAPS, robot.config_map())).code == (201 if allowed else 403)


async def test_a_subresource_is_a_right_of_its_own(robot: Any) -> None:
    await robot.made(robot.DEPLOYMENTS, robot.deployment())
    await bind(robot, rule("patch", resources="deployments", group="apps", names=("web",)))
    robot.token = await token_of(robot)
    patch = {"spec": {"replicas": 2}}
    assert (await robot("PATCH", f"{robot.DEPLOYMENTS}/web", patch, type=robot.MERGE)).code == 200
    scaled = await robot("PATCH", f"{robot.DEPLOYMENTS}/web/scale", patch, type=robot.MERGE)
    assert scaled.code == 403
    assert 'cannot patch resource "deployments/scale" in API group "apps"' in scaled.message


async def test_a_role_holds_in_its_namespace_and_a_cluster_role_everywhere(robot: Any) -> None:
    await bind(robot, rule("list"))
    robot.token = await token_of(robot)
    assert (await robot("GET", robot.CONFIG_MAPS)).code == 200
    elsewhere = "/api/v1/namespaces/kube-system/configmaps"
    assert [(await robot("GET", path)).code for path in (elsewhere, "/api/v1/configmaps")] == [403, 403]
    robot.token = "full"
    await bind(robot, rule("list"), cluster_wide=True)
    robot.token = await token_of(robot)
    assert [(await robot("GET", path)).code for path in (elsewhere, "/api/v1/configmaps")] == [200, 200]


@pytest.mark.parametrize("group", ["system:serviceaccounts", "system:serviceaccounts:default", "system:authenticated"])
async def test_groups_of_accounts_can_be_bound(robot: Any, group: str) -> None:
    await bind(robot, rule("list"), kind="Group", name=group)
    robot.token = await token_of(robot)
    assert (await robot("GET", robot.CONFIG_MAPS)).code == 200


async def test_a_token_ends_with_its_time_its_account_and_its_pod(robot: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    uid = (await robot.made(robot.PODS, robot.pod(serviceAccountName="robot")))["metadata"]["uid"]
    bound = {"apiVersion": "v1", "kind": "Pod", "name": "one", "uid": uid}
    tokens = [await token_of(robot), await token_of(robot, boundObjectRef=bound)]
    whoami = ("POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", {"kind": "SelfSubjectReview"})

    async def codes() -> list[int]:
        return [(await robot(*whoami, headers={"Authorization": f"Bearer {token}"})).code for token in tokens]

    assert await codes() == [201, 201]
    with monkeypatch.context() as later:
        later.setattr(accounts.time, "time", lambda: 2**32)
        assert await codes() == [401, 401]
    await robot("DELETE", f"{robot.PODS}/one")
    assert await codes() == [201, 401]
    await robot("DELETE", f"{ACCOUNTS}/robot")
    await robot.made(ACCOUNTS, {"metadata": {"name": "robot"}})
    assert await codes() == [401, 401]


async def test_a_token_that_was_tampered_with_or_is_for_others_is_none(robot: Any) -> None:
    head, body, signature = (await token_of(robot)).split(".")
    claims = json.loads(base64.urlsafe_b64decode(body + "=="))
    other = base64.urlsafe_b64encode(json.dumps(claims | {"sub": "admin"}).encode()).decode().rstrip("=")
    for token in (f"{head}.{other}.{signature}", f"{head}.{body}.", await token_of(robot, audiences=["vault"])):
        robot.token = token
        assert (await robot("GET", robot.CONFIG_MAPS)).code == 401
        robot.token = "full"


async def test_what_cannot_be_asked_for_is_refused(robot: Any) -> None:
    path = f"{ACCOUNTS}/robot/token"
    await robot.made(robot.PODS, robot.pod())
    short = await robot("POST", path, {"spec": {"expirationSeconds": 60}})
    assert (short.code, short.reason) == (422, "Invalid")
    assert "may not specify a duration less than 10 minutes" in short.message
    refusals = {
        404: {"kind": "Pod", "name": "absent"},
        400: {"kind": "Pod", "name": "one"},
        422: {"kind": "Node", "name": "one"},
    }
    for code, reference in refusals.items():
        assert (await robot("POST", path, {"spec": {"boundObjectRef": reference}})).code == code
    assert (await robot("POST", f"{ACCOUNTS}/nobody/token", {"spec": {}})).code == 404
    assert (await robot("GET", path)).code == 405
    robot.token = "reader"
    assert (await robot("POST", path, {"spec": {}})).code == 403


@pytest.mark.parametrize(
    ("account", "pod", "mounted"),
    [({}, {}, True), ({"automountServiceAccountToken": False}, {}, False)]
    + [({"automountServiceAccountToken": not wish}, {"automountServiceAccountToken": wish}, wish) for wish in (0, 1)],
    ids=["by default", "the account wants none", "the pod wants none", "the pod wants one"],
)
async def test_a_pod_gets_a_volume_with_its_token(api: Any, account: Json, pod: Json, mounted: bool) -> None:
    await api.made(ACCOUNTS, {"metadata": {"name": "robot"}, **{name: bool(wish) for name, wish in account.items()}})
    wishes = {name: bool(wish) for name, wish in pod.items()}
    spec = (await api.made(api.PODS, api.pod(serviceAccountName="robot", **wishes)))["spec"]
    mounts = spec["containers"][0].get("volumeMounts", [])
    assert [mount["mountPath"] for mount in mounts] == [accounts.MOUNT_PATH] * mounted
    assert [volume["name"] for volume in spec.get("volumes", [])] == [mount["name"] for mount in mounts]
