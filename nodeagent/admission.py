"""May this pod run here? The node's own last word, for pods that got here past the scheduler or in a race. Pure.

Rules and wording are the kubelet's: what does not fit is refused with phase Failed and reason OutOf<resource>, a node
selector that does not match with NodeAffinity.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from apimachinery.kinds.pod import Pod
from apimachinery.quantity import milli, value


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why not."""

    reason: str
    message: str


def amount(resource: str, text: str) -> int:
    """cpu in thousandths, all else in whole units."""
    return milli(text) if resource == "cpu" else value(text)


def requests(pod: Pod) -> dict[str, int]:
    """What the pod asks for: the sum over its containers and sidecars, or what one init container needs if that is
    more."""
    total: dict[str, int] = {}
    for each in pod.spec.containers:
        _add(total, each.resources.requests)
    peak: dict[str, int] = {}
    sidecars: dict[str, int] = {}
    for each in pod.spec.initContainers:
        if each.restartPolicy == "Always":
            _add(sidecars, each.resources.requests)
            continue
        alone = dict(sidecars)
        _add(alone, each.resources.requests)
        peak = {name: max(peak.get(name, 0), alone.get(name, 0)) for name in {**peak, **alone}}
    for name, size in sidecars.items():
        total[name] = total.get(name, 0) + size
    found = {name: max(total.get(name, 0), peak.get(name, 0)) for name in {**total, **peak}}
    _add(found, pod.spec.overhead)
    return found


def admit(pod: Pod, others: Iterable[Pod], allocatable: Mapping[str, str], labels: Mapping[str, str]) -> Refusal | None:
    """None when the pod may run beside `others`, the pods that already do."""
    for key, wanted in pod.spec.nodeSelector.items():
        if labels.get(key) != wanted:
            return Refusal("NodeAffinity", "Predicate NodeAffinity failed: node(s) didn't match Pod's node selector")
    used: dict[str, int] = {"pods": 0}
    for other in others:
        used["pods"] += 1
        for name, size in requests(other).items():
            used[name] = used.get(name, 0) + size
    for name, size in {"pods": 1, **requests(pod)}.items():
        capacity = amount(name, allocatable.get(name, "0"))
        if size and used.get(name, 0) + size > capacity:
            text = f"Node didn't have enough resource: {name}, requested: {size}, used: {used.get(name, 0)}"
            return Refusal(f"OutOf{name}", f"{text}, capacity: {capacity}")
    return None


def _add(total: dict[str, int], more: Mapping[str, str]) -> None:
    for name, text in more.items():
        total[name] = total.get(name, 0) + amount(name, text)
