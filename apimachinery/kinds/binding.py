"""Binding: tells the API server on which node a pod runs. Never stored."""

from __future__ import annotations

from apimachinery.kind import Kind
from apimachinery.meta import ObjectMeta, ObjectReference, Record, always, fresh


class Binding(Record, kw_only=True):
    """Ties `metadata.name`, a pod, to `target`, a node."""

    apiVersion: str = always("v1")
    kind: str = always("Binding")
    metadata: ObjectMeta = fresh(ObjectMeta)
    target: ObjectReference = fresh(ObjectReference)


KIND = Kind(
    group="",
    version="v1",
    kind="Binding",
    plural="bindings",
    type=Binding,
    verbs=("create",),
    virtual=True,
    description="Binding ties one object to another; for example, a pod is bound to a node by a scheduler.",
)
