"""The same decision, made the slow and plain way: one node after the other, from the objects, with integers.

Shares no code with the scheduler but the order of ties. Kubernetes' rules, as far as the default policy has them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from apimachinery import quantity
from apimachinery.kinds.node import Node
from apimachinery.kinds.pod import Pod
from scheduler.snapshot import order_key

MEBIBYTE = 1024 * 1024


@dataclass
class Cluster:
    """Nodes by name and the pods on them."""

    nodes: dict[str, Node] = field(default_factory=dict)
    pods: dict[str, list[Pod]] = field(default_factory=dict)


def asks(pod: Pod) -> dict[str, int]:
    total: dict[str, int] = {"pods": 1, "pids": len(pod.spec.containers)}
    for each in pod.spec.containers:
        for name, text in each.resources.requests.items():
            total[name] = total.get(name, 0) + (quantity.milli(text) if name == "cpu" else quantity.value(text))
    return {name: amount for name, amount in total.items() if amount}


def nonzero(pod: Pod, resource: str) -> int:
    default = 100 if resource == "cpu" else 200 * MEBIBYTE
    read = quantity.milli if resource == "cpu" else quantity.value
    requests = [each.resources.requests for each in pod.spec.containers]
    return sum(read(each[resource]) if resource in each else default for each in requests)


def capacity(node: Node, resource: str) -> float:
    text = node.status.allocatable.get(resource)
    if text is None:
        return float("inf") if resource == "pids" else 0
    return quantity.milli(text) if resource == "cpu" else quantity.value(text)


def tolerated(pod: Pod, key: str, value: str, effect: str) -> bool:
    for each in pod.spec.tolerations:
        if each.effect and each.effect != effect:
            continue
        if each.key and each.key != key:
            continue
        if each.operator == "Exists" or each.value == value:
            return True
    return False


def matches(each: Any, held: str | None) -> bool:
    if each.operator == "In":
        return held in each.values
    if each.operator == "NotIn":
        return held not in each.values
    if each.operator == "Exists":
        return held is not None
    if each.operator == "DoesNotExist":
        return held is None
    if held is None or not held.isdecimal() or not each.values[0].isdecimal():
        return False
    return int(held) > int(each.values[0]) if each.operator == "Gt" else int(held) < int(each.values[0])


def term_matches(term: Any, node: Node) -> bool:
    if not term.matchExpressions and not term.matchFields:
        return False
    labels = all(matches(each, node.metadata.labels.get(each.key)) for each in term.matchExpressions)
    return labels and all(matches(each, node.metadata.name) for each in term.matchFields)


def refusals(cluster: Cluster, pod: Pod, node: Node) -> list[str]:
    """The reasons of the first filter that objects."""
    if node.spec.unschedulable and not tolerated(pod, "node.kubernetes.io/unschedulable", "", "NoSchedule"):
        return ["node(s) were unschedulable"]
    ready = any(each.type == "Ready" and each.status == "True" for each in node.status.conditions)
    if not ready and not tolerated(pod, "node.kubernetes.io/not-ready", "", "NoSchedule"):
        return ["node(s) were not ready"]
    for taint in node.spec.taints:
        if taint.effect != "PreferNoSchedule" and not tolerated(pod, taint.key, taint.value, taint.effect):
            return [f"node(s) had untolerated taint {{{taint.key}: {taint.value}}}"]
    if any(node.metadata.labels.get(key) != value for key, value in pod.spec.nodeSelector.items()):
        return ["node(s) didn't match Pod's node affinity/selector"]
    wishes = pod.spec.affinity.nodeAffinity if pod.spec.affinity else None
    required = wishes.requiredDuringSchedulingIgnoredDuringExecution if wishes else None
    if required is not None and not any(term_matches(each, node) for each in required.nodeSelectorTerms):
        return ["node(s) didn't match Pod's node affinity/selector"]
    others = cluster.pods.get(node.metadata.name, [])
    taken = {port.hostPort for other in others for each in other.spec.containers for port in each.ports}
    if any(port.hostPort in taken for each in pod.spec.containers for port in each.ports):
        return ["node(s) didn't have free ports for the requested pod ports"]
    found = []
    for resource, ask in asks(pod).items():
        used = sum(asks(other).get(resource, 0) for other in others)
        if used + ask > capacity(node, resource):
            found.append("Too many pods" if resource == "pods" else f"Insufficient {resource}")
    return found


def decide(cluster: Cluster, pod: Pod, seed: int) -> tuple[str | None, int, str]:
    """(node, score, message)."""
    if not cluster.nodes:
        return None, 0, "no nodes available to schedule pods"
    feasible, counts = [], dict[str, int]()
    for node in cluster.nodes.values():
        reasons = refusals(cluster, pod, node)
        for reason in reasons:
            counts[reason] = counts.get(reason, 0) + 1
        if not reasons:
            feasible.append(node)
    if not feasible:
        texts = ", ".join(sorted(f"{count} {reason}" for reason, count in counts.items()))
        return None, 0, f"0/{len(cluster.nodes)} nodes are available: {texts}."
    totals = scores(cluster, pod, feasible)
    best = min(feasible, key=lambda node: (-totals[node.metadata.name], order_key(seed, node.metadata.name)))
    return best.metadata.name, totals[best.metadata.name], ""


def scores(cluster: Cluster, pod: Pod, feasible: list[Node]) -> dict[str, int]:
    wishes = pod.spec.affinity.nodeAffinity if pod.spec.affinity else None
    preferred = wishes.preferredDuringSchedulingIgnoredDuringExecution if wishes else []
    soft = {
        node.metadata.name: sum(
            taint.effect == "PreferNoSchedule" and not tolerated(pod, taint.key, taint.value, taint.effect)
            for taint in node.spec.taints
        )
        for node in feasible
    }
    liked = {
        node.metadata.name: sum(each.weight for each in preferred if term_matches(each.preference, node))
        for node in feasible
    }
    most_soft, most_liked = max(soft.values()), max(liked.values())
    totals = {}
    for node in feasible:
        name = node.metadata.name
        total = 3 * (100 - (100 * soft[name] // most_soft if most_soft else 0))
        total += 2 * (100 * liked[name] // most_liked if most_liked else 0)
        totals[name] = total + least_allocated(cluster, pod, node) + balanced(cluster, pod, node)
    return totals


def least_allocated(cluster: Cluster, pod: Pod, node: Node) -> int:
    parts = []
    for resource in ("cpu", "memory"):
        cap = int(capacity(node, resource))
        if cap == 0:
            continue
        used = sum(nonzero(other, resource) for other in cluster.pods.get(node.metadata.name, []))
        used += nonzero(pod, resource)
        parts.append(0 if used > cap else (cap - used) * 100 // cap)
    return sum(parts) // len(parts) if parts else 0


def balanced(cluster: Cluster, pod: Pod, node: Node) -> int:
    wanted = asks(pod)
    if not wanted.get("cpu") and not wanted.get("memory"):
        return 0
    parts = []
    for resource in ("cpu", "memory"):
        cap = capacity(node, resource)
        if cap:
            used = sum(asks(other).get(resource, 0) for other in cluster.pods.get(node.metadata.name, []))
            parts.append(min(1.0, (used + wanted.get(resource, 0)) / cap))
    deviation = abs(parts[0] - parts[1]) / 2 if len(parts) == 2 else 0.0
    return int((1 - deviation) * 100)
