"""A transport that plays a script: each step answers one request, and says what it expects of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec

from componentbase.http import Headers, Request, Response
from kubeclient.transport import TransportError

Step = Callable[[Request], Response]


class ScriptedTransport:
    """Plays `steps` in order; afterwards it is unreachable. `requests` keeps what was asked."""

    def __init__(self, *steps: Step) -> None:
        self.steps = list(steps)
        self.requests: list[Request] = []
        self.finished = asyncio.Event()

    async def request(self, request: Request) -> Response:
        self.requests.append(request)
        if not self.steps:
            self.finished.set()
            raise TransportError("the script is over")
        return self.steps.pop(0)(request)

    async def close(self) -> None:
        pass


def pod(name: str, revision: int, *, uid: str = "", namespace: str = "default", **metadata: Any) -> dict[str, Any]:
    meta = {"name": name, "namespace": namespace, "uid": uid or f"uid-{name}", "resourceVersion": str(revision)}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": meta | metadata, "spec": {"containers": [{"name": "c"}]}}


def answer(body: Any, status: int = 200) -> Step:
    return lambda request: Response(status, Headers({"content-type": "application/json"}), msgspec.json.encode(body))


def listing(revision: int, *items: Any, more: str = "") -> Step:
    meta = {"resourceVersion": str(revision)} | ({"continue": more} if more else {})
    return answer({"kind": "PodList", "apiVersion": "v1", "metadata": meta, "items": list(items)})


def failure(code: int, reason: str, message: str = "") -> Step:
    return answer(status_object(code, reason, message), code)


def status_object(code: int, reason: str, message: str = "") -> dict[str, Any]:
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": message or reason,
        "reason": reason,
        "code": code,
    }


def watching(*events: tuple[str, Any], then: Exception | None = None, cut: int = 0, after: float = 0.0) -> Step:
    """A watch that sends `events` in chunks of `cut` bytes (0: one each), waits, then ends or breaks with `then`."""

    async def body() -> Any:
        data = b"".join(msgspec.json.encode({"type": type_, "object": obj}) + b"\n" for type_, obj in events)
        size = cut or len(data) or 1
        for start in range(0, len(data), size):
            yield data[start : start + size]
        await asyncio.sleep(after)
        if then is not None:
            raise then

    def step(request: Request) -> Response:
        assert request.query.first("watch") == "true"
        assert request.stream
        return Response(200, Headers(), body())

    return step


def unreachable(request: Request) -> Response:
    raise TransportError("connection refused")
