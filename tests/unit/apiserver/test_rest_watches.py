"""Watches: what they begin with, what they tell, how they end."""

import asyncio

import pytest

from apimachinery.kinds.pod import KIND as POD
from apiserver.cacher import resource, watcher
from apiserver.handlers.watch import INITIAL_EVENTS_END

TABLE = {"accept": "application/json;as=Table;v=v1;g=meta.k8s.io"}


async def test_without_a_revision_it_begins_with_what_is_there(client):
    for name in ("b", "a"):
        await client.post(client.CONFIG_MAPS, client.config_map(name))
    for query in ({}, {"resourceVersion": "0"}):
        async with client.watch(client.CONFIG_MAPS, **query) as watch:
            assert await watch.names(2) == [("ADDED", "a"), ("ADDED", "b")]
            await watch.silent()


async def test_from_a_revision_it_tells_only_what_follows(client):
    made = await client.post(client.CONFIG_MAPS, client.config_map("a"))
    async with client.watch(client.CONFIG_MAPS, resourceVersion=made["metadata"]["resourceVersion"]) as watch:
        changed = await client.patch(client.CONFIG_MAPS + "/a", {"data": {"x": "y"}})
        await client.post(client.CONFIG_MAPS, client.config_map("b"))
        await client.delete(client.CONFIG_MAPS + "/a")
        assert await watch.next() == ("MODIFIED", changed)
        kind, obj = await watch.next()
        assert (kind, obj["metadata"]["name"]) == ("ADDED", "b")
        kind, last = await watch.next()
        assert (kind, last["data"]) == ("DELETED", {"x": "y"})
        assert int(last["metadata"]["resourceVersion"]) > int(changed["metadata"]["resourceVersion"])


async def test_list_then_watch_misses_and_repeats_nothing(client):
    async def write():
        for i in range(100):
            await client.post(client.CONFIG_MAPS, client.config_map(f"c{i:03}"))

    writing = asyncio.ensure_future(write())
    for _ in range(30):
        await asyncio.sleep(0)
    listing = await client.get(client.CONFIG_MAPS)
    seen = [item["metadata"]["name"] for item in listing["items"]]
    async with client.watch(client.CONFIG_MAPS, resourceVersion=listing["metadata"]["resourceVersion"]) as watch:
        seen += [name for _, name in await watch.names(100 - len(seen))]
        await writing
        await watch.silent()
    assert seen == [f"c{i:03}" for i in range(100)]


async def test_watch_list_ends_its_beginning_with_a_bookmark(client):
    await client.post(client.CONFIG_MAPS, client.config_map("a"))
    query = {"sendInitialEvents": "true", "resourceVersionMatch": "NotOlderThan", "allowWatchBookmarks": "true"}
    async with client.watch(client.CONFIG_MAPS, **query) as watch:
        assert await watch.names(1) == [("ADDED", "a")]
        kind, bookmark = await watch.next()
        assert (kind, bookmark["kind"]) == ("BOOKMARK", "ConfigMap")
        assert bookmark["metadata"]["annotations"] == {INITIAL_EVENTS_END: "true"}
        assert int(bookmark["metadata"]["resourceVersion"]) > 1
        await client.post(client.CONFIG_MAPS, client.config_map("b"))
        assert await watch.names(1) == [("ADDED", "b")]
    async with client.watch("/api/v1/secrets", **query) as watch:
        assert (await watch.next())[0] == "BOOKMARK"


async def test_the_bookmark_behind_the_beginning_covers_nothing_that_is_still_to_come(client):
    query = {"sendInitialEvents": "true", "resourceVersionMatch": "NotOlderThan", "allowWatchBookmarks": "true"}
    async with client.watch(client.CONFIG_MAPS, **query) as watch:
        # The watch is open, and nobody has read from it yet.
        made = await client.post(client.CONFIG_MAPS, client.config_map("late"))
        await client.get(client.CONFIG_MAPS)
        kind, bookmark = await watch.next()
        assert kind == "BOOKMARK"
        assert int(bookmark["metadata"]["resourceVersion"]) < int(made["metadata"]["resourceVersion"])
        assert await watch.next() == ("ADDED", made)


