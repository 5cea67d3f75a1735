"""What may change in a pod: images, a shorter deadline, more tolerations, fewer scheduling gates, and its status."""

from __future__ import annotations

from typing import Any

import msgspec

from apimachinery.causes import forbidden, invalid
from apimachinery.codec import clone, to_dict
from apimachinery.errors import Cause
from apimachinery.kinds.pod_affinity import Toleration
from apimachinery.kinds.pod_spec import Pod, PodSpec
from apimachinery.kinds.pod_status import ContainerStatus

_ONLY = (
    "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,"
    "`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),"
    "`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)"
)
_UNSET = msgspec.UNSET


def prepare_update(new: Pod, old: Pod) -> None:
    """Keeps what clients leave out and may not change."""
    new.status.qosClass = new.status.qosClass or old.status.qosClass


def validate_update(new: Pod, old: Pod) -> list[Cause]:
    """Faults of a change of the spec. The rest of the spec must be equal."""
    found: list[Cause] = []
    for name in ("containers", "initContainers"):
        if len(getattr(new.spec, name)) != len(getattr(old.spec, name)):
            return [forbidden(f"spec.{name}", "pod updates may not add or remove containers")]
    found += _deadline(new.spec, old.spec)
    if old.spec.tolerations != new.spec.tolerations:
        found += _tolerations(new.spec.tolerations, old.spec.tolerations)
    found += _gates(new.spec, old.spec)
    if found:
        return found
    allowed = _allowed(new.spec, old.spec)
    if allowed == new.spec:
        return []
    changed = _differences(to_dict(new.spec), to_dict(allowed), "spec")
    return [forbidden("spec", f"{_ONLY}; changed: {', '.join(changed)}" if changed else _ONLY)]


def _allowed(new: PodSpec, old: PodSpec) -> PodSpec:
    """The old spec with what may change taken from the new one."""
    allowed = clone(old)
    for name in ("containers", "initContainers"):
        for mine, theirs in zip(getattr(allowed, name), getattr(new, name), strict=True):
            mine.image = theirs.image
    allowed.activeDeadlineSeconds = new.activeDeadlineSeconds
    allowed.tolerations = new.tolerations
    allowed.schedulingGates = new.schedulingGates
    if (old.terminationGracePeriodSeconds or 0) < 0 and new.terminationGracePeriodSeconds == 1:
        allowed.terminationGracePeriodSeconds = 1
    if old.schedulingGates:  # a gated pod may still be told, more narrowly, where to go
        if all(new.nodeSelector.get(key) == value for key, value in old.nodeSelector.items()):
            allowed.nodeSelector = new.nodeSelector
        if old.affinity is None or old.affinity.nodeAffinity is None:
            allowed.affinity = new.affinity
    return allowed


def _deadline(new: PodSpec, old: PodSpec) -> list[Cause]:
    before, after = old.activeDeadlineSeconds, new.activeDeadlineSeconds
    if before is None or before == after:
        return []
    path = "spec.activeDeadlineSeconds"
    if after is None:
        return [invalid(path, after, "must not update from a positive integer to nil value")]
    return [invalid(path, after, "must be less than or equal to previous value")] if after > before else []


def _tolerations(new: list[Toleration], old: list[Toleration]) -> list[Cause]:
    def key(toleration: Toleration) -> tuple[str, str, str, str]:
        return toleration.key, toleration.operator, toleration.value, toleration.effect

    kept = {key(toleration) for toleration in new}
    if all(key(toleration) in kept for toleration in old):
        return []
    why = "existing toleration can not be modified except its tolerationSeconds"
    return [forbidden("spec.tolerations", why)]


def _gates(new: PodSpec, old: PodSpec) -> list[Cause]:
    before = {gate.name for gate in old.schedulingGates}
    return [
        forbidden("spec.schedulingGates", f"only deletion is allowed, but found new scheduling gate '{gate.name}'")
        for gate in new.schedulingGates
        if gate.name not in before
    ]


def _differences(new: Any, old: Any, path: str) -> list[str]:
    """Paths of at most five values that differ."""
    if isinstance(new, dict) and isinstance(old, dict):
        found: list[str] = []
        for key in sorted({*new, *old}):
            if new.get(key, _UNSET) != old.get(key, _UNSET):
                found += _differences(new.get(key), old.get(key), f"{path}.{key}")
        return found[:5]
    if isinstance(new, list) and isinstance(old, list) and len(new) == len(old):
        found = []
        for index, (mine, theirs) in enumerate(zip(new, old, strict=True)):
            if mine != theirs:
                found += _differences(mine, theirs, f"{path}[{index}]")
        return found[:5]
    return [path]


def validate_status_update(new: Pod, old: Pod) -> list[Cause]:
    """Faults of a report about a pod: a container that may not run again does not run again."""
    found: list[Cause] = []
    if old.status.qosClass and new.status.qosClass != old.status.qosClass:
        found.append(invalid("status.qosClass", new.status.qosClass, "field is immutable"))
    if old.spec.restartPolicy != "Always":
        before = {status.name: status for status in old.status.containerStatuses}
        for index, status in enumerate(new.status.containerStatuses):
            if status.name in before and _revived(status, before[status.name], old.spec.restartPolicy):
                why = "may not be transitioned to non-terminated state"
                found.append(forbidden(f"status.containerStatuses[{index}].state", why))
    return found


def _revived(new: ContainerStatus, old: ContainerStatus, restart_policy: str) -> bool:
    ended = old.state.terminated
    if ended is None or new.state.terminated is not None:
        return False
    return restart_policy == "Never" or ended.exitCode == 0
