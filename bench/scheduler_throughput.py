"""How fast pods find their nodes, with the default policy: the core alone, and the whole loop beside an API server.

    python bench/scheduler_throughput.py [--seconds 2] [--nodes 100 1000 5000]

identical   `decide` and the snapshot's bookkeeping for one shape of pod, as in a large Deployment
mixed       the same for 100 shapes drawn by Zipf's law, a tenth of them with a node selector and a toleration
recomputed  mixed, with nothing kept between decisions
live        the real scheduler beside the real API server (memory store) in this process: watch, decide, bind, event

All figures are CPU time of one core. kube-scheduler's figure, which includes its API server, compares with `live`.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import time

import numpy as np

from apimachinery.kinds.node import Node, NodeCondition, NodeSpec, NodeStatus, Taint
from apimachinery.kinds.pod import Container, Pod, PodSpec, Toleration
from apimachinery.kinds.pod_container import ResourceRequirements
from apimachinery.meta import ObjectMeta
from apiserver.app import build
from apiserver.config import Config
from apiserver.storage.memory import MemoryStore
from componentbase.clock import run_virtual, virtual_clock
from componentbase.http import User
from kubeclient.inprocess import HandlerTransport
from kubeclient.rest import Client
from scheduler.app import Scheduler
from scheduler.decide import decide
from scheduler.podinfo import PodInfo, pod_info
from scheduler.policies.default import POLICY
from scheduler.snapshot import Snapshot

# kube-scheduler cannot be installed here. This is its project's own floor for plain pods on 5,000 nodes, with API
# server and etcd in the same process: threshold of workload 5000Nodes_10000Pods of SchedulingBasic in
# kubernetes/kubernetes, test/integration/scheduler_perf/misc/performance-config.yaml, commit 008b3652. Their machine
# has many cores.
KUBE_SCHEDULER_PODS_PER_SECOND = {5000: 680}

LIVE_PODS = 2000
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


def measure(node_count: int, *, mixed: bool, keep: bool, seconds: float) -> float:
    """Decisions a second. Pods are placed until all are, then the cluster is emptied."""
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
    return decisions / spent


async def _live(node_count: int) -> float:
    clock = virtual_clock()
    app = build(Config(), MemoryStore(), clock, seed=1)
    serving = asyncio.ensure_future(app.run())
    await app.ready()
    client = Client(HandlerTransport(app.handle, User("admin", ("system:masters",))))
    for number in range(node_count):
        node = make_node(number)
        made = await client.create(node)
        made.status = node.status
        await client.update_status(made)
    for number in range(LIVE_PODS):
        await client.create(make_pod(number, 0).pod)
    began = time.process_time()
    scheduling = asyncio.ensure_future(Scheduler(client, clock, POLICY, 1).run())
    while any(not pod.spec.nodeName for pod in (await client.list(Pod, fields="spec.nodeName=")).items):
        await clock.sleep(0.1)
    spent = time.process_time() - began
    for task in (scheduling, serving):
        task.cancel()
    await asyncio.gather(scheduling, serving, return_exceptions=True)
    return LIVE_PODS / spent


def measure_live(node_count: int) -> float:
    """Pods bound a second, with all that follows from it."""
    return run_virtual(_live(node_count))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=2.0, help="how long to measure each case")
    parser.add_argument("--nodes", type=int, nargs="+", default=[100, 1000, 5000])
    options = parser.parse_args()
    logging.disable()
    cases = (("identical", False, True), ("mixed", True, True), ("recomputed", True, False))
    print(f"{'nodes':>6} {'case':<11} {'pods/s':>9} {'us each':>8}  kube-scheduler, published (pods/s)")
    for nodes in options.nodes:
        rows = [(name, measure(nodes, mixed=mixed, keep=keep, seconds=options.seconds)) for name, mixed, keep in cases]
        for name, rate in (*rows, ("live", measure_live(nodes))):
            peer = KUBE_SCHEDULER_PODS_PER_SECOND.get(nodes) if name == "live" else None
            print(f"{nodes:>6} {name:<11} {rate:>9,.0f} {1e6 / rate:>8.1f}  {peer or '-'}", flush=True)


if __name__ == "__main__":
    main()
