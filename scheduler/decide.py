"""`decide`: where a pod goes, or why it goes nowhere. A pure function: the same arguments give the same decision.

Nothing is advanced, no clock is read, nothing outside is asked. Among the best nodes the first in the keyed order of
(seed, name) wins; a snapshot that was made with the same seed stands in that order already. A refusal counts every
reason in Kubernetes' words: each node is refused by the first filter that objects, with all of that filter's reasons.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scheduler.classes import evaluate
from scheduler.framework import Policy
from scheduler.nodes import BoolColumn, FloatColumn
from scheduler.podinfo import PodInfo
from scheduler.snapshot import Snapshot, order_key

NO_NODES = "no nodes available to schedule pods"


@dataclass(frozen=True, slots=True)
class Refusal:
    """One reason of one plugin. nodes: where it holds, in the snapshot's order."""

    plugin: str
    reason: str
    nodes: BoolColumn


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """Why a pod fits nowhere. `pre_filter` is a reason that is not about nodes, "" if there is none."""

    node_count: int
    refusals: tuple[Refusal, ...] = ()
    pre_filter: str = ""
    pre_filter_plugin: str = ""

    @property
    def counts(self) -> dict[str, int]:
        """How many nodes have each reason."""
        counts: dict[str, int] = {}
        for refusal in self.refusals:
            counts[refusal.reason] = counts.get(refusal.reason, 0) + int(np.count_nonzero(refusal.nodes))
        return counts

    @property
    def plugins(self) -> tuple[str, ...]:
        """Who refused: what helps one of these may help the pod."""
        names = (self.pre_filter_plugin, *(refusal.plugin for refusal in self.refusals))
        return tuple(dict.fromkeys(name for name in names if name))

    def message(self) -> str:
        """`0/3 nodes are available: 1 node(s) had untolerated taint {k: v}, 2 Insufficient cpu.`"""
        if self.node_count == 0:
            return NO_NODES
        reasons = sorted(f"{count} {reason}" for reason, count in self.counts.items())
        return f"0/{self.node_count} nodes are available: {self.pre_filter or ', '.join(reasons)}."


@dataclass(frozen=True, slots=True)
class Decision:
    """node: the chosen node, or None with a diagnosis. score: its total. feasible: on how many nodes the pod may run.
    scores: totals of all nodes in the snapshot's order, -inf where the pod may not run; None without any node."""

    node: str | None
    score: float = 0.0
    feasible: int = 0
    scores: FloatColumn | None = None
    diagnosis: Diagnosis | None = None


def decide(snapshot: Snapshot, pod: PodInfo, policy: Policy, seed: int) -> Decision:
    """The decision of `policy` on `pod`. Raises what a plugin raises, and ValueError for a score that is NaN."""
    if len(snapshot) == 0:
        return Decision(None, diagnosis=Diagnosis(0))
    for plugin in policy.pre_filters:
        text = plugin.pre_filter(pod)
        if text:
            return Decision(None, diagnosis=Diagnosis(len(snapshot), (), text, plugin.name))
    evaluation = evaluate(snapshot, pod, policy)
    ranked = evaluation.ranked
    best = int(ranked.argmax())
    score = float(ranked[best])
    if score == -np.inf:
        return Decision(None, scores=ranked.copy(), diagnosis=diagnose(snapshot, pod, policy))
    if seed != snapshot.seed:
        ties = np.flatnonzero(ranked == score)
        best = min((int(index) for index in ties), key=lambda index: order_key(seed, snapshot.names[index]))
    feasible = int(np.count_nonzero(evaluation.feasible))
    return Decision(snapshot.names[best], score, feasible, ranked.copy())


def diagnose(snapshot: Snapshot, pod: PodInfo, policy: Policy) -> Diagnosis:
    """Why the pod may not run on the nodes on which it may not run."""
    nodes = snapshot.nodes
    left = np.ones(nodes.count, np.bool_)
    refusals = []
    for filter_ in policy.filters:
        if filter_.skip_filter(pod):
            continue
        refused = left & ~filter_.filter(pod, nodes)
        if not refused.any():
            continue
        left &= ~refused
        for reason, mask in filter_.reasons(pod, nodes.where(refused)):
            if mask.any():
                everywhere = np.zeros(nodes.count, np.bool_)
                everywhere[np.flatnonzero(refused)[mask]] = True
                refusals.append(Refusal(filter_.name, reason, everywhere))
        if not left.any():
            break
    return Diagnosis(nodes.count, tuple(refusals))
