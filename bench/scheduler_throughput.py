"""Decisions a second of the scheduler's core (`decide` and the snapshot's bookkeeping) with the default policy.

    python bench/scheduler_throughput.py [--seconds 2] [--nodes 100 1000 5000]

identical: one shape of pod, as a large Deployment.  mixed: 100 shapes drawn by Zipf's law, a tenth of them with a node
selector and a toleration.  recomputed: mixed, with nothing kept between decisions. Pods are placed until the cluster is
full, then it is emptied. CPU time of one core; no API server, so this is the upper bound for the live scheduler.
"""

from __future__ import annotations

import argparse
import time

import numpy as np

from apimachinery.kinds.node import Node, NodeCondition, NodeSpec, NodeStatus, Taint
from apimachinery.kinds.pod import Container, Pod, PodSpec, Toleration
from apimachinery.kinds.pod_container import ResourceRequirements
from apimachinery.meta import ObjectMeta
from scheduler.decide import decide
from scheduler.podinfo import PodInfo, pod_info
from scheduler.policies.default import POLICY
from scheduler.snapshot import Snapshot

# kube-scheduler cannot be run here. Its project's own floor for plain pods on 5,000 nodes, API server and etcd in process:
# threshold of the workload "5000Nodes_10000Pods" of SchedulingBasic in
# kubernetes/kubernetes, test/integration/scheduler_perf/misc/performance-config.yaml.
KUBE_SCHEDULER_PODS_PER_SECOND = {5000: 680}

CLASSES = 100


def make_node(number: int) -> Node:
    cpu, memory = ((16, 64), (32, 128), (64, 256))[number % 3]
    return Node(
        metadata=ObjectMeta(
            name=f"node-{number:05}", labels={"zone": f"z{number % 10}", "disk": ("ssd", "hdd")[number % 2]}
        ),
        spec=NodeSpec(taints=[Taint(key="spot", value="yes", effect="NoSchedule")] if number % 10 == 0 else []),
        status=NodeStatus(
            allocatable={
                "cpu": str(cpu),
                "memory": f"{memory}Gi",
                "pods": "110",
                "ephemeral-storage": "200Gi",
                "pids": "32768",
            },
            conditions=[NodeCondition(type="Ready", status="True")],
        ),
    )


def make_pod(number: int, shape: int) -> PodInfo:
    asks = {"cpu": f"{100 + 50 * (shape % 10)}m", "memory": f"{128 * (1 + shape // 10)}Mi"}
    special = shape % 10 == 9
    spec = PodSpec(
        containers=[Container(name="c", image="i", resources=ResourceRequirements(requests=asks))],
        nodeSelector={"disk": "ssd"} if special else {},
        tolerations=[Toleration(key="spot", operator="Exists")] if special else [],
    )
    return pod_info(Pod(metadata=ObjectMeta(name=f"pod-{number}", namespace="default", uid=str(number)), spec=spec))


def shapes(count: int, mixed: bool) -> list[int]:
    if not mixed:
        return [0] * count
    weights = 1 / np.arange(1, CLASSES + 1)
    return np.random.Generator(np.random.PCG64(1)).choice(CLASSES, count, p=weights / weights.sum()).tolist()


def measure(node_count: int, *, mixed: bool, keep: bool, seconds: float) -> tuple[float, int]:
    """Decisions a second, and how many were made."""
    snapshot = Snapshot(seed=1)
    for number in range(node_count):
        snapshot.set_node(make_node(number))
    pods = [make_pod(number, shape) for number, shape in enumerate(shapes(min(60 * node_count, 60_000), mixed))]
    placed: list[tuple[PodInfo, str]] = []
    decisions, position, spent = 0, 0, 0.0
    while spent < seconds:
        began = time.process_time()
        for pod in pods[position : position + 1000]:
            if not keep:
                snapshot.memo.clear()
            decision = decide(snapshot, pod, POLICY, 1)
            decisions += 1
            if decision.node is not None:
                snapshot.add_pod(pod, decision.node)
                placed.append((pod, decision.node))
        spent += time.process_time() - began
        position += 1000
        if position >= len(pods):
            for pod, node in placed:
                snapshot.remove_pod(pod, node)
            placed.clear()
            position = 0
    return decisions / spent, decisions


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=2.0, help="how long to measure each case")
    parser.add_argument("--nodes", type=int, nargs="+", default=[100, 1000, 5000])
    options = parser.parse_args()
    cases = (("identical", False, True), ("mixed", True, True), ("recomputed", True, False))
    print(f"{'nodes':>6} {'case':<11} {'decisions/s':>11} {'us each':>8}  kube-scheduler, published (pods/s)")
    for nodes in options.nodes:
        for name, mixed, keep in cases:
            rate, _ = measure(nodes, mixed=mixed, keep=keep, seconds=options.seconds)
            peer = KUBE_SCHEDULER_PODS_PER_SECOND.get(nodes)
            print(f"{nodes:>6} {name:<11} {rate:>11,.0f} {1e6 / rate:>8.1f}  {peer if peer else '-'}", flush=True)


if __name__ == "__main__":
    main()