def test_a_watch_from_another_life_of_the_store_is_refused(virtually):
    async def scenario(client):
        answer = await client.send("GET", client.CONFIG_MAPS, watch="true", resourceVersion="1000")
        assert (answer.status, answer.json["details"]["causes"][0]["reason"]) == (504, "ResourceVersionTooLarge")

    virtually(scenario)


async def test_without_initial_events_it_begins_now(client):
    await client.post(client.CONFIG_MAPS, client.config_map("a"))
    query = {"sendInitialEvents": "false", "resourceVersionMatch": "NotOlderThan"}
    async with client.watch(client.CONFIG_MAPS, **query) as watch:
        await watch.silent()


async def test_leaving_a_selector_is_deleted_and_entering_it_added(client):
    async with client.watch(client.CONFIG_MAPS, labelSelector="on=yes") as watch:
        await client.post(client.CONFIG_MAPS, client.config_map("a", labels={"on": "no"}))
        await client.patch(client.CONFIG_MAPS + "/a", {"metadata": {"labels": {"on": "yes"}}})
        entered = await watch.next()
        assert (entered[0], entered[1]["metadata"]["labels"]) == ("ADDED", {"on": "yes"})
        await client.patch(client.CONFIG_MAPS + "/a", {"data": {"x": "1"}})
        assert (await watch.next())[0] == "MODIFIED"
        left = await client.patch(client.CONFIG_MAPS + "/a", {"metadata": {"labels": {"on": None}}, "data": {"x": "2"}})
        kind, obj = await watch.next()
        assert (kind, obj["metadata"]["labels"], obj["data"]) == ("DELETED", {"on": "yes"}, {"x": "1"})
        assert obj["metadata"]["resourceVersion"] == left["metadata"]["resourceVersion"]
        await client.delete(client.CONFIG_MAPS + "/a")
        await watch.silent()


async def test_a_node_watches_its_pods(client):
    async with client.watch("/api/v1/pods", fieldSelector="spec.nodeName=n1") as watch:
        for name, node in (("a", "n1"), ("b", "n2"), ("c", "n1")):
            await client.post(client.PODS, client.pod(name))
            await client.bind(name, node)
        assert await watch.names(2) == [("ADDED", "a"), ("ADDED", "c")]
        await client.patch(client.PODS + "/b/status", {"status": {"phase": "Running"}})
        await client.patch(client.PODS + "/a/status", {"status": {"phase": "Running"}})
        assert await watch.names(1) == [("MODIFIED", "a")]


async def test_one_object_by_name(client):
    await client.post(client.CONFIG_MAPS, client.config_map("a"))
    async with client.watch(client.CONFIG_MAPS, fieldSelector="metadata.name=a", resourceVersion="0") as watch:
        await client.post(client.CONFIG_MAPS, client.config_map("ab"))
        await client.delete(client.CONFIG_MAPS + "/a")
        assert await watch.names(2) == [("ADDED", "a"), ("DELETED", "a")]
    response = await client.raw("GET", "/api/v1/watch/namespaces/default/configmaps")
    await client.post(client.CONFIG_MAPS, client.config_map("c"))
    assert b'"ADDED"' in await anext(response.body)
    await response.body.aclose()


async def test_tables_name_their_columns_once(client):
    await client.post(client.PODS, client.pod("a"))
    async with client.watch(client.PODS, headers=TABLE) as watch:
        kind, first = await watch.next()
        assert (kind, first["kind"], first["rows"][0]["cells"][0]) == ("ADDED", "Table", "a")
        assert first["columnDefinitions"]
        await client.delete(client.PODS + "/a")
        kind, second = await watch.next()
        assert (kind, second["rows"][0]["cells"][0], second["columnDefinitions"]) == ("DELETED", "a", None)


