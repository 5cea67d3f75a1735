"""Lists: order, selectors, paging, revisions, tables."""

import gzip
import json

import pytest

from apiserver.cacher import cacher

TABLE = (
    "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json"
)


def names(listing):
    return [item["metadata"]["name"] for item in listing["items"]]


async def fill(client, count):
    for i in range(count):
        await client.post(client.CONFIG_MAPS, client.config_map(f"c{i}", labels={"parity": str(i % 2)}))


async def test_a_list_has_kind_revision_and_order(client):
    await client.post("/api/v1/namespaces", {"metadata": {"name": "aaa"}})
    await client.post(client.CONFIG_MAPS, client.config_map("b"))
    await client.post(client.CONFIG_MAPS, client.config_map("a.b"))
    await client.post("/api/v1/namespaces/aaa/configmaps", client.config_map("z"))
    listing = await client.get("/api/v1/configmaps")
    assert (listing["kind"], listing["apiVersion"], names(listing)) == ("ConfigMapList", "v1", ["z", "a.b", "b"])
    assert int(listing["metadata"]["resourceVersion"]) >= max(
        int(item["metadata"]["resourceVersion"]) for item in listing["items"]
    )
    assert names(await client.get(client.CONFIG_MAPS)) == ["a.b", "b"]
    empty = await client.get("/api/v1/namespaces/nowhere/pods")
    assert empty["items"] == [] and int(empty["metadata"]["resourceVersion"]) > 1


async def test_selectors(client):
    await fill(client, 4)
    assert names(await client.get(client.CONFIG_MAPS, labelSelector="parity=1")) == ["c1", "c3"]
    assert names(await client.get(client.CONFIG_MAPS, labelSelector="parity!=1")) == ["c0", "c2"]
    assert names(await client.get(client.CONFIG_MAPS, labelSelector="parity in (0,1),!x")) == ["c0", "c1", "c2", "c3"]
    assert names(await client.get(client.CONFIG_MAPS, fieldSelector="metadata.name=c2,")) == ["c2"]
    assert names(await client.get("/api/v1/configmaps", fieldSelector="metadata.name=c2")) == ["c2"]
    assert names(await client.get(client.CONFIG_MAPS, fieldSelector="metadata.name!=c2")) == ["c0", "c1", "c3"]
    for query, text in [
        ({"fieldSelector": "spec.x=1"}, 'field label "spec.x" not supported'),
        ({"labelSelector": "a=="}, ""),
    ]:
        answer = await client.send("GET", client.CONFIG_MAPS, **query)
        if text:
            assert (answer.status, text in answer.message) == (400, True)
    assert (await client.send("GET", client.CONFIG_MAPS, labelSelector="(")).status == 400


async def test_pods_by_node_and_phase(client):
    for name in ("a", "b"):
        await client.post(client.PODS, client.pod(name))
    await client.bind("a")
    query = "spec.nodeName=n1,status.phase!=Succeeded,status.phase!=Failed"
    assert names(await client.get("/api/v1/pods", fieldSelector=query)) == ["a"]
    assert names(await client.get("/api/v1/pods", fieldSelector="spec.nodeName=")) == ["b"]


