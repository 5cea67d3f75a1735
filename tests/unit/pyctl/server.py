"""An API server for the command line's tests: a dictionary of objects behind the blocking transport's one method."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

from componentbase.http import Headers, Request
from kubeclient.blocking import BlockingResponse

CORE = [
    {
        "metadata": {"name": ""},
        "versions": [
            {
                "version": "v1",
                "resources": [
                    {"resource": plural, "singularResource": kind.lower(), "scope": scope, "shortNames": short,
                     "responseKind": {"kind": kind}, "verbs": ["get", "list"]}
                    for plural, kind, scope, short in (
                        ("pods", "Pod", "Namespaced", ["po"]),
                        ("nodes", "Node", "Cluster", ["no"]),
                        ("events", "Event", "Namespaced", ["ev"]),
                        ("configmaps", "ConfigMap", "Namespaced", ["cm"]),
                    )
                ],
            }
        ],
    }
]  # fmt: skip
GROUPS = [
    {
        "metadata": {"name": "example.org"},
        "versions": [
            {
                "version": "v1",
                "resources": [
                    {"resource": "widgets", "singularResource": "widget", "scope": "Namespaced",
                     "responseKind": {"kind": "Widget"}}
                ],
            }
        ],
    }
]  # fmt: skip


class Server:
    """Objects by path; `sent` has every request. What a test puts into `answers` for a method and path comes first."""

    def __init__(self) -> None:
        self.objects: dict[str, dict[str, Any]] = {}
        self.sent: list[Request] = []
        self.answers: dict[tuple[str, str], Callable[[Request], BlockingResponse]] = {}
        self.version = 10

    def put(self, path: str, **document: Any) -> dict[str, Any]:
        self.version += 1
        name = path.rpartition("/")[2]
        metadata = {"name": name, "uid": f"uid-{name}", "resourceVersion": str(self.version)}
        if "/namespaces/" in path:
            metadata["namespace"] = path.split("/namespaces/")[1].split("/")[0]
        self.objects[path] = {**document, "metadata": {**metadata, **document.get("metadata", {})}}
        return self.objects[path]

    def request(self, request: Request) -> BlockingResponse:
        self.sent.append(request)
        if special := self.answers.get((request.method, request.path)):
            return special(request)
        if request.path in ("/api", "/apis"):
            return answer({"items": CORE if request.path == "/api" else GROUPS})
        match request.method:
            case "GET" if request.path in self.objects:
                return self._shown([self.objects[request.path]], request, alone=True)
            case "GET" if request.path.rpartition("/")[2] in ("pods", "nodes", "events", "configmaps", "widgets"):
                return self._shown(self._below(request), request)
            case "POST":
                assert isinstance(request.body, bytes)
                document = json.loads(request.body)
                return answer(self.put(f"{request.path}/{document['metadata']['name']}", **document), 201)
            case "DELETE" if request.path in self.objects:
                return answer(self.objects.pop(request.path))
        kind, name = request.path.rsplit("/", 2)[1:]
        return refused(404, "NotFound", f'{kind} "{name}" not found')

    def _below(self, request: Request) -> list[dict[str, Any]]:
        prefix, _, plural = request.path.rpartition("/")
        found = []
        for path, item in sorted(self.objects.items()):
            if path.split("/")[-2] == plural and (path.startswith(prefix) or "/namespaces/" not in prefix):
                found.append(item)
        return found

    def _shown(self, items: list[dict[str, Any]], request: Request, *, alone: bool = False) -> BlockingResponse:
        metadata = {"resourceVersion": str(self.version)}
        if "as=Table" in request.headers.get("accept", ""):
            columns = [
                {"name": "Name", "format": "name", "priority": 0},
                {"name": "Status", "priority": 0},
                {"name": "Node", "priority": 1},
            ]
            rows = [
                {"cells": [item["metadata"]["name"], item.get("status", {}).get("phase"), "n1"], "object": item}
                for item in items
            ]
            return answer({"kind": "Table", "columnDefinitions": columns, "rows": rows, "metadata": metadata})
        if alone:
            return answer(items[0])
        return answer({"kind": "List", "items": items, "metadata": metadata})


def answer(document: dict[str, Any], status: int = 200, **headers: str) -> BlockingResponse:
    return BlockingResponse(status, Headers(headers), json.dumps(copy.deepcopy(document)).encode())


def refused(code: int, reason: str, message: str) -> BlockingResponse:
    return answer({"kind": "Status", "status": "Failure", "code": code, "reason": reason, "message": message}, code)
