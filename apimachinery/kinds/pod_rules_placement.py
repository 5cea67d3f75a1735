"""Rules for what a pod says about where it runs: selectors, affinity, tolerations, topology spread."""

from __future__ import annotations

from apimachinery import object_meta
from apimachinery.causes import duplicate, faulty, forbidden, invalid, not_supported, one_of, required
from apimachinery.errors import Cause
from apimachinery.kinds.pod_affinity import (
    Affinity,
    NodeSelector,
    NodeSelectorRequirement,
    NodeSelectorTerm,
    PodAffinity,
    PodAffinityTerm,
    PodAntiAffinity,
    Toleration,
    TopologySpreadConstraint,
)
from apimachinery.kinds.pod_spec import PodSpec
from apimachinery.meta import LabelSelector
from apimachinery.names import dns_label_faults, dns_subdomain_faults, label_key_faults, label_value_faults

EFFECTS = ("NoExecute", "NoSchedule", "PreferNoSchedule")
_REQUIRED, _PREFERRED = (
    "requiredDuringSchedulingIgnoredDuringExecution",
    "preferredDuringSchedulingIgnoredDuringExecution",
)


def placement(spec: PodSpec) -> list[Cause]:
    """All of them."""
    found = object_meta.labels(spec.nodeSelector, "spec.nodeSelector")
    if spec.affinity is not None:
        found += affinity(spec.affinity, "spec.affinity")
    found += tolerations(spec.tolerations, "spec.tolerations")
    found += _spread(spec.topologySpreadConstraints, "spec.topologySpreadConstraints")
    return found


def affinity(given: Affinity, path: str) -> list[Cause]:
    """Towards nodes and pods."""
    found: list[Cause] = []
    if given.nodeAffinity is not None:
        place = f"{path}.nodeAffinity"
        wanted = given.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution
        if wanted is not None:
            found += node_selector(wanted, f"{place}.{_REQUIRED}")
        for index, term in enumerate(given.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution):
            at = f"{place}.{_PREFERRED}[{index}]"
            found += _weight(term.weight, f"{at}.weight") + _term(term.preference, f"{at}.preference")
    for name in ("podAffinity", "podAntiAffinity"):
        part: PodAffinity | PodAntiAffinity | None = getattr(given, name)
        if part is None:
            continue
        for index, pods in enumerate(part.requiredDuringSchedulingIgnoredDuringExecution):
            found += _pods(pods, f"{path}.{name}.{_REQUIRED}[{index}]")
        for index, weighted in enumerate(part.preferredDuringSchedulingIgnoredDuringExecution):
            at = f"{path}.{name}.{_PREFERRED}[{index}]"
            found += _weight(weighted.weight, f"{at}.weight") + _pods(weighted.podAffinityTerm, f"{at}.podAffinityTerm")
    return found


def node_selector(selector: NodeSelector, path: str) -> list[Cause]:
    """At least one term, all of them well formed."""
    if not selector.nodeSelectorTerms:
        return [required(f"{path}.nodeSelectorTerms", "must have at least one node selector term")]
    found: list[Cause] = []
    for index, term in enumerate(selector.nodeSelectorTerms):
        found += _term(term, f"{path}.nodeSelectorTerms[{index}]")
    return found


def _weight(weight: int, path: str) -> list[Cause]:
    return [] if 1 <= weight <= 100 else [invalid(path, weight, "must be in the range 1-100")]


def _term(term: NodeSelectorTerm, path: str) -> list[Cause]:
    found: list[Cause] = []
    for index, expression in enumerate(term.matchExpressions):
        found += _expression(expression, f"{path}.matchExpressions[{index}]")
    for index, match in enumerate(term.matchFields):
        place = f"{path}.matchFields[{index}]"
        if match.operator not in ("In", "NotIn"):
            found.append(invalid(f"{place}.operator", match.operator, "not a valid selector operator"))
        elif len(match.values) != 1:
            why = "must be only one value when `operator` is 'In' or 'NotIn' for node field selector"
            found.append(required(f"{place}.values", why))
        if match.key != "metadata.name":
            found.append(invalid(f"{place}.key", match.key, "not a valid field selector key"))
        for number, value in enumerate(match.values):
            found += faulty(f"{place}.values[{number}]", value, dns_subdomain_faults(value))
    return found


def _expression(expression: NodeSelectorRequirement, path: str) -> list[Cause]:
    found: list[Cause] = []
    values = expression.values
    match expression.operator:
        case "In" | "NotIn":
            if not values:
                found.append(required(f"{path}.values", "must be specified when `operator` is 'In' or 'NotIn'"))
        case "Exists" | "DoesNotExist":
            if values:
                why = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'"
                found.append(forbidden(f"{path}.values", why))
        case "Gt" | "Lt":
            if len(values) != 1:
                why = "must be specified single value when `operator` is 'Lt' or 'Gt'"
                found.append(required(f"{path}.values", why))
        case _:
            found.append(invalid(f"{path}.operator", expression.operator, "not a valid selector operator"))
    return found + faulty(f"{path}.key", expression.key, label_key_faults(expression.key))


