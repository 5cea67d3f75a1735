"""Answers of the agent's API: JSON, text, and errors as Kubernetes' Status, which the API server hands on as it is."""

from __future__ import annotations

from typing import Any

import msgspec

from apimachinery.errors import (
    AlreadyExists,
    BadRequest,
    Conflict,
    InternalError,
    NotFound,
    ServiceUnavailable,
    StatusError,
)
from componentbase.http import Headers, Response
from nodeagent.cri import CRIError

# gRPC's name for what went wrong, and the wire's.
CODES: dict[str, type[StatusError]] = {
    "INVALID_ARGUMENT": BadRequest,
    "FAILED_PRECONDITION": BadRequest,
    "OUT_OF_RANGE": BadRequest,
    "NOT_FOUND": NotFound,
    "ALREADY_EXISTS": AlreadyExists,
    "ABORTED": Conflict,
    "UNAVAILABLE": ServiceUnavailable,
    "RESOURCE_EXHAUSTED": ServiceUnavailable,
}


class NotImplementedHere(StatusError):
    """The runtime does not offer it."""

    CODE = 501
    REASON = "NotImplemented"


def json(document: Any, status: int = 200) -> Response:
    return Response(status, Headers({"content-type": "application/json"}), msgspec.json.encode(document))


def text(content: str, status: int = 200) -> Response:
    return Response(status, Headers({"content-type": "text/plain"}), content.encode())


def failure(error: StatusError) -> Response:
    return json(error.status, error.code)


def from_runtime(error: CRIError) -> StatusError:
    """What the runtime refused, in the wire's words."""
    if error.code == "UNIMPLEMENTED":
        return NotImplementedHere(f"the container runtime does not offer this: {error.message}")
    return CODES.get(error.code, InternalError)(error.message)
