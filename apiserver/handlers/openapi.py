"""OpenAPI v3: an index, and a document per group and version under an address that carries its hash.

The documents come from `apimachinery.openapi`; without them kubectl refuses to create anything. They are made when they
are first asked for: many servers in tests never are. Version 2 tells no definitions: kubectl asks for it before it
sends a `kind: List` or a kind that is not served, leaves what it does not find in it to the server, and refuses the
whole file when there is no such document.
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
V2_PATH = "/openapi/v2"
V2_PROTOBUF = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
V2_TITLE = "Kubernetes"


def handle(scheme: Scheme, request: Request) -> Response | None:
    """The answer at this path; None when there is none."""
    path = request.path.rstrip("/")
    if path == V2_PATH:
        return _version_2(request)
    if path == PREFIX:
        return _answer(request, codec.encode(openapi.index(_documents(scheme))), hashed=False)
    if not path.startswith(PREFIX + "/"):
        return None
    found = _documents(scheme).get(path.removeprefix(PREFIX + "/"))
    return _answer(request, found, hashed=request.query.has("hash")) if found is not None else None


@lru_cache(maxsize=4)
def _documents(scheme: Scheme) -> dict[str, bytes]:
    return openapi.documents(scheme, version=VERSION["gitVersion"])


def _version_2(request: Request) -> Response:
    version = VERSION["gitVersion"]
    if "protobuf" in request.headers.get("accept", ""):
        # openapi.v2.Document: swagger = 1, info = 2 {title = 1, version = 2}; every text is shorter than 128 bytes.
        info = _text(1, V2_TITLE) + _text(2, version)
        return _answer(request, _text(1, "2.0") + b"\x12" + bytes([len(info)]) + info, hashed=False, media=V2_PROTOBUF)
    document = {"swagger": "2.0", "info": {"title": V2_TITLE, "version": version}, "paths": {}}
    return _answer(request, codec.encode(document), hashed=False)


def _text(number: int, text: str) -> bytes:
    """A string field of a protobuf message."""
    return bytes([number << 3 | 2, len(text)]) + text.encode()


@lru_cache(maxsize=64)
def _tag(data: bytes) -> str:
    return f'"{hashlib.sha256(data).hexdigest().upper()[:32]}"'


def _answer(request: Request, data: bytes, *, hashed: bool, media: str = JSON) -> Response:
    # A 304 tells the media type too: clients put its headers over those that they have kept.
    headers = Headers({"content-type": media, "etag": _tag(data), "vary": "Accept"})
    headers["cache-control"] = "public, immutable" if hashed else "no-cache, private"
    if request.headers.get("if-none-match", "") == headers["etag"]:
        return Response(304, headers)
    return Response(200, headers, data)
