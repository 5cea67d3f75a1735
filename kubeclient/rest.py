"""`Client`: the verbs of the API server on typed objects, over any `Transport`.

Paths come from the scheme, bodies are JSON. Every refusal is raised as the `StatusError` that the server sent.
Nothing is retried here and nothing is remembered: who calls decides what a failure means.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import msgspec

from apimachinery import codec
from apimachinery.errors import BadRequest, StatusError, from_status
from apimachinery.kind import Kind
from apimachinery.kinds.binding import Binding
from apimachinery.kinds.pod import Pod
from apimachinery.meta import DeleteOptions, ObjectMeta, ObjectReference, Preconditions
from apimachinery.scheme import SCHEME
from componentbase.http import Headers, Query, Request, Response
from kubeclient.transport import Transport, TransportError

T = TypeVar("T", bound=msgspec.Struct)
S = TypeVar("S")

Patch = dict[str, Any] | list[Any]

JSON_PATCH = "application/json-patch+json"
MERGE_PATCH = "application/merge-patch+json"
STRATEGIC_PATCH = "application/strategic-merge-patch+json"


@dataclass(frozen=True, slots=True)
class ObjectList(Generic[T]):
    """A list and the revision at which it was true."""

    items: list[T]
    resourceVersion: str


@dataclass(frozen=True, slots=True)
class WatchEvent(Generic[T]):
    """type is ADDED, MODIFIED, DELETED (object: its last state) or BOOKMARK (only metadata.resourceVersion counts)."""

    type: str
    object: T


class BadAnswer(TransportError):
    """The server answered something that is not what an API server says."""


class _Frame(msgspec.Struct):
    type: str
    object: msgspec.Raw


class _ListMeta(msgspec.Struct, rename={"next_page": "continue"}):
    resourceVersion: str = ""
    next_page: str = ""


class _Listing(msgspec.Struct):
    metadata: _ListMeta
    items: list[msgspec.Raw] | None = None


def key_of(obj: Any) -> str:
    """ "namespace/name", or "name" for objects without a namespace."""
    meta = obj.metadata
    return f"{meta.namespace}/{meta.name}" if meta.namespace else str(meta.name)


class Client:
    """Typed access to one API server as one user. Owns nothing: the transport's maker closes it."""

    def __init__(self, transport: Transport) -> None:
        self.transport = transport

    async def get(self, kind_type: type[T], name: str, namespace: str = "") -> T:
        """Raises NotFound."""
        return await self._object(kind_type, "GET", _path(SCHEME.by_type(kind_type), name, namespace))

    async def list(
        self,
        kind_type: type[T],
        namespace: str | None = None,
        *,
        labels: str = "",
        fields: str = "",
        resource_version: str = "",
        limit: int = 0,
    ) -> ObjectList[T]:
        """All objects (in `namespace`, or everywhere), all pages of them; `limit` is the size of a page."""
        path = SCHEME.by_type(kind_type).base_path(namespace or "")
        query = _selectors(labels, fields)
        if resource_version:
            query["resourceVersion"] = resource_version
        if limit:
            query["limit"] = str(limit)
        items: list[T] = []
        while True:
            body = await self._bytes("GET", path, query=query)
            page = _parse(body, _Listing)
            items += [_decode(kind_type, raw) for raw in page.items or []]
            if not page.metadata.next_page:
                return ObjectList(items, page.metadata.resourceVersion)
            query = {**query, "continue": page.metadata.next_page}
            query.pop("resourceVersion", None)

    async def create(self, obj: T) -> T:
        """The object as the server completed it. Raises AlreadyExists, Invalid."""
        path = SCHEME.of(obj).base_path(_namespace(obj))
        return await self._object(type(obj), "POST", path, codec.encode(obj))

    async def update(self, obj: T) -> T:
        """Replace. Raises Conflict when `obj` carries a stale resourceVersion."""
        return await self._put(obj, "")

    async def update_status(self, obj: T) -> T:
        """Replace the status alone. Raises Conflict when `obj` carries a stale resourceVersion."""
        return await self._put(obj, "status")

    async def patch(
        self,
        kind_type: type[T],
        name: str,
        namespace: str,
        patch: Patch,
        *,
        content_type: str = MERGE_PATCH,
        subresource: str = "",
    ) -> T:
        """Change what `patch` names; the server applies it to the newest state."""
        path = _path(SCHEME.by_type(kind_type), name, namespace, subresource)
        return await self._object(kind_type, "PATCH", path, msgspec.json.encode(patch), content_type)

    async def delete(
        self, kind_type: type[Any], name: str, namespace: str = "", *, grace_seconds: int | None = None, uid: str = ""
    ) -> None:
        """Ask for deletion; with `uid` only of that very object. Raises NotFound, Conflict (another uid)."""
        options = DeleteOptions(
            apiVersion="v1",
            kind="DeleteOptions",
            gracePeriodSeconds=grace_seconds,
            preconditions=Preconditions(uid=uid) if uid else None,
        )
        await self._bytes("DELETE", _path(SCHEME.by_type(kind_type), name, namespace), codec.encode(options))

    async def bind(self, pod: Pod, node_name: str) -> None:
        """Give `pod` to a node. Raises Conflict when it has one already, or when it is another pod of that name."""
        meta = pod.metadata
        binding = Binding(
            metadata=ObjectMeta(name=meta.name, namespace=meta.namespace, uid=meta.uid),
            target=ObjectReference(apiVersion="v1", kind="Node", name=node_name),
        )
        path = _path(SCHEME.by_type(Pod), meta.name, meta.namespace, "binding")
        await self._bytes("POST", path, codec.encode(binding))

    async def watch(
        self,
        kind_type: type[T],
        namespace: str | None = None,
        *,
        labels: str = "",
        fields: str = "",
        resource_version: str = "",
        timeout_seconds: int | None = None,
        bookmarks: bool = True,
    ) -> AsyncGenerator[WatchEvent[T], None]:
        """Changes after `resource_version`, in order, until the server ends the watch. Close it with `aclosing`.

        Raises StatusError for an ERROR event (Expired: list again), TransportError when the connection breaks.
        """
        query = {"watch": "true", **_selectors(labels, fields)}
        if resource_version:
            query["resourceVersion"] = resource_version
        if timeout_seconds is not None:
            query["timeoutSeconds"] = str(timeout_seconds)
        if bookmarks:
            query["allowWatchBookmarks"] = "true"
        path = SCHEME.by_type(kind_type).base_path(namespace or "")
        response = await self._send("GET", path, query=query, stream=True)
        async with contextlib.aclosing(_lines(response)) as lines:
            async for line in lines:
                frame = _parse(line, _Frame)
                if frame.type == "ERROR":
                    raise refusal(500, bytes(frame.object))
                yield WatchEvent(frame.type, _decode(kind_type, frame.object))

    async def _put(self, obj: T, subresource: str) -> T:
        path = _path(SCHEME.of(obj), _name(obj), _namespace(obj), subresource)
        return await self._object(type(obj), "PUT", path, codec.encode(obj))

    async def _object(
        self, kind_type: type[T], method: str, path: str, body: bytes = b"", content_type: str = "application/json"
    ) -> T:
        return _decode(kind_type, await self._bytes(method, path, body, content_type))

    async def _bytes(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        content_type: str = "application/json",
        *,
        query: dict[str, str] | None = None,
    ) -> bytes:
        response = await self._send(method, path, body, content_type, query=query)
        return await response.read()

    async def _send(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        content_type: str = "application/json",
        *,
        query: dict[str, str] | None = None,
        stream: bool = False,
    ) -> Response:
        headers = Headers({"accept": "application/json"})
        if body:
            headers["content-type"] = content_type
        request = Request(method, path, Query.of(query or {}), headers, body, stream=stream)
        response = await self.transport.request(request)
        if response.status >= 400:
            raise refusal(response.status, await response.read())
        return response


