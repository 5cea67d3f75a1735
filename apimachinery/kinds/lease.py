"""Lease (coordination.k8s.io): who holds something, and until when. Node heartbeats and leader election."""

from __future__ import annotations

from apimachinery.kind import Kind
from apimachinery.meta import Int32, MicroTime, ObjectMeta, Record, always, fresh


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


KIND = Kind(
    group="coordination.k8s.io",
    version="v1",
    kind="Lease",
    plural="leases",
    type=Lease,
    create_on_update=True,
    needs_resource_version=True,
    description="Lease defines a lease concept.",
)
