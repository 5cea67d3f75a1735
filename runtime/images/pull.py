"""Pulls an image: manifest, platform, configuration, then all layers at once, each unpacked as soon as it may be.

Nothing is visible before everything was verified. Two pulls that need the same blob download it once. The registry is
always asked, also for what is here already: with the policy `Always` that proves that the pod may use the image.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from weakref import WeakValueDictionary

from componentbase.clock import Clock
from runtime.images.auth import Credentials
from runtime.images.content import BlobWriter
from runtime.images.errors import Exhausted, ImageError, InvalidContent
from runtime.images.hosts import hosts_for
from runtime.images.httpget import Getter
from runtime.images.layers import chain_ids
from runtime.images.manifest import (
    CONFIG_LIMIT_BYTES,
    Descriptor,
    Manifest,
    choose,
    parse_config,
    parse_document,
)
from runtime.images.reference import Reference, parse
from runtime.images.registry import Repository
from runtime.images.store import Image, ImageStore, Lease
from runtime.images.workers import Workers

log = logging.getLogger(__name__)

INDEX_DEPTH_LIMIT = 3
DOWNLOADS = 4


class Puller:
    """Pulls into one store. `config`: the directory of hosts.toml files, or None."""

    def __init__(self, store: ImageStore, config: Path | None, clock: Clock, workers: Workers) -> None:
        self._store = store
        self._config = config
        self._clock = clock
        self._workers = workers
        self._gates: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def pull(self, name: str, shown: Credentials | None = None) -> Image:
        """The image, complete and in the store. Raises ImageError, naming the reference."""
        reference = parse(name)
        try:
            hosts = await self._workers.run(hosts_for, reference.registry, self._config)
            async with Getter(reference, shown or Credentials(), self._workers) as getter:
                with self._store.lease() as lease:
                    return await self._pull(reference, Repository(getter, hosts, self._clock, self._workers), lease)
        except ImageError as error:
            raise type(error)(f"image {reference}: {error}") from error

    async def _pull(self, reference: Reference, repository: Repository, lease: Lease) -> Image:
        top, descriptor, manifest = await self._manifest(reference, repository, lease)
        limit = self._store.limits.image_bytes
        if (total := sum(layer.size for layer in manifest.layers)) > limit:
            raise Exhausted(f"layers of {total} bytes; at most {limit} are accepted")
        if manifest.config.size > CONFIG_LIMIT_BYTES:
            raise InvalidContent(f"image configuration of {manifest.config.size} bytes; at most {CONFIG_LIMIT_BYTES}")
        await self._fetch(repository, lease, manifest.config)
        data = await self._workers.run(self._store.content.read, manifest.config.digest, limit_bytes=CONFIG_LIMIT_BYTES)
        config = parse_config(data, len(manifest.layers))
        await self._layers(repository, lease, manifest.layers, config.diff_ids)
        record = await self._workers.run(self._store.assemble, lease, descriptor)
        record.digests = [str(reference.with_digest(top))]
        if reference.tag:
            record.references = [str(reference)]
        image = (await self._workers.run(self._store.commit, [record]))[0]
        log.info("pulled %s: %s, %d layers, %d bytes", reference, image.id, len(manifest.layers), image.size)
        return image

    async def _manifest(self, reference: Reference, repository: Repository, lease: Lease) -> tuple[str, str, Manifest]:
        """The digest that the reference has, and digest and contents of this machine's manifest in it."""
        document = await repository.document(reference.target)
        top = document.digest
        for _ in range(INDEX_DEPTH_LIMIT):
            parsed = parse_document(document.data, document.media_type)
            if isinstance(parsed, Manifest):
                await self._workers.run(self._store.content.put, document.data, document.digest, keep=lease.keep)
                return top, document.digest, parsed
            chosen = choose(parsed)
            document = await repository.document(chosen.digest, chosen.size)
            # What the index says of its entry is verified content; what the server says of it is not.
            document = replace(document, media_type=chosen.media_type or document.media_type)
        raise InvalidContent(f"indexes are nested more than {INDEX_DEPTH_LIMIT} deep")

    async def _layers(
        self, repository: Repository, lease: Lease, layers: Sequence[Descriptor], diff_ids: Sequence[str]
    ) -> None:
        """Downloads in parallel, and unpacks from the lowest up while the upper ones are still on their way."""
        slots = asyncio.Semaphore(DOWNLOADS)
        chains = chain_ids(diff_ids)

        async def fetch(layer: Descriptor) -> None:
            async with slots:
                await self._fetch(repository, lease, layer)

        try:
            async with asyncio.TaskGroup() as group:
                fetches = [group.create_task(fetch(layer), name=f"blob {layer.digest}") for layer in layers]
                for depth, (task, layer) in enumerate(zip(fetches, layers, strict=True)):
                    await asyncio.wait([task])
                    if not task.cancelled() and task.exception() is None:
                        # Others who want the same layer wait here, and not in one thread each.
                        async with self._gate(chains[depth]):
                            await self._workers.run(self._store.ensure_layer, lease, diff_ids, depth, layer.digest)
        except BaseExceptionGroup as errors:
            raise _first(errors) from None

    async def _fetch(self, repository: Repository, lease: Lease, descriptor: Descriptor) -> None:
        """Has one blob in the store."""
        content = self._store.content
        async with self._gate(descriptor.digest):
            if await self._workers.run(lease.keep, descriptor.digest):
                return

            def new_writer() -> BlobWriter:
                return content.writer(descriptor.digest, descriptor.size)

            await repository.blob(descriptor, new_writer)

    def _gate(self, name: str) -> asyncio.Lock:
        """One lock for one blob or layer, as long as somebody has it."""
        return self._gates.setdefault(name, asyncio.Lock())


def _first(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    """One error says enough: the others come from the same pull. Anything else than an ImageError is a defect."""
    found: BaseException = errors.subgroup(lambda error: not isinstance(error, ImageError)) or errors
    while isinstance(found, BaseExceptionGroup):
        found = found.exceptions[0]
    return found
