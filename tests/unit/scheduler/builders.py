"""Short ways to nodes and pods, and hypothesis strategies for them."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from apimachinery.kinds.node import Node, NodeCondition, NodeSpec, NodeStatus, Taint
from apimachinery.kinds.pod import Container, Pod, PodSpec, PodStatus, Toleration
from apimachinery.kinds.pod_affinity import (
    Affinity,
    NodeAffinity,
    NodeSelector,
    NodeSelectorRequirement,
    NodeSelectorTerm,
    PreferredSchedulingTerm,
)
from apimachinery.kinds.pod_container import ContainerPort, ResourceRequirements
from apimachinery.meta import ObjectMeta
from scheduler.podinfo import PodInfo, pod_info

ROOMY = {"cpu": "8", "memory": "16Gi", "pods": "110", "ephemeral-storage": "100Gi"}


def node(
    name: str,
    *,
    taints: tuple[tuple[str, str, str], ...] = (),
    labels: dict[str, str] | None = None,
    unschedulable: bool | None = None,
    ready: str = "True",
    **allocatable: str,
) -> Node:
    named = {key.replace("_", "-"): value for key, value in allocatable.items()}
    return Node(
        metadata=ObjectMeta(name=name, labels=labels or {}),
        spec=NodeSpec(
            taints=[Taint(key=key, value=value, effect=effect) for key, value, effect in taints],
            unschedulable=unschedulable,
        ),
        status=NodeStatus(
            allocatable=ROOMY | named,
            conditions=[NodeCondition(type="Ready", status=ready)] if ready else [],
        ),
    )


def container(
    name: str = "c", *, restart: str | None = None, host_port: int | None = None, **requests: str
) -> Container:
    named = {key.replace("_", "-"): value for key, value in requests.items()}
    ports = [ContainerPort(containerPort=80, hostPort=host_port, protocol="TCP")] if host_port else []
    return Container(
        name=name, image="i", resources=ResourceRequirements(requests=named), restartPolicy=restart, ports=ports
    )


def pod(name: str = "p", *, on: str = "", uid: str = "", phase: str = "", **options: Any) -> Pod:
    """`options`: requests by resource name, or fields of the spec."""
    spec = {key: options.pop(key) for key in list(options) if key in PodSpec.__struct_fields__}
    spec.setdefault("containers", [container(**options)])
    return Pod(
        metadata=ObjectMeta(name=name, namespace="default", uid=uid or f"uid-{name}"),
        spec=PodSpec(nodeName=on, **spec),
        status=PodStatus(phase=phase),
    )


def info(name: str = "p", **options: Any) -> PodInfo:
    return pod_info(pod(name, **options))


def requirement(key: str, operator: str, *values: str) -> NodeSelectorRequirement:
    return NodeSelectorRequirement(key=key, operator=operator, values=list(values))


def term(*expressions: NodeSelectorRequirement, fields: tuple[NodeSelectorRequirement, ...] = ()) -> NodeSelectorTerm:
    return NodeSelectorTerm(matchExpressions=list(expressions), matchFields=list(fields))


def affinity(
    *required: NodeSelectorTerm, preferred: tuple[tuple[int, NodeSelectorTerm], ...] = (), demand: bool | None = None
) -> Affinity:
    demand = bool(required) if demand is None else demand
    return Affinity(
        nodeAffinity=NodeAffinity(
            requiredDuringSchedulingIgnoredDuringExecution=NodeSelector(nodeSelectorTerms=list(required))
            if demand
            else None,
            preferredDuringSchedulingIgnoredDuringExecution=[
                PreferredSchedulingTerm(weight=weight, preference=each) for weight, each in preferred
            ],
        )
    )


# Few values, so that things coincide.

_keys = st.sampled_from(["zone", "disk", "level"])
_values = st.sampled_from(["a", "b", "7", "12"])
_effects = st.sampled_from(["NoSchedule", "NoExecute", "PreferNoSchedule"])
_taints = st.lists(st.tuples(st.sampled_from(["k1", "k2"]), st.sampled_from(["", "v"]), _effects), max_size=2)


@st.composite
def nodes(draw: st.DrawFn, name: str) -> Node:
    made = node(
        name,
        taints=tuple(draw(_taints)),
        labels=draw(st.dictionaries(_keys, _values, max_size=3)),
        unschedulable=draw(st.sampled_from([None, None, True])),
        ready=draw(st.sampled_from(["True", "True", "True", "False", ""])),
        cpu=draw(st.sampled_from(["1", "2", "1700m", "3", "0"])),
        memory=draw(st.sampled_from(["1Gi", "3Gi", "1000M", "0"])),
        pods=draw(st.sampled_from(["2", "5"])),
    )
    if draw(st.booleans()):
        made.status.allocatable["pids"] = draw(st.sampled_from(["2", "100"]))
    if draw(st.booleans()):
        made.status.allocatable["example.com/gpu"] = "2"
    return made


def _requirements() -> st.SearchStrategy[NodeSelectorRequirement]:
    plain = st.builds(
        lambda key, operator, values: requirement(key, operator, *values),
        _keys,
        st.sampled_from(["In", "NotIn"]),
        st.lists(_values, min_size=1, max_size=2),
    )
    bare = st.builds(requirement, _keys, st.sampled_from(["Exists", "DoesNotExist"]))
    bound = st.builds(requirement, _keys, st.sampled_from(["Gt", "Lt"]), st.sampled_from(["5", "7", "10", "x"]))
    return st.one_of(plain, bare, bound)


_terms = st.builds(
    lambda expressions, names: term(
        *expressions, fields=(requirement("metadata.name", *names),) if names is not None else ()
    ),
    st.lists(_requirements(), max_size=2),
    st.one_of(st.none(), st.tuples(st.sampled_from(["In", "NotIn"]), st.sampled_from(["n0", "n1", "other"]))),
)


@st.composite
def pods(draw: st.DrawFn, name: str) -> PodInfo:
    requests = {}
    for resource, amounts in (
        ("cpu", ["0", "100m", "500m", "1"]),
        ("memory", ["0", "100Mi", "1Gi"]),
        ("ephemeral-storage", ["1Gi", "200Gi"]),
        ("example.com/gpu", ["1"]),
    ):
        if draw(st.integers(0, 3 if resource in ("ephemeral-storage", "example.com/gpu") else 1)) == 1:
            requests[resource] = draw(st.sampled_from(amounts))
    wishes = None
    if draw(st.integers(0, 2)) == 0:
        wishes = affinity(
            *draw(st.lists(_terms, max_size=2)),
            preferred=tuple(draw(st.lists(st.tuples(st.integers(1, 100), _terms), max_size=2))),
            demand=draw(st.booleans()),
        )
    made = pod(
        name,
        containers=[
            Container(name="c", image="i", resources=ResourceRequirements(requests=requests)),
            *([container("d", cpu="100m", host_port=8080)] if draw(st.integers(0, 3)) == 0 else []),
        ],
        tolerations=[
            Toleration(key=key, operator=operator, value=value, effect=effect)
            for key, operator, value, effect in draw(
                st.lists(
                    st.tuples(
                        st.sampled_from(["", "k1", "k2", "node.kubernetes.io/not-ready"]),
                        st.sampled_from(["", "Equal", "Exists"]),
                        st.sampled_from(["", "v"]),
                        st.sampled_from(["", "NoSchedule", "PreferNoSchedule"]),
                    ),
                    max_size=2,
                )
            )
        ],
        nodeSelector=draw(st.dictionaries(_keys, _values, max_size=1)) if draw(st.integers(0, 4)) == 0 else {},
        affinity=wishes,
    )
    return pod_info(made)
