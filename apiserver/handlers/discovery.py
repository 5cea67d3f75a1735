"""What is served: /api, /apis and the group versions, in the legacy and in the aggregated form, from the scheme.

The aggregated form is only given in a version that the client lists, and the answer's media type says so: a client
that finds another one there takes every resource for missing. Documents do not change while the server runs.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from typing import Any, NamedTuple

from apimachinery import codec
from apimachinery.kind import Kind
from apimachinery.scheme import Scheme
from componentbase.http import Headers, Request, Response

from .answers import document
from .media import JSON, accepted

AGGREGATED = ("v2", "v2beta1")


class Subresource(NamedTuple):
    """group and version are "" for those of the resource itself."""

    kind: str
    verbs: tuple[str, ...]
    group: str = ""
    version: str = ""


# kind "" is the kind of the resource.
SUBRESOURCES = {
    "status": Subresource("", ("get", "patch", "update")),
    "finalize": Subresource("", ("update",)),
    "binding": Subresource("Binding", ("create",)),
    "log": Subresource("", ("get",)),
    "exec": Subresource("PodExecOptions", ("create", "get")),
    "attach": Subresource("PodAttachOptions", ("create", "get")),
    "portforward": Subresource("PodPortForwardOptions", ("create", "get")),
    "proxy": Subresource("NodeProxyOptions", ("create", "delete", "get", "patch", "update")),
    "eviction": Subresource("Eviction", ("create",), "policy", "v1"),
}


def handle(scheme: Scheme, request: Request) -> Response | None:
    """The document at this path; None when there is none."""
    parts = request.path.strip("/").split("/")
    match parts:
        case ["api"]:
            return _root(scheme, request, core=True) or document(
                {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []}
            )
        case ["apis"]:
            return _root(scheme, request, core=False) or document(
                {
                    "kind": "APIGroupList",
                    "apiVersion": "v1",
                    "groups": [_group(scheme, each) for each in _groups(scheme)],
                }
            )
        case ["apis", group] if group in _groups(scheme):
            return document({"kind": "APIGroup", "apiVersion": "v1", **_group(scheme, group)})
        case ["api", version]:
            return _resources(scheme, "", version)
        case ["apis", group, version] if group:
            return _resources(scheme, group, version)
    return None


def _groups(scheme: Scheme) -> list[str]:
    return list(dict.fromkeys(group for group, _ in scheme.group_versions() if group))


def _versions(scheme: Scheme, group: str) -> list[str]:
    return [version for each, version in scheme.group_versions() if each == group]


def _group(scheme: Scheme, group: str) -> dict[str, Any]:
    versions = [{"groupVersion": f"{group}/{version}", "version": version} for version in _versions(scheme, group)]
    return {"name": group, "versions": versions, "preferredVersion": versions[0]}


def _resources(scheme: Scheme, group: str, version: str) -> Response | None:
    kinds = _kinds(scheme, group, version)
    if not kinds:
        return None
    resources: list[dict[str, Any]] = []
    for kind in kinds:
        resources.append(_legacy(kind))
        for name in sorted(kind.subresources):
            sub = SUBRESOURCES[name]
            entry: dict[str, Any] = {
                "name": f"{kind.plural}/{name}",
                "singularName": "",
                "namespaced": kind.namespaced,
                "kind": sub.kind or kind.kind,
                "verbs": list(sub.verbs),
            }
            if sub.version:
                entry |= {"group": sub.group, "version": sub.version}
            resources.append(entry)
    group_version = f"{group}/{version}" if group else version
    return document(
        {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version, "resources": resources}
    )


def _kinds(scheme: Scheme, group: str, version: str) -> list[Kind]:
    found = [kind for kind in scheme.kinds if (kind.group, kind.version) == (group, version)]
    return sorted(found, key=lambda kind: kind.plural)


def _legacy(kind: Kind) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "name": kind.plural,
        "singularName": kind.singular_name,
        "namespaced": kind.namespaced,
        "kind": kind.kind,
        "verbs": list(kind.verbs),
    }
    if kind.short_names:
        entry["shortNames"] = list(kind.short_names)
    if kind.categories:
        entry["categories"] = list(kind.categories)
    return entry


def _root(scheme: Scheme, request: Request, *, core: bool) -> Response | None:
    """The aggregated document, when the client prefers it."""
    version = _aggregated_version(request.headers.get("accept", ""))
    if not version:
        return None
    data, tag = _aggregated(scheme, core, version)
    media_type = f"{JSON};g=apidiscovery.k8s.io;v={version};as=APIGroupDiscoveryList"
    # A 304 tells the media type too: clients put its headers over those that they have kept.
    headers = Headers({"content-type": media_type, "etag": tag, "vary": "Accept", "cache-control": "public"})
    if request.headers.get("if-none-match", "") == tag:
        return Response(304, headers)
    return Response(200, headers, data)


def _aggregated_version(accept: str) -> str:
    for entry in accepted(accept):
        if entry.name != JSON:
            continue
        if not entry.parameters.get("as"):
            return ""
        wanted = (entry.parameters.get("g"), entry.parameters["as"], entry.parameters.get("v", ""))
        if wanted[:2] == ("apidiscovery.k8s.io", "APIGroupDiscoveryList") and wanted[2] in AGGREGATED:
            return wanted[2]
    return ""


@lru_cache(maxsize=8)
def _aggregated(scheme: Scheme, core: bool, version: str) -> tuple[bytes, str]:
    items = [
        {
            "metadata": {"name": group, "creationTimestamp": None} if group else {"creationTimestamp": None},
            "versions": [
                {
                    "version": each,
                    "resources": [_discovered(kind) for kind in _kinds(scheme, group, each)],
                    "freshness": "Current",
                }
                for each in _versions(scheme, group)
            ],
        }
        for group in ([""] if core else _groups(scheme))
    ]
    data = codec.encode(
        {
            "kind": "APIGroupDiscoveryList",
            "apiVersion": f"apidiscovery.k8s.io/{version}",
            "metadata": {},
            "items": items,
        }
    )
    return data, f'"{hashlib.sha256(data).hexdigest().upper()[:32]}"'


def _discovered(kind: Kind) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "resource": kind.plural,
        "responseKind": _response_kind(kind.group, kind.version, kind.kind),
        "scope": "Namespaced" if kind.namespaced else "Cluster",
        "singularResource": kind.singular_name,
        "verbs": list(kind.verbs),
    }
    if kind.short_names:
        entry["shortNames"] = list(kind.short_names)
    if kind.categories:
        entry["categories"] = list(kind.categories)
    subresources = []
    for name in sorted(kind.subresources):
        sub = SUBRESOURCES[name]
        group, version = (sub.group, sub.version) if sub.version else (kind.group, kind.version)
        subresources.append(
            {
                "subresource": name,
                "responseKind": _response_kind(group, version, sub.kind or kind.kind),
                "verbs": list(sub.verbs),
            }
        )
    if subresources:
        entry["subresources"] = subresources
    return entry


def _response_kind(group: str, version: str, kind: str) -> dict[str, str]:
    return {"group": group, "version": version, "kind": kind}