def _pods(term: PodAffinityTerm, path: str) -> list[Cause]:
    found = label_selector(term.labelSelector, f"{path}.labelSelector")
    found += label_selector(term.namespaceSelector, f"{path}.namespaceSelector")
    for index, name in enumerate(term.namespaces):
        found += faulty(f"{path}.namespaces[{index}]", name, dns_label_faults(name))
    return found + _topology_key(term.topologyKey, f"{path}.topologyKey")


def _topology_key(key: str, path: str) -> list[Cause]:
    return faulty(path, key, label_key_faults(key)) if key else [required(path, "can not be empty")]


def label_selector(selector: LabelSelector | None, path: str) -> list[Cause]:
    """A LabelSelector struct."""
    if selector is None:
        return []
    found = object_meta.labels(selector.matchLabels, f"{path}.matchLabels")
    for index, expression in enumerate(selector.matchExpressions):
        place = f"{path}.matchExpressions[{index}]"
        if expression.operator in ("In", "NotIn"):
            if not expression.values:
                found.append(required(f"{place}.values", "must be specified when `operator` is 'In' or 'NotIn'"))
        elif expression.operator in ("Exists", "DoesNotExist"):
            if expression.values:
                why = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'"
                found.append(forbidden(f"{place}.values", why))
        else:
            found.append(invalid(f"{place}.operator", expression.operator, "not a valid selector operator"))
        found += faulty(f"{place}.key", expression.key, label_key_faults(expression.key))
        for number, value in enumerate(expression.values):
            found += faulty(f"{place}.values[{number}]", value, label_value_faults(value))
    return found


def tolerations(given: list[Toleration], path: str) -> list[Cause]:
    """Key, operator, value and effect go together."""
    found: list[Cause] = []
    for index, toleration in enumerate(given):
        place = f"{path}[{index}]"
        operator = toleration.operator
        if toleration.key:
            found += faulty(f"{place}.key", toleration.key, label_key_faults(toleration.key))
        elif operator != "Exists":
            why = 'operator must be Exists when `key` is empty, which means "match all values and all keys"'
            found.append(invalid(f"{place}.operator", operator, why))
        if toleration.tolerationSeconds is not None and toleration.effect != "NoExecute":
            why = "effect must be 'NoExecute' when `tolerationSeconds` is set"
            found.append(invalid(f"{place}.effect", toleration.effect, why))
        if operator in ("Equal", ""):
            found += faulty(f"{place}.operator", toleration.value, label_value_faults(toleration.value))
        elif operator != "Exists":
            found.append(not_supported(f"{place}.operator", operator, ("Equal", "Exists")))
        elif toleration.value:
            found.append(invalid(f"{place}.operator", toleration, "value must be empty when `operator` is 'Exists'"))
        found += one_of(f"{place}.effect", toleration.effect, EFFECTS, needed=False)
    return found


def _spread(given: list[TopologySpreadConstraint], path: str) -> list[Cause]:
    found: list[Cause] = []
    seen: set[tuple[str, str]] = set()
    for index, constraint in enumerate(given):
        place = f"{path}[{index}]"
        if constraint.maxSkew <= 0:
            found.append(invalid(f"{place}.maxSkew", constraint.maxSkew, "must be greater than zero"))
        found += _topology_key(constraint.topologyKey, f"{place}.topologyKey")
        when = constraint.whenUnsatisfiable
        found += one_of(f"{place}.whenUnsatisfiable", when, ("DoNotSchedule", "ScheduleAnyway"))
        pair = (constraint.topologyKey, when)
        if pair in seen:
            found.append(duplicate(f"{place}.{{topologyKey, whenUnsatisfiable}}", f"{{{pair[0]}, {pair[1]}}}"))
        seen.add(pair)
        if constraint.minDomains is not None:
            if constraint.minDomains <= 0:
                found.append(invalid(f"{place}.minDomains", constraint.minDomains, "must be greater than zero"))
            if when == "ScheduleAnyway":
                why = f"can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {when}"
                found.append(invalid(f"{place}.minDomains", constraint.minDomains, why))
        for name in ("nodeAffinityPolicy", "nodeTaintsPolicy"):
            found += one_of(f"{place}.{name}", getattr(constraint, name) or "", ("Honor", "Ignore"), needed=False)
        found += label_selector(constraint.labelSelector, f"{place}.labelSelector")
    return found
