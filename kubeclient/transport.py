"""The seam between a client and an API server: one `Request` in, one `Response` or stream out.

Engines: `http_transport.HttpTransport` (asyncio), `inprocess.HandlerTransport` (the same process, no socket);
`blocking` has the synchronous counterpart for one-shot commands. An engine knows nothing of objects and never
retries.
"""

from __future__ import annotations

from typing import Protocol

from componentbase.http import Request, Response


class TransportError(ConnectionError):
    """No answer: the server could not be reached, or the connection broke before or in the middle of a response."""


class Transport(Protocol):
    """How requests travel. Whoever made it closes it."""

    async def request(self, request: Request) -> Response:
        """Send and wait for the head of the answer, whatever its status.

        With `request.stream` the body is an async iterator that the caller reads to its end or closes with
        `response.aclose()`; otherwise it is bytes. An upgrade that was granted comes back as status 101 with
        `response.connection`, owned by the caller. Raises TransportError.
        """
        ...

    async def close(self) -> None:
        """Drop every connection; streams end with TransportError."""
        ...
