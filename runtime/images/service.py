"""The image services on the runtime's socket: the CRI's ImageService, and our own Images (import, build, save).

Only translation: requests to calls, our errors to gRPC codes, blocking work to threads. `runtime/app.py` makes one
`ImageStore` and both servicers, and adds them to its server.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, NoReturn

import grpc

from componentbase.clock import Clock
from pb.cri.v1 import api_pb2 as cri
from pb.cri.v1 import api_pb2_grpc as cri_grpc
from pb.pyctl.runtime.v1 import runtime_pb2, runtime_pb2_grpc
from runtime.images import errors
from runtime.images.archive import import_archive
from runtime.images.auth import Credentials, credentials
from runtime.images.hostbuild import build_from_host
from runtime.images.pull import Puller
from runtime.images.reference import parse
from runtime.images.save import save
from runtime.images.store import Image, ImageStore
from runtime.images.workers import Workers

log = logging.getLogger(__name__)

# Never UNAVAILABLE: to a client that would say that the runtime itself is gone.
CODES = {
    errors.InvalidReference: grpc.StatusCode.INVALID_ARGUMENT,
    errors.InvalidContent: grpc.StatusCode.FAILED_PRECONDITION,
    errors.NotFound: grpc.StatusCode.NOT_FOUND,
    errors.Unauthorized: grpc.StatusCode.PERMISSION_DENIED,
    errors.Unavailable: grpc.StatusCode.UNKNOWN,
    errors.Conflict: grpc.StatusCode.FAILED_PRECONDITION,
    errors.Exhausted: grpc.StatusCode.RESOURCE_EXHAUSTED,
}
ID = re.compile(r"(?:sha256:)?[0-9a-f]{4,64}")
STREAM_BATCH = 100
SAVE_CHUNK_BYTES = 1 << 20


class ImageServicer(cri_grpc.ImageServiceServicer):
    """The CRI's ImageService. `container_usage` answers bytes and inodes of the containers' writable layers."""

    def __init__(
        self,
        store: ImageStore,
        clock: Clock,
        registry_config: Path | None = None,
        container_usage: Callable[[], tuple[int, int]] = lambda: (0, 0),
    ) -> None:
        self._store = store
        self._clock = clock
        self._workers = Workers()
        self._puller = Puller(store, registry_config, clock, self._workers)
        self._container_usage = container_usage
        self._settler = Settler(store, self._workers)

    async def close(self) -> None:
        """Ends the threads once they have nothing to do."""
        await self._settler.close()
        self._workers.close()

    async def ListImages(self, request: Any, context: Any) -> Any:  # noqa: N802
        return cri.ListImagesResponse(images=[to_cri(image) for image in self._filtered(request)])

    async def StreamImages(self, request: Any, context: Any) -> AsyncIterator[Any]:  # noqa: N802
        images = [to_cri(image) for image in self._filtered(request)]
        for start in range(0, len(images), STREAM_BATCH):
            yield cri.StreamImagesResponse(images=images[start : start + STREAM_BATCH])

    async def ImageStatus(self, request: Any, context: Any) -> Any:  # noqa: N802
        """An image that is not there is an empty answer, not an error; what cannot be the name of one is."""
        image = self._store.resolve(request.image.image)
        if image is None:
            try:
                parse(request.image.image)
            except errors.InvalidReference as error:
                if not ID.fullmatch(request.image.image):
                    await _abort(context, error)
            return cri.ImageStatusResponse()
        info = {"info": json.dumps(describe(image))} if request.verbose else {}
        return cri.ImageStatusResponse(image=to_cri(image), info=info)

    async def PullImage(self, request: Any, context: Any) -> Any:  # noqa: N802
        try:
            image = await self._puller.pull(request.image.image, _credentials(request.auth))
        except errors.ImageError as error:
            await _abort(context, error)
        self._settler.soon()
        return cri.PullImageResponse(image_ref=image.id)

    async def RemoveImage(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Removing what is not there succeeds."""
        if not request.image.image:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "image reference is empty")
        await self._workers.run(self._store.remove, request.image.image)
        return cri.RemoveImageResponse()

    async def ImageFsInfo(self, request: Any, context: Any) -> Any:  # noqa: N802
        used = await self._workers.run(self._store.usage)
        in_containers = await self._workers.run(self._container_usage)
        timestamp = int(self._clock.now() * 1e9)

        def usage(bytes_used: int, inodes: int) -> Any:
            return cri.FilesystemUsage(
                timestamp=timestamp,
                fs_id=cri.FilesystemIdentifier(mountpoint=str(self._store.home)),
                used_bytes=cri.UInt64Value(value=bytes_used),
                inodes_used=cri.UInt64Value(value=inodes),
            )

        return cri.ImageFsInfoResponse(
            image_filesystems=[usage(used.bytes, used.inodes)], container_filesystems=[usage(*in_containers)]
        )

    def _filtered(self, request: Any) -> list[Image]:
        if wanted := request.filter.image.image:
            image = self._store.resolve(wanted)
            return [image] if image is not None else []
        return self._store.images()


