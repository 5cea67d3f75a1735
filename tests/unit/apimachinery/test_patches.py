"""Patches, with bodies as kubectl sends them."""

import copy
from typing import Any

import pytest

from apimachinery import codec, patch
from apimachinery.errors import BadRequest, Invalid, RequestEntityTooLarge, UnsupportedMediaType
from apimachinery.kinds.node import KIND as NODE
from apimachinery.kinds.pod import KIND as POD


def pod() -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": "web",
            "labels": {"app": "web", "old": "1"},
            "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{}"},
            "finalizers": ["x.io/a", "x.io/b"],
            "ownerReferences": [{"uid": "1", "name": "rs"}],
        },
        "spec": {
            "containers": [
                {
                    "name": "web",
                    "image": "nginx:1",
                    "args": ["a", "b"],
                    "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}],
                    "ports": [{"containerPort": 80, "protocol": "TCP"}],
                    "volumeMounts": [{"name": "kube-api-access-x", "mountPath": "/var/run/secrets"}],
                },
                {"name": "injected", "image": "proxy:1"},
            ],
            "volumes": [
                {"name": "data", "emptyDir": {}},
                {"name": "kube-api-access-x", "projected": {"defaultMode": 420}},
            ],
            "tolerations": [{"key": "a", "operator": "Exists"}],
            "nodeSelector": {"disk": "ssd"},
        },
        "status": {"conditions": [{"type": "Ready", "status": "False"}, {"type": "PodScheduled", "status": "True"}]},
    }


def merged(body: dict[str, Any], doc: dict[str, Any] | None = None) -> Any:
    doc = doc or pod()
    before, sent = copy.deepcopy(doc), copy.deepcopy(body)
    found = patch.strategic_merge(doc, body, POD)
    assert (doc, body) == (before, sent), "the arguments were changed"
    return found


def names(items: list[dict[str, Any]], key: str = "name") -> list[Any]:
    return [item[key] for item in items]


def test_a_second_apply() -> None:
    """A changed image, a variable gone and one more, a label gone: the body that kubectl apply computes."""
    found = merged(
        {
            "metadata": {
                "annotations": {"kubectl.kubernetes.io/last-applied-configuration": '{"a":1}\n'},
                "labels": {"old": None, "new": "2"},
            },
            "spec": {
                "$setElementOrder/containers": [{"name": "web"}],
                "containers": [
                    {
                        "$setElementOrder/env": [{"name": "C"}, {"name": "A"}],
                        "env": [{"$patch": "delete", "name": "B"}, {"name": "C", "value": "3"}],
                        "image": "nginx:2",
                        "name": "web",
                    }
                ],
            },
        }
    )
    web, injected = found["spec"]["containers"]
    assert web["image"] == "nginx:2"
    assert web["env"] == [{"name": "C", "value": "3"}, {"name": "A", "value": "1"}]
    assert web["args"] == ["a", "b"]
    assert names(web["volumeMounts"], "mountPath") == ["/var/run/secrets"]
    assert injected == {"name": "injected", "image": "proxy:1"}
    assert found["metadata"]["labels"] == {"app": "web", "new": "2"}


def test_kubectl_set_image() -> None:
    body = {
        "spec": {
            "$setElementOrder/containers": [{"name": "web"}, {"name": "injected"}],
            "containers": [{"image": "proxy:2", "name": "injected"}],
        }
    }
    found = merged(body)["spec"]["containers"]
    assert [(item["name"], item["image"]) for item in found] == [("web", "nginx:1"), ("injected", "proxy:2")]


def test_order_keeps_what_only_the_server_knows_near_its_place() -> None:
    doc = pod()
    doc["spec"]["containers"] = [{"name": name} for name in ("a", "s1", "b", "s2", "c")]
    body = {
        "spec": {
            "$setElementOrder/containers": [{"name": "c"}, {"name": "new"}, {"name": "a"}],
            "containers": [{"name": "new"}, {"name": "b", "$patch": "delete"}],
        }
    }
    assert names(merged(body, doc)["spec"]["containers"]) == ["s1", "s2", "c", "new", "a"]


def test_what_is_new_goes_to_the_end_without_an_order() -> None:
    found = merged(
        {"spec": {"containers": [{"name": "new", "image": "x", "env": None}, {"name": "web", "image": "y"}]}}
    )
    # The rule of Kubernetes: what the patch names stands in the patch's order.
    assert sorted(names(found["spec"]["containers"])) == ["injected", "new", "web"]
    assert names(found["spec"]["containers"]).index("new") < names(found["spec"]["containers"]).index("web")
    assert found["spec"]["containers"][names(found["spec"]["containers"]).index("new")] == {"name": "new", "image": "x"}


