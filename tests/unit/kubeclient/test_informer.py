"""The informer against a scripted server: nothing lost, nothing repeated, whatever breaks."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from apimachinery.kinds.pod import Pod
from componentbase.clock import VirtualClock, run_virtual, virtual_clock
from kubeclient.informer import Informer
from kubeclient.rest import Client
from kubeclient.transport import TransportError
from tests.unit.kubeclient import scripted

pod, listing, watching, failure = scripted.pod, scripted.listing, scripted.watching, scripted.failure


def follow(*steps: Any, **options: Any) -> tuple[list[str], Informer[Pod], Any, float]:
    """Play the script to an informer: what its handler heard, the informer, the transport, the seconds it took."""

    async def main() -> tuple[list[str], Informer[Pod], Any, float]:
        transport = scripted.ScriptedTransport(*steps)
        clock: VirtualClock = virtual_clock()
        informer = Informer(Client(transport), Pod, clock, **options)
        heard: list[str] = []

        def note(text: str, obj: Pod) -> None:
            heard.append(f"{text} {obj.metadata.name}@{obj.metadata.resourceVersion}")

        informer.add_handler(
            lambda obj: note("add", obj), lambda old, new: note("update", new), lambda obj: note("delete", obj)
        )
        task = asyncio.ensure_future(informer.run())
        await transport.finished.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return heard, informer, transport, clock.monotonic()

    return run_virtual(main())


def test_lists_then_watches_from_the_revision_of_the_list() -> None:
    heard, informer, transport, _ = follow(
        listing(10, pod("a", 3), pod("b", 7)),
        watching(("ADDED", pod("c", 11)), ("MODIFIED", pod("a", 12)), ("DELETED", pod("b", 13))),
    )
    assert heard == ["add a@3", "add b@7", "add c@11", "update a@12", "delete b@13"]
    assert sorted(informer.items) == ["default/a", "default/c"]
    assert informer.synced.is_set()
    assert informer.get("a", "default") is informer.items["default/a"]
    watch = transport.requests[1]
    assert watch.path == "/api/v1/pods"
    assert watch.query.first("resourceVersion") == "10"
    assert watch.query.first("allowWatchBookmarks") == "true"
    assert 300 <= int(watch.query.first("timeoutSeconds")) <= 600


def test_selectors_and_namespace_reach_both_requests() -> None:
    _, _, transport, _ = follow(listing(1), watching(), namespace="ns", fields="spec.nodeName=n", labels="a=b")
    for request in transport.requests[:2]:
        assert request.path == "/api/v1/namespaces/ns/pods"
        assert request.query.first("fieldSelector") == "spec.nodeName=n"
        assert request.query.first("labelSelector") == "a=b"


def test_a_broken_watch_goes_on_from_the_last_event() -> None:
    heard, _, transport, _ = follow(
        listing(10),
        watching(("ADDED", pod("a", 11)), ("ADDED", pod("b", 14)), then=TransportError("reset")),
        scripted.unreachable,
        watching(("ADDED", pod("c", 15))),
    )
    assert heard == ["add a@11", "add b@14", "add c@15"]
    asked = [request.query.first("resourceVersion") for request in transport.requests[1:4]]
    assert asked == ["10", "14", "14"]


def test_a_bookmark_moves_the_revision_and_tells_nobody() -> None:
    bookmark = {"kind": "Pod", "apiVersion": "v1", "metadata": {"resourceVersion": "99", "creationTimestamp": None}}
    heard, informer, transport, _ = follow(listing(10), watching(("BOOKMARK", bookmark)), watching())
    assert heard == []
    assert informer.items == {}
    assert transport.requests[2].query.first("resourceVersion") == "99"


@pytest.mark.parametrize("how", ["event", "answer"])
def test_an_expired_revision_lists_again_and_tells_the_differences(how: str) -> None:
    expired = scripted.status_object(410, "Expired", "too old resource version: 10 (20)")
    gone = watching(("ERROR", expired)) if how == "event" else failure(410, "Expired")
    heard, informer, _, _ = follow(
        listing(10, pod("same", 1), pod("changed", 2), pod("gone", 3), pod("reborn", 4, uid="old")),
        gone,
        listing(30, pod("same", 1), pod("changed", 21), pod("reborn", 22, uid="new"), pod("fresh", 23)),
        watching(),
    )
    assert heard[:4] == ["add same@1", "add changed@2", "add gone@3", "add reborn@4"]
    assert heard[4:] == ["delete gone@3", "update changed@21", "delete reborn@4", "add reborn@22", "add fresh@23"]
    assert informer.revision == "30"


def test_an_event_that_is_repeated_is_told_once() -> None:
    heard, _, _, _ = follow(listing(10, pod("a", 5)), watching(("ADDED", pod("a", 5)), ("DELETED", pod("x", 11))))
    assert heard == ["add a@5"]


def test_events_survive_any_cutting_into_chunks() -> None:
    events = [("ADDED", pod(f"p{n}", 20 + n)) for n in range(5)]
    for cut in (1, 7, 64, 1000):
        heard, _, _, _ = follow(listing(10), watching(*events, cut=cut))
        assert heard == [f"add p{n}@{20 + n}" for n in range(5)]


def test_a_watch_cut_in_the_middle_of_an_event_is_resumed_before_it() -> None:
    def cut_off(request: Any) -> Any:
        response = watching(("ADDED", pod("a", 11)))(request)
        whole = response.body

        async def half() -> Any:
            async for chunk in whole:
                yield chunk + b'{"type":"ADDED","obj'

        response.body = half()
        return response

    heard, _, transport, _ = follow(listing(10), cut_off, watching(("ADDED", pod("b", 12))))
    assert heard == ["add a@11", "add b@12"]
    assert transport.requests[2].query.first("resourceVersion") == "11"


def test_an_answer_that_is_no_list_is_tried_again() -> None:
    nonsense = scripted.answer(["not", "a", "list"])
    heard, _, _, _ = follow(nonsense, listing(10, pod("a", 5)), watching())
    assert heard == ["add a@5"]


def test_it_never_gives_up_and_never_spins() -> None:
    """Fifty refusals: each is waited out, none longer than a second and a half."""
    _, informer, transport, seconds = follow(*[scripted.unreachable] * 50, listing(10, pod("a", 5)), watching())
    assert "default/a" in informer.items
    assert len(transport.requests) >= 52
    assert 20 < seconds < 53 * 1.5


def test_watches_that_end_at_once_back_off() -> None:
    _, _, _, seconds = follow(listing(10), *[watching() for _ in range(20)])
    assert seconds > 10


def test_a_quiet_watch_that_ends_in_time_is_opened_again_without_delay() -> None:
    _, _, transport, seconds = follow(listing(10), watching(after=300), watching(after=300))
    assert 600 <= seconds < 601
    assert [request.query.first("watch") for request in transport.requests[:4]] == ["", "true", "true", "true"]


def test_a_watch_that_never_ends_is_taken_for_dead() -> None:
    heard, _, _, seconds = follow(listing(10), watching(after=1e6), watching(("ADDED", pod("a", 11))))
    assert heard == ["add a@11"]
    assert seconds < 700


def test_the_delays_come_from_the_seed() -> None:
    steps = [scripted.unreachable] * 8
    first, again, other = (follow(*steps, seed=seed)[3] for seed in (1, 1, 2))
    assert first == again != other


def test_a_failing_handler_does_not_stop_the_stream(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> list[str]:
        transport = scripted.ScriptedTransport(listing(10, pod("a", 3)), watching(("ADDED", pod("b", 11))))
        informer = Informer(Client(transport), Pod, virtual_clock())
        heard: list[str] = []

        def broken(obj: Pod) -> None:
            raise RuntimeError("no")

        informer.add_handler(broken)
        informer.add_handler(lambda obj: heard.append(obj.metadata.name))
        task = asyncio.ensure_future(informer.run())
        await transport.finished.wait()
        task.cancel()
        informer.add_handler(lambda obj: heard.append(f"late {obj.metadata.name}"))
        return heard

    assert run_virtual(main()) == ["a", "b", "late a", "late b"]
    assert "handler of Pod failed for default/a" in caplog.text


def test_a_refusal_is_logged_once_and_so_is_the_recovery(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    follow(*[failure(403, "Forbidden", "no pods for you")] * 5, listing(10), watching(after=100))
    assert caplog.text.count("no pods for you") == 1
    assert caplog.text.count("following Pod again") == 1
