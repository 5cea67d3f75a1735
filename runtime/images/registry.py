"""Manifests and blobs of one repository, from the hosts that the configuration gives, by the distribution API (v2).

Hosts are tried in order; what one cannot give, or gives wrong, the next is asked for. Everything is verified against
its digest, whoever sent it. A blob whose connection breaks goes on where it stopped. Errors name every host that was
asked and why it did not serve. `httpget.py` owns HTTP itself.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

import aiohttp

from componentbase.clock import Clock
from runtime.images.content import BlobWriter, digest_of
from runtime.images.errors import ImageError, InvalidContent, NotFound, Unavailable
from runtime.images.hosts import Host
from runtime.images.httpget import Again, Getter, bounded
from runtime.images.manifest import INDEX_TYPES, MANIFEST_LIMIT_BYTES, MANIFEST_TYPES, Descriptor
from runtime.images.workers import Workers

T = TypeVar("T")

# Failures in a row without a byte of progress, and connections for one blob in all.
ATTEMPTS = 4
CONNECTIONS_LIMIT = 100
BACKOFF_SECONDS = 0.2
WRITE_BYTES = 1 << 20


@dataclass(frozen=True)
class Document:
    """A manifest or index as it was served."""

    data: bytes
    media_type: str
    digest: str


class Repository:
    """What a pull asks for. The getter and the workers belong to the caller."""

    def __init__(self, getter: Getter, hosts: list[Host], clock: Clock, workers: Workers) -> None:
        self._getter = getter
        self._hosts = hosts
        self._clock = clock
        self._workers = workers

    async def document(self, target: str, size: int | None = None) -> Document:
        """The manifest or index under a tag or digest. Raises ImageError."""
        by_digest = ":" in target

        async def fetch(host: Host) -> Document:
            accept = {"Accept": ", ".join((*MANIFEST_TYPES, *INDEX_TYPES))}
            async with self._getter.get(host, f"manifests/{target}", accept) as response:
                data = await bounded(response, MANIFEST_LIMIT_BYTES)
            digest = digest_of(data)
            promised = target if by_digest else response.headers.get("Docker-Content-Digest", digest)
            if promised != digest:
                raise InvalidContent(f"registry {host.netloc} served manifest {digest} where {promised} was promised")
            if size is not None and len(data) != size:
                raise InvalidContent(f"registry {host.netloc}: manifest {target} has {len(data)} bytes, not {size}")
            return Document(data, response.headers.get("Content-Type", "").split(";")[0].strip(), digest)

        return await self._any_host("pull" if by_digest else "resolve", lambda host: self._tries(host, fetch))

    async def blob(self, descriptor: Descriptor, new_writer: Callable[[], BlobWriter]) -> None:
        """Downloads a blob into a writer, verifies and publishes it. Raises ImageError."""

        async def fetch(host: Host) -> None:
            with new_writer() as writer:
                await self._tries(host, lambda _: self._part(host, descriptor, writer), lambda: writer.written)
                try:
                    await self._workers.run(writer.commit)
                except InvalidContent as error:
                    raise InvalidContent(f"registry {host.netloc}: {error}") from None

        await self._any_host("pull", fetch)

    async def _part(self, host: Host, descriptor: Descriptor, writer: BlobWriter) -> None:
        """Takes the blob up where the writer stands, to its end. Raises Again when the connection breaks before."""
        offset = writer.written
        headers = {"Range": f"bytes={offset}-"} if offset else {}
        async with self._getter.get(host, f"blobs/{descriptor.digest}", headers) as response:
            # A server may ignore the range and begin from the start.
            skip = offset if response.status == 200 else 0
            if response.status == 206 and not response.headers.get("Content-Range", "").startswith(f"bytes {offset}-"):
                raise InvalidContent(
                    f"registry {host.netloc} served another part of {descriptor.digest} than asked for"
                )
            pending = bytearray()
            try:
                async for chunk in response.content.iter_any():
                    if skip:
                        chunk, skip = chunk[skip:], max(0, skip - len(chunk))
                    pending += chunk
                    if len(pending) >= WRITE_BYTES:
                        await self._workers.run(writer.write, bytes(pending))
                        pending.clear()
            except (aiohttp.ClientError, TimeoutError):
                await self._workers.run(writer.write, bytes(pending))
                raise
            await self._workers.run(writer.write, bytes(pending))
        if writer.written < descriptor.size:
            raise Again(
                InvalidContent(
                    f"registry {host.netloc}: blob {descriptor.digest} ended after {writer.written} bytes,"
                    f" {descriptor.size} were promised"
                )
            )

    async def _tries(
        self, host: Host, attempt: Callable[[Host], Awaitable[T]], progress: Callable[[], int] = lambda: 0
    ) -> T:
        """Repeats what may do better the next time, as long as it does."""
        failures, before = 0, progress()
        for _ in range(CONNECTIONS_LIMIT):
            try:
                return await attempt(host)
            except Again as again:
                failures = 1 if progress() > before else failures + 1
                before = progress()
                if failures >= ATTEMPTS:
                    raise again.error from None
            await self._clock.sleep(BACKOFF_SECONDS * 2 ** (failures - 1))
        raise Unavailable(f"registry {host.netloc}: the connection broke {CONNECTIONS_LIMIT} times")

    async def _any_host(self, capability: str, attempt: Callable[[Host], Awaitable[T]]) -> T:
        failures: list[ImageError] = []
        for host in self._hosts:
            if capability not in host.capabilities:
                continue
            try:
                return await attempt(host)
            except ImageError as error:
                failures.append(error)
        if not failures:
            raise NotFound(f"no host of this registry is configured to {capability}")
        # The last one is the registry itself, whose word counts.
        raise type(failures[-1])("; ".join(str(error) for error in failures))
