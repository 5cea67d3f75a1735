"""`decide`: equal to a plain oracle, pure, and in Kubernetes' words."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scheduler.classes import Evaluation
from scheduler.decide import decide
from scheduler.framework import Policy, Score
from scheduler.nodes import FloatColumn, Nodes, NodeView
from scheduler.plugins.leastallocated import LeastAllocated
from scheduler.plugins.noderesourcesfit import NodeResourcesFit
from scheduler.podinfo import PodInfo
from scheduler.policies.default import POLICY
from scheduler.snapshot import Snapshot, order_key
from tests.unit.scheduler import builders, oracle
from tests.unit.scheduler.builders import info, node


def snapshot_of(*nodes: object, seed: int = 1) -> Snapshot:
    snapshot = Snapshot(seed)
    for each in nodes:
        snapshot.set_node(each)  # type: ignore[arg-type]
    return snapshot


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_every_decision_is_the_oracles(data: st.DataObject) -> None:
    """Nodes and pods at random; each placed pod stays, some nodes change and some pods leave on the way."""
    count = data.draw(st.integers(0, 5))
    cluster = oracle.Cluster({f"n{n}": data.draw(builders.nodes(f"n{n}")) for n in range(count)})
    seed = data.draw(st.integers(0, 3))
    snapshot = snapshot_of(*cluster.nodes.values(), seed=seed)
    for number in range(data.draw(st.integers(1, 8))):
        pod = data.draw(builders.pods(f"p{number}"))
        name, score, message = oracle.decide(cluster, pod.pod, seed)
        decision = decide(snapshot, pod, POLICY, seed)
        assert decision.node == name
        if name is None:
            assert decision.diagnosis is not None
            assert decision.diagnosis.message() == message
            continue
        assert decision.score == score
        snapshot.add_pod(pod, name)
        cluster.pods.setdefault(name, []).append(pod.pod)
        if data.draw(st.booleans()):
            changed = data.draw(st.sampled_from(sorted(cluster.nodes)))
            cluster.nodes[changed] = data.draw(builders.nodes(changed))
            snapshot.set_node(cluster.nodes[changed])
        if data.draw(st.booleans()):
            snapshot.remove_pod(pod, name)
            cluster.pods[name].remove(pod.pod)


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_what_is_kept_is_what_would_be_worked_out(data: st.DataObject) -> None:
    """After any changes, an updated evaluation equals a fresh one, bit for bit."""
    names = [f"n{n}" for n in range(data.draw(st.integers(2, 6)))]
    snapshot = snapshot_of(*(data.draw(builders.nodes(name)) for name in names))
    shapes = [data.draw(builders.pods(f"shape{n}")) for n in range(3)]
    placed: list[tuple[PodInfo, str]] = []
    for number in range(data.draw(st.integers(1, 12))):
        match data.draw(st.integers(0, 3)):
            case 0:
                snapshot.set_node(data.draw(builders.nodes(data.draw(st.sampled_from(names)))))
            case 1 if placed:
                snapshot.remove_pod(*placed.pop())
            case _:
                pod = data.draw(builders.pods(f"p{number}"))
                placed.append((pod, data.draw(st.sampled_from(names))))
                snapshot.add_pod(*placed[-1])
        for shape in shapes:
            kept = decide(snapshot, shape, POLICY, 1).scores
            assert kept is not None
            np.testing.assert_array_equal(kept, Evaluation(snapshot, shape, POLICY).ranked)


def test_a_decision_changes_nothing_and_repeats_itself() -> None:
    snapshot = snapshot_of(*(node(f"n{n}") for n in range(20)))
    pod = info(cpu="1")
    first = decide(snapshot, pod, POLICY, 1)
    assert all(decide(snapshot, pod, POLICY, 1).node == first.node for _ in range(5))
    assert decide(snapshot.copy(), pod, POLICY, 1).node == first.node
    assert snapshot.nodes.requested("cpu").sum() == 0


def test_ties_go_to_the_first_in_the_order_of_the_seed() -> None:
    names = [f"n{n}" for n in range(50)]
    chosen = set()
    for seed in range(10):
        expected = min(names, key=lambda name, seed=seed: order_key(seed, name))  # type: ignore[misc]
        snapshot = snapshot_of(*(node(name) for name in names), seed=seed)
        assert decide(snapshot, info(), POLICY, seed).node == expected
        # A snapshot in another order gives the same answer to the same seed.
        other = snapshot_of(*(node(name) for name in reversed(names)), seed=99)
        assert decide(other, info(), POLICY, seed).node == expected
        chosen.add(expected)
    assert len(chosen) > 5


def test_a_node_that_joins_or_leaves_does_not_reorder_the_others() -> None:
    snapshot = snapshot_of(*(node(f"n{n}") for n in range(10)))
    before = list(snapshot.nodes.names)
    snapshot.set_node(node("another"))
    snapshot.remove_node("n3")
    after = [name for name in snapshot.nodes.names if name != "another"]
    assert after == [name for name in before if name != "n3"]


def test_the_refusal_counts_every_reason_as_kubernetes_words_it() -> None:
    snapshot = snapshot_of(
        node("a", taints=(("gpu", "yes", "NoSchedule"),)),
        node("b", cpu="1", memory="1Gi"),
        node("c", cpu="1"),
        node("d", unschedulable=True),
        node("e", ready="Unknown"),
    )
    decision = decide(snapshot, info(cpu="4", memory="2Gi"), POLICY, 1)
    assert decision.node is None
    assert decision.diagnosis is not None
    assert decision.diagnosis.message() == (
        "0/5 nodes are available: 1 Insufficient memory, 1 node(s) had untolerated taint {gpu: yes}, "
        "1 node(s) were not ready, 1 node(s) were unschedulable, 2 Insufficient cpu."
    )
    assert set(decision.diagnosis.plugins) == {"TaintToleration", "NodeResourcesFit", "NodeUnschedulable", "NodeReady"}
    refused = {each.reason: each.nodes for each in decision.diagnosis.refusals}
    held = [snapshot.names[index] for index in np.flatnonzero(refused["Insufficient cpu"])]
    assert sorted(held) == ["b", "c"]


def test_a_cluster_without_nodes_says_so() -> None:
    decision = decide(Snapshot(1), info(), POLICY, 1)
    assert decision.diagnosis is not None
    assert decision.diagnosis.message() == "no nodes available to schedule pods"
    assert decision.diagnosis.plugins == ()


def test_a_plain_function_is_a_plugin() -> None:
    seen: list[str] = []

    def favourite(pod: PodInfo, node: NodeView) -> float:
        seen.append(node.name)
        return {"a": 1.0, "b": 7.5}.get(node.name, 0.0) + node.free("cpu") * 0

    policy = Policy("mine", filters=(NodeResourcesFit(),), scores=((favourite, 2), (LeastAllocated(), 0)))
    snapshot = snapshot_of(node("a"), node("b"), node("c"), node("full", cpu="1"))
    decision = decide(snapshot, info(cpu="2"), policy, 1)
    assert (decision.node, decision.score) == ("b", 15.0)
    assert sorted(seen) == ["a", "b", "c"]
    snapshot.add_pod(info("hog", cpu="8"), "b")
    assert decide(snapshot, info(cpu="2"), policy, 1).node == "a"


class Broken(Score):
    name = "Broken"

    def score(self, pod: PodInfo, nodes: Nodes) -> FloatColumn:
        return np.full(nodes.count, np.nan)


def test_a_score_that_is_no_number_is_an_error_with_names() -> None:
    policy = Policy("broken", filters=(), scores=((Broken(), 1),))
    with pytest.raises(ValueError, match="plugin Broken scored NaN for pod default/p on node a"):
        decide(snapshot_of(node("a")), info(), policy, 1)


def test_evaluations_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scheduler.classes.MEMORY_BYTES", 2000)
    snapshot = snapshot_of(*(node(f"n{n}") for n in range(10)))
    for number in range(100):
        decide(snapshot, info(cpu=f"{number + 1}m"), POLICY, 1)
    assert 1 <= len(snapshot.memo["evaluations"]) <= 6


class Moody(Score):
    """Fails while it is in a bad mood, and says how many nodes it was asked about."""

    name = "Moody"
    reads_load = True
    bad = False
    asked = 0

    def signature(self, pod: PodInfo) -> str:
        return "all alike"

    def score(self, pod: PodInfo, nodes: Nodes) -> FloatColumn:
        self.asked += nodes.count
        if self.bad:
            raise RuntimeError("bad mood")
        return -nodes.requested("cpu")


def test_only_touched_rows_are_worked_out_again_and_a_failure_spoils_nothing() -> None:
    moody = Moody()
    policy = Policy("moody", filters=(NodeResourcesFit(),), scores=((moody, 1),))
    snapshot = snapshot_of(*(node(f"n{n}") for n in range(10)))
    first = decide(snapshot, info(cpu="1"), policy, 1).node
    assert first is not None
    assert moody.asked == 10
    snapshot.add_pod(info("other", cpu="1"), first)
    moody.bad = True
    with pytest.raises(RuntimeError, match="bad mood"):
        decide(snapshot, info(cpu="1"), policy, 1)
    assert moody.asked == 11
    moody.bad = False
    second = decide(snapshot, info(cpu="1"), policy, 1)
    assert second.node != first
    assert second.scores is not None
    np.testing.assert_array_equal(second.scores, Evaluation(snapshot, info(cpu="1"), policy).ranked)
