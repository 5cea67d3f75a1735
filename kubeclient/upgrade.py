"""Upgrades (exec, attach): one connection for each, its head written by hand, and the raw stream handed over after a
101.

aiohttp's client cannot hand over a connection, and is not needed here: a command that only upgrades starts without it.
"""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import replace
from urllib.parse import urlsplit

from componentbase.http import Headers, Request, Response
from componentbase.httpclient import Connection
from kubeclient.config import ClusterAccess
from kubeclient.transport import TransportError

ANSWER_SECONDS = 60.0


class UpgradeTransport:
    """A transport for requests that ask for an upgrade, and for no others (ValueError)."""

    def __init__(
        self,
        access: ClusterAccess,
        *,
        user_agent: str = "pyctl",
        answer_seconds: float = ANSWER_SECONDS,
        context: ssl.SSLContext | None = None,
    ) -> None:
        self._access = access
        self._user_agent = user_agent
        self._answer_seconds = answer_seconds
        self._ssl = context or access.ssl_context()

    async def request(self, request: Request) -> Response:
        """The answer; with status 101 the caller owns its connection. Raises TransportError."""
        if not request.wants_upgrade:
            raise ValueError(f"{request.method} {request.path}: asks for no upgrade")
        try:
            async with asyncio.timeout(self._answer_seconds):
                return await self._upgrade(request, request_headers(self._access, self._user_agent, request))
        except (OSError, TimeoutError, ValueError) as error:
            raise broken(f"{request.method} {self._access.server}{request.path}", error) from error

    async def close(self) -> None:
        """Nothing is kept: the connections belong to who asked for them."""

    async def _upgrade(self, request: Request, headers: dict[str, str]) -> Response:
        address = urlsplit(self._access.server)
        connection = await Connection.open(
            address.hostname or "",
            address.port or (443 if self._ssl else 80),
            self._ssl,
            server_name=self._access.server_name,
        )
        handed_over = False
        try:
            await connection.send(replace(request, headers=Headers(headers)), address.netloc, prefix=address.path)
            status, answered = await connection.head()
            if status != 101:
                return Response(status, answered, b"".join([part async for part in connection.body(answered)]))
            handed_over = True
            return Response(status, answered, connection=connection)
        finally:
            if not handed_over:
                connection.close()


def request_headers(access: ClusterAccess, user_agent: str, request: Request) -> dict[str, str]:
    """What goes over the wire: the request's own fields, and ours where it says nothing."""
    # Most servers are on this machine or the next: packing and unpacking would cost more than it saves.
    own = {"user-agent": user_agent, "accept": "application/json", "accept-encoding": "identity"}
    headers = own | request.headers
    if access.token:
        headers["authorization"] = f"Bearer {access.token}"
    return headers


def broken(what: str, error: BaseException) -> TransportError:
    """The same trouble in the words of a transport."""
    reason = str(error) or ("no answer in time" if isinstance(error, TimeoutError) else type(error).__name__)
    return TransportError(f"{what}: {reason}")
