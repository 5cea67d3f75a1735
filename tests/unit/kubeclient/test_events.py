"""The event recorder: names, counts, limits, and patience with an absent server."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec

from apimachinery.kinds.pod import Pod
from apimachinery.meta import ObjectMeta, ObjectReference
from componentbase.clock import VirtualClock, run_virtual, virtual_clock
from componentbase.http import Request, Response
from kubeclient.events import EventRecorder
from kubeclient.rest import Client
from kubeclient.transport import TransportError
from tests.unit.kubeclient import scripted

POD = Pod(metadata=ObjectMeta(name="web", namespace="shop", uid="u1", resourceVersion="5"))


class Echo:
    """Accepts every write; `refuse` decides about each first."""

    def __init__(self, refuse: Callable[[int, Request], Response | None] = lambda number, request: None) -> None:
        self.refuse = refuse
        self.requests: list[Request] = []

    async def request(self, request: Request) -> Response:
        self.requests.append(request)
        answer = self.refuse(len(self.requests), request)
        if answer is not None:
            return answer
        body = msgspec.json.decode(request.body)
        return scripted.answer(body | {"apiVersion": "v1", "kind": "Event"})(request)

    async def close(self) -> None:
        pass

    def sent(self) -> list[tuple[str, str, Any]]:
        return [(each.method, each.path, msgspec.json.decode(each.body)) for each in self.requests]


def record(
    script: Callable[[EventRecorder, VirtualClock], Any], echo: Echo | None = None, **options: Any
) -> tuple[Echo, EventRecorder]:
    echo = echo or Echo()

    async def main() -> EventRecorder:
        clock = virtual_clock()
        recorder = EventRecorder(Client(echo), clock, "tester", "host-1", **options)
        task = asyncio.ensure_future(recorder.run())
        await script(recorder, clock)
        await clock.sleep(600)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return recorder

    return echo, run_virtual(main())


def test_an_event_says_who_what_when() -> None:
    async def script(recorder: EventRecorder, clock: VirtualClock) -> None:
        recorder.event(POD, "Normal", "Scheduled", "Successfully assigned shop/web to n1")

    echo, _ = record(script)
    [(method, path, body)] = echo.sent()
    assert (method, path) == ("POST", "/api/v1/namespaces/shop/events")
    name, _, digest = body["metadata"]["name"].rpartition(".")
    assert name == "web"
    assert int(digest, 16) >= 0
    assert body["involvedObject"] == {
        "apiVersion": "v1", "kind": "Pod", "namespace": "shop", "name": "web", "uid": "u1", "resourceVersion": "5",
    }  # fmt: skip
    assert (body["type"], body["reason"], body["count"]) == ("Normal", "Scheduled", 1)
    assert body["source"] == {"component": "tester", "host": "host-1"}
    assert body["reportingComponent"] == "tester"
    assert body["firstTimestamp"] == body["lastTimestamp"] == "2025-01-01T00:00:00Z"


def test_repeats_become_a_count_on_the_same_event() -> None:
    async def script(recorder: EventRecorder, clock: VirtualClock) -> None:
        for _ in range(3):
            recorder.event(POD, "Warning", "BackOff", "again")
            await clock.sleep(10)
        recorder.event(POD, "Warning", "BackOff", "again")
        recorder.event(POD, "Warning", "BackOff", "again")
        recorder.event(POD, "Warning", "BackOff", "something else")

    echo, _ = record(script)
    sent = echo.sent()
    assert [each[0] for each in sent] == ["POST", "PATCH", "PATCH", "PATCH", "POST"]
    name = sent[0][2]["metadata"]["name"]
    assert all(each[1] == f"/api/v1/namespaces/shop/events/{name}" for each in sent[1:4])
    assert sent[2][2] == {"count": 3, "lastTimestamp": "2025-01-01T00:00:20Z"}
    assert sent[3][2] == {"count": 5, "lastTimestamp": "2025-01-01T00:00:30Z"}
    assert sent[4][2]["metadata"]["name"] != name


def test_an_event_that_has_expired_is_made_anew() -> None:
    def gone(number: int, request: Request) -> Response | None:
        return scripted.failure(404, "NotFound")(request) if request.method == "PATCH" else None

    async def script(recorder: EventRecorder, clock: VirtualClock) -> None:
        recorder.event(POD, "Normal", "R", "m")
        await clock.sleep(4000)
        recorder.event(POD, "Normal", "R", "m")

    echo, _ = record(script, Echo(gone))
    assert [each[0] for each in echo.sent()] == ["POST", "PATCH", "POST"]


def test_events_wait_for_a_server_that_is_away_and_a_refused_one_is_dropped() -> None:
    def away(number: int, request: Request) -> Response | None:
        if number <= 4:
            raise TransportError("refused")
        return scripted.failure(403, "Forbidden")(request) if number == 5 else None

    async def script(recorder: EventRecorder, clock: VirtualClock) -> None:
        recorder.event(POD, "Normal", "First", "m")
        recorder.event(POD, "Normal", "Second", "m")

    echo, recorder = record(script, Echo(away), senders=1)
    assert [each[2]["reason"] for each in echo.sent()] == ["First"] * 5 + ["Second"]
    assert recorder.dropped == 1


def test_a_full_queue_drops_the_oldest() -> None:
    async def script(recorder: EventRecorder, clock: VirtualClock) -> None:
        for number in range(6):
            recorder.event(POD, "Normal", f"R{number}", "m")

    echo, recorder = record(script, limit=4)
    assert [each[2]["reason"] for each in echo.sent()] == ["R2", "R3", "R4", "R5"]
    assert recorder.dropped == 2


def test_one_object_cannot_flood() -> None:
    async def script(recorder: EventRecorder, clock: VirtualClock) -> None:
        for number in range(100):
            recorder.event(POD, "Normal", "R", f"message {number}")
        recorder.event(ObjectReference(kind="Node", name="n1", apiVersion="v1"), "Normal", "Fine", "m")

    echo, _ = record(script)
    sent = echo.sent()
    assert len(sent) == 26
    assert sent[-1][1] == "/api/v1/namespaces/default/events"


def test_a_burst_is_sent_side_by_side_but_never_the_same_event_twice() -> None:
    under_way: list[str] = []
    most = 0

    class Slow(Echo):
        async def request(self, request: Request) -> Response:
            nonlocal most
            body = msgspec.json.decode(request.body)
            what = body.get("involvedObject", {}).get("name") or request.path.rpartition("/")[2].partition(".")[0]
            assert what not in under_way
            under_way.append(what)
            most = max(most, len(under_way))
            await asyncio.sleep(1)
            under_way.remove(what)
            return await super().request(request)

    async def script(recorder: EventRecorder, clock: VirtualClock) -> None:
        for _ in range(3):
            for number in range(20):
                about = ObjectReference(kind="Pod", namespace="shop", name=f"p{number}", apiVersion="v1")
                recorder.event(about, "Normal", "R", "m")
            await clock.sleep(0.5)

    echo, _ = record(script, Slow())
    assert most == 8
    counts: dict[str, int] = {}
    for method, path, body in echo.sent():
        name = body["metadata"]["name"] if method == "POST" else path.rpartition("/")[2]
        counts[name] = body["count"]
    assert list(counts.values()) == [3] * 20


def test_names_come_from_the_seed() -> None:
    async def script(recorder: EventRecorder, clock: VirtualClock) -> None:
        recorder.event(POD, "Normal", "A", "m")
        recorder.event(POD, "Normal", "B", "m")

    def names(**options: Any) -> list[str]:
        return [each[2]["metadata"]["name"] for each in record(script, **options)[0].sent()]

    assert names(seed=1) == names(seed=1)
    assert len({*names(seed=1), *names(seed=2)}) == 4
