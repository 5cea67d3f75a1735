"""Deletion: grace, finalizers, preconditions, collections, namespaces; and binding, which deletion must not race."""

import asyncio

import pytest

from apimachinery.kinds.pod import KIND as POD
from apimachinery.kinds.pod import Pod, PodSpec
from apimachinery.meta import ObjectMeta
from apiserver.registry.strategy import Removal, plan_removal, strategy_for


async def test_most_kinds_go_at_once_and_answer_with_a_status(client):
    made = await client.post(client.CONFIG_MAPS, client.config_map("a"))
    done = await client.delete(client.CONFIG_MAPS + "/a")
    assert (done["kind"], done["status"]) == ("Status", "Success")
    assert done["details"] == {"name": "a", "kind": "configmaps", "uid": made["metadata"]["uid"]}
    again = await client.send("DELETE", client.CONFIG_MAPS + "/a")
    assert (again.status, again.message) == (404, 'configmaps "a" not found')


async def test_an_unscheduled_pod_goes_at_once(client):
    await client.post(client.PODS, client.pod("a"))
    last = await client.delete(client.PODS + "/a")
    assert (last["kind"], last["metadata"]["name"]) == ("Pod", "a")
    assert (await client.send("GET", client.PODS + "/a")).status == 404


def test_a_scheduled_pod_has_its_grace(virtually):
    async def scenario(client):
        await client.post(client.PODS, client.pod("a"))
        await client.bind("a")
        dying = await client.delete(client.PODS + "/a", {"propagationPolicy": "Background"})
        assert dying["metadata"]["deletionGracePeriodSeconds"] == 30
        assert dying["metadata"]["deletionTimestamp"] == "2025-01-01T00:00:30Z"
        assert await client.get(client.PODS + "/a") == dying
        assert await client.delete(client.PODS + "/a") == dying  # nothing new
        assert await client.delete(client.PODS + "/a", {"gracePeriodSeconds": 100}) == dying
        sooner = await client.delete(client.PODS + "/a", gracePeriodSeconds="5")
        assert sooner["metadata"]["deletionTimestamp"] == "2025-01-01T00:00:05Z"
        kept = await client.patch(client.PODS + "/a", {"metadata": {"deletionTimestamp": None, "labels": {"x": "y"}}})
        assert kept["metadata"]["deletionTimestamp"] == "2025-01-01T00:00:05Z"
        await client.delete(client.PODS + "/a", {"gracePeriodSeconds": 0})
        assert (await client.send("GET", client.PODS + "/a")).status == 404

    virtually(scenario)


async def test_a_finished_pod_goes_at_once(client):
    await client.post(client.PODS, client.pod("a"))
    await client.bind("a")
    await client.patch(client.PODS + "/a/status", {"status": {"phase": "Succeeded"}})
    await client.delete(client.PODS + "/a")
    assert (await client.send("GET", client.PODS + "/a")).status == 404


@pytest.mark.parametrize(
    ("spec", "phase", "asked", "plan", "grace"),
    [
        ({}, "Pending", None, Removal.REMOVE, 0),
        ({"nodeName": "n"}, "Running", None, Removal.MARK, 30),
        ({"nodeName": "n", "terminationGracePeriodSeconds": 7}, "Running", None, Removal.MARK, 7),
        ({"nodeName": "n", "terminationGracePeriodSeconds": 0}, "Running", None, Removal.REMOVE, 0),
        ({"nodeName": "n"}, "Running", 3, Removal.MARK, 3),
        ({"nodeName": "n"}, "Running", 0, Removal.REMOVE, 0),
        ({"nodeName": "n"}, "Running", -5, Removal.MARK, 1),
        ({"nodeName": "n"}, "Failed", 30, Removal.REMOVE, 0),
    ],
)
def test_what_a_delete_of_a_pod_comes_to(spec, phase, asked, plan, grace):
    pod = Pod(metadata=ObjectMeta(name="a"), spec=PodSpec(**spec))
    pod.status.phase = phase
    assert plan_removal(strategy_for(POD), pod, asked, 1_735_689_600.0) is plan
    assert pod.metadata.deletionGracePeriodSeconds == grace


