"""How many requests are worked on at a time. Watches, logs and tunnels last long and are not counted."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from apimachinery.errors import TooManyRequests
from apiserver.handlers.context import Target
from componentbase.http import Request, Response

LONG_RUNNING = ("log", "exec", "attach", "portforward", "proxy")


class InFlight:
    """Beyond `limit` requests at once, clients are told to come back in a second."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._running = 0

    async def __call__(
        self, target: Target | None, request: Request, handler: Callable[[], Awaitable[Response]]
    ) -> Response:
        if target is not None and (target.verb == "watch" or target.subresource in LONG_RUNNING):
            return await handler()
        if self._running >= self._limit:
            raise TooManyRequests("Too many requests, please try again later.", retry_after=1)
        self._running += 1
        try:
            return await handler()
        finally:
            self._running -= 1
