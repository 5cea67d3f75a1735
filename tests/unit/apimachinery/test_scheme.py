"""The table of kinds, what each of the small ones demands, and OpenAPI."""

import json
import re
from typing import Any

import pytest

from apimachinery import codec, openapi
from apimachinery.builders import make_node, make_pod
from apimachinery.kinds.pod import Pod
from apimachinery.scheme import SCHEME
from apimachinery.shapes import ListShape, StructShape, shape_of


def test_kinds_are_found() -> None:
    pod = SCHEME.by_type(Pod)
    assert SCHEME.by_resource("", "v1", "pods") is pod
    assert SCHEME.by_kind("v1", "Pod") is pod
    assert SCHEME.by_kind("v2", "Pod") is None
    assert [SCHEME.by_name(name) for name in ("po", "pod", "PODS", "Pod")] == [pod] * 4
    lease = SCHEME.by_name("leases.coordination.k8s.io")
    assert lease is not None
    assert (lease.api_version, lease.resource) == ("coordination.k8s.io/v1", "leases.coordination.k8s.io")
    assert SCHEME.group_versions() == [("", "v1"), ("coordination.k8s.io", "v1")]


def test_paths() -> None:
    pod, node = SCHEME.by_type(Pod), SCHEME.by_kind("v1", "Node")
    assert pod.path("a", "d", "status") == "/api/v1/namespaces/d/pods/a/status"
    assert pod.base_path() == "/api/v1/pods"
    assert node is not None
    assert node.path("n", "ignored") == "/api/v1/nodes/n"


@pytest.mark.parametrize("kind", SCHEME.kinds, ids=lambda kind: kind.kind)
def test_every_kind_is_whole(kind: Any) -> None:
    obj = kind.type()
    assert (obj.apiVersion, obj.kind) == (kind.api_version, kind.kind)
    kind.default(obj)
    before = codec.encode(obj)
    kind.default(obj)
    assert codec.encode(obj) == before, "defaulting is not idempotent"
    assert codec.decode(kind, before).object == obj
    assert {"metadata.name", "metadata.namespace"} <= kind.field_labels
    assert set(kind.write_only) <= set(kind.type.__struct_fields__)


def test_merge_keys_are_fields_of_the_elements() -> None:
    seen: set[type[Any]] = set()

    def walk(shape: Any) -> None:
        if isinstance(shape, ListShape):
            if shape.merge_key:
                assert isinstance(shape.item, StructShape)
                assert shape.merge_key in shape.item.fields, shape
            walk(shape.item)
        elif isinstance(shape, StructShape) and shape.type not in seen:
            seen.add(shape.type)
            for known in shape.fields.values():
                walk(known.shape)

    for kind in SCHEME.kinds:
        walk(shape_of(kind.type))
    assert len(seen) > 100


def faults(api_version: str, name: str, body: dict[str, Any]) -> list[str]:
    kind = SCHEME.by_kind(api_version, name)
    assert kind is not None
    metadata = {"name": "a", **({"namespace": "default"} if kind.namespaced else {}), **body.pop("metadata", {})}
    obj = codec.to_object(kind.type, {"metadata": metadata, **body})
    kind.default(obj)
    return [f"{cause.field}: {cause.message}" for cause in kind.causes_on_create(obj)]


@pytest.mark.parametrize(
    ("name", "body", "expected"),
    [
        ("ConfigMap", {"data": {"a": "b"}}, []),
        ("ConfigMap", {"data": {"..": "b"}}, ["data[..]: Invalid value: \"..\": must not be '..'"]),
        (
            "ConfigMap",
            {"data": {"a": "b"}, "binaryData": {"a": ""}},
            ['data[a]: Invalid value: "a": duplicate of key present in binaryData'],
        ),
        ("ConfigMap", {"data": {"a": "x" * 2**20 + "y"}}, [": Too long: may not be more than 1048576 bytes"]),
        ("Secret", {"type": "kubernetes.io/tls", "stringData": {"tls.crt": ""}}, ["data[tls.key]: Required value"]),
        ("Secret", {"stringData": {"a": "b"}}, []),
        ("Namespace", {}, []),
        ("Node", {"spec": {"taints": [{"key": "a", "effect": "NoSchedule"}] * 2}}, None),
        ("Node", {"spec": {"podCIDR": "10.0.0.1/8"}}, None),
        ("Node", {"status": {"capacity": {"cpu": "4"}}}, []),
        ("Event", {"involvedObject": {"namespace": "default"}}, []),
        ("Event", {"involvedObject": {"namespace": "x"}}, None),
        ("ServiceAccount", {}, []),
    ],
)
def test_rules_of_small_kinds(name: str, body: dict[str, Any], expected: list[str] | None) -> None:
    found = faults("v1", name, body)
    assert found == expected if expected is not None else len(found) == 1


def test_rules_of_leases() -> None:
    assert faults("coordination.k8s.io/v1", "Lease", {"spec": {"holderIdentity": "a", "leaseDurationSeconds": 5}}) == []
    assert faults("coordination.k8s.io/v1", "Lease", {"spec": {"leaseDurationSeconds": 0}}) == [
        "spec.leaseDurationSeconds: Invalid value: 0: must be greater than 0"
    ]