class ImagesServicer(runtime_pb2_grpc.ImagesServicer):
    """Images without a registry, as proto/pyctl/runtime/v1 describes."""

    def __init__(self, store: ImageStore) -> None:
        self._store = store
        self._workers = Workers()
        self._settler = Settler(store, self._workers)

    async def close(self) -> None:
        """Ends the threads once they have nothing to do."""
        await self._settler.close()
        self._workers.close()

    async def Import(self, request_iterator: AsyncIterator[Any], context: Any) -> Any:  # noqa: N802
        first = await anext(aiter(request_iterator), None)
        if first is None:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "no archive was sent")
            raise AssertionError
        source = StreamReader(request_iterator, first.chunk)
        try:
            imported = await self._workers.run(import_archive, self._store, source, first.tag)
        except errors.ImageError as error:
            await _abort(context, error)
        self._settler.soon()
        return runtime_pb2.ImportResponse(references=imported.references, ids=imported.ids)

    async def BuildFromHost(self, request: Any, context: Any) -> Any:  # noqa: N802
        try:
            built = await self._workers.run(
                build_from_host,
                self._store,
                list(request.programs),
                request.tag,
                extra=list(request.extra),
                env=list(request.env),
                entrypoint=list(request.entrypoint),
            )
        except errors.ImageError as error:
            await _abort(context, error)
        self._settler.soon()
        return runtime_pb2.BuildFromHostResponse(
            id=built.image.id,
            reference=built.reference,
            size_bytes=built.size,
            files_skipped=built.skipped,
            warnings=built.warnings,
        )

    async def Save(self, request: Any, context: Any) -> AsyncIterator[Any]:  # noqa: N802
        if not request.references:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "no image was named")
        try:
            chunks = await self._workers.run(save, self._store, list(request.references))
            while data := await self._workers.run(_gather, chunks):
                yield runtime_pb2.SaveResponse(chunk=data)
        except errors.ImageError as error:
            await _abort(context, error)


class Settler:
    """Has new layers written to disk for good, after the answer that they are there; once for many."""

    def __init__(self, store: ImageStore, workers: Workers) -> None:
        self._store = store
        self._workers = workers
        self._task: asyncio.Task[None] | None = None
        self._wanted = False

    def soon(self) -> None:
        self._wanted = True
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._run(), name="settle layers")

    async def close(self) -> None:
        if self._task is not None:
            await asyncio.wait([self._task])

    async def _run(self) -> None:
        while self._wanted:
            self._wanted = False
            try:
                await self._workers.run(self._store.settle)
            except OSError as error:
                log.warning("layers are not marked as on disk, and will be unpacked again after a reboot: %s", error)


class StreamReader:
    """The chunks of a request stream, read from another thread; one chunk is in memory at a time."""

    def __init__(self, requests: AsyncIterator[Any], first: bytes) -> None:
        self._requests = requests
        self._loop = asyncio.get_running_loop()
        self._rest = first

    def read(self, n: int, /) -> bytes:
        """Blocks until the client sends more; b"" at its end."""
        while not self._rest:
            request = asyncio.run_coroutine_threadsafe(self._next(), self._loop).result()
            if request is None:
                return b""
            self._rest = request.chunk
        data, self._rest = self._rest[:n], self._rest[n:]
        return data

    async def _next(self) -> Any:
        return await anext(self._requests, None)


def to_cri(image: Image) -> Any:
    """The CRI's view of an image; the same whatever name it was asked by."""
    user = str((image.config.get("config") or {}).get("User") or "").partition(":")[0]
    number = int(user) if user.isdecimal() and len(user) < 19 else None
    return cri.Image(
        id=image.id,
        repo_tags=image.references,
        repo_digests=image.digests,
        size=image.size,
        uid=None if number is None else cri.Int64Value(value=number),
        username=user if number is None else "",
    )


def describe(image: Image) -> dict[str, Any]:
    """What a verbose status adds: the names that crictl's users know."""
    return {
        "chainID": image.chains[-1] if image.chains else "",
        "imageSpec": image.config,
        "manifest": image.manifest,
        "layers": [str(path) for path in image.layers],
    }


def _credentials(auth: Any) -> Credentials:
    return credentials(
        username=auth.username,
        password=auth.password,
        auth=auth.auth,
        server=auth.server_address,
        identity_token=auth.identity_token,
        registry_token=auth.registry_token,
    )


def _gather(chunks: Any) -> bytes:
    """About as much as fits one message."""
    data = bytearray()
    for chunk in chunks:
        data += chunk
        if len(data) >= SAVE_CHUNK_BYTES:
            break
    return bytes(data)


async def _abort(context: Any, error: errors.ImageError) -> NoReturn:
    await context.abort(CODES.get(type(error), grpc.StatusCode.INTERNAL), str(error))
    raise error
