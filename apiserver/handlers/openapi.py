"""OpenAPI v3: an index, and a document per group and version under an address that carries its hash.

The documents come from `apimachinery.openapi`; without them kubectl refuses to create anything. Version 2 is not served.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from typing import Any

from apimachinery import codec
from apimachinery.kind import Kind
from apimachinery.scheme import Scheme
from componentbase.http import Headers, Request, Response

from .media import JSON

PREFIX = "/openapi/v3"


def handle(scheme: Scheme, request: Request) -> Response | None:
    """The answer at this path; None when there is none."""
    path = request.path.rstrip("/")
    if path == PREFIX:
        index = {
            name: {"serverRelativeURL": f"{PREFIX}/{name}?hash={tag}"} for name, (_, tag) in _documents(scheme).items()
        }
        data = codec.encode({"paths": index})
        return _answer(request, data, hashlib.sha256(data).hexdigest().upper(), forever=False)
    found = _documents(scheme).get(path.removeprefix(PREFIX + "/")) if path.startswith(PREFIX + "/") else None
    if found is None:
        return None
    return _answer(request, *found, forever=request.query.first("hash") == found[1])


def _answer(request: Request, data: bytes, tag: str, *, forever: bool) -> Response:
    headers = Headers({"etag": f'"{tag}"', "vary": "Accept"})
    headers["cache-control"] = "public, immutable" if forever else "no-cache, private"
    if request.headers.get("if-none-match", "") == f'"{tag}"':
        return Response(304, headers)
    headers["content-type"] = JSON
    return Response(200, headers, data)


@lru_cache(maxsize=4)
def _documents(scheme: Scheme) -> dict[str, tuple[bytes, str]]:
    """`api/v1` -> (document, hash)."""
    found: dict[str, tuple[bytes, str]] = {}
    for group, version in scheme.group_versions():
        data = codec.encode(_document(scheme, group, version))
        name = f"apis/{group}/{version}" if group else f"api/{version}"
        found[name] = (data, hashlib.sha256(data).hexdigest().upper())
    return found


def _document(scheme: Scheme, group: str, version: str) -> dict[str, Any]:
    kinds = [kind for kind in scheme.kinds if (kind.group, kind.version) == (group, version)]
    return {
        "openapi": "3.0.0",
        "info": {"title": "Kubernetes", "version": "v1.33.0+pyctl"},
        "paths": {kind.path("{name}", "{namespace}"): {"patch": _patch(kind)} for kind in kinds if not kind.virtual},
        "components": {"schemas": {}},
    }


def _patch(kind: Kind) -> dict[str, Any]:
    return {
        "x-kubernetes-action": "patch",
        "x-kubernetes-group-version-kind": {"group": kind.group, "version": kind.version, "kind": kind.kind},
        "parameters": [{"name": "fieldValidation", "in": "query", "schema": {"type": "string", "uniqueItems": True}}],
    }