@pytest.mark.parametrize("name", ["ConfigMap", "Secret"])
def test_immutable_data_stays(name: str) -> None:
    kind = SCHEME.by_kind("v1", name)
    assert kind is not None
    metadata = {"name": "a", "namespace": "d"}
    old = codec.to_object(kind.type, {"metadata": metadata, "immutable": True, "data": {"a": "aGk="}})
    new = codec.to_object(kind.type, {"metadata": metadata, "data": {"a": "aG8="}})
    why = "Forbidden: field is immutable when `immutable` is set"
    assert [(cause.field, cause.message) for cause in kind.causes_on_update(new, old)] == [
        ("immutable", why),
        ("data", why),
    ]
    assert kind.causes_on_update(old, old) == []


def test_secrets_store_no_plain_text() -> None:
    kind = SCHEME.by_kind("v1", "Secret")
    assert kind is not None
    secret = codec.to_object(kind.type, {"stringData": {"a": "hi"}, "data": {"a": "eA==", "b": "eA=="}})
    kind.default(secret)
    assert codec.to_dict(secret) == {
        "apiVersion": "v1", "kind": "Secret", "metadata": {}, "data": {"a": "aGk=", "b": "eA=="}, "type": "Opaque",
    }  # fmt: skip


def test_new_namespaces() -> None:
    kind = SCHEME.by_kind("v1", "Namespace")
    assert kind is not None
    namespace = codec.to_object(kind.type, {"metadata": {"name": "x"}, "status": {"phase": "Terminating"}})
    kind.default(namespace)
    kind.prepare_create(namespace)
    assert namespace.metadata.labels == {"kubernetes.io/metadata.name": "x"}
    assert (namespace.status.phase, namespace.spec.finalizers) == ("Active", ["kubernetes"])
    changed = codec.clone(namespace)
    changed.spec.finalizers = []
    kind.prepare_update(changed, namespace)
    assert changed.spec.finalizers == ["kubernetes"]


def test_nodes_keep_their_pod_range() -> None:
    kind = SCHEME.by_kind("v1", "Node")
    old, new = make_node("n", pod_cidr="10.0.0.0/24"), make_node("n", pod_cidr="10.0.1.0/24")
    assert kind is not None
    assert [cause.field for cause in kind.causes_on_update(new, old)] == ["spec.podCIDRs"]
    assert kind.causes_on_update(old, make_node("n")) == []


def test_builders_make_what_the_server_would_store() -> None:
    pod = make_pod("a", requests={"cpu": "0.5"}, ports=[80])
    kind = SCHEME.of(pod)
    assert kind.causes_on_create(pod) == []
    assert kind.warnings(pod) == []
    assert (pod.spec.containers[0].resources.requests, pod.metadata.uid) == ({"cpu": "500m"}, "uid-default-a")
    node = make_node("n", extended={"example.com/gpu": "2"}, address="1.2.3.4")
    assert SCHEME.of(node).causes_on_create(node) == []
    assert node.status.allocatable["memory"] == "8Gi"
    assert make_pod("a") == make_pod("a")


def test_field_values() -> None:
    pod = make_pod("a", node_name="n")
    values = SCHEME.of(pod).field_values(pod)
    assert (values["spec.nodeName"], values["status.phase"], values["spec.hostNetwork"]) == ("n", "Pending", "false")


@pytest.fixture(scope="module")
def documents() -> dict[str, Any]:
    return {path: json.loads(data) for path, data in openapi.documents(SCHEME, version="v1.33.0").items()}


def test_every_patch_tells_its_kind_and_takes_field_validation(documents: dict[str, Any]) -> None:
    assert set(documents) == {"api/v1", "apis/coordination.k8s.io/v1"}
    kinds = set()
    for document in documents.values():
        for operations in document["paths"].values():
            if "patch" in operations:
                assert "fieldValidation" in [parameter["name"] for parameter in operations["patch"]["parameters"]]
                kinds.add(operations["patch"]["x-kubernetes-group-version-kind"]["kind"])
    assert kinds == {kind.kind for kind in SCHEME.kinds if "patch" in kind.verbs}


def test_schemas_are_complete_and_carry_merge_keys(documents: dict[str, Any]) -> None:
    for document in documents.values():
        schemas = document["components"]["schemas"]
        wanted = set(re.findall(r'"#/components/schemas/([^"]+)"', json.dumps(document)))
        assert wanted <= set(schemas)
    schemas = documents["api/v1"]["components"]["schemas"]
    containers = schemas["io.k8s.api.core.v1.PodSpec"]["properties"]["containers"]
    assert containers["x-kubernetes-patch-merge-key"] == "name"
    assert containers["items"] == {"$ref": "#/components/schemas/io.k8s.api.core.v1.Container"}
    assert schemas["io.k8s.api.core.v1.Pod"]["x-kubernetes-group-version-kind"] == [
        {"group": "", "version": "v1", "kind": "Pod"}
    ]
    assert "io.k8s.api.coordination.v1.Lease" in documents["apis/coordination.k8s.io/v1"]["components"]["schemas"]
    assert schemas["io.k8s.api.core.v1.ContainerStatus"]["required"] == [
        "name",
        "ready",
        "restartCount",
        "image",
        "imageID",
    ]


def test_the_index_changes_with_the_content() -> None:
    paths = openapi.index({"api/v1": b"{}"})["paths"]
    assert re.fullmatch(r"/openapi/v3/api/v1\?hash=[0-9A-F]{32}", paths["api/v1"]["serverRelativeURL"])
    assert paths != openapi.index({"api/v1": b"[]"})["paths"]
