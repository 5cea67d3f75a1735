"""The types that every kind shares: object metadata, selectors, references, conditions, delete options.

Struct attributes carry the wire's own camelCase names. Conventions, for every struct in this package: an optional
string defaults to "", an optional number or boolean to None, a list to [], a map to {}, a nested struct to None; a
field that Kubernetes always writes is marked with `always` and is written even when it holds its default. Unknown
fields fail the decode: `codec` then decides whether that matters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, TypeVar

import msgspec

T = TypeVar("T")

Int32 = Annotated[int, msgspec.Meta(ge=-(2**31), le=2**31 - 1)]
Int64 = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]

# Strings whose form the decoder checks and makes canonical: see codec.LEAVES.
QuantityString = Annotated[str, msgspec.Meta(extra={"leaf": "quantity"}, extra_json_schema={"x-format": "quantity"})]
Time = Annotated[str, msgspec.Meta(extra={"leaf": "time"}, extra_json_schema={"format": "date-time"})]
MicroTime = Annotated[str, msgspec.Meta(extra={"leaf": "microtime"}, extra_json_schema={"format": "date-time"})]

IntOrString = int | str
ResourceList = dict[str, QuantityString]


class Record(msgspec.Struct, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """Base of every struct on the wire."""


def always(value: T) -> T:
    """A field that is written even when it holds `value`, its default (an immutable). msgspec omits a field that
    *is* its default, but never one whose default comes from a factory other than list, dict and set."""
    return msgspec.field(default_factory=lambda: value)


def fresh(factory: Callable[[], T]) -> T:
    """A nested struct that is always there and always written: Go's embedded, non-pointer struct."""
    return msgspec.field(default_factory=factory)


def merge_on(key: str, *, strategy: str = "merge") -> msgspec.Meta:
    """Annotation of a list of structs: a strategic merge patch matches its elements by `key`."""
    schema = {"x-kubernetes-patch-merge-key": key, "x-kubernetes-patch-strategy": strategy}
    return msgspec.Meta(extra={"patchMergeKey": key, "patchStrategy": strategy}, extra_json_schema=schema)


def patch_strategy(strategy: str) -> msgspec.Meta:
    """Annotation of a field that a strategic merge patch treats in its own way: a list of scalars that is merged as a
    set ("merge"), a struct that is replaced whole ("replace") or whose keys are listed ("retainKeys")."""
    return msgspec.Meta(extra={"patchStrategy": strategy}, extra_json_schema={"x-kubernetes-patch-strategy": strategy})


class OwnerReference(Record, kw_only=True):
    """Names the object, in the same namespace or cluster-wide, that owns this one."""

    apiVersion: str = always("")
    kind: str = always("")
    name: str = always("")
    uid: str = always("")
    controller: bool | None = None
    blockOwnerDeletion: bool | None = None


class ManagedFieldsEntry(Record, kw_only=True):
    """The fields that one manager owns."""

    manager: str = ""
    operation: str = ""
    apiVersion: str = ""
    time: Time = ""
    fieldsType: str = ""
    fieldsV1: dict[str, Any] = {}
    subresource: str = ""


class ObjectMeta(Record, kw_only=True):
    """Metadata that every stored object has. Stored bytes carry no resourceVersion: the server splices it in."""

    name: str = ""
    generateName: str = ""
    namespace: str = ""
    selfLink: str = ""
    uid: str = ""
    resourceVersion: str = ""
    generation: Int64 | None = None
    creationTimestamp: Time = ""
    deletionTimestamp: Time = ""
    deletionGracePeriodSeconds: Int64 | None = None
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    ownerReferences: Annotated[list[OwnerReference], merge_on("uid")] = []
    finalizers: Annotated[list[str], patch_strategy("merge")] = []
    managedFields: list[ManagedFieldsEntry] = []


class ListMeta(Record, kw_only=True):
    """Metadata of a list: the revision it was read at and, when it was cut, where to go on."""

    selfLink: str = ""
    resourceVersion: str = ""
    remainingItemCount: Int64 | None = None
    # `continue` is a keyword of Python; `continue_` is renamed on the wire.
    continue_: str = msgspec.field(default="", name="continue")


class TypeMeta(Record, kw_only=True):
    """What an unknown body is."""

    apiVersion: str = ""
    kind: str = ""


class LabelSelectorRequirement(Record, kw_only=True):
    """One expression of a label selector: operator is In, NotIn, Exists or DoesNotExist."""

    key: str = always("")
    operator: str = always("")
    values: list[str] = []


class LabelSelector(Record, kw_only=True):
    """Labels that must match: all of matchLabels and all of matchExpressions. Empty matches everything, None
    nothing."""

    matchLabels: dict[str, str] = {}
    matchExpressions: list[LabelSelectorRequirement] = []


class Condition(Record, kw_only=True):
    """metav1.Condition: an observation about an object. status is True, False or Unknown."""

    type: str = always("")
    status: str = always("")
    observedGeneration: Int64 | None = None
    lastTransitionTime: Time = ""
    reason: str = always("")
    message: str = always("")


class ObjectReference(Record, kw_only=True):
    """Names any object, or a part of it through fieldPath."""

    kind: str = ""
    namespace: str = ""
    name: str = ""
    uid: str = ""
    apiVersion: str = ""
    resourceVersion: str = ""
    fieldPath: str = ""


class LocalObjectReference(Record, kw_only=True):
    """Names an object in the same namespace."""

    name: str = ""


class TypedLocalObjectReference(Record, kw_only=True):
    """Names an object of any kind in the same namespace."""

    apiGroup: str | None = None
    kind: str = always("")
    name: str = always("")


class TypedObjectReference(Record, kw_only=True):
    """Names an object of any kind in this or another namespace."""

    apiGroup: str | None = None
    kind: str = always("")
    name: str = always("")
    namespace: str | None = None


class Preconditions(Record, kw_only=True):
    """What must still hold when a delete is carried out."""

    uid: str = ""
    resourceVersion: str = ""


class DeleteOptions(Record, kw_only=True):
    """Body of a DELETE. apiVersion may name any group."""

    apiVersion: str = ""
    kind: str = ""
    gracePeriodSeconds: Int64 | None = None
    preconditions: Preconditions | None = None
    orphanDependents: bool | None = None
    propagationPolicy: str = ""
    dryRun: list[str] = []
    ignoreStoreReadErrorWithClusterBreakingPotential: bool | None = None


class StatusCause(Record, kw_only=True):
    """One reason of a failure, at one field: reason, message, field."""

    reason: str = ""
    message: str = ""
    field: str = ""


class StatusDetails(Record, kw_only=True):
    """What a Status is about. `kind` holds the resource's plural for NotFound and Conflict."""

    name: str = ""
    group: str = ""
    kind: str = ""
    uid: str = ""
    causes: list[StatusCause] = []
    retryAfterSeconds: Int32 | None = None


class Status(Record, kw_only=True):
    """The answer to a request that returns no object."""

    apiVersion: str = always("v1")
    kind: str = always("Status")
    metadata: ListMeta = fresh(ListMeta)
    status: str = ""
    message: str = ""
    reason: str = ""
    details: StatusDetails | None = None
    code: Int32 | None = None
