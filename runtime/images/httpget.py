"""One GET to one host of a registry: authenticates, follows redirects, and turns every failure into one of our errors.

Redirects are followed here and not by the HTTP library, so that credentials and configured headers never reach another
origin, and a redirect from HTTPS to plain HTTP is refused. A 401 is answered once, and only to the host itself.
"""

from __future__ import annotations

import os
import ssl
import urllib.request
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from types import TracebackType
from urllib.parse import urlencode, urljoin, urlsplit

import aiohttp
import msgspec

from runtime.images.auth import TOKEN_LIMIT_BYTES, Credentials, parse_challenges, token_of, token_request
from runtime.images.errors import ImageError, InvalidContent, NotFound, Unauthorized, Unavailable
from runtime.images.hosts import Host, is_loopback, origin_of
from runtime.images.reference import Reference
from runtime.images.workers import Workers

REDIRECTS_LIMIT = 10
READ_TIMEOUT_SECONDS = 60.0
ERROR_LIMIT_BYTES = 1 << 16
_REDIRECTS = (301, 302, 303, 307, 308)
_TRANSIENT = (408, 429, 500, 502, 503, 504)


class Again(Exception):
    """The same host may do better on another try; `error` is what to raise when there is none."""

    def __init__(self, error: ImageError) -> None:
        super().__init__(str(error))
        self.error = error


class Getter:
    """GETs below one repository during one pull; use it with `async with`. Tokens are forgotten at the end."""

    def __init__(self, reference: Reference, shown: Credentials, workers: Workers) -> None:
        self._reference = reference
        self._credentials = shown
        self._workers = workers
        self._authorization: dict[str, str] = {}
        self._tls: dict[tuple[str, bool], ssl.SSLContext] = {}

    async def __aenter__(self) -> Getter:
        self._session = aiohttp.ClientSession(
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"User-Agent": "pyctl", "Accept-Encoding": "identity"},
            read_bufsize=1 << 18,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self._session.close()

    @asynccontextmanager
    async def get(self, host: Host, path: str, headers: Mapping[str, str]) -> AsyncIterator[aiohttp.ClientResponse]:
        """The answer (200 or 206) to a GET of `<repository>/<path>`. Raises ImageError, or Again."""
        url = f"{host.base}/{self._reference.repository}/{path}"
        if not host.upstream:
            # One mirror may serve many registries: containerd's way to say which one is meant.
            url += "?" + urlencode({"ns": self._reference.registry})
        response = await self._follow(host, url, headers)
        try:
            if response.status == 401 and origin_of(str(response.url)) == host.origin:
                self._authorization[host.base] = await self._authorize(host, response)
                response.release()
                response = await self._follow(host, url, headers)
            if response.status not in (200, 206):
                raise await self._refusal(host, path, response)
            yield response
        except (aiohttp.ClientError, TimeoutError) as error:
            raise Again(Unavailable(f"registry {host.netloc}: {_reason(error)}")) from error
        finally:
            response.release()

    async def _follow(self, host: Host, url: str, headers: Mapping[str, str]) -> aiohttp.ClientResponse:
        sent = dict(host.headers) | dict(headers)
        if self._credentials.registry_token and self._credentials.usable_at(host, self._reference):
            self._authorization.setdefault(host.base, f"Bearer {self._credentials.registry_token}")
        if authorization := self._authorization.get(host.base):
            sent["Authorization"] = authorization
        for _ in range(REDIRECTS_LIMIT):
            response = await self._send(host, url, sent)
            if response.status not in _REDIRECTS:
                return response
            target = urljoin(url, response.headers.get("Location", ""))
            response.release()
            if urlsplit(target).scheme not in ("http", "https"):
                raise InvalidContent(f"registry {host.netloc} redirects to {target[:200]!r}")
            if urlsplit(url).scheme == "https" and urlsplit(target).scheme == "http":
                raise InvalidContent(f"registry {host.netloc} redirects from https to plain http, which is refused")
            if origin_of(target) != origin_of(url):
                sent = dict(headers)
            url = target
        raise Unavailable(f"registry {host.netloc}: more than {REDIRECTS_LIMIT} redirects")

    async def _send(
        self, host: Host, url: str, headers: Mapping[str, str], form: Mapping[str, str] | None = None
    ) -> aiohttp.ClientResponse:
        timeout = aiohttp.ClientTimeout(
            total=None, sock_connect=host.dial_timeout_seconds, sock_read=READ_TIMEOUT_SECONDS
        )
        try:
            return await self._session.request(
                "GET" if form is None else "POST",
                url,
                headers=headers,
                data=form,
                allow_redirects=False,
                ssl=await self._verification(host, url),
                proxy=_proxy(url),
                timeout=timeout,
            )
        except aiohttp.InvalidURL:
            raise Unavailable(f"registry {host.netloc}: {url!r} is not a URL") from None
        except aiohttp.ClientConnectorError as error:
            raise Unavailable(f"registry {host.netloc}: cannot connect to {_place(url)}: {_reason(error)}") from error
        except (aiohttp.ClientError, TimeoutError) as error:
            raise Again(Unavailable(f"registry {host.netloc}: {_reason(error)}")) from error

    async def _verification(self, host: Host, url: str) -> ssl.SSLContext | bool:
        if not url.startswith("https:"):
            return True
        key = (host.base, origin_of(url) != host.origin)
        if key not in self._tls:
            self._tls[key] = await self._workers.run(host.tls, elsewhere=key[1])
        return self._tls[key]

    async def _authorize(self, host: Host, refused: aiohttp.ClientResponse) -> str:
        """The Authorization header that answers the challenges of a 401. Raises Unauthorized."""
        challenges = {item.scheme: item for item in parse_challenges(refused.headers.getall("WWW-Authenticate", []))}
        shown = self._credentials if self._credentials.usable_at(host, self._reference) else None
        if (bearer := challenges.get("bearer")) is not None:
            request = token_request(bearer, host, self._reference.repository, shown)
            answer = await self._send(host, request.url, request.headers, request.form)
            try:
                if answer.status != 200:
                    who = f"registry {host.netloc}: token server {_place(request.url)}"
                    raise Unauthorized(f"{who}: HTTP {answer.status}{await _words(answer)}")
                return f"Bearer {token_of(await bounded(answer, TOKEN_LIMIT_BYTES))}"
            finally:
                answer.release()
        if "basic" in challenges and shown is not None and shown.username:
            return shown.basic
        raise await self._refusal(host, "authentication", refused)

    async def _refusal(self, host: Host, path: str, response: aiohttp.ClientResponse) -> ImageError | Again:
        """What a status means, with the registry's own words."""
        words = await _words(response)
        text = f"registry {host.netloc}: {path}: HTTP {response.status} {response.reason or ''}".rstrip() + words
        if response.status == 404:
            return NotFound(f"{text}: not found")
        if response.status in (401, 403):
            shown = self._credentials.usable_at(host, self._reference)
            return Unauthorized(f"{text}: {'the credentials were refused' if shown else 'it wants credentials'}")
        if response.status in _TRANSIENT:
            return Again(Unavailable(text))
        return Unavailable(text)


