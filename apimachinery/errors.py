"""Errors with the wire's names: each is a Kubernetes `Status` that can be raised.

They are translated to HTTP once, at the rim: `.status` is the body, `.code` the status line, `.headers` what must
go with it. `from_status` makes the same exception from a body that a client received."""

from __future__ import annotations

from typing import Any

import msgspec

from apimachinery.meta import StatusCause as Cause

__all__ = ["BadRequest", "Cause", "Invalid", "NotFound", "StatusError", "from_status", "success"]


class StatusError(Exception):
    """A failed request. `status` is the whole Status object as a dict."""

    CODE = 500
    REASON = ""

    def __init__(
        self,
        message: str,
        *,
        name: str = "",
        kind: str = "",
        group: str = "",
        uid: str = "",
        causes: list[Cause] | None = None,
        retry_after: int | None = None,
        status: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        if status is not None:
            self.status = status
            return
        details: dict[str, Any] = {}
        for key, value in (("name", name), ("group", group), ("kind", kind), ("uid", uid)):
            if value:
                details[key] = value
        if causes:
            details["causes"] = [msgspec.to_builtins(cause) for cause in causes]
        if retry_after is not None:
            details["retryAfterSeconds"] = retry_after
        self.status = {
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": message,
        }  # fmt: skip
        if self.REASON:
            self.status["reason"] = self.REASON
        if details:
            self.status["details"] = details
        self.status["code"] = self.CODE

    @property
    def code(self) -> int:
        """The HTTP status."""
        return int(self.status.get("code") or self.CODE)

    @property
    def reason(self) -> str:
        """The machine-readable reason: `NotFound`, `Conflict`, ..."""
        return str(self.status.get("reason") or "")

    @property
    def causes(self) -> list[Cause]:
        """The causes of an Invalid and of some others; empty when there are none."""
        found = (self.status.get("details") or {}).get("causes") or []
        return [
            Cause(reason=c.get("reason", ""), message=c.get("message", ""), field=c.get("field", "")) for c in found
        ]

    @property
    def headers(self) -> dict[str, str]:
        """Headers that go with the body."""
        seconds = (self.status.get("details") or {}).get("retryAfterSeconds")
        return {"Retry-After": str(seconds)} if seconds else {}


class BadRequest(StatusError):
    """400: the request is malformed."""

    CODE, REASON = 400, "BadRequest"


class Unauthorized(StatusError):
    """401: nobody we know."""

    CODE, REASON = 401, "Unauthorized"


class Forbidden(StatusError):
    """403: known, but may not; also quota and terminating namespaces."""

    CODE, REASON = 403, "Forbidden"


class NotFound(StatusError):
    """404: no such object. `details.kind` is the resource's plural."""

    CODE, REASON = 404, "NotFound"

    @classmethod
    def of(cls, plural: str, name: str, group: str = "") -> NotFound:
        """`pods "x" not found`."""
        return cls(f'{qualified(plural, group)} "{name}" not found', name=name, kind=plural, group=group)


class MethodNotAllowed(StatusError):
    """405: the resource is there, the verb is not."""

    CODE, REASON = 405, "MethodNotAllowed"


class NotAcceptable(StatusError):
    """406: none of the media types that were asked for."""

    CODE, REASON = 406, "NotAcceptable"


class AlreadyExists(StatusError):
    """409 on create."""

    CODE, REASON = 409, "AlreadyExists"

    @classmethod
    def of(cls, plural: str, name: str, group: str = "") -> AlreadyExists:
        """`pods "x" already exists`."""
        return cls(f'{qualified(plural, group)} "{name}" already exists', name=name, kind=plural, group=group)


class Conflict(StatusError):
    """409 on update: a stale revision, another uid, another owner of the field."""

    CODE, REASON = 409, "Conflict"

    @classmethod
    def of(cls, plural: str, name: str, why: str, group: str = "") -> Conflict:
        """`Operation cannot be fulfilled on pods "x": why`."""
        text = f'Operation cannot be fulfilled on {qualified(plural, group)} "{name}": {why}'
        return cls(text, name=name, kind=plural, group=group)

    @classmethod
    def stale(cls, plural: str, name: str, group: str = "") -> Conflict:
        """The object was changed since it was read."""
        why = "the object has been modified; please apply your changes to the latest version and try again"
        return cls.of(plural, name, why, group)


class Gone(StatusError):
    """410: was there once."""

    CODE, REASON = 410, "Gone"


class Expired(StatusError):
    """410: the revision that was asked for is compacted; list again."""

    CODE, REASON = 410, "Expired"


class RequestEntityTooLarge(StatusError):
    """413: the body is above the limit."""

    CODE, REASON = 413, "RequestEntityTooLarge"


class UnsupportedMediaType(StatusError):
    """415: the body is of a type that is not read here."""

    CODE, REASON = 415, "UnsupportedMediaType"


class Invalid(StatusError):
    """422: well formed, but against the rules of the kind; says which fields and why."""

    CODE, REASON = 422, "Invalid"

    def __init__(self, kind: str, name: str, causes: list[Cause], *, group: str = "", message: str = "") -> None:
        texts = list(
            dict.fromkeys(f"{cause.field}: {cause.message}" if cause.field else cause.message for cause in causes)
        )
        if not message:
            joined = texts[0] if len(texts) == 1 else "[" + ", ".join(texts) + "]"
            message = f'{qualified(kind, group)} "{name}" is invalid' + (f": {joined}" if texts else "")
        super().__init__(message, name=name, kind=kind, group=group, causes=causes)


class TooManyRequests(StatusError):
    """429: again after `retry_after` seconds."""

    CODE, REASON = 429, "TooManyRequests"


class InternalError(StatusError):
    """500: our fault."""

    CODE, REASON = 500, "InternalError"


class ServiceUnavailable(StatusError):
    """503: not now."""

    CODE, REASON = 503, "ServiceUnavailable"


class Timeout(StatusError):
    """504: it took too long."""

    CODE, REASON = 504, "Timeout"


class ServerTimeout(StatusError):
    """500 with a reason of its own: the server could not finish in time; try again."""

    CODE, REASON = 500, "ServerTimeout"


_ERRORS: tuple[type[StatusError], ...] = (
    BadRequest,
    Unauthorized,
    Forbidden,
    NotFound,
    MethodNotAllowed,
    NotAcceptable,
    AlreadyExists,
    Conflict,
    Gone,
    Expired,
    RequestEntityTooLarge,
    UnsupportedMediaType,
    Invalid,
    TooManyRequests,
    ServerTimeout,
    InternalError,
    ServiceUnavailable,
    Timeout,
)
_BY_REASON = {error.REASON: error for error in _ERRORS}
_BY_CODE = {error.CODE: error for error in _ERRORS if error not in (AlreadyExists, Expired, ServerTimeout)}


def qualified(name: str, group: str) -> str:
    """`deployments.apps`, or `pods` for the core group."""
    return f"{name}.{group}" if group else name


def from_status(status: dict[str, Any]) -> StatusError:
    """The exception that a received Status stands for; by reason, then by code."""
    found = _BY_REASON.get(status.get("reason") or "") or _BY_CODE.get(status.get("code") or 0) or StatusError
    error = found.__new__(found)
    StatusError.__init__(error, str(status.get("message") or status.get("reason") or "unknown failure"), status=status)
    return error


def success(*, name: str = "", kind: str = "", group: str = "", uid: str = "", code: int = 200) -> dict[str, Any]:
    """A Status that says that all went well; `kind` is the resource's plural."""
    details = {key: value for key, value in (("name", name), ("group", group), ("kind", kind), ("uid", uid)) if value}
    status: dict[str, Any] = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"}
    if details:
        status["details"] = details
    else:
        status["code"] = code
    return status
