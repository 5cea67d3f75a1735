"""Reaches node agents: one TLS connection a request, whether it ends in an answer, a stream or a tunnel.

The server shows its own client certificate and trusts the cluster's authority. An agent is known by its address, which
its certificate carries. Requests are few and long (logs, exec, images), so connections are not kept.
"""

from __future__ import annotations

import asyncio
import ssl

from componentbase.http import Request, Response
from componentbase.httpclient import Connection

from .handlers.streams import OwningStream

CONNECT_SECONDS = 10.0


class TlsNodeConnector:
    def __init__(self, context: ssl.SSLContext) -> None:
        self._context = context

    async def forward(self, host: str, port: int, request: Request) -> Response:
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                connection = await Connection.open(host, port, self._context)
        except TimeoutError as error:
            raise ConnectionError(f"no connection within {CONNECT_SECONDS:g} s") from error
        try:
            await connection.send(request, f"{host}:{port}")
            status, headers = await connection.head()
        except BaseException:
            connection.close()
            raise
        if status == 101:
            return Response(status, headers, connection=connection)
        return Response(status, headers, OwningStream(connection.body(headers), connection.close))

    async def close(self) -> None:
        """Nothing is kept between requests."""


class NoNodes:
    """For a server without certificates for its nodes (in one process, or alone)."""

    async def forward(self, host: str, port: int, request: Request) -> Response:
        raise ConnectionError("this API server was not given a certificate for node agents")

    async def close(self) -> None:
        """Nothing to close."""