async def bounded(response: aiohttp.ClientResponse, limit_bytes: int) -> bytes:
    """The whole body, if it is not larger than the limit. Raises InvalidContent."""
    data = bytearray()
    async for chunk in response.content.iter_any():
        data += chunk
        if len(data) > limit_bytes:
            raise InvalidContent(f"{_place(str(response.url))} sent more than {limit_bytes} bytes")
    return bytes(data)


async def _words(response: aiohttp.ClientResponse) -> str:
    """The first message of a registry's error document, printable and short."""
    try:
        document = msgspec.json.decode(
            await bounded(response, ERROR_LIMIT_BYTES), type=dict[str, list[dict[str, object]]]
        )
        message = str(document["errors"][0]["message"])[:200]
    except (msgspec.DecodeError, msgspec.ValidationError, LookupError, ImageError, aiohttp.ClientError, TimeoutError):
        return ""
    return " (" + "".join(letter if letter.isprintable() else "?" for letter in message) + ")"


def _reason(error: BaseException) -> str:
    """Why a connection failed, in a few words."""
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return f"its certificate is not trusted: {error.certificate_error}"
    if isinstance(error, aiohttp.ClientSSLError):
        return f"no TLS: {error.os_error} (a registry of plain http needs a hosts.toml, see --registry-config)"
    if isinstance(error, aiohttp.ClientConnectorError):
        # asyncio puts the address where the text of the number belongs.
        number = error.os_error.errno or 0
        return (os.strerror(number) if number > 0 else str(error.os_error)).lower()
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return f"the connection broke ({error or type(error).__name__})"


def _place(url: str) -> str:
    return urlsplit(url).netloc


def _proxy(url: str) -> str | None:
    """The proxy that the environment names for a URL; never for this machine itself."""
    parts = urlsplit(url)
    if is_loopback(parts.netloc) or urllib.request.proxy_bypass(parts.hostname or ""):
        return None
    return urllib.request.getproxies().get(parts.scheme)
