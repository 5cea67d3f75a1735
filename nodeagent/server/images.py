"""`/pyctl/v1/images`: the node's images, for `pyctl image` through the API server's node proxy.

Listing, pulling and removing are CRI and work with any runtime; importing and building are our own service
(`pb.pyctl.runtime.v1`) on the same socket, and another runtime answers that it does not have it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Protocol

import grpc.aio
import msgspec

from apimachinery.errors import BadRequest, NotFound
from componentbase.http import Request, Response
from nodeagent.cri import CRI, CRIError
from nodeagent.grpc_cri import GrpcCRI, translate
from nodeagent.server import answers
from pb.cri.v1 import api_pb2 as cri
from pb.pyctl.runtime.v1 import runtime_pb2, runtime_pb2_grpc

CHUNK_BYTES = 1 << 20
Json = dict[str, Any]


class Builder(Protocol):
    """What brings images onto the node without a registry. Each verb raises CRIError."""

    async def import_archive(self, tag: str, chunks: AsyncIterator[bytes]) -> Json: ...

    async def build_from_host(self, request: runtime_pb2.BuildFromHostRequest) -> Json: ...


class RuntimeBuilder:
    """Our runtime's own image service, on the channel of its CRI."""

    def __init__(self, runtime: GrpcCRI) -> None:
        self._stub: Any = runtime_pb2_grpc.ImagesStub(runtime.channel)  # type: ignore[no-untyped-call]

    async def import_archive(self, tag: str, chunks: AsyncIterator[bytes]) -> Json:
        async def messages() -> AsyncIterator[runtime_pb2.ImportRequest]:
            yield runtime_pb2.ImportRequest(tag=tag)
            async for chunk in chunks:
                for at in range(0, len(chunk), CHUNK_BYTES):
                    yield runtime_pb2.ImportRequest(chunk=chunk[at : at + CHUNK_BYTES])

        try:
            answer = await self._stub.Import(messages())
        except grpc.aio.AioRpcError as error:
            raise translate(error) from error
        return {"references": list(answer.references), "ids": list(answer.ids)}

    async def build_from_host(self, request: runtime_pb2.BuildFromHostRequest) -> Json:
        try:
            answer = await self._stub.BuildFromHost(request)
        except grpc.aio.AioRpcError as error:
            raise translate(error) from error
        return {
            "id": answer.id,
            "reference": answer.reference,
            "sizeBytes": answer.size_bytes,
            "filesSkipped": list(answer.files_skipped),
            "warnings": list(answer.warnings),
        }


class ImageRoutes:
    """The routes below /pyctl/v1/images; `changed` is called when the node's images may be others."""

    def __init__(self, runtime: CRI, builder: Builder | None, changed: Any) -> None:
        self._runtime = runtime
        self._builder = builder
        self._changed = changed

    async def handle(self, rest: str, request: Request) -> Response:
        """rest: the path behind /pyctl/v1/images. Raises StatusError and CRIError."""
        verb = (request.method, rest)
        if verb == ("GET", ""):
            return answers.json({"images": [describe(each) for each in await self._runtime.list_images()]})
        if request.method == "DELETE" and rest:
            return await self._remove(rest.removeprefix("/"))
        actions = {("POST", "/import"): self._import, ("POST", "/build"): self._build, ("POST", "/pull"): self._pull}
        action = actions.get(verb)
        if action is None:
            raise NotFound(f"no such image verb: {request.method} {request.path}")
        document = await action(request)
        self._changed()
        return answers.json(document)

    async def _remove(self, image: str) -> Response:
        if await self._runtime.image_status(image) is None:
            raise NotFound(f'image "{image}" not found')
        await self._runtime.remove_image(image)
        self._changed()
        return answers.json({})

    async def _import(self, request: Request) -> Json:
        return await self._own().import_archive(request.query.first("tag"), _chunks(request))

    async def _build(self, request: Request) -> Json:
        wanted = _body(await _whole(request))
        programs = wanted.get("programs")
        if not isinstance(programs, list) or not programs:
            raise BadRequest("programs: at least one program of the host must be named")
        return await self._own().build_from_host(
            runtime_pb2.BuildFromHostRequest(
                programs=[str(each) for each in programs],
                tag=str(wanted.get("tag") or ""),
                extra=[str(each) for each in wanted.get("extra") or []],
                env=[str(each) for each in wanted.get("env") or []],
                entrypoint=[str(each) for each in wanted.get("entrypoint") or []],
            )
        )

    async def _pull(self, request: Request) -> Json:
        image = str(_body(await _whole(request)).get("image") or "")
        if not image:
            raise BadRequest("image: the name of an image must be given")
        reference = await self._runtime.pull_image(image, cri.PodSandboxConfig())
        return {"reference": image, "id": reference}

    def _own(self) -> Builder:
        if self._builder is None:
            raise CRIError("UNIMPLEMENTED", "importing and building images needs pyctl's own runtime")
        return self._builder


def describe(image: cri.Image) -> Json:
    """An image in a listing."""
    return {
        "id": image.id,
        "references": list(image.repo_tags) or list(image.repo_digests),
        "digests": list(image.repo_digests),
        "sizeBytes": image.size,
    }


async def _whole(request: Request) -> bytes:
    return request.body if isinstance(request.body, bytes) else b"".join([each async for each in request.body])


async def _chunks(request: Request) -> AsyncIterator[bytes]:
    if isinstance(request.body, bytes):
        yield request.body
        return
    async for chunk in request.body:
        yield chunk


def _body(data: bytes) -> Json:
    try:
        document = msgspec.json.decode(data or b"{}")
    except msgspec.DecodeError as error:
        raise BadRequest(f"the body is not JSON: {error}") from error
    if not isinstance(document, dict):
        raise BadRequest("the body is not a JSON object")
    return document
