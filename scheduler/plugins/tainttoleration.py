"""TaintToleration: a taint keeps pods away that do not tolerate it, or makes the node less welcome
(PreferNoSchedule)."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence

import numpy as np

from apimachinery.kinds.pod_affinity import Toleration
from scheduler.framework import Filter, Score, proportional
from scheduler.nodes import NODE_ADD, NODE_TAINT, BoolColumn, FloatColumn, Nodes, TaintKey
from scheduler.podinfo import PodInfo

HARD_EFFECTS = ("NoSchedule", "NoExecute")
SOFT_EFFECT = "PreferNoSchedule"


def tolerates(tolerations: Sequence[Toleration], taint: TaintKey) -> bool:
    """Whether one of the tolerations puts up with the taint. An empty key with Exists tolerates everything."""
    key, value, effect = taint
    return any(
        each.effect in ("", effect)
        and each.key in ("", key)
        and (each.operator == "Exists" or (each.operator in ("", "Equal") and each.value == value))
        for each in tolerations
    )


def signature_of(tolerations: Sequence[Toleration]) -> Hashable:
    """All of the tolerations that scheduling reads; how long they last is for eviction."""
    return tuple((each.key, each.operator, each.value, each.effect) for each in tolerations)


class TaintToleration(Filter, Score):
    """Filter: NoSchedule and NoExecute taints. Score: 100 for the fewest untolerated PreferNoSchedule taints."""

    name = "TaintToleration"
    events = frozenset({NODE_ADD, NODE_TAINT})
    normalizes = True

    def signature(self, pod: PodInfo) -> Hashable:
        return signature_of(pod.tolerations)

    def filter(self, pod: PodInfo, nodes: Nodes) -> BoolColumn:
        # Nodes share few combinations of taints: decide per combination, then look up.
        tolerated = [_first_untolerated(pod, taints) is None for taints in nodes.taint_sets]
        return np.array(tolerated, np.bool_)[nodes.taint_codes]

    def reasons(self, pod: PodInfo, nodes: Nodes) -> Iterable[tuple[str, BoolColumn]]:
        by_text: dict[str, list[int]] = {}
        for code, taints in enumerate(nodes.taint_sets):
            taint = _first_untolerated(pod, taints)
            if taint is not None:
                by_text.setdefault(f"node(s) had untolerated taint {{{taint[0]}: {taint[1]}}}", []).append(code)
        for text, codes in by_text.items():
            yield text, np.isin(nodes.taint_codes, codes)

    def score(self, pod: PodInfo, nodes: Nodes) -> FloatColumn:
        counts = [
            sum(taint[2] == SOFT_EFFECT and not tolerates(pod.tolerations, taint) for taint in taints)
            for taints in nodes.taint_sets
        ]
        return np.array(counts, np.float64)[nodes.taint_codes]

    def normalize(self, raw: FloatColumn, feasible: BoolColumn) -> FloatColumn:
        return proportional(raw, feasible, reverse=True)


def _first_untolerated(pod: PodInfo, taints: tuple[TaintKey, ...]) -> TaintKey | None:
    hard = (taint for taint in taints if taint[2] in HARD_EFFECTS)
    return next((taint for taint in hard if not tolerates(pod.tolerations, taint)), None)