def test_bookmarks_and_the_end_come_by_the_clock(virtually):
    async def scenario(client):
        loop = asyncio.get_running_loop()
        begin = loop.time()
        async with client.watch(client.CONFIG_MAPS, allowWatchBookmarks="true", timeoutSeconds="150") as watch:
            seen = []
            while (event := await _patient(watch)) is not None:
                seen.append((event[0], loop.time() - begin))
        assert [kind for kind, _ in seen] == ["BOOKMARK"] * 3
        assert [round(seconds) for _, seconds in seen] == [60, 120, 150]
        async with client.watch(client.CONFIG_MAPS, timeoutSeconds="5") as watch:
            assert await _patient(watch) is None
        begin = loop.time()
        async with client.watch(client.CONFIG_MAPS) as watch:
            assert await _patient(watch) is None
        assert 1800 <= loop.time() - begin <= 3600

    virtually(scenario)


async def _patient(watch):
    try:
        line = await anext(watch._body)
    except StopAsyncIteration:
        return None
    return (line.split(b'"')[3].decode(),)


async def test_bookmarks_know_what_other_kinds_have_written(client):
    await client.post(client.CONFIG_MAPS, client.config_map("a"))
    await client.post(client.PODS, client.pod("a"))
    query = {"sendInitialEvents": "true", "resourceVersionMatch": "NotOlderThan", "allowWatchBookmarks": "true"}
    newest = (await client.get(client.PODS))["metadata"]["resourceVersion"]
    async with client.watch("/api/v1/secrets", **query) as watch:
        assert (await watch.next())[1]["metadata"]["resourceVersion"] == newest


async def test_too_far_back_is_an_expired_event(client, monkeypatch):
    monkeypatch.setattr(resource, "RING_EVENTS", 8)
    made = await client.post(client.CONFIG_MAPS, client.config_map("a"))
    for i in range(20):
        await client.patch(client.CONFIG_MAPS + "/a", {"data": {"x": str(i)}})
    async with client.watch(client.CONFIG_MAPS, resourceVersion=made["metadata"]["resourceVersion"]) as watch:
        kind, status = await watch.next()
        assert (kind, status["code"], status["reason"]) == ("ERROR", 410, "Expired")
        assert await watch.next() is None


async def test_a_slow_watch_is_closed(client, monkeypatch):
    monkeypatch.setattr(watcher, "QUEUE_LIMIT", 10)
    async with client.watch(client.CONFIG_MAPS) as watch:
        first = asyncio.ensure_future(watch.next())
        await asyncio.sleep(0)
        await asyncio.gather(*(client.post(client.CONFIG_MAPS, client.config_map(f"c{i:02}")) for i in range(30)))
        assert (await first)[0] == "ADDED"
        seen = 1
        while await watch.next() is not None:
            seen += 1
        assert 1 <= seen < 30


async def test_stopping_the_server_ends_watches(client, app):
    async with client.watch(client.CONFIG_MAPS) as watch:
        waiting = asyncio.ensure_future(watch.next())
        await asyncio.sleep(0)
        app.stop()
        assert await waiting is None


@pytest.mark.parametrize(
    "query",
    [
        {"sendInitialEvents": "true"},
        {"sendInitialEvents": "true", "resourceVersionMatch": "Exact"},
        {"resourceVersionMatch": "NotOlderThan"},
        {"continue": "x"},
    ],
)
async def test_watches_that_contradict_themselves(client, query):
    answer = await client.send("GET", client.CONFIG_MAPS, watch="true", **query)
    assert (answer.status, answer.reason) == (422, "Invalid")


async def test_a_client_that_leaves_leaves_nothing_behind(client, app):
    cache = app._cacher.of(POD)
    for started in (False, True):
        for query in ({}, {"fieldSelector": "spec.nodeName=n1"}):
            response = await client.raw("GET", client.PODS, watch="true", **query)
            assert len(cache._watchers) + len(cache._by_value) == 1
            if started:
                waiting = asyncio.ensure_future(anext(response.body))
                await asyncio.sleep(0)
                waiting.cancel()
                await asyncio.gather(waiting, return_exceptions=True)
            await response.body.aclose()
            assert not cache._watchers and not cache._by_value
