"""pods/binding: ties a pod to a node, once."""

from __future__ import annotations

from apimachinery import codec
from apimachinery.errors import BadRequest, Cause, Conflict, Invalid
from apimachinery.kinds.binding import Binding
from apimachinery.kinds.pod import KIND as POD
from apimachinery.kinds.pod import Pod, PodCondition
from apimachinery.times import format_time

from .registry import Registry, Writer


async def bind(registry: Registry, namespace: str, name: str, binding: Binding, writer: Writer) -> None:
    """Set `spec.nodeName` and the condition PodScheduled. Conflict when the pod has a node, is going, or is gated."""
    if binding.metadata.name and binding.metadata.name != name:
        raise BadRequest(
            f"the name of the binding ({binding.metadata.name}) does not match the name on the URL ({name})"
        )
    if binding.target.kind not in ("", "Node"):
        raise _invalid(name, "target.kind", f'Unsupported value: "{binding.target.kind}": supported values: "Node"')
    if not binding.target.name:
        raise _invalid(name, "target.name", "Required value", "FieldValueRequired")
    now = format_time(registry.clock.now())

    def change(pod: Pod) -> Pod:
        _check(pod, binding)
        bound = codec.clone(pod)
        bound.spec.nodeName = binding.target.name
        bound.metadata.annotations |= binding.metadata.annotations
        bound.metadata.labels |= binding.metadata.labels
        scheduled = PodCondition(type="PodScheduled", status="True", lastTransitionTime=now)
        bound.status.conditions = [each for each in pod.status.conditions if each.type != "PodScheduled"] + [scheduled]
        return bound

    await registry.update(POD, namespace, name, change, writer, subresource="binding")


def _check(pod: Pod, binding: Binding) -> None:
    name = pod.metadata.name
    why = ""
    if binding.metadata.uid and binding.metadata.uid != pod.metadata.uid:
        why = (
            f"Precondition failed: UID in precondition: {binding.metadata.uid}, UID in object meta: {pod.metadata.uid}"
        )
    elif pod.metadata.deletionTimestamp:
        why = f"pod {name} is being deleted, cannot be assigned to a host"
    elif pod.spec.nodeName:
        why = f'pod {name} is already assigned to node "{pod.spec.nodeName}"'
    elif pod.spec.schedulingGates:
        why = f"pod {name} has non-empty .spec.schedulingGates"
    if why:
        raise Conflict.of("pods/binding", name, why)


def _invalid(name: str, field: str, message: str, reason: str = "FieldValueNotSupported") -> Invalid:
    return Invalid("Binding", name, [Cause(reason=reason, message=message, field=field)])
