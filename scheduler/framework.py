"""What a plugin is and what a policy is: Kubernetes' extension points, on columns.

A filter returns a mask over the nodes that it is shown, a score a column; the engine (`decide`) combines them, breaks
ties and caches. A plugin is a pure function of the pod and of the row of each node: shown a subset, it says the same
of each node as when it is shown all. It may be asked about any subset at any time.

`signature(pod)` names all that the plugin reads of a pod: pods of equal signature get equal answers, and the engine
keeps those and works out only the rows that were touched since. A plugin whose answer for a node depends on other
nodes, or that does not say what it reads, returns None, and nothing is kept.

A plain function `score(pod, node) -> float` is a plugin too: it is asked about each feasible node, one by one.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from scheduler.nodes import (
    NODE_ADD,
    NODE_ALLOCATABLE,
    NODE_CONDITION,
    NODE_LABEL,
    NODE_TAINT,
    BoolColumn,
    FloatColumn,
    Nodes,
    NodeView,
)
from scheduler.podinfo import PodInfo

MAX_SCORE = 100.0
ASSIGNED_POD_DELETE = "AssignedPodDelete"
ANY_EVENT = frozenset({NODE_ADD, NODE_ALLOCATABLE, NODE_CONDITION, NODE_LABEL, NODE_TAINT, ASSIGNED_POD_DELETE})


class Plugin:
    """Base of every plugin."""

    # Kubernetes' name of the plugin.
    name: str = ""
    # Whether answers depend on what pods hold on a node: such plugins are asked again when a pod comes or goes.
    reads_load: bool = False
    # What may make a pod schedulable that this plugin refused; the queue wakes it on these.
    events: frozenset[str] = ANY_EVENT

    def signature(self, pod: PodInfo) -> Hashable | None:
        """All that the plugin reads of the pod, or None if its answers may not be kept."""
        return None

    def pre_filter(self, pod: PodInfo) -> str:
        """Why the pod fits nowhere, whatever the nodes are like; "" if that is not so."""
        return ""


class Filter(Plugin):
    """Says on which nodes a pod may run."""

    def skip_filter(self, pod: PodInfo) -> bool:
        """Kubernetes' Skip: the pod gives the filter no reason to refuse any node."""
        return False

    def filter(self, pod: PodInfo, nodes: Nodes) -> BoolColumn:
        """True where the pod may run."""
        raise TypeError(f"{type(self).__name__} has no filter")

    def reasons(self, pod: PodInfo, nodes: Nodes) -> Iterable[tuple[str, BoolColumn]]:
        """Why not, for nodes that were all refused: each reason in Kubernetes' words, with the nodes that it is true
        of."""
        raise TypeError(f"{type(self).__name__} has no reasons")


class Score(Plugin):
    """Says how good nodes are."""

    # Whether `normalize` is to be applied. It must map a column of zeros to a constant.
    normalizes: bool = False
    # Whether only feasible nodes may be shown to `score`.
    feasible_only: bool = False

    def skip_score(self, pod: PodInfo) -> bool:
        """Kubernetes' Skip: the pod gives the plugin no reason to prefer any node; it then adds nothing."""
        return False

    def score(self, pod: PodInfo, nodes: Nodes) -> FloatColumn:
        """0 to 100 by custom, larger is better; before normalizing any range. Never NaN."""
        raise TypeError(f"{type(self).__name__} has no score")

    def normalize(self, raw: FloatColumn, feasible: BoolColumn) -> FloatColumn:
        """Scores of all nodes, relative to the feasible ones (there is at least one)."""
        return raw


class LoopedScore(Score):
    """A plain function of a pod and a node, asked about one feasible node after the other."""

    feasible_only = True
    reads_load = True

    def __init__(self, function: Callable[[PodInfo, NodeView], float]) -> None:
        self.name = function.__name__
        self._function = function

    def score(self, pod: PodInfo, nodes: Nodes) -> FloatColumn:
        return np.fromiter((self._function(pod, node) for node in nodes), np.float64, nodes.count)


def proportional(raw: FloatColumn, feasible: BoolColumn, *, reverse: bool = False) -> FloatColumn:
    """Kubernetes' DefaultNormalizeScore: the largest raw score becomes 100, others in proportion, rounded down."""
    largest = raw[feasible].max()
    if largest == 0:
        return np.full_like(raw, MAX_SCORE) if reverse else raw
    scaled: FloatColumn = np.floor(raw * MAX_SCORE / largest)
    return MAX_SCORE - scaled if reverse else scaled


ScoreRow = tuple[Score | Callable[[PodInfo, NodeView], float], float]


@dataclass(frozen=True, eq=False)
class Policy:
    """An ordered set of plugins: who may refuse, and who is heard with which weight. Immutable; compared by
    identity."""

    name: str
    filters: Sequence[Filter]
    scores: Sequence[ScoreRow] = field(default=())

    @cached_property
    def weighted(self) -> tuple[tuple[Score, float], ...]:
        """`scores` with plain functions made into plugins."""
        return tuple(
            (plugin if isinstance(plugin, Score) else LoopedScore(plugin), float(weight))
            for plugin, weight in self.scores
        )

    @cached_property
    def plugins(self) -> tuple[Plugin, ...]:
        """Every plugin, each once."""
        return tuple(dict.fromkeys((*self.filters, *(plugin for plugin, _ in self.weighted))))

    @cached_property
    def events(self) -> dict[str, frozenset[str]]:
        """By a plugin's name, what may make a pod schedulable that it refused."""
        return {plugin.name: plugin.events for plugin in self.plugins}

    @cached_property
    def pre_filters(self) -> tuple[Plugin, ...]:
        """Those with a `pre_filter` of their own."""
        return tuple(plugin for plugin in self.plugins if type(plugin).pre_filter is not Plugin.pre_filter)

    def signature(self, pod: PodInfo) -> Hashable | None:
        """The equivalence class of the pod under this policy; None if its evaluation may not be kept."""
        known = pod.signatures.get(self, self)
        if known is self:
            parts = tuple(plugin.signature(pod) for plugin in self.plugins)
            known = None if any(part is None for part in parts) else parts
            pod.signatures[self] = known
        return known
