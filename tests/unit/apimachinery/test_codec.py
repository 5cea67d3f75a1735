"""Decoding as the API server does it: nulls, numbers, unknown and duplicate fields, wrong types, YAML."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apimachinery import codec
from apimachinery.errors import BadRequest
from apimachinery.kinds.configmap import ConfigMap
from apimachinery.kinds.pod import KIND as POD
from apimachinery.kinds.pod import Pod
from apimachinery.kinds.secret import Secret
from apimachinery.meta import ObjectMeta

YAML = "application/yaml"


def decode(body: Any) -> codec.Decoded[Pod]:
    return codec.decode(Pod, body if isinstance(body, bytes) else json.dumps(body).encode())


def container(**fields: Any) -> dict[str, Any]:
    return {"spec": {"containers": [{"name": "a", "image": "b", **fields}]}}


def test_a_plain_pod_keeps_what_it_says() -> None:
    pod = decode({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}, **container()}).object
    assert (pod.metadata.name, pod.spec.containers[0].image) == ("a", "b")
    assert json.loads(codec.encode(pod)) == {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "a"},
        "spec": {"containers": [{"name": "a", "image": "b", "resources": {}}]},
        "status": {},
    }


def test_null_is_absent_everywhere() -> None:
    body = {
        "metadata": {"name": "a", "creationTimestamp": None, "labels": None, "annotations": {"k": None}},
        "spec": {"containers": [{"name": "a", "args": [None], "env": None, "livenessProbe": None, "resources": None}]},
        "status": None,
    }
    decoded = decode(body)
    assert not decoded.faults
    assert decoded.object.metadata == ObjectMeta(name="a", annotations={"k": ""})
    assert decoded.object.spec.containers[0].args == [""]


def test_times_that_go_clients_send_as_null() -> None:
    first = b'{"metadata":{"creationTimestamp":null,"name":"a"},"status":{"conditions":[{"lastProbeTime":null}]}}'
    last = b'{"metadata":{"name":"a","creationTimestamp":null},"spec":{"containers":[{"name":"c","args":null}]}}'
    text = b'{"metadata":{"name":"a","annotations":{"k":"{\\"creationTimestamp\\":null,}"},"creationTimestamp":null}}'
    for body in (first, last, text):
        decoded = decode(body)
        assert (decoded.object.metadata.name, decoded.object.metadata.creationTimestamp, decoded.faults) == (
            "a",
            "",
            [],
        )
    assert decode(text).object.metadata.annotations == {"k": '{"creationTimestamp":null,}'}
    assert decode(b'{"metadata":{"creationTimestamp":null,"creationTimestamp":null}}').duplicates == [
        "metadata.creationTimestamp"
    ]


def test_quantities_become_canonical_and_may_be_numbers() -> None:
    resources = {"limits": {"cpu": 0.5, "memory": "1024Mi"}, "requests": {"cpu": 1, "memory": "0.5Gi"}}
    found = decode(container(resources=resources)).object.spec.containers[0].resources
    assert found.limits == {"cpu": "500m", "memory": "1Gi"}
    assert found.requests == {"cpu": "1", "memory": "512Mi"}
    assert decode(container(resources={"limits": {"cpu": "1000m"}})).object.spec.containers[0].resources.limits == {
        "cpu": "1"
    }


def test_times_become_canonical() -> None:
    pod = decode({"metadata": {"creationTimestamp": "2024-01-01T02:00:00.5+02:00"}}).object
    assert pod.metadata.creationTimestamp == "2024-01-01T00:00:00Z"


def test_all_unknown_fields_are_found_with_their_paths() -> None:
    decoded = decode({**container(imagee="c", ports=[{"containerPort": 1, "x": 2}]), "foo": 1, "status": {"bar": {}}})
    assert decoded.unknown == ["spec.containers[0].imagee", "spec.containers[0].ports[0].x", "foo", "status.bar"]
    assert decoded.faults[0] == 'unknown field "spec.containers[0].imagee"'
    assert decoded.object.spec.containers[0].image == "b"
    error = codec.strict_error(POD, decoded.faults)
    assert error.message.startswith(
        'Pod in version "v1" cannot be handled as a Pod: strict decoding error: unknown field "spec'
    )


def test_duplicates_are_found_with_their_paths() -> None:
    body = (
        b'{"metadata":{"name":"a","name":"b","labels":{"x":"1","x":"2","x":"3"}},'
        b'"spec":{"containers":[{"name":"c","name":"d"}]}}'
    )
    decoded = decode(body)
    assert decoded.duplicates == ["metadata.name", "metadata.labels.x", "spec.containers[0].name"]
    assert decoded.object.metadata.name == "b"
    assert codec.decode(Pod, body, duplicates=False).duplicates == []


@pytest.mark.parametrize(
    "body",
    [
        b'{"metadata":{"annotations":{"a":"\\u0022: x","b":"\\":","c":":8080"}}}',
        b'{"metadata" : {"annotations"\n:{"a":"{\\"x\\": 1, \\"x\\": 2}"}}}',
        b'{"metadata":{"annotations":{"\\u0022:":"a","\\":b":"c"}}}',
    ],
)
def test_colons_in_strings_are_no_duplicates(body: bytes) -> None:
    assert decode(body).duplicates == []


names = st.text(alphabet='ab":\\ u0022', max_size=3)
trees = st.recursive(
    st.none() | st.booleans() | names,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
)


@settings(max_examples=150, deadline=None)
@given(trees, st.sampled_from([(",", ":"), (", ", ": "), (",", " : "), (",\n", "\t:")]), st.booleans())
def test_the_quick_look_for_duplicates_agrees_with_the_long_one(
    tree: Any, separators: tuple[str, str], ascii_only: bool
) -> None:
    text = json.dumps({"a": tree}, separators=separators, ensure_ascii=ascii_only)
    assert codec.duplicate_keys(text.encode()) == []
    doubled = json.dumps({"key": tree}, separators=separators)[:-1] + f'{separators[0]}"key"{separators[1]}1}}'
    assert "key" in codec.duplicate_keys(doubled.encode())


@pytest.mark.parametrize(
    ("body", "parts"),
    [
        (
            container(ports=[{"containerPort": "http"}]),
            ["string", "spec.containers[0].ports[0].containerPort", "int32", '"http"'],
        ),
        (
            container(ports=[{"containerPort": 1.5}]),
            ["number", "spec.containers[0].ports[0].containerPort", "int32", "1.5"],
        ),
        (
            container(ports=[{"containerPort": 2**31}]),
            ["spec.containers[0].ports[0].containerPort", "int32", "2147483648"],
        ),
        (container(args="x"), ["string", "spec.containers[0].args", "list"]),
        (container(image=5), ["number", "spec.containers[0].image", "string", "5"]),
        (container(tty="yes"), ["spec.containers[0].tty", "bool", '"yes"']),
        ({"spec": []}, ["array", "spec", "PodSpec"]),
        ({"metadata": {"labels": {"a": 1}}}, ["metadata.labels.a", "string", "1"]),
        (
            container(resources={"limits": {"cpu": "1x"}}),
            ["spec.containers[0].resources.limits.cpu", "quantities must match", '"1x"'],
        ),
        (
            container(resources={"limits": {"cpu": True}}),
            ["spec.containers[0].resources.limits.cpu", "bool", "Quantity"],
        ),
        ({"metadata": {"creationTimestamp": "soon"}}, ["metadata.creationTimestamp", "parsing time", '"soon"']),
        (b"[]", ["array", "the whole body", "Pod"]),
        (b'{"spec":', ["json parse error"]),
        (b"\xff", ["json parse error"]),
        (b"", ["json parse error"]),
        (b'{"a":' + b"[" * 5000 + b"]" * 5000 + b"}", ["cannot be read as a Pod"]),
    ],
)
def test_what_cannot_be_read_names_place_and_value(body: Any, parts: list[str]) -> None:
    with pytest.raises(BadRequest) as caught:
        decode(body)
    assert caught.value.code == 400
    for part in parts:
        assert part in caught.value.message


def test_a_kind_is_named_in_the_message() -> None:
    with pytest.raises(BadRequest, match='Pod in version "v1" cannot be handled as a Pod: json: cannot unmarshal'):
        codec.decode(POD, b'{"spec": 1}')


def test_bytes_are_base64() -> None:
    secret = codec.decode(Secret, b'{"data":{"a":"aGk=","b":"aGVs\\nbG8="}}').object
    assert secret.data == {"a": b"hi", "b": b"hello"}
    assert codec.to_dict(secret)["data"] == {"a": "aGk=", "b": "aGVsbG8="}
    with pytest.raises(BadRequest, match=r"base64 data in field data\.a"):
        codec.decode(Secret, b'{"data":{"a":"?"}}')


def test_yaml_bodies() -> None:
    body = b"""
