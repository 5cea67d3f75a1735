"""Heartbeats: a Lease that says that its holder is alive.

`LeaseHeartbeat.run` renews the lease every quarter of its duration and keeps trying while the server is away. It
makes the lease when there is none. Whether a lease has run out is for others to judge.
"""

from __future__ import annotations

import logging

from apimachinery.errors import Conflict, NotFound, StatusError
from apimachinery.kinds.lease import Lease, LeaseSpec
from apimachinery.meta import ObjectMeta, OwnerReference
from apimachinery.times import format_micro_time
from componentbase.clock import Clock
from kubeclient.backoff import Backoff
from kubeclient.rest import Client
from kubeclient.transport import TransportError

log = logging.getLogger(__name__)

NODE_LEASE_NAMESPACE = "kube-node-lease"
NODE_LEASE_SECONDS = 40


class LeaseHeartbeat:
    """Keeps the lease `namespace`/`name` fresh in the name of `holder`; `owner` is written when the lease is made."""

    def __init__(
        self,
        client: Client,
        clock: Clock,
        name: str,
        *,
        holder: str = "",
        namespace: str = NODE_LEASE_NAMESPACE,
        duration_seconds: int = NODE_LEASE_SECONDS,
        owner: OwnerReference | None = None,
        seed: int | str = 0,
    ) -> None:
        self._client = client
        self._clock = clock
        self._name = name
        self._holder = holder or name
        self._namespace = namespace
        self._duration_seconds = duration_seconds
        self._owner = owner
        self._lease: Lease | None = None
        self._failing = False
        self._backoff = Backoff(0.2, max(0.2, duration_seconds / 8), seed=f"{seed}/lease/{namespace}/{name}")

    async def run(self) -> None:
        """Renew until cancelled."""
        while True:
            try:
                await self.renew()
            except (StatusError, TransportError) as error:
                if not self._failing:
                    self._failing = True
                    log.warning("cannot renew lease %s/%s, trying again: %s", self._namespace, self._name, error)
                await self._clock.sleep(self._backoff.next_seconds())
                continue
            if self._failing:
                self._failing = False
                log.info("lease %s/%s is renewed again", self._namespace, self._name)
            self._backoff.reset()
            await self._clock.sleep(self._duration_seconds / 4)

    async def renew(self) -> Lease:
        """Write the present time into the lease. Raises StatusError and TransportError."""
        for _ in range(3):
            try:
                self._lease = await self._write()
                return self._lease
            except (Conflict, NotFound):
                # Somebody wrote or deleted it meanwhile: read it again.
                if self._lease is None:
                    raise
                self._lease = None
        self._lease = await self._write()
        return self._lease

    async def _write(self) -> Lease:
        now = format_micro_time(self._clock.now())
        lease = self._lease or await self._read()
        if lease is None:
            owners = [self._owner] if self._owner is not None else []
            meta = ObjectMeta(name=self._name, namespace=self._namespace, ownerReferences=owners)
            spec = LeaseSpec(
                holderIdentity=self._holder, leaseDurationSeconds=self._duration_seconds, acquireTime=now, renewTime=now
            )
            return await self._client.create(Lease(metadata=meta, spec=spec))
        if lease.spec.holderIdentity != self._holder:
            lease.spec.acquireTime = now
            lease.spec.leaseTransitions = (lease.spec.leaseTransitions or 0) + 1
        lease.spec.holderIdentity = self._holder
        lease.spec.leaseDurationSeconds = self._duration_seconds
        lease.spec.renewTime = now
        return await self._client.update(lease)

    async def _read(self) -> Lease | None:
        try:
            return await self._client.get(Lease, self._name, self._namespace)
        except NotFound:
            return None
