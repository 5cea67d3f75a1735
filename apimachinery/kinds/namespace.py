"""Namespace: a room for names."""

from __future__ import annotations

from typing import Annotated, Any

from apimachinery.causes import faulty
from apimachinery.errors import Cause
from apimachinery.kind import Column, Kind
from apimachinery.meta import ObjectMeta, Record, Time, always, fresh, merge_on
from apimachinery.names import dns_label_faults, label_key_faults
from apimachinery.table import AGE, NAME, age

NAME_LABEL = "kubernetes.io/metadata.name"
FINALIZER = "kubernetes"


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


def default(namespace: Namespace) -> None:
    """Every namespace can be selected by its name, and is Active until it is deleted."""
    if namespace.metadata.name:
        namespace.metadata.labels[NAME_LABEL] = namespace.metadata.name
    namespace.status.phase = namespace.status.phase or "Active"


def prepare_create(namespace: Namespace) -> None:
    """A new namespace is Active, and goes away only when its content has."""
    namespace.status = NamespaceStatus(phase="Active")
    if FINALIZER not in namespace.spec.finalizers:
        namespace.spec.finalizers.append(FINALIZER)


def prepare_update(new: Namespace, old: Namespace) -> None:
    """Only the `finalize` subresource changes the finalizers of the spec."""
    new.spec.finalizers = list(old.spec.finalizers)


def validate(namespace: Namespace) -> list[Cause]:
    """Its finalizers are names."""
    return [
        cause
        for finalizer in namespace.spec.finalizers
        for cause in faulty("spec.finalizers", finalizer, label_key_faults(finalizer))
    ]


def cells(namespace: Namespace, now: float) -> list[Any]:
    """Name, phase, age."""
    meta = namespace.metadata
    return [meta.name, namespace.status.phase, age(meta.creationTimestamp, now)]


def field_values(namespace: Namespace) -> dict[str, str]:
    """What field selectors may compare."""
    return {"metadata.name": namespace.metadata.name, "metadata.namespace": "", "status.phase": namespace.status.phase}


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
    default=default,
    prepare_create=prepare_create,
    prepare_update=prepare_update,
    validate=validate,
    columns=(NAME, Column("Status", description="The status of the namespace"), AGE),
    cells=cells,
    field_values=field_values,
    name_faults=dns_label_faults,
    description="Namespace provides a scope for Names.",
)