async def test_pages_show_one_moment(client):
    await fill(client, 5)
    first = await client.get(client.CONFIG_MAPS, limit=2)
    assert (names(first), first["metadata"]["remainingItemCount"]) == (["c0", "c1"], 3)
    await client.delete(client.CONFIG_MAPS + "/c2")
    await client.post(client.CONFIG_MAPS, client.config_map("c22"))
    second = await client.get(client.CONFIG_MAPS, limit=2, **{"continue": first["metadata"]["continue"]})
    assert (names(second), second["metadata"]["remainingItemCount"]) == (["c2", "c3"], 1)
    assert second["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]
    third = await client.get(client.CONFIG_MAPS, limit=2, **{"continue": second["metadata"]["continue"]})
    assert names(third) == ["c4"]
    assert "continue" not in third["metadata"] and "remainingItemCount" not in third["metadata"]


@pytest.mark.parametrize("changed", [False, True])
async def test_pages_with_a_selector_are_full_and_count_nothing(client, changed):
    await fill(client, 7)
    page = await client.get(client.CONFIG_MAPS, limit=2, labelSelector="parity=0")
    if changed:
        await client.post(client.CONFIG_MAPS, client.config_map("zz"))
    seen = []
    while True:
        seen.append(names(page))
        assert "remainingItemCount" not in page["metadata"]
        token = page["metadata"].get("continue")
        if not token:
            break
        page = await client.get(client.CONFIG_MAPS, limit=2, labelSelector="parity=0", **{"continue": token})
    assert seen == [["c0", "c2"], ["c4", "c6"]]


async def test_an_expired_token_offers_to_go_on(client, store):
    await fill(client, 4)
    first = await client.get(client.CONFIG_MAPS, limit=2)
    await client.delete(client.CONFIG_MAPS + "/c0")
    assert len(names(await client.get(client.CONFIG_MAPS))) == 3
    await store.compact(await store.current_revision())
    answer = await client.send("GET", client.CONFIG_MAPS, limit=2, **{"continue": first["metadata"]["continue"]})
    assert (answer.status, answer.reason) == (410, "Expired")
    rest = await client.get(client.CONFIG_MAPS, limit=1, **{"continue": answer.json["metadata"]["continue"]})
    assert names(rest) == ["c2"]
    rest = await client.get(client.CONFIG_MAPS, limit=1, **{"continue": rest["metadata"]["continue"]})
    assert names(rest) == ["c3"]


async def test_revisions_of_lists(client, store):
    await fill(client, 2)
    before = (await client.get(client.CONFIG_MAPS))["metadata"]["resourceVersion"]
    await client.post(client.CONFIG_MAPS, client.config_map("later"))
    exact = await client.get(client.CONFIG_MAPS, resourceVersion=before, resourceVersionMatch="Exact")
    assert (names(exact), exact["metadata"]["resourceVersion"]) == (["c0", "c1"], before)
    assert len(names(await client.get(client.CONFIG_MAPS, resourceVersion=before, limit=5))) == 2
    assert len(names(await client.get(client.CONFIG_MAPS))) == 3
    assert len(names(await client.get(client.CONFIG_MAPS, resourceVersion=before))) == 3
    assert len(names(await client.get(client.CONFIG_MAPS, resourceVersion="0"))) == 3
    query = {"resourceVersion": before, "resourceVersionMatch": "NotOlderThan"}
    assert len(names(await client.get(client.CONFIG_MAPS, **query))) == 3
    await store.compact(await store.current_revision())
    gone = await client.send("GET", client.CONFIG_MAPS, resourceVersion=before, resourceVersionMatch="Exact")
    assert (gone.status, gone.reason) == (410, "Expired")


def test_a_revision_of_the_future_is_waited_for_and_then_refused(virtually):
    async def scenario(client):
        for path in (client.CONFIG_MAPS, client.CONFIG_MAPS + "/a"):
            answer = await client.send("GET", path, resourceVersion="1000")
            assert (answer.status, answer.reason) == (504, "Timeout")
            assert answer.json["details"]["causes"][0]["reason"] == "ResourceVersionTooLarge"
            assert answer.json["details"]["retryAfterSeconds"] == 1
            assert answer.headers["retry-after"] == "1"

    virtually(scenario)


async def test_who_gives_up_waiting_leaves_nothing_behind(client, app, monkeypatch):
    monkeypatch.setattr(cacher, "FUTURE_SECONDS", 0.0)
    for revision in ("1000", "3000", "2000"):
        assert (await client.send("GET", client.CONFIG_MAPS, resourceVersion=revision)).status == 504
    assert app._cacher._waiting == []


async def test_a_negative_limit_is_none_and_stays_in_its_namespace(client):
    for name in ("aaa", "yyy", "zzz"):
        await client.post("/api/v1/namespaces", {"metadata": {"name": name}})
        await client.post(f"/api/v1/namespaces/{name}/secrets", {"metadata": {"name": "s"}})
    assert names(await client.get("/api/v1/namespaces/aaa/secrets", limit="-1")) == ["s"]
    await client.send("DELETE", "/api/v1/namespaces/aaa/secrets", limit="-1")
    assert names(await client.get("/api/v1/namespaces/aaa/secrets")) == []
    for name in ("yyy", "zzz"):
        assert names(await client.get(f"/api/v1/namespaces/{name}/secrets")) == ["s"]


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ({"resourceVersionMatch": "Exact"}, 422),
        ({"resourceVersionMatch": "Exact", "resourceVersion": "0"}, 422),
        ({"resourceVersionMatch": "Never", "resourceVersion": "5"}, 422),
        ({"sendInitialEvents": "true"}, 422),
        ({"resourceVersion": "x"}, 422),
        ({"resourceVersion": "9" * 5000}, 422),
        ({"limit": "x"}, 400),
        ({"continue": "nonsense"}, 400),
        ({"continue": "nonsense", "resourceVersion": "5"}, 400),
    ],
)
async def test_lists_that_contradict_themselves(client, query, status):
    answer = await client.send("GET", client.CONFIG_MAPS, **query)
    assert (answer.status, answer.json["kind"]) == (status, "Status")


