"""Requests over HTTP(S): aiohttp with kept connections; upgrades go over connections of their own (`upgrade`).

Client certificates, the bearer token and the trusted authority come from the `ClusterAccess`. Time-outs run on the
loop's clock.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import aiohttp
from yarl import URL

from componentbase.http import Headers, Request, Response
from kubeclient.config import ClusterAccess
from kubeclient.upgrade import ANSWER_SECONDS, UpgradeTransport, broken, request_headers

CONNECT_SECONDS = 10.0


class HttpTransport:
    """One API server over HTTP/1.1. Connections are opened on demand and kept; `close` drops them."""

    def __init__(
        self, access: ClusterAccess, *, user_agent: str = "pyctl", answer_seconds: float = ANSWER_SECONDS
    ) -> None:
        self._access = access
        self._user_agent = user_agent
        self._answer_seconds = answer_seconds
        self._ssl = access.ssl_context()
        self._upgrades = UpgradeTransport(
            access, user_agent=user_agent, answer_seconds=answer_seconds, context=self._ssl
        )
        self._session: aiohttp.ClientSession | None = None

    async def request(self, request: Request) -> Response:
        if request.wants_upgrade:
            return await self._upgrades.request(request)
        # A stream may take as long as it likes: of one that comes only the head has to be in time, and an answer to one
        # that goes (an image) cannot be expected before its end.
        uploads = not isinstance(request.body, bytes)
        limit = None if uploads else self._answer_seconds
        timeout = aiohttp.ClientTimeout(total=None if request.stream else limit, sock_connect=CONNECT_SECONDS)
        try:
            async with asyncio.timeout(limit):
                answer = await self._open().request(
                    request.method,
                    URL(self._access.server + request.target, encoded=True),
                    headers=request_headers(self._access, self._user_agent, request),
                    data=request.body or None,
                    timeout=timeout,
                    allow_redirects=False,
                    ssl=self._ssl if self._ssl is not None else True,
                    server_hostname=self._access.server_name or None,
                )
            if request.stream:
                return Response(answer.status, Headers(answer.headers.items()), _chunks(answer))
            async with answer:
                return Response(answer.status, Headers(answer.headers.items()), await answer.read())
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise broken(f"{request.method} {self._access.server}{request.path}", error) from error

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            # The limit is on in-flight requests to one server; watches count, and must not starve writes.
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=60.0), skip_auto_headers=("Content-Type",)
            )
        return self._session


async def _chunks(answer: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    try:
        async for chunk in answer.content.iter_any():
            yield chunk
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        raise broken(f"{answer.method} {answer.url}", error) from error
    finally:
        # Not `release`: that would wait for the rest of a stream nobody wants.
        answer.close()
