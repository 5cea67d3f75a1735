"""Finds the handler of a request: health and version, discovery, OpenAPI, then objects by verb."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from apimachinery.errors import MethodNotAllowed, NotFound
from apimachinery.kind import Kind
from componentbase.http import Request, Response

from . import (
    binding,
    connect,
    create,
    delete,
    deletecollection,
    discovery,
    get,
    health,
    list,
    openapi,
    patch,
    update,
    watch,
)
from .answers import document, text_answer
from .context import Context, Target

ObjectHandler = Callable[[Context, Target, Request], Awaitable[Response]]

BY_VERB: dict[str, ObjectHandler] = {
    "create": create.handle,
    "delete": delete.handle,
    "deletecollection": deletecollection.handle,
    "get": get.handle,
    "list": list.handle,
    "patch": patch.handle,
    "update": update.handle,
    "watch": watch.handle,
}
# What a subresource answers, by verb; verbs that are not here are not allowed on it.
BY_SUBRESOURCE: dict[str, dict[str, ObjectHandler]] = {
    "status": {"get": get.handle, "update": update.handle, "patch": patch.handle},
    "finalize": {"update": update.handle},
    "binding": {"create": binding.handle},
    "log": {"get": connect.log},
    "exec": {"get": connect.execute, "create": connect.execute},
    "proxy": dict.fromkeys(("get", "create", "update", "patch", "delete"), connect.proxy),
}
PATHS = ("/api", "/apis", "/healthz", "/livez", "/openapi/v2", "/openapi/v3", "/readyz", "/version")


async def route(context: Context, target: Target | None, request: Request) -> Response:
    """The answer. NotFound and MethodNotAllowed where nothing is served."""
    if target is not None:
        return await _handler(target)(context, target, request)
    found = (
        health.handle(context.cacher, request)
        or discovery.handle(context.scheme, request)
        or openapi.handle(context.scheme, request)
    )
    if found is not None:
        if request.method not in ("GET", "HEAD"):
            raise MethodNotAllowed(f"{request.path} can only be read")
        return found
    if request.path == "/":
        return document({"paths": [*PATHS]})
    if request.path.startswith(("/api/", "/apis/")):
        raise NotFound("the server could not find the requested resource")
    return text_answer("404 page not found\n", status=404)


def _handler(target: Target) -> ObjectHandler:
    kind, verb = target.kind, target.verb
    if target.subresource:
        found = BY_SUBRESOURCE.get(target.subresource, {}).get(verb)
    else:
        allowed = verb in kind.verbs and bool(target.name) == (verb in ("get", "update", "patch", "delete", "watch"))
        if verb == "watch" and "watch" in kind.verbs:
            allowed = True
        found = BY_VERB.get(verb) if allowed else None
    if found is None:
        raise _not_allowed(kind, target)
    return found


def _not_allowed(kind: Kind, target: Target) -> MethodNotAllowed:
    resource = f"{kind.resource}/{target.subresource}" if target.subresource else kind.resource
    return MethodNotAllowed(f"{target.verb} is not supported on resources of kind {resource!r}", kind=kind.plural)
