"""OpenAPI v3: an index, and a document per group and version under an address that carries its hash.

The documents come from `apimachinery.openapi`; without them kubectl refuses to create anything. Version 2 is not
served. They are made when they are first asked for: many servers in tests never are.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache

from apimachinery import codec, openapi
from apimachinery.scheme import Scheme
from componentbase.http import Headers, Request, Response

from .health import VERSION
from .media import JSON

PREFIX = "/openapi/v3"


def handle(scheme: Scheme, request: Request) -> Response | None:
    """The answer at this path; None when there is none."""
    path = request.path.rstrip("/")
    if path == PREFIX:
        return _answer(request, codec.encode(openapi.index(_documents(scheme))), hashed=False)
    if not path.startswith(PREFIX + "/"):
        return None
    found = _documents(scheme).get(path.removeprefix(PREFIX + "/"))
    return _answer(request, found, hashed=request.query.has("hash")) if found is not None else None


@lru_cache(maxsize=4)
def _documents(scheme: Scheme) -> dict[str, bytes]:
    return openapi.documents(scheme, version=VERSION["gitVersion"])


@lru_cache(maxsize=64)
def _tag(data: bytes) -> str:
    return f'"{hashlib.sha256(data).hexdigest().upper()[:32]}"'


def _answer(request: Request, data: bytes, *, hashed: bool) -> Response:
    # A 304 tells the media type too: clients put its headers over those that they have kept.
    headers = Headers({"content-type": JSON, "etag": _tag(data), "vary": "Accept"})
    headers["cache-control"] = "public, immutable" if hashed else "no-cache, private"
    if request.headers.get("if-none-match", "") == headers["etag"]:
        return Response(304, headers)
    return Response(200, headers, data)
