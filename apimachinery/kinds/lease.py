"""Lease (coordination.k8s.io): who holds something, and until when. Node heartbeats and leader election."""

from __future__ import annotations

from typing import Any

from apimachinery.causes import invalid, one_of
from apimachinery.errors import Cause
from apimachinery.kind import Column, Kind
from apimachinery.meta import Int32, MicroTime, ObjectMeta, Record, always, fresh
from apimachinery.table import AGE, NAME, age


class LeaseSpec(Record, kw_only=True):
    """The lease ends `leaseDurationSeconds` after `renewTime`."""

    holderIdentity: str | None = None
    leaseDurationSeconds: Int32 | None = None
    acquireTime: MicroTime = ""
    renewTime: MicroTime = ""
    leaseTransitions: Int32 | None = None
    strategy: str | None = None
    preferredHolder: str | None = None


class Lease(Record, kw_only=True):
    """A claim that must be renewed."""

    apiVersion: str = always("coordination.k8s.io/v1")
    kind: str = always("Lease")
    metadata: ObjectMeta = fresh(ObjectMeta)
    spec: LeaseSpec = fresh(LeaseSpec)


def validate(lease: Lease) -> list[Cause]:
    """A lease lasts a while and has changed hands zero or more times."""
    found: list[Cause] = []
    spec = lease.spec
    if spec.leaseDurationSeconds is not None and spec.leaseDurationSeconds <= 0:
        found.append(invalid("spec.leaseDurationSeconds", spec.leaseDurationSeconds, "must be greater than 0"))
    if spec.leaseTransitions is not None and spec.leaseTransitions < 0:
        why = "must be greater than or equal to 0"
        found.append(invalid("spec.leaseTransitions", spec.leaseTransitions, why))
    return found + one_of("spec.strategy", spec.strategy or "", ("OldestEmulationVersion",), needed=False)


def cells(lease: Lease, now: float) -> list[Any]:
    """Name, holder, age."""
    return [lease.metadata.name, lease.spec.holderIdentity or "", age(lease.metadata.creationTimestamp, now)]


KIND = Kind(
    group="coordination.k8s.io",
    version="v1",
    kind="Lease",
    plural="leases",
    type=Lease,
    validate=validate,
    columns=(NAME, Column("Holder", description="Who holds the lease."), AGE),
    cells=cells,
    create_on_update=True,
    needs_resource_version=True,
    description="Lease defines a lease concept.",
)
