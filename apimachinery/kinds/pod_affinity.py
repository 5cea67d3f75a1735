"""What a pod says about where it wants to run: affinity, tolerations, topology spread."""

from __future__ import annotations

from apimachinery.meta import Int32, Int64, LabelSelector, Record, always, fresh


class NodeSelectorRequirement(Record, kw_only=True):
    """operator: In, NotIn, Exists, DoesNotExist, Gt, Lt."""

    key: str = always("")
    operator: str = always("")
    values: list[str] = []


class NodeSelectorTerm(Record, kw_only=True):
    """All expressions and fields must match; an empty term matches nothing."""

    matchExpressions: list[NodeSelectorRequirement] = []
    matchFields: list[NodeSelectorRequirement] = []


class NodeSelector(Record, kw_only=True):
    """One of the terms must match."""

    nodeSelectorTerms: list[NodeSelectorTerm] = []


class PreferredSchedulingTerm(Record, kw_only=True):
    """A wish with a weight from 1 to 100."""

    weight: Int32 = always(0)
    preference: NodeSelectorTerm = fresh(NodeSelectorTerm)


class NodeAffinity(Record, kw_only=True):
    """Nodes by their labels."""

    requiredDuringSchedulingIgnoredDuringExecution: NodeSelector | None = None
    preferredDuringSchedulingIgnoredDuringExecution: list[PreferredSchedulingTerm] = []


class PodAffinityTerm(Record, kw_only=True):
    """The pods of labelSelector, in these namespaces, in the same topologyKey domain."""

    labelSelector: LabelSelector | None = None
    namespaces: list[str] = []
    topologyKey: str = always("")
    namespaceSelector: LabelSelector | None = None
    matchLabelKeys: list[str] = []
    mismatchLabelKeys: list[str] = []


class WeightedPodAffinityTerm(Record, kw_only=True):
    """A wish with a weight from 1 to 100."""

    weight: Int32 = always(0)
    podAffinityTerm: PodAffinityTerm = fresh(PodAffinityTerm)


class PodAffinity(Record, kw_only=True):
    """Near other pods."""

    requiredDuringSchedulingIgnoredDuringExecution: list[PodAffinityTerm] = []
    preferredDuringSchedulingIgnoredDuringExecution: list[WeightedPodAffinityTerm] = []


class PodAntiAffinity(Record, kw_only=True):
    """Away from other pods."""

    requiredDuringSchedulingIgnoredDuringExecution: list[PodAffinityTerm] = []
    preferredDuringSchedulingIgnoredDuringExecution: list[WeightedPodAffinityTerm] = []


class Affinity(Record, kw_only=True):
    """All kinds of affinity."""

    nodeAffinity: NodeAffinity | None = None
    podAffinity: PodAffinity | None = None
    podAntiAffinity: PodAntiAffinity | None = None


class Toleration(Record, kw_only=True):
    """A taint that the pod puts up with. operator: Equal (default) or Exists; an empty effect means all."""

    key: str = ""
    operator: str = ""
    value: str = ""
    effect: str = ""
    tolerationSeconds: Int64 | None = None


class TopologySpreadConstraint(Record, kw_only=True):
    """How unevenly the selected pods may lie over the domains of topologyKey."""

    maxSkew: Int32 = always(0)
    topologyKey: str = always("")
    whenUnsatisfiable: str = always("")
    labelSelector: LabelSelector | None = None
    minDomains: Int32 | None = None
    nodeAffinityPolicy: str | None = None
    nodeTaintsPolicy: str | None = None
    matchLabelKeys: list[str] = []
