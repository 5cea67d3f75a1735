"""Requests to a handler in the same process: no socket, no thread, works in virtual time.

The handler sees the same `Request` that a socket would have carried, with the given user in place of a certificate. A
tunnel (exec) runs as a task that this transport owns; `close` ends those.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from collections.abc import AsyncIterator

from componentbase.http import Handler, Request, Response, Tunnel, User, duplex_pair
from kubeclient.transport import TransportError

log = logging.getLogger(__name__)


class HandlerTransport:
    """Calls `handler` as `user`."""

    def __init__(self, handler: Handler, user: User | None = None) -> None:
        self._handler = handler
        self._user = user
        self._tunnels: set[asyncio.Task[None]] = set()
        self._closed = False

    async def request(self, request: Request) -> Response:
        if self._closed:
            raise TransportError("the transport is closed")
        # A handler that never waits would let one busy client keep the loop to itself.
        await asyncio.sleep(0)
        response = await self._handler(dataclasses.replace(request, user=self._user))
        if response.tunnel is not None:
            return self._connect(response, response.tunnel)
        if not request.stream:
            await response.read()
        elif isinstance(response.body, bytes):
            response.body = _one(response.body)
        return response

    async def close(self) -> None:
        self._closed = True
        tunnels = list(self._tunnels)
        for task in tunnels:
            task.cancel()
        await asyncio.gather(*tunnels, return_exceptions=True)

    def _connect(self, response: Response, tunnel: Tunnel) -> Response:
        near, far = duplex_pair()

        async def serve() -> None:
            try:
                await tunnel(far)
            except ConnectionError:
                pass  # the client went away: its right
            except Exception:
                log.exception("the tunnel failed")

        task = asyncio.get_running_loop().create_task(serve(), name="in-process tunnel")
        self._tunnels.add(task)
        task.add_done_callback(self._tunnels.discard)
        # Not in `serve`: a task that is cancelled before its first step never runs any of it.
        task.add_done_callback(lambda _: far.close())
        return Response(response.status, response.headers, connection=near)


async def _one(body: bytes) -> AsyncIterator[bytes]:
    if body:
        yield body