def test_volumes_change_their_source_by_retain_keys() -> None:
    body = {
        "spec": {
            "$setElementOrder/volumes": [{"name": "data"}],
            "volumes": [{"$retainKeys": ["name", "configMap"], "configMap": {"name": "c"}, "name": "data"}],
        }
    }
    found = merged(body)["spec"]["volumes"]
    assert found[0] == {"name": "data", "configMap": {"name": "c"}}
    assert names(found) == ["data", "kube-api-access-x"]
    with pytest.raises(BadRequest, match="lacks configMap"):
        merged({"spec": {"volumes": [{"$retainKeys": ["name"], "configMap": {"name": "c"}, "name": "data"}]}})


def test_lists_without_a_merge_key_are_replaced() -> None:
    found = merged({"spec": {"tolerations": [{"key": "b"}], "containers": [{"name": "web", "args": ["c"]}]}})
    assert found["spec"]["tolerations"] == [{"key": "b"}]
    web = next(item for item in found["spec"]["containers"] if item["name"] == "web")
    assert web["args"] == ["c"]


def test_sets_of_scalars() -> None:
    found = merged({"metadata": {"finalizers": ["x.io/c"], "$deleteFromPrimitiveList/finalizers": ["x.io/a"]}})
    assert sorted(found["metadata"]["finalizers"]) == ["x.io/b", "x.io/c"]
    body = {
        "metadata": {
            "$setElementOrder/finalizers": ["x.io/c", "x.io/b"],
            "$deleteFromPrimitiveList/finalizers": ["x.io/a"],
            "finalizers": ["x.io/c"],
        }
    }
    assert merged(body)["metadata"]["finalizers"] == ["x.io/c", "x.io/b"]


def test_conditions_merge_by_type() -> None:
    body = {
        "status": {
            "$setElementOrder/conditions": [{"type": "Ready"}, {"type": "PodScheduled"}],
            "conditions": [{"type": "Ready", "status": "True"}],
        }
    }
    assert [item["status"] for item in merged(body)["status"]["conditions"]] == ["True", "True"]


def test_directives_on_maps_and_lists() -> None:
    assert merged({"spec": {"nodeSelector": {"$patch": "replace", "zone": "a"}}})["spec"]["nodeSelector"] == {
        "zone": "a"
    }
    assert merged({"spec": {"nodeSelector": {"$patch": "delete"}}})["spec"]["nodeSelector"] == {}
    assert merged({"spec": {"nodeSelector": None}})["spec"].get("nodeSelector") is None
    body = {"spec": {"containers": [{"$patch": "replace"}, {"name": "only", "image": "x"}]}}
    assert merged(body)["spec"]["containers"] == [{"name": "only", "image": "x"}]


def test_owner_references_merge_by_uid() -> None:
    found = merged({"metadata": {"ownerReferences": [{"uid": "2", "name": "b"}, {"$patch": "delete", "uid": "1"}]}})
    assert found["metadata"]["ownerReferences"] == [{"uid": "2", "name": "b"}]


def test_an_empty_patch_changes_nothing() -> None:
    assert merged({}) == pod()


@pytest.mark.parametrize(
    ("body", "part"),
    [
        ({"spec": {"$patch": "explode"}}, "unknown patch type: 'explode'"),
        ({"spec": {"$foo": 1}}, 'unknown directive "$foo"'),
        ({"spec": {"containers": [{"image": "x"}]}}, "without the merge key 'name'"),
        ({"spec": {"containers": [{"$patch": "delete"}]}}, "without the merge key 'name'"),
        ({"spec": {"containers": [{"name": "a", "$patch": "x"}]}}, "unknown patch type: 'x'"),
        ({"spec": {"containers": ["x"]}}, "'x' in a list of objects"),
        ({"spec": {"$setElementOrder/containers": "x"}}, '"$setElementOrder/containers" must be a list'),
        (
            {"spec": {"$setElementOrder/containers": [{"name": "z"}], "containers": [{"name": "web"}]}},
            'does not match "$setElementOrder/containers"',
        ),
        ({"metadata": {"finalizers": [{}]}}, "an object in a list of scalars"),
        ({"metadata": {"$deleteFromPrimitiveList/finalizers": 1}}, "must be a list"),
        ({"spec": {"volumes": [{"name": "data", "$retainKeys": 1}]}}, '"$retainKeys" must be a list'),
        ([], "is an object"),
    ],
)
def test_malformed_strategic_patches(body: Any, part: str) -> None:
    with pytest.raises(BadRequest) as caught:
        patch.strategic_merge(pod(), body, POD)
    assert part in caught.value.message


def test_unknown_fields_are_left_for_the_decoder() -> None:
    found = merged({"spec": {"imagee": {"a": None, "b": 1}}})
    assert codec.convert(POD, found).unknown == ["spec.imagee"]


