"""Notices what happens to containers and sandboxes: from the runtime's event stream at once, and by listing as a
fallback.

Owns what it last saw of each. With a stream it lists every ten seconds to be sure, without one every second; after a
connection that broke it lists at once, because events may have been missed. Says everything at least once; the
machine drops what it knows already.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import Protocol

from componentbase.clock import Clock
from nodeagent.cri import CRI, POD_UID, CRIError, RuntimeAway
from pb.cri.v1 import api_pb2 as cri

log = logging.getLogger(__name__)

RELIST_SECONDS = 1.0
EVENTED_RELIST_SECONDS = 10.0
RECONNECT_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What the runtime has."""

    sandboxes: list[cri.PodSandbox]
    containers: list[cri.Container]


class Listener(Protocol):
    """Who wants to hear of it; plain calls that do not wait."""

    def container_exited(self, status: cri.ContainerStatus) -> None: ...

    def container_missing(self, pod_uid: str, container_id: str) -> None: ...

    def sandbox_lost(self, pod_uid: str, sandbox_id: str) -> None: ...

    def listed(self, snapshot: Snapshot) -> None: ...

    def runtime_health(self, message: str) -> None:
        """ "" when it answers."""
        ...


class Pleg:
    """Pod lifecycle events of one node."""

    def __init__(
        self, runtime: CRI, clock: Clock, listener: Listener, *, evented_seconds: float = EVENTED_RELIST_SECONDS
    ) -> None:
        self._runtime = runtime
        self._clock = clock
        self._listener = listener
        self._evented_seconds = evented_seconds
        self._streaming_since: float | None = None
        self._states: dict[str, tuple[int, str]] = {}  # container id: state, pod uid
        self._sandboxes: dict[str, tuple[int, str]] = {}
        self._wake = asyncio.Event()

    async def run(self) -> None:
        """Watch until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._relist_forever(), name="relist")
            tasks.create_task(self._follow(), name="container events")

    def relist_soon(self) -> None:
        """Something is off: look now."""
        self._wake.set()

    def look_again(self, pod_uid: str) -> None:
        """Forget what was seen of this pod, so that the next list, soon, tells all of it."""
        self._states = {each: seen for each, seen in self._states.items() if seen[1] != pod_uid}
        self._sandboxes = {each: seen for each, seen in self._sandboxes.items() if seen[1] != pod_uid}
        self.relist_soon()

    async def _follow(self) -> None:
        while True:
            self._streaming_since = self._clock.monotonic()
            try:
                async for event in self._runtime.container_events():
                    if event.container_event_type == cri.CONTAINER_STOPPED_EVENT:
                        await self._stopped(event)
            except RuntimeAway:
                pass
            except CRIError as error:
                if error.code == "UNIMPLEMENTED":
                    log.info("the runtime has no container events: listing every %s s instead", RELIST_SECONDS)
                    self._streaming_since = None
                    return
                log.warning("container events: %s", error)
            self._streaming_since = None
            self.relist_soon()
            await self._clock.sleep(RECONNECT_SECONDS)

    async def _stopped(self, event: cri.ContainerEventResponse) -> None:
        for status in event.containers_statuses:
            if status.id == event.container_id and status.state == cri.CONTAINER_EXITED:
                self._exited(status)
                return
        await self._look(event.container_id)

    async def _look(self, identity: str) -> None:
        try:
            status = await self._runtime.container_status(identity)
        except RuntimeAway:
            return  # the next list tells
        except CRIError:
            self._listener.container_missing(self._states.get(identity, (0, ""))[1], identity)
            return
        if status.state == cri.CONTAINER_EXITED:
            self._exited(status)

    def _exited(self, status: cri.ContainerStatus) -> None:
        self._states[status.id] = (cri.CONTAINER_EXITED, status.labels.get(POD_UID, ""))
        self._listener.container_exited(status)

    async def _relist_forever(self) -> None:
        while True:
            try:
                await self.relist()
                self._listener.runtime_health("")
            except CRIError as error:
                self._listener.runtime_health(error.message)
            seconds = self._evented_seconds if self._evented() else RELIST_SECONDS
            try:
                async with asyncio.timeout(seconds):
                    await self._wake.wait()
            except TimeoutError:
                pass
            self._wake.clear()

    def _evented(self) -> bool:
        """Does the stream hold? A refusal comes at once, so one that is a little older was accepted."""
        since = self._streaming_since
        return since is not None and self._clock.monotonic() - since >= RELIST_SECONDS / 2

    async def relist(self) -> None:
        """Compare what is there with what was there. Raises CRIError."""
        sandboxes = await self._runtime.list_pod_sandboxes()
        containers = await self._runtime.list_containers()
        before, known = self._states, self._sandboxes
        self._states = {each.id: (each.state, each.labels.get(POD_UID, "")) for each in containers}
        self._sandboxes = {each.id: (each.state, each.labels.get(POD_UID, "")) for each in sandboxes}
        # All questions to the answers are put before the first wait: events go on changing what is remembered.
        ended = [
            each for each, (state, _) in self._states.items() if _turned(before, each, state, cri.CONTAINER_EXITED)
        ]
        missing = [
            (uid, each)
            for each, (state, uid) in before.items()
            if each not in self._states and state != cri.CONTAINER_EXITED
        ]
        stopped = [
            (uid, each)
            for each, (state, uid) in self._sandboxes.items()
            if _turned(known, each, state, cri.SANDBOX_NOTREADY)
        ]
        gone = [(uid, each) for each, (_, uid) in known.items() if each not in self._sandboxes]
        for identity in ended:
            await self._look(identity)
        for uid, identity in missing:
            self._listener.container_missing(uid, identity)
        for uid, identity in stopped:
            await self._verify_lost(identity, uid)
        for uid, identity in gone:
            self._listener.sandbox_lost(uid, identity)
        self._listener.listed(Snapshot(sandboxes, containers))

    async def _verify_lost(self, identity: str, uid: str) -> None:
        """One that was still being made when we listed may be ready by now."""
        try:
            if (await self._runtime.pod_sandbox_status(identity)).state == cri.SANDBOX_READY:
                return
        except RuntimeAway:
            return
        except CRIError:
            pass  # gone altogether
        self._listener.sandbox_lost(uid, identity)


def _turned(before: dict[str, tuple[int, str]], identity: str, state: int, wanted: int) -> bool:
    """Is it in the wanted state now, and was not when we looked last?"""
    return state == wanted and before.get(identity, (-1, ""))[0] != wanted