def refusal(code: int, body: bytes) -> StatusError:
    """The exception for an answer that is no success, also for one that did not come from an API server."""
    try:
        status = msgspec.json.decode(body)
    except msgspec.DecodeError:
        status = None
    if not isinstance(status, dict) or status.get("kind") != "Status":
        text = body[:200].decode("utf-8", "replace").strip()
        status = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": text or f"HTTP status {code}"}
    status.setdefault("code", code)
    return from_status(status)


def _decode(kind_type: type[T], data: bytes | msgspec.Raw) -> T:
    # What a newer server sends and we do not know is not ours to judge: unknown fields are dropped.
    try:
        return codec.read(kind_type, bytes(data))
    except BadRequest as error:
        raise BadAnswer(f"cannot read a {kind_type.__name__}: {error}") from error


def _parse(data: bytes, shape: type[S]) -> S:
    try:
        return msgspec.json.decode(data, type=shape)
    except msgspec.DecodeError as error:
        raise BadAnswer(f"not an answer of an API server: {error}: {data[:80]!r}") from error


def _selectors(labels: str, fields: str) -> dict[str, str]:
    return {key: value for key, value in (("labelSelector", labels), ("fieldSelector", fields)) if value}


def _path(kind: Kind, name: str, namespace: str = "", subresource: str = "") -> str:
    """Raises BadRequest for what would be another path: without a name, a DELETE would be one of all objects."""
    for part in (name, namespace):
        if "/" in part or part in (".", "..") or not name:
            raise BadRequest(f"{part!r} cannot be a name in a path to {kind.resource}")
    return kind.path(name, namespace, subresource)


def _name(obj: Any) -> str:
    return str(obj.metadata.name)


def _namespace(obj: Any) -> str:
    return str(obj.metadata.namespace)


async def _lines(response: Response) -> AsyncGenerator[bytes, None]:
    """The lines of a streamed body; a last one that is cut off is a broken connection."""
    rest = b""
    try:
        assert not isinstance(response.body, bytes), "a watch was answered with a whole body"
        async for chunk in response.body:
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                if line.strip():
                    yield line
    finally:
        await response.aclose()
    if rest.strip():
        raise TransportError("the watch was cut off in the middle of an event")