metadata:
  name: a
  name: b
  annotations: {on: "yes", when: 2024-01-01}
spec:
  containers:
  - name: c
    image: d
    resources: {limits: {cpu: 0.5}}
    x: 1
"""
    with pytest.raises(BadRequest, match=r"metadata\.annotations\.true|string"):
        codec.decode(Pod, body.replace(b'"yes"', b"yes"), content_type=YAML)
    decoded = codec.decode(Pod, body, content_type=YAML)
    assert decoded.duplicates == ["metadata.name"]
    assert decoded.unknown == ["spec.containers[0].x"]
    assert decoded.object.metadata.annotations["when"] == "2024-01-01"
    assert decoded.object.spec.containers[0].resources.limits == {"cpu": "500m"}


def test_a_broken_yaml_body_is_a_bad_request_with_its_place() -> None:
    with pytest.raises(BadRequest, match="yaml parse error: line 2, column 1"):
        codec.decode(Pod, b"a: [1,\n", content_type=YAML)


def test_round_trips_and_copies() -> None:
    pod = decode(
        {**container(resources={"limits": {"cpu": "1"}}), "metadata": {"name": "a", "labels": {"x": "y"}}}
    ).object
    assert codec.to_object(Pod, codec.to_dict(pod)) == pod
    copy = codec.clone(pod)
    assert copy == pod
    copy.metadata.labels["x"] = "z"
    copy.spec.containers[0].image = "other"
    assert (pod.metadata.labels["x"], pod.spec.containers[0].image) == ("y", "b")


def test_our_own_bytes_are_read_even_when_a_newer_version_wrote_them() -> None:
    assert codec.read(ConfigMap, b'{"data":{"a":"b"},"later":1}').data == {"a": "b"}


def test_converting_reports_unknown_fields() -> None:
    decoded = codec.convert(POD, {"spec": {"containers": [{"nam": "a"}]}})
    assert decoded.unknown == ["spec.containers[0].nam"]


def test_fields_that_kubernetes_always_writes_are_written() -> None:
    body = {"status": {"containerStatuses": [{"name": "a"}]}}
    written = codec.to_dict(decode(body).object)["status"]["containerStatuses"][0]
    assert written == {
        "name": "a", "state": {}, "lastState": {}, "ready": False, "restartCount": 0, "image": "", "imageID": "",
    }  # fmt: skip
