"""Brings one pod's status to the API server: at once when it changes, one patch at a time, the newest state always.

While a patch is under way further changes are only noted; the next patch carries them all. What the server refuses
because the pod is gone ends the reporting; everything else is tried again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

import msgspec

from apimachinery.errors import Conflict, Invalid, NotFound, StatusError
from apimachinery.kinds.pod import Pod, PodStatus
from componentbase.clock import Clock
from kubeclient.backoff import Backoff
from kubeclient.rest import STRATEGIC_PATCH, Client
from kubeclient.transport import TransportError

log = logging.getLogger(__name__)

Json = dict[str, Any]
# Lists that a strategic merge patch merges by key instead of replacing them.
KEYED = {"podIPs": "ip", "hostIPs": "ip", "conditions": "type"}


class Reporter:
    """Reports `compute(last)` whenever `changed` was called. `last` is what the server is known to have."""

    def __init__(
        self,
        pod: Pod,
        client: Client,
        clock: Clock,
        compute: Callable[[PodStatus], PodStatus],
        spawn: Callable[[Coroutine[Any, Any, None], str], asyncio.Task[None]],
    ) -> None:
        self._meta = pod.metadata
        self._client = client
        self._clock = clock
        self._compute = compute
        self._spawn = spawn
        self._last = pod.status
        self._dirty = False
        self._over = False
        self._task: asyncio.Task[None] | None = None
        self._backoff = Backoff(0.1, 5.0, seed=f"status/{pod.metadata.uid}")

    def changed(self) -> None:
        """There may be something new to say."""
        self._dirty = True
        if not self._over and (self._task is None or self._task.done()):
            self._task = self._spawn(self._send(), f"status of {self._meta.namespace}/{self._meta.name}")

    async def flush(self) -> None:
        """Wait until the server has the newest state, or will never have it."""
        while self._task is not None and not self._task.done():
            await asyncio.shield(self._task)

    async def _send(self) -> None:
        while self._dirty and not self._over:
            self._dirty = False
            status = self._compute(self._last)
            patch = status_patch(to_json(self._last), to_json(status))
            if not patch:
                continue
            body: Json = {"metadata": {"uid": self._meta.uid}, "status": patch}
            name, namespace = self._meta.name, self._meta.namespace
            try:
                await self._client.patch(Pod, name, namespace, body, content_type=STRATEGIC_PATCH, subresource="status")
                self._last = status
                self._backoff.reset()
            except (NotFound, Conflict, Invalid) as error:
                # The pod is gone, or another one has its name: nobody is left to tell.
                self._over = not isinstance(error, Invalid)
                (log.debug if self._over else log.error)("status of pod %s/%s: %s", namespace, name, error)
            except (StatusError, TransportError) as error:
                log.debug("status of pod %s/%s waits: %s", namespace, name, error)
                self._dirty = True
                await self._clock.sleep(self._backoff.next_seconds())


def to_json(status: PodStatus) -> Json:
    """As it stands on the wire."""
    found: Json = msgspec.to_builtins(status)
    return found


def status_patch(old: Json, new: Json, keyed: Mapping[str, str] = KEYED) -> Json:
    """The strategic merge patch that turns `old` into `new`; {} when they are equal. keyed: lists merged by a key."""
    patch: Json = {key: None for key in old if key not in new}
    for key, value in new.items():
        if old.get(key) == value:
            continue
        if key in keyed:
            patch[key] = _keyed(old.get(key) or [], value, keyed[key])
        else:
            patch[key] = value
    return patch


def _keyed(old: list[Json], new: list[Json], key: str) -> list[Json]:
    """Elements that changed, then deletions by key."""
    before = {each[key]: each for each in old}
    after = {each[key] for each in new}
    changed = [_whole(before.get(each[key]), each) for each in new if before.get(each[key]) != each]
    return changed + [{"$patch": "delete", key: gone} for gone in before if gone not in after]


def _whole(old: Json | None, new: Json) -> Json:
    """The element, with the fields that it lost as null: an element is merged, too."""
    return new if old is None else {**{name: None for name in old if name not in new}, **new}
