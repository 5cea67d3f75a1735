"""Answers: bytes and headers. Long lists are streamed in chunks, and compressed in a thread on demand."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Any

from apimachinery import codec
from apimachinery.errors import StatusError
from componentbase.http import Headers, Request, Response

from .media import JSON

CHUNK_BYTES = 1 << 18
# Below this, compressing costs more than it saves.
GZIP_BYTES = 128 * 1024
GZIP_LEVEL = 1


def json_answer(data: bytes, *, status: int = 200, warnings: Iterable[str] = (), content_type: str = JSON) -> Response:
    headers = Headers({"content-type": content_type, "cache-control": "no-cache, private"})
    if texts := list(dict.fromkeys(warnings)):
        headers["warning"] = ", ".join(_warning(text) for text in texts)
    return Response(status, headers, data)


def document(value: Any, *, status: int = 200) -> Response:
    """JSON of plain data."""
    return json_answer(codec.encode(value), status=status)


def failure(error: StatusError) -> Response:
    """A Status."""
    response = document(error.status, status=error.code)
    for name, value in error.headers.items():
        response.headers.add(name, value)
    return response


def text_answer(text: str, *, status: int = 200) -> Response:
    return Response(status, Headers({"content-type": "text/plain; charset=utf-8"}), text.encode())


def _warning(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", " ")
    return f'299 - "{escaped}"'


def list_answer(request: Request, head: bytes, items: Sequence[bytes], *, content_type: str = JSON) -> Response:
    """`head` ends behind `"items":[`; the items are joined by commas."""
    size = len(head) + sum(map(len, items)) + len(items)
    compressed = size > GZIP_BYTES and "gzip" in (
        each.partition(";")[0] for each in request.headers.tokens("accept-encoding")
    )
    response = json_answer(b"", content_type=content_type)
    response.headers["vary"] = "Accept-Encoding"
    if compressed:
        response.headers["content-encoding"] = "gzip"
        response.body = _gzipped(_chunks(head, items))
    elif size > CHUNK_BYTES:
        response.body = _streamed(_chunks(head, items))
    else:
        response.body = head + b",".join(items) + b"]}\n"
    return response


def _chunks(head: bytes, items: Sequence[bytes]) -> Iterable[bytes]:
    parts, size = [head], len(head)
    for index, item in enumerate(items):
        if index:
            parts.append(b",")
        parts.append(item)
        size += len(item)
        if size > CHUNK_BYTES:
            yield b"".join(parts)
            parts, size = [], 0
    parts.append(b"]}\n")
    yield b"".join(parts)


async def _streamed(chunks: Iterable[bytes]) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


async def _gzipped(chunks: Iterable[bytes]) -> AsyncIterator[bytes]:
    compressor = zlib.compressobj(GZIP_LEVEL, zlib.DEFLATED, 31)
    for chunk in chunks:
        if data := await asyncio.to_thread(compressor.compress, chunk):
            yield data
    yield compressor.flush()
