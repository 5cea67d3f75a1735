"""Each plugin by itself: what it refuses, in which words, and how it scores."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from apimachinery.kinds.pod import Toleration
from apimachinery.kinds.pod_affinity import (
    Affinity,
    PodAffinityTerm,
    PodAntiAffinity,
    TopologySpreadConstraint,
)
from scheduler.decide import decide
from scheduler.framework import Filter, Policy, Score
from scheduler.plugins.balancedallocation import BalancedAllocation
from scheduler.plugins.leastallocated import LeastAllocated
from scheduler.plugins.nodeaffinity import NodeAffinity
from scheduler.plugins.nodename import NodeName
from scheduler.plugins.nodeports import NodePorts
from scheduler.plugins.nodeready import NodeReady
from scheduler.plugins.noderesourcesfit import NodeResourcesFit
from scheduler.plugins.nodeunschedulable import NodeUnschedulable
from scheduler.plugins.tainttoleration import TaintToleration
from scheduler.plugins.unsupported import UnsupportedConstraints
from scheduler.podinfo import PodInfo, pod_info
from scheduler.policies import catalog
from scheduler.policies.default import POLICY
from scheduler.snapshot import Snapshot
from tests.unit.scheduler.builders import affinity, container, info, node, pod, requirement, term


def verdict(plugin: Filter, pod: PodInfo, each: Any, *held: PodInfo) -> str:
    """The reasons of `plugin` on one node, "" if it has none."""
    snapshot = Snapshot(1)
    snapshot.set_node(each)
    for other in held:
        snapshot.add_pod(other, each.metadata.name)
    decision = decide(snapshot, pod, Policy("one", filters=(plugin,)), 1)
    if decision.diagnosis is None:
        return ""
    return decision.diagnosis.message().removeprefix("0/1 nodes are available: ").removesuffix(".")


def scores(plugin: Score, pod: PodInfo, *nodes: Any) -> dict[str, float]:
    snapshot = Snapshot(1)
    for each in nodes:
        snapshot.set_node(each)
    found = decide(snapshot, pod, Policy("one", filters=(), scores=((plugin, 1),)), 1).scores
    assert found is not None
    return dict(zip(snapshot.names, found.tolist(), strict=True))


def test_resources_that_do_not_fit_are_all_named() -> None:
    small = node("a", cpu="1", memory="1Gi", pods="1", pids="2")
    other = info("other", cpu="800m")
    full = info(containers=[container("a", cpu="300m", memory="2Gi"), container("b")], overhead={"pids": "5"})
    assert verdict(NodeResourcesFit(), full, small, other) == (
        "1 Insufficient cpu, 1 Insufficient memory, 1 Insufficient pids, 1 Too many pods"
    )
    assert verdict(NodeResourcesFit(), info(cpu="200m"), node("b", cpu="1"), other) == ""
    assert verdict(NodeResourcesFit(), info(cpu="201m"), node("b", cpu="1"), other) == "1 Insufficient cpu"


def test_a_resource_that_no_node_has_is_insufficient_but_pids_are_unlimited() -> None:
    wants = pod_info(pod(containers=[container(**{"example.com/gpu": "1"})]))
    assert verdict(NodeResourcesFit(), wants, node("a")) == "1 Insufficient example.com/gpu"
    assert verdict(NodeResourcesFit(), info(overhead={"pids": "100000"}), node("a")) == ""


def test_an_overcommitted_node_still_takes_what_asks_for_nothing() -> None:
    over = info("other", cpu="3")
    assert verdict(NodeResourcesFit(), info(), node("a", cpu="2"), over) == ""
    assert verdict(NodeResourcesFit(), info(cpu="1m"), node("a", cpu="2"), over) == "1 Insufficient cpu"


@pytest.mark.parametrize(
    ("toleration", "stands"),
    [
        ({"key": "k", "value": "v", "effect": "NoSchedule"}, True),
        ({"key": "k", "operator": "Equal", "value": "v"}, True),
        ({"key": "k", "operator": "Exists"}, True),
        ({"operator": "Exists"}, True),
        ({"operator": "Exists", "effect": "NoExecute"}, False),
        ({"key": "k", "value": "w"}, False),
        ({"key": "j", "operator": "Exists"}, False),
    ],
)
def test_taints_and_tolerations(toleration: dict[str, str], stands: bool) -> None:
    tainted = node("a", taints=(("k", "v", "NoSchedule"),))
    says = verdict(TaintToleration(), info(tolerations=[Toleration(**toleration)]), tainted)
    assert says == ("" if stands else "1 node(s) had untolerated taint {k: v}")


def test_only_hard_taints_refuse_and_soft_ones_cost_points() -> None:
    soft = node("soft", taints=(("a", "", "PreferNoSchedule"), ("b", "", "PreferNoSchedule")))
    half = node("half", taints=(("a", "", "PreferNoSchedule"),))
    assert verdict(TaintToleration(), info(), soft) == ""
    assert verdict(TaintToleration(), info(), node("x", taints=(("e", "", "NoExecute"),))) != ""
    assert scores(TaintToleration(), info(), soft, half, node("clean")) == {"soft": 0, "half": 50, "clean": 100}
    assert scores(TaintToleration(), info(), node("one"), node("two")) == {"one": 100, "two": 100}


def test_the_first_untolerated_taint_is_named() -> None:
    tainted = node("a", taints=(("k1", "", "NoSchedule"), ("k2", "", "NoSchedule")))
    knows = info(tolerations=[Toleration(key="k1", operator="Exists")])
    assert verdict(TaintToleration(), info(), tainted) == "1 node(s) had untolerated taint {k1: }"
    assert verdict(TaintToleration(), knows, tainted) == "1 node(s) had untolerated taint {k2: }"


def test_cordoned_and_unready_nodes_and_those_who_do_not_mind() -> None:
    assert verdict(NodeUnschedulable(), info(), node("a", unschedulable=True)) == "1 node(s) were unschedulable"
    for state in ("False", "Unknown", ""):
        assert verdict(NodeReady(), info(), node("a", ready=state)) == "1 node(s) were not ready"
    daemon = info(tolerations=[Toleration(operator="Exists")])
    assert verdict(NodeUnschedulable(), daemon, node("a", unschedulable=True)) == ""
    assert verdict(NodeReady(), daemon, node("a", ready="False")) == ""


def test_node_name() -> None:
    assert verdict(NodeName(), info(on="a"), node("a")) == ""
    assert verdict(NodeName(), info(on="b"), node("a")) == "1 node(s) didn't match the requested node name"


@pytest.mark.parametrize(
    ("operator", "values", "stands"),
    [
        ("In", ("a", "b"), [True, False, False]),
        ("NotIn", ("a", "b"), [False, True, True]),
        ("Exists", (), [True, True, False]),
        ("DoesNotExist", (), [False, False, True]),
        ("Gt", ("6",), [False, True, False]),
        ("Lt", ("8",), [False, True, False]),
        ("Lt", ("7",), [False, False, False]),
        ("Gt", ("x",), [False, False, False]),
    ],
)
def test_node_affinity_operators(operator: str, values: tuple[str, ...], stands: list[bool]) -> None:
    wants = info(affinity=affinity(term(requirement("zone", operator, *values))))
    nodes = [node("1", labels={"zone": "a"}), node("2", labels={"zone": "7"}), node("3")]
    assert [verdict(NodeAffinity(), wants, each) == "" for each in nodes] == stands


def test_terms_are_alternatives_their_expressions_are_not() -> None:
    both = term(requirement("zone", "In", "a"), requirement("disk", "Exists"))
    named = term(fields=(requirement("metadata.name", "In", "n1"),))
    wants = info(affinity=affinity(both, named))
    assert verdict(NodeAffinity(), wants, node("x", labels={"zone": "a", "disk": "ssd"})) == ""
    assert verdict(NodeAffinity(), wants, node("n1")) == ""
    says = "1 node(s) didn't match Pod's node affinity/selector"
    assert verdict(NodeAffinity(), wants, node("x", labels={"zone": "a"})) == says
    assert verdict(NodeAffinity(), info(affinity=affinity(term())), node("x")) == says
    assert verdict(NodeAffinity(), info(affinity=affinity(demand=True)), node("x")) == says
    assert verdict(NodeAffinity(), info(nodeSelector={"zone": "a"}), node("x", labels={"zone": "b"})) == says
    assert verdict(NodeAffinity(), info(nodeSelector={"zone": "a"}), node("x", labels={"zone": "a"})) == ""


def test_preferred_terms_add_up_and_the_best_becomes_a_hundred() -> None:
    wants = info(
        affinity=affinity(
            preferred=((30, term(requirement("zone", "In", "a"))), (60, term(requirement("disk", "Exists"))))
        )
    )
    found = scores(
        NodeAffinity(), wants,
        node("both", labels={"zone": "a", "disk": "x"}), node("zone", labels={"zone": "a"}), node("none"),
    )  # fmt: skip
    assert found == {"both": 100, "zone": 33, "none": 0}


def test_host_ports_are_taken_once_per_address_and_protocol() -> None:
    holds, wants = info("other", host_port=80), info(host_port=80)
    says = "1 node(s) didn't have free ports for the requested pod ports"
    assert verdict(NodePorts(), wants, node("a"), holds) == says
    assert verdict(NodePorts(), info(host_port=81), node("a"), holds) == ""
    local = pod(host_port=80)
    local.spec.containers[0].ports[0].hostIP = "127.0.0.1"
    assert verdict(NodePorts(), pod_info(local), node("a"), holds) == says
    elsewhere = pod("other", host_port=80)
    elsewhere.spec.containers[0].ports[0].hostIP = "10.0.0.1"
    assert verdict(NodePorts(), pod_info(local), node("a"), pod_info(elsewhere)) == ""
    udp = pod(host_port=80)
    udp.spec.containers[0].ports[0].protocol = "UDP"
    assert verdict(NodePorts(), pod_info(udp), node("a"), holds) == ""


def test_what_cannot_be_judged_yet_is_said_not_ignored() -> None:
    apart = Affinity(
        podAntiAffinity=PodAntiAffinity(
            requiredDuringSchedulingIgnoredDuringExecution=[PodAffinityTerm(topologyKey="zone")]
        )
    )
    assert verdict(UnsupportedConstraints(), info(affinity=apart), node("a")) == (
        "this scheduler does not support required spec.affinity.podAntiAffinity yet"
    )
    spread = TopologySpreadConstraint(maxSkew=1, topologyKey="zone", whenUnsatisfiable="DoNotSchedule")
    assert "topologySpreadConstraints" in verdict(
        UnsupportedConstraints(), info(topologySpreadConstraints=[spread]), node("a")
    )
    spread.whenUnsatisfiable = "ScheduleAnyway"
    assert verdict(UnsupportedConstraints(), info(topologySpreadConstraints=[spread]), node("a")) == ""


@given(
    st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 2**42)), min_size=1, max_size=20),
    st.integers(0, 10**5),
    st.integers(0, 2**40),
)
def test_scores_are_those_of_integer_arithmetic(capacities: list[tuple[int, int]], cpu: int, memory: int) -> None:
    nodes = [node(f"n{n}", cpu=f"{milli}m", memory=str(size)) for n, (milli, size) in enumerate(capacities)]
    asks = info(cpu=f"{cpu}m", memory=str(memory))
    least, balanced = scores(LeastAllocated(), asks, *nodes), scores(BalancedAllocation(), asks, *nodes)
    for n, (milli, size) in enumerate(capacities):
        parts = [max(0, cap - ask) * 100 // cap for cap, ask in ((milli, cpu), (size, memory)) if cap]
        assert least[f"n{n}"] == (sum(parts) // len(parts) if parts else 0)
        shares = [min(1.0, ask / cap) for cap, ask in ((milli, cpu), (size, memory)) if cap]
        deviation = abs(shares[0] - shares[1]) / 2 if len(shares) == 2 else 0.0
        # A pod that asks for neither is best effort: the plugin has nothing to say.
        assert balanced[f"n{n}"] == (int((1 - deviation) * 100) if cpu or memory else 0)


def test_every_plugin_says_the_same_of_a_node_alone_and_among_others() -> None:
    """The law that lets rows be worked out one by one."""
    snapshot = Snapshot(1)
    for n in range(6):
        taints = (("k", "v", "NoSchedule"), ("s", "", "PreferNoSchedule"))[n % 2 : n % 2 + 1]
        snapshot.set_node(node(f"n{n}", cpu=str(n + 1), labels={"zone": "ab"[n % 2]}, taints=taints))
        snapshot.add_pod(info(f"p{n}", cpu=f"{n}", host_port=80 if n == 2 else None), f"n{n}")
    wish = affinity(term(requirement("zone", "In", "a")), preferred=((5, term(requirement("zone", "Exists"))),))
    asks = info(cpu="2", memory="1Gi", host_port=80, affinity=wish, on="n2")
    everything = snapshot.nodes
    for plugin in POLICY.plugins:
        for row in range(everything.count):
            alone = snapshot.rows(np.array([row], np.int64))
            if isinstance(plugin, Filter) and not plugin.skip_filter(asks):
                assert plugin.filter(asks, everything)[row] == plugin.filter(asks, alone)[0], plugin.name
            if isinstance(plugin, Score) and not plugin.skip_score(asks):
                assert plugin.score(asks, everything)[row] == plugin.score(asks, alone)[0], plugin.name


def test_policies_are_found_by_name_and_in_files(tmp_path: Any) -> None:
    assert catalog.load("default") is POLICY
    assert catalog.names() == ["default"]
    file = tmp_path / "mine.py"
    file.write_text(
        "from scheduler.framework import Policy\n"
        "def first(pod, node):\n    return float(node.name == 'b')\n"
        "POLICY = Policy('mine', filters=(), scores=((first, 1),))\n"
    )
    policy = catalog.load(str(file))
    snapshot = Snapshot(1)
    for name in "abc":
        snapshot.set_node(node(name))
    assert decide(snapshot, info(), policy, 1).node == "b"
    file.write_text("POLICY = 3\n")
    for name, says in ((str(file), "does not define POLICY"), ("none", "there are default"), ("no.py", "not exist")):
        with pytest.raises(ValueError, match=says):
            catalog.load(name)