async def test_tables(client):
    await client.post(client.PODS, client.pod("a"))
    answer = await client.send("GET", client.PODS, headers={"accept": TABLE}, limit=500)
    table = answer.expect(200)
    assert answer.headers["content-type"] == "application/json;as=Table;g=meta.k8s.io;v=v1"
    assert (table["kind"], table["apiVersion"]) == ("Table", "meta.k8s.io/v1")
    assert [column["name"] for column in table["columnDefinitions"]][:5] == [
        "Name",
        "Ready",
        "Status",
        "Restarts",
        "Age",
    ]
    assert table["rows"][0]["cells"][:3] == ["a", "0/1", "Pending"]
    assert table["rows"][0]["object"]["kind"] == "PartialObjectMetadata"
    assert int(table["metadata"]["resourceVersion"]) > 1
    one = (await client.send("GET", client.PODS + "/a", headers={"accept": TABLE}, includeObject="Object")).expect(200)
    assert one["rows"][0]["object"]["spec"]["containers"][0]["name"] == "main"
    bare = (await client.send("GET", client.PODS, headers={"accept": TABLE}, includeObject="None")).expect(200)
    assert "object" not in bare["rows"][0]
    assert (await client.send("GET", client.PODS, headers={"accept": TABLE}, includeObject="Some")).status == 400


async def test_what_cannot_be_accepted(client):
    for accept in (
        "application/vnd.kubernetes.protobuf",
        "text/html",
        "application/json;as=Nothing;v=v1;g=meta.k8s.io",
    ):
        answer = await client.send("GET", client.PODS, headers={"accept": accept})
        assert (answer.status, answer.reason) == (406, "NotAcceptable")
    for accept in ("", "*/*", "application/vnd.kubernetes.protobuf,application/json", "application/json, */*"):
        assert (await client.send("GET", client.PODS, headers={"accept": accept})).status == 200


async def test_long_lists_come_in_chunks_and_compressed(client):
    for i in range(40):
        await client.post(client.CONFIG_MAPS, client.config_map(f"c{i:02}", {"x": "y" * 10_000}))
    plain = await client.raw("GET", client.CONFIG_MAPS)
    chunks = [chunk async for chunk in plain.body]
    assert len(chunks) > 1
    small = await client.send("GET", client.CONFIG_MAPS, headers={"accept-encoding": "gzip"})
    assert small.headers["content-encoding"] == "gzip"
    assert gzip.decompress(small.body) == b"".join(chunks)
    assert len(json.loads(b"".join(chunks))["items"]) == 40


async def test_head_and_trailing_slash(client):
    assert (await client.send("GET", client.PODS + "/")).status == 200
    assert (await client.send("HEAD", client.PODS)).status == 200