async def test_finalizers_hold_until_the_last_is_gone(client):
    await client.post(client.CONFIG_MAPS, client.config_map("a", finalizers=["x.io/a", "x.io/b"]))
    async with client.watch(client.CONFIG_MAPS) as watch:
        assert (await watch.next())[0] == "ADDED"
        held = await client.delete(client.CONFIG_MAPS + "/a")
        assert held["metadata"]["deletionGracePeriodSeconds"] == 0 and held["metadata"]["deletionTimestamp"]
        assert await watch.next() == ("MODIFIED", held)
        more = {"metadata": {"finalizers": ["x.io/a", "x.io/b", "x.io/c"]}}
        headers = {"content-type": "application/merge-patch+json"}
        refused = await client.send("PATCH", client.CONFIG_MAPS + "/a", more, headers=headers)
        assert refused.status == 422 and "no new finalizers can be added" in refused.message
        await client.patch(client.CONFIG_MAPS + "/a", {"metadata": {"finalizers": ["x.io/b"]}})
        assert (await watch.next())[0] == "MODIFIED"
        last = await client.patch(client.CONFIG_MAPS + "/a", {"metadata": {"finalizers": None}})
        assert last["metadata"]["name"] == "a"
        assert (await watch.next())[0] == "DELETED"
    assert (await client.send("GET", client.CONFIG_MAPS + "/a")).status == 404


async def test_preconditions(client):
    made = await client.post(client.CONFIG_MAPS, client.config_map("a"))
    for wrong in ({"uid": "other"}, {"resourceVersion": "1"}):
        answer = await client.send("DELETE", client.CONFIG_MAPS + "/a", {"preconditions": wrong})
        assert (answer.status, answer.reason) == (409, "Conflict")
        assert "Precondition failed" in answer.message
    right = {"uid": made["metadata"]["uid"], "resourceVersion": made["metadata"]["resourceVersion"]}
    await client.delete(
        client.CONFIG_MAPS + "/a", {"kind": "DeleteOptions", "apiVersion": "v1", "preconditions": right}
    )


async def test_options_that_are_refused_or_warned_of(client):
    await client.post(client.CONFIG_MAPS, client.config_map("a"))
    path = client.CONFIG_MAPS + "/a"
    for options in (
        {"propagationPolicy": "Background", "orphanDependents": True},
        {"propagationPolicy": "Sometimes"},
        {"dryRun": ["Some"]},
    ):
        assert (await client.send("DELETE", path, options)).status == 422
    assert (await client.send("DELETE", path, gracePeriodSeconds="soon")).status == 400
    answer = await client.send("DELETE", path, {"propagationPolicy": "Foreground"})
    assert "nothing collects dependents yet" in answer.headers["warning"]


async def test_delete_collection(client):
    for i in range(4):
        await client.post(client.CONFIG_MAPS, client.config_map(f"c{i}", labels={"parity": str(i % 2)}))
    deleted = await client.delete(client.CONFIG_MAPS, labelSelector="parity=1")
    assert deleted["kind"] == "ConfigMapList"
    assert [item["metadata"]["name"] for item in deleted["items"]] == ["c1", "c3"]
    left = await client.get(client.CONFIG_MAPS)
    assert [item["metadata"]["name"] for item in left["items"]] == ["c0", "c2"]


async def test_binding(client):
    await client.post(client.PODS, client.pod("a"))
    done = await client.bind("a", "n1")
    assert (done["kind"], done["status"]) == ("Status", "Success")
    pod = await client.get(client.PODS + "/a")
    assert pod["spec"]["nodeName"] == "n1"
    assert [(each["type"], each["status"]) for each in pod["status"]["conditions"]] == [("PodScheduled", "True")]
    body = {"metadata": {"name": "a"}, "target": {"name": "n2"}}
    again = await client.send("POST", client.PODS + "/a/binding", body)
    assert (again.status, again.reason) == (409, "Conflict")
    assert 'pod a is already assigned to node "n1"' in again.message
    await client.delete(client.PODS + "/a", {"gracePeriodSeconds": 30})
    await client.post(client.PODS, client.pod("b", schedulingGates=[{"name": "x.io/wait"}]))
    gated = await client.send("POST", client.PODS + "/b/binding", {"target": {"name": "n1"}})
    assert gated.status == 409 and "schedulingGates" in gated.message
    collection = "/api/v1/namespaces/default/bindings"
    assert (await client.send("POST", collection, body)).status == 409
    assert (await client.send("POST", client.PODS + "/c/binding", {"target": {"name": "n1"}})).status == 404
    await client.post(client.PODS, client.pod("d"))
    assert (await client.send("POST", client.PODS + "/d/binding", {"target": {"kind": "Node"}})).status == 422
    assert (
        await client.send("POST", client.PODS + "/d/binding", {"target": {"kind": "Pod", "name": "x"}})
    ).status == 422
    wrong = {"metadata": {"uid": "other"}, "target": {"name": "n1"}}
    assert (await client.send("POST", client.PODS + "/d/binding", wrong)).status == 409


