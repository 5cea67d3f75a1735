"""Takes a resource path apart: `/api/v1/namespaces/N/pods/P/log`, and names the verb as authorization knows it."""

from __future__ import annotations

from dataclasses import replace

from apimachinery.errors import NotFound
from apimachinery.scheme import Scheme
from componentbase.http import Request

from .context import Target

VERBS = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete", "GET": "get", "HEAD": "get"}
# Subresources below which a path of its own begins.
PROXIES = ("proxy",)
CONNECTS = ("exec", "attach", "portforward", "proxy")


def resolve(scheme: Scheme, request: Request) -> Target | None:
    """The target of a resource request; None when the path is no object's. NotFound for an unknown subresource."""
    parts = request.path.strip("/").split("/")
    if parts[0] == "api" and len(parts) > 2:
        group, version, parts = "", parts[1], parts[2:]
    elif parts[0] == "apis" and len(parts) > 3:
        group, version, parts = parts[1], parts[2], parts[3:]
    else:
        return None
    watching = request.query.first("watch") in ("true", "1")
    if parts[0] == "watch" and len(parts) > 1:
        parts, watching = parts[1:], True
    target = _resource(scheme, group, version, parts)
    if target is None:
        return None
    return replace(target, verb=_verb(request.method, target, watching))


def _resource(scheme: Scheme, group: str, version: str, parts: list[str]) -> Target | None:
    namespace = ""
    if parts[0] == "namespaces" and len(parts) > 2:
        own = scheme.by_resource("", "v1", "namespaces")
        if group == "" and own is not None and parts[2] in own.subresources and len(parts) == 3:
            return Target(own, "", parts[1], parts[2], "", "")
        namespace, parts = parts[1], parts[2:]
    kind = scheme.by_resource(group, version, parts[0])
    if kind is None or (namespace and not kind.namespaced):
        return None
    name = parts[1] if len(parts) > 1 else ""
    subresource = parts[2] if len(parts) > 2 else ""
    if name and kind.namespaced and not namespace:
        return None
    if subresource and subresource not in kind.subresources:
        served = ", ".join(sorted(kind.subresources)) or "none"
        # Without details, `kubectl debug` falls over; a name in them would say that the object is not there.
        text = f'{kind.resource} has no subresource "{subresource}" here; served: {served}'
        raise NotFound(text, kind=kind.plural, group=kind.group)
    if len(parts) > 3 and subresource not in PROXIES:
        return None
    return Target(kind, namespace, name, subresource, "/".join(parts[3:]), "")


def _verb(method: str, target: Target, watching: bool) -> str:
    if target.subresource in CONNECTS:
        return VERBS.get(method, "get")
    if method in ("GET", "HEAD") and not target.subresource:
        if watching:
            return "watch"
        return "get" if target.name else "list"
    if method == "DELETE" and not target.name:
        return "deletecollection"
    return VERBS.get(method, method.lower())
