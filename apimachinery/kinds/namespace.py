"""Namespace: a room for names."""

from __future__ import annotations

from typing import Annotated

from apimachinery.kind import Kind
from apimachinery.meta import ObjectMeta, Record, Time, always, fresh, merge_on
from apimachinery.names import dns_label_faults


class NamespaceSpec(Record, kw_only=True):
    """`finalizers` hold the namespace until its content is gone."""

    finalizers: list[str] = []


class NamespaceCondition(Record, kw_only=True):
    """An observation made while the namespace is being emptied."""

    type: str = always("")
    status: str = always("")
    lastTransitionTime: Time = ""
    reason: str = ""
    message: str = ""


class NamespaceStatus(Record, kw_only=True):
    """phase is Active or Terminating."""

    phase: str = ""
    conditions: Annotated[list[NamespaceCondition], merge_on("type")] = []


class Namespace(Record, kw_only=True):
    """A scope for names."""

    apiVersion: str = always("v1")
    kind: str = always("Namespace")
    metadata: ObjectMeta = fresh(ObjectMeta)
    spec: NamespaceSpec = fresh(NamespaceSpec)
    status: NamespaceStatus = fresh(NamespaceStatus)


KIND = Kind(
    group="",
    version="v1",
    kind="Namespace",
    plural="namespaces",
    type=Namespace,
    short_names=("ns",),
    namespaced=False,
    verbs=("create", "delete", "get", "list", "patch", "update", "watch"),
    subresources=("status", "finalize"),
    name_faults=dns_label_faults,
    description="Namespace provides a scope for Names.",
)
