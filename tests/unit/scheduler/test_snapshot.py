"""The columns: kept up change by change they equal those made at once, in whatever order the news came."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from scheduler.nodes import NODE_ADD, NODE_ALLOCATABLE, NODE_CONDITION, NODE_LABEL, NODE_TAINT
from scheduler.podinfo import PodInfo
from scheduler.snapshot import Snapshot
from tests.unit.scheduler import builders
from tests.unit.scheduler.builders import info, node

LABELS = ("zone", "disk", "level")


def content(snapshot: Snapshot) -> dict[str, Any]:
    """All that plugins can see."""
    nodes = snapshot.nodes
    seen: dict[str, Any] = {
        "names": list(nodes.names),
        "ready": nodes.ready.tolist(),
        "unschedulable": nodes.unschedulable.tolist(),
        "taints": [nodes.taint_sets[code] for code in nodes.taint_codes],
        "nonzero": [nodes.nonzero_requested(resource).tolist() for resource in ("cpu", "memory")],
    }
    for resource in ("cpu", "memory", "pods", "pids", "ephemeral-storage", "example.com/gpu"):
        seen[resource] = (nodes.allocatable(resource).tolist(), nodes.requested(resource).tolist())
    for key in LABELS:
        column = nodes.label(key)
        seen[key] = [column.values[code] if code >= 0 else None for code in column.codes]
    seen["pods"] = {name: sorted(pod.key for pod in nodes.pods_on(name)) for name in nodes.names}
    return seen


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_incremental_equals_rebuilt(data: st.DataObject) -> None:
    names = [f"n{n}" for n in range(4)]
    kept = Snapshot(7)
    nodes: dict[str, Any] = {}
    placed: dict[str, tuple[PodInfo, str]] = {}
    for number in range(data.draw(st.integers(1, 20))):
        match data.draw(st.sampled_from(["set", "set", "drop", "add", "add", "take", "look"])):
            case "set":
                name = data.draw(st.sampled_from(names))
                nodes[name] = data.draw(builders.nodes(name))
                kept.set_node(nodes[name])
            case "drop":
                name = data.draw(st.sampled_from(names))
                nodes.pop(name, None)
                kept.remove_node(name)
            case "add":
                pod = data.draw(builders.pods(f"p{number}"))
                placed[pod.key] = (pod, data.draw(st.sampled_from(names)))
                kept.add_pod(*placed[pod.key])
            case "take" if placed:
                kept.remove_pod(*placed.pop(data.draw(st.sampled_from(sorted(placed)))))
            case "look":
                content(kept)
    rebuilt = Snapshot(7)
    for name in sorted(nodes, reverse=True):
        rebuilt.set_node(nodes[name])
    for pod, name in placed.values():
        rebuilt.add_pod(pod, name)
    assert content(kept) == content(rebuilt)
    assert content(kept.copy()) == content(rebuilt)


def test_pods_may_come_before_their_node_and_outlive_it() -> None:
    snapshot = Snapshot(1)
    snapshot.add_pod(info(cpu="2"), "a")
    assert len(snapshot) == 0
    snapshot.set_node(node("a"))
    assert snapshot.nodes.requested("cpu").tolist() == [2000.0]
    snapshot.remove_node("a")
    assert len(snapshot) == 0
    snapshot.set_node(node("a"))
    assert snapshot.nodes.requested("cpu").tolist() == [2000.0]


def test_a_pod_counts_once_and_a_stranger_is_not_taken_away() -> None:
    snapshot = Snapshot(1)
    snapshot.set_node(node("a"))
    snapshot.add_pod(info(cpu="2"), "a")
    snapshot.add_pod(info(cpu="3"), "a")
    snapshot.remove_pod(info("stranger", cpu="1"), "a")
    assert snapshot.nodes.requested("cpu").tolist() == [3000.0]
    # What is given back is what was taken, not what the pod asks for by now.
    snapshot.remove_pod(info(cpu="1"), "a")
    assert snapshot.nodes.requested("cpu").tolist() == [0.0]


def test_changes_are_named_and_a_heartbeat_is_none() -> None:
    snapshot = Snapshot(1)
    assert snapshot.set_node(node("a")) == [NODE_ADD]
    assert len(snapshot) == 1
    assert snapshot.set_node(node("a")) == []
    assert snapshot.facts_log == []
    for changed, event in (
        (node("a", cpu="9"), NODE_ALLOCATABLE),
        (node("a", labels={"x": "y"}), NODE_LABEL),
        (node("a", unschedulable=True), NODE_TAINT),
        (node("a", taints=(("k", "", "NoSchedule"),)), NODE_TAINT),
        (node("a", ready="False"), NODE_CONDITION),
    ):
        assert snapshot.set_node(changed) == [event]
        snapshot.set_node(node("a"))


def test_a_copy_goes_its_own_way() -> None:
    snapshot = Snapshot(1)
    snapshot.set_node(node("a"))
    before = content(snapshot)
    other = snapshot.copy()
    other.add_pod(info(cpu="2"), "a")
    other.set_node(node("b"))
    other.set_node(node("a", labels={"zone": "x"}))
    assert content(snapshot) == before
    snapshot.add_pod(info(memory="1Gi"), "a")
    assert content(other)["memory"][1] == [0.0, 0.0]


def test_logs_are_bounded() -> None:
    snapshot = Snapshot(1)
    snapshot.set_node(node("a"))
    assert len(snapshot) == 1
    for _ in range(2000):
        snapshot.add_pod(info(cpu="1"), "a")
        snapshot.remove_pod(info(cpu="1"), "a")
        assert len(snapshot.load_log) <= 1005
    assert snapshot.nodes.requested("cpu").tolist() == [0.0]


def test_rows_are_views_of_the_same_numbers() -> None:
    snapshot = Snapshot(1)
    for n in range(5):
        snapshot.set_node(node(f"n{n}", cpu=str(n + 1), labels={"zone": str(n)}))
    everything = snapshot.nodes
    some = snapshot.rows(np.array([3, 1]))
    assert some.names == [everything.names[3], everything.names[1]]
    assert some.allocatable("cpu").tolist() == everything.allocatable("cpu")[[3, 1]].tolist()
    assert some.position(everything.names[1]) == 1
    assert some.position(everything.names[0]) is None
    assert [view.name for view in some.where(np.array([False, True]))] == [everything.names[1]]
    view = next(iter(some))
    assert view.allocatable("cpu") == view.free("cpu") == some.allocatable("cpu")[0]
    assert view.labels["zone"] == view.name[1:]
