"""A container's environment: order, expansion, references, the downward API."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apimachinery.kinds.configmap import ConfigMap
from apimachinery.kinds.pod import Container, Pod
from apimachinery.kinds.pod_container import (
    ConfigMapEnvSource,
    ConfigMapKeySelector,
    EnvFromSource,
    EnvVar,
    EnvVarSource,
    ResourceRequirements,
    SecretEnvSource,
    SecretKeySelector,
)
from apimachinery.kinds.pod_volumes import ObjectFieldSelector, ResourceFieldSelector
from apimachinery.kinds.secret import Secret
from nodeagent.environment import ConfigError, Objects, Place, environment, expand, referenced, skipped_keys
from tests.unit.nodeagent.pods import container, pod

OBJECTS = Objects(
    {"cm": ConfigMap(data={"a": "1", "b": "2", "bad=key": "x"}), "none": None},
    {"s": Secret(data={"password": b"hush", "raw": b"\xff"}), "none": None},
)
PLACE = Place(("10.1.0.2", "fd00::2"), "10.0.0.1", {"cpu": "4", "memory": "8Gi"})


def env(*variables: EnvVar, sources: tuple[EnvFromSource, ...] = (), subject: Pod | None = None) -> dict[str, str]:
    holder = container(env=list(variables), envFrom=list(sources))
    return environment(holder, subject or pod(holder), OBJECTS, PLACE)


def source(**fields: object) -> EnvVarSource:
    return EnvVarSource(**fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain", "plain"),
        ("$(A)", "1"),
        ("x$(A)y$(B)", "x1y2"),
        ("$(NO)", "$(NO)"),
        ("$$(A)", "$(A)"),
        ("$$$(A)", "$1"),
        ("$A", "$A"),
        ("$(A", "$(A"),
        ("$", "$"),
        ("$()", "$()"),
    ],
)
def test_expansion(text: str, expected: str) -> None:
    assert expand(text, {"A": "1", "B": "2"}) == expected


@given(st.text(alphabet="$()AB "))
def test_expansion_never_fails_and_leaves_text_without_dollars(text: str) -> None:
    assert isinstance(expand(text, {"A": "1"}), str)
    if "$" not in text:
        assert expand(text, {"A": "1"}) == text


def test_later_variables_see_earlier_ones_and_env_wins_over_env_from() -> None:
    found = env(
        EnvVar(name="a", value="mine"),
        EnvVar(name="C", value="$(a)-$(b)-$(D)"),
        EnvVar(name="D", value="later"),
        sources=(EnvFromSource(configMapRef=ConfigMapEnvSource(name="cm")),),
    )
    assert found == {"a": "mine", "b": "2", "C": "mine-2-$(D)", "D": "later"}


def test_prefix_secrets_and_skipped_keys() -> None:
    sources = (EnvFromSource(prefix="P_", configMapRef=ConfigMapEnvSource(name="cm")),)
    assert env(sources=sources) == {"P_a": "1", "P_b": "2"}
    assert skipped_keys(container(envFrom=list(sources)), OBJECTS) == ["bad=key"]
    key = SecretKeySelector(name="s", key="password")
    assert env(EnvVar(name="P", valueFrom=source(secretKeyRef=key))) == {"P": "hush"}


@pytest.mark.parametrize(
    ("given_source", "message"),
    [
        (source(configMapKeyRef=ConfigMapKeySelector(name="no", key="k")), 'configmap "no" not found'),
        (source(secretKeyRef=SecretKeySelector(name="none", key="k")), 'secret "none" not found'),
        (
            source(configMapKeyRef=ConfigMapKeySelector(name="cm", key="k")),
            "couldn't find key k in ConfigMap default/cm",
        ),
        (source(secretKeyRef=SecretKeySelector(name="s", key="raw")), "not text"),
        (source(fieldRef=ObjectFieldSelector(fieldPath="spec.nope")), "unsupported fieldPath: spec.nope"),
        (source(resourceFieldRef=ResourceFieldSelector(resource="limits.gpu")), "unsupported container resource"),
    ],
)
def test_what_cannot_be_made_says_why(given_source: EnvVarSource, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        env(EnvVar(name="X", valueFrom=given_source))


def test_optional_references_may_be_missing() -> None:
    optional = source(configMapKeyRef=ConfigMapKeySelector(name="no", key="k", optional=True))
    sources = (EnvFromSource(secretRef=SecretEnvSource(name="none", optional=True)),)
    assert env(EnvVar(name="X", valueFrom=optional), sources=sources) == {}


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("metadata.name", "p"),
        ("metadata.namespace", "default"),
        ("metadata.uid", "uid-p"),
        ("metadata.labels['app']", "web"),
        ("metadata.annotations['no']", ""),
        ("spec.nodeName", "n1"),
        ("status.podIP", "10.1.0.2"),
        ("status.podIPs", "10.1.0.2,fd00::2"),
        ("status.hostIP", "10.0.0.1"),
    ],
)
def test_fields(path: str, value: str) -> None:
    subject = pod()
    subject.metadata.labels = {"app": "web"}
    assert env(EnvVar(name="X", valueFrom=source(fieldRef=ObjectFieldSelector(fieldPath=path))), subject=subject) == {
        "X": value
    }


@pytest.mark.parametrize(
    ("resource", "divisor", "value"),
    [
        ("limits.cpu", "", "2"),  # 1500m rounded up
        ("limits.cpu", "1m", "1500"),
        ("requests.cpu", "1m", "250"),
        ("limits.memory", "1Mi", "64"),
        ("requests.memory", "1Mi", "64"),  # a limit stands in for the request
        ("limits.ephemeral-storage", "1Gi", "0"),
    ],
)
def test_resources(resource: str, divisor: str, value: str) -> None:
    limits = ResourceRequirements(requests={"cpu": "250m"}, limits={"cpu": "1500m", "memory": "64Mi"})
    reference = ResourceFieldSelector(resource=resource, divisor=divisor)
    holder: Container = container(
        resources=limits, env=[EnvVar(name="X", valueFrom=source(resourceFieldRef=reference))]
    )
    assert environment(holder, pod(holder), OBJECTS, PLACE) == {"X": value}


def test_a_limit_that_is_not_set_is_the_nodes() -> None:
    reference = ResourceFieldSelector(resource="limits.memory", divisor="1Gi")
    assert env(EnvVar(name="X", valueFrom=source(resourceFieldRef=reference))) == {"X": "8"}


def test_which_objects_are_needed() -> None:
    holder = container(
        env=[EnvVar(name="X", valueFrom=source(secretKeyRef=SecretKeySelector(name="s", key="k")))],
        envFrom=[EnvFromSource(configMapRef=ConfigMapEnvSource(name="cm"))],
    )
    assert referenced(holder) == ({"cm"}, {"s"})