async def test_one_of_two_bindings_wins(client):
    await client.post(client.PODS, client.pod("a"))
    body = {"target": {"kind": "Node", "name": "n"}}
    answers = await asyncio.gather(*(client.send("POST", client.PODS + "/a/binding", body) for _ in range(5)))
    assert sorted(answer.status for answer in answers) == [201, 409, 409, 409, 409]


async def test_system_namespaces_and_accounts(client):
    listing = await client.get("/api/v1/namespaces")
    names = [item["metadata"]["name"] for item in listing["items"]]
    assert names == ["default", "kube-node-lease", "kube-public", "kube-system"]
    assert listing["items"][0]["metadata"]["labels"] == {"kubernetes.io/metadata.name": "default"}
    refused = await client.send("DELETE", "/api/v1/namespaces/default")
    assert (refused.status, refused.reason) == (403, "Forbidden")
    async with client.watch("/api/v1/serviceaccounts", fieldSelector="metadata.name=default") as watch:
        await client.post("/api/v1/namespaces", {"metadata": {"name": "new"}})
        while (await watch.next())[1]["metadata"]["namespace"] != "new":
            pass


async def test_nothing_is_made_where_there_is_no_namespace(client):
    answer = await client.send("POST", "/api/v1/namespaces/nowhere/configmaps", client.config_map("a"))
    assert (answer.status, answer.message) == (404, 'namespaces "nowhere" not found')


async def test_a_namespace_is_emptied_before_it_goes(client):
    await client.post("/api/v1/namespaces", {"metadata": {"name": "ns"}})
    pods = "/api/v1/namespaces/ns/pods"
    await client.post(pods, client.pod("a"))
    await client.post(pods + "/a/binding", {"target": {"name": "n1"}})
    await client.post("/api/v1/namespaces/ns/configmaps", client.config_map("c"))
    async with (
        client.watch("/api/v1/pods") as watching_pods,
        client.watch("/api/v1/namespaces", fieldSelector="metadata.name=ns") as watch,
    ):
        ending = await client.delete("/api/v1/namespaces/ns")
        assert (ending["status"]["phase"], ending["spec"]["finalizers"]) == ("Terminating", ["kubernetes"])
        refused = await client.send("POST", "/api/v1/namespaces/ns/configmaps", client.config_map("d"))
        assert (refused.status, refused.reason) == (403, "Forbidden")
        assert refused.json["details"]["causes"][0]["reason"] == "NamespaceTerminating"
        while not (await watching_pods.next())[1]["metadata"].get("deletionTimestamp"):
            pass
        assert (await client.send("GET", "/api/v1/namespaces/ns")).status == 200
        await client.delete(pods + "/a", {"gracePeriodSeconds": 0})
        while (await watch.next())[0] != "DELETED":
            pass
    assert (await client.send("GET", "/api/v1/namespaces/ns")).status == 404
    assert (await client.get("/api/v1/configmaps"))["items"] == []


async def test_finalize_writes_only_finalizers(client):
    made = await client.post("/api/v1/namespaces", {"metadata": {"name": "ns"}})
    made["spec"]["finalizers"] = ["kubernetes", "x.io/mine"]
    made["status"]["phase"] = "Terminating"
    done = await client.put("/api/v1/namespaces/ns/finalize", made)
    assert (done["spec"]["finalizers"], done["status"]["phase"]) == (["kubernetes", "x.io/mine"], "Active")


def test_events_grow_old(virtually):
    async def scenario(client):
        path = "/api/v1/namespaces/default/events"
        body = {"metadata": {"name": "e"}, "involvedObject": {"kind": "Pod", "namespace": "default", "name": "a"}}
        await client.post(path, body)
        await asyncio.sleep(1800)
        await client.patch(path + "/e", {"count": 2})
        await asyncio.sleep(1900)
        assert len((await client.get(path))["items"]) == 1
        await asyncio.sleep(1900)
        assert (await client.get(path))["items"] == []

    virtually(scenario)


def test_old_revisions_are_compacted(virtually):
    async def scenario(client):
        await client.post(client.CONFIG_MAPS, client.config_map("a"))
        old = (await client.get(client.CONFIG_MAPS))["metadata"]["resourceVersion"]
        await client.patch(client.CONFIG_MAPS + "/a", {"data": {"x": "y"}})
        query = {"resourceVersion": old, "resourceVersionMatch": "Exact"}
        await client.get(client.CONFIG_MAPS, **query)
        await asyncio.sleep(700)
        assert (await client.send("GET", client.CONFIG_MAPS, **query)).status == 410

    virtually(scenario)