def test_nodes() -> None:
    """kubectl cordon and taint; a heartbeat of an agent."""
    node = {"spec": {"taints": [{"key": "a", "effect": "NoSchedule"}], "podCIDRs": ["10.0.0.0/24"]}, "status": {}}
    found = patch.strategic_merge(node, {"spec": {"unschedulable": True, "taints": [{"key": "b"}]}}, NODE)
    assert found["spec"] == {"taints": [{"key": "b"}], "podCIDRs": ["10.0.0.0/24"], "unschedulable": True}
    body = {
        "status": {
            "$setElementOrder/conditions": [{"type": "Ready"}],
            "conditions": [{"type": "Ready", "status": "True"}],
        }
    }
    assert patch.strategic_merge(node, body, NODE)["status"]["conditions"] == [{"type": "Ready", "status": "True"}]


def test_merge_patch() -> None:
    doc = pod()
    found = patch.merge_patch(
        doc, {"metadata": {"labels": {"old": None, "n": {"x": None, "y": 1}}}, "spec": {"tolerations": []}}
    )
    assert found["metadata"]["labels"] == {"app": "web", "n": {"y": 1}}
    assert found["spec"]["tolerations"] == []
    assert doc == pod()
    with pytest.raises(BadRequest, match="merge patch is an object"):
        patch.merge_patch(doc, [])


def test_json_patch() -> None:
    doc = pod()
    operations = [
        {"op": "test", "path": "/spec/containers/0/image", "value": "nginx:1"},
        {"op": "replace", "path": "/spec/containers/0/image", "value": "nginx:2"},
        {"op": "add", "path": "/metadata/labels/x.io~1y", "value": "z"},
        {"op": "remove", "path": "/spec/tolerations/0"},
        {"op": "copy", "from": "/metadata/labels", "path": "/metadata/annotations"},
        {"op": "move", "from": "/metadata/finalizers/0", "path": "/metadata/finalizers/1"},
    ]
    found = patch.json_patch(doc, operations)
    assert found["spec"]["containers"][0]["image"] == "nginx:2"
    assert found["metadata"]["labels"]["x.io/y"] == "z"
    assert found["metadata"]["annotations"] == found["metadata"]["labels"]
    assert found["metadata"]["finalizers"] == ["x.io/b", "x.io/a"]
    assert found["spec"]["tolerations"] == []
    assert doc == pod()


@pytest.mark.parametrize(
    "operation",
    [
        {"op": "test", "path": "/spec/containers/0/image", "value": "other"},
        {"op": "test", "path": "/spec/nope", "value": 1},
        {"op": "remove", "path": "/spec/nope"},
        {"op": "replace", "path": "/spec/containers/9", "value": {}},
        {"op": "add", "path": "/a/b/c", "value": 1},
        {"op": "add", "value": 1},
        {"op": "add", "path": "/a"},
        {"op": "boil", "path": "/a"},
        {"path": "/a"},
        {"op": "copy", "from": "/nope", "path": "/a"},
        {"op": "copy", "path": "/a"},
        {"op": "add", "path": 5, "value": 1},
    ],
)
def test_json_patches_that_do_not_fit(operation: dict[str, Any]) -> None:
    with pytest.raises(Invalid) as caught:
        patch.json_patch(pod(), [operation])
    assert caught.value.code == 422
    assert "operation 0" in caught.value.message


def test_json_patches_have_bounds() -> None:
    with pytest.raises(RequestEntityTooLarge, match="10000, got 10001"):
        patch.json_patch({}, [{"op": "add", "path": "/a", "value": 1}] * 10001)
    bomb = [{"op": "add", "path": "/a", "value": ["x" * 1000]}]
    bomb += [{"op": "copy", "from": "/a", "path": "/a/-"}] * 40
    with pytest.raises(RequestEntityTooLarge, match="may copy at most"):
        patch.json_patch({}, bomb)
    with pytest.raises(BadRequest):
        patch.json_patch({}, {"op": "add"})
    with pytest.raises(BadRequest, match="makes the object a list"):
        patch.json_patch({}, [{"op": "replace", "path": "", "value": []}])


def test_the_media_type_chooses() -> None:
    assert patch.apply("application/merge-patch+json; charset=utf-8", {"a": 1}, {"b": 2}) == {"a": 1, "b": 2}
    assert patch.apply(patch.JSON_PATCH, {"a": 1}, [{"op": "remove", "path": "/a"}]) == {}
    assert patch.apply(patch.STRATEGIC_PATCH, {}, {"metadata": {"name": "a"}}, POD) == {"metadata": {"name": "a"}}
    with pytest.raises(UnsupportedMediaType, match="merge-patch"):
        patch.apply(patch.STRATEGIC_PATCH, {}, {})
    with pytest.raises(UnsupportedMediaType):
        patch.apply("text/plain", {}, {}, POD)
