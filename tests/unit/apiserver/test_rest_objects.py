"""Create, get and update of objects through the handlers: metadata, identity, status, warnings, media types."""

import asyncio

import pytest


async def test_create_fills_in_what_the_system_says(client):
    body = client.config_map("a", {"k": "v"}, uid="mine", creationTimestamp="2001-01-01T00:00:00Z", generation=7)
    made = await client.post(client.CONFIG_MAPS, body)
    meta = made["metadata"]
    assert meta["namespace"] == "default"
    assert meta["uid"] not in ("", "mine")
    assert meta["creationTimestamp"] > "2020"
    assert int(meta["resourceVersion"]) > 1
    assert "generation" not in meta
    assert made["data"] == {"k": "v"}
    assert await client.get(client.CONFIG_MAPS + "/a") == made


def test_uids_and_names_come_from_the_seed(virtually):
    async def scenario(client):
        made = await client.post(client.CONFIG_MAPS, {"metadata": {"generateName": "web-"}})
        return made["metadata"]["name"], made["metadata"]["uid"], made["metadata"]["creationTimestamp"]

    first = virtually(scenario, seed=5)
    assert first == virtually(scenario, seed=5)
    assert first[:2] != virtually(scenario, seed=6)[:2]
    assert first[0].startswith("web-") and len(first[0]) == 9
    assert first[2] == "2025-01-01T00:00:00Z"


async def test_missing_kind_and_content_type_are_those_of_the_url(client):
    answer = await client.send("POST", client.CONFIG_MAPS, b'{"metadata":{"name":"a","creationTimestamp":null}}')
    assert answer.expect(201)["kind"] == "ConfigMap"


async def test_yaml_is_read(client):
    body = b"metadata:\n  name: a\ndata: {x: 'y'}\n"
    answer = await client.send("POST", client.CONFIG_MAPS, body, headers={"content-type": "application/yaml"})
    assert answer.expect(201)["data"] == {"x": "y"}


async def test_refusals_of_create(client):
    await client.post(client.CONFIG_MAPS, client.config_map("a"))
    cases = [
        (client.config_map("a"), 409, "AlreadyExists", 'configmaps "a" already exists'),
        (client.config_map("b", namespace="other"), 400, "BadRequest", "the namespace of the provided object"),
        (client.config_map("b", resourceVersion="7"), 400, "BadRequest", "resourceVersion should not be set"),
        (client.config_map("B!"), 422, "Invalid", 'metadata.name: Invalid value: "B!"'),
        (client.config_map(""), 422, "Invalid", "name or generateName is required"),
        ({"apiVersion": "v2", "metadata": {"name": "b"}}, 400, "BadRequest", "does not match the expected API version"),
        ({"kind": "Pod", "metadata": {"name": "b"}}, 400, "BadRequest", "kind"),
        ({"metadata": {"name": 7}}, 400, "BadRequest", "metadata.name"),
    ]
    for body, status, reason, text in cases:
        answer = await client.send("POST", client.CONFIG_MAPS, body)
        assert (answer.status, answer.reason) == (status, reason), answer.body
        assert text in answer.message


async def test_bodies_that_cannot_be_read(client):
    for body, media_type, status in [
        (b"k8s\0...", "application/vnd.kubernetes.protobuf", 415),
        (b"{", "application/json", 400),
        (b"", "application/json", 400),
        (b"a: [", "application/yaml", 400),
    ]:
        answer = await client.send("POST", client.CONFIG_MAPS, body, headers={"content-type": media_type})
        assert answer.status == status
        assert answer.json["kind"] == "Status"


async def test_unknown_fields_by_field_validation(client):
    body = client.pod("a")
    body["spec"]["nope"] = 1
    strict = await client.send("POST", client.PODS, body, fieldValidation="Strict")
    assert strict.status == 400
    assert 'strict decoding error: unknown field "spec.nope"' in strict.message
    warned = await client.send("POST", client.PODS, body, fieldValidation="Warn")
    assert warned.status == 201
    assert '299 - "unknown field \\"spec.nope\\""' in warned.headers["warning"]
    body["metadata"]["name"] = "b"
    ignored = await client.send("POST", client.PODS, body, fieldValidation="Ignore")
    assert "nope" not in ignored.headers.get("warning", "")
    wrong = await client.send("POST", client.PODS, body, fieldValidation="Loud")
    assert wrong.status == 422
    twice = b'{"metadata":{"name":"c"},"data":{"a":"1","a":"2"}}'
    answer = await client.send("POST", client.CONFIG_MAPS, twice, fieldValidation="Strict")
    assert 'duplicate field "data.a"' in answer.message


async def test_dry_run_writes_nothing(client):
    made = await client.post(client.CONFIG_MAPS, client.config_map("a"), dryRun="All")
    assert made["metadata"]["uid"] and "resourceVersion" not in made["metadata"]
    assert (await client.send("GET", client.CONFIG_MAPS + "/a")).status == 404
    assert (await client.send("POST", client.CONFIG_MAPS, client.config_map("a"), dryRun="Some")).status == 422
    real = await client.post(client.CONFIG_MAPS, client.config_map("a"))
    changed = await client.put(client.CONFIG_MAPS + "/a", client.config_map("a", {"x": "y"}), dryRun="All")
    assert changed["data"] == {"x": "y"}
    await client.delete(client.CONFIG_MAPS + "/a", dryRun="All")
    assert await client.get(client.CONFIG_MAPS + "/a") == real


async def test_update_replaces_and_keeps_what_is_the_systems(client):
    made = await client.post(client.CONFIG_MAPS, client.config_map("a", {"k": "1"}))
    changed = await client.put(client.CONFIG_MAPS + "/a", client.config_map("a", {"k": "2"}, labels={"x": "y"}))
    assert changed["data"] == {"k": "2"}
    for kept in ("uid", "creationTimestamp", "namespace"):
        assert changed["metadata"][kept] == made["metadata"][kept]
    assert int(changed["metadata"]["resourceVersion"]) > int(made["metadata"]["resourceVersion"])


async def test_an_update_that_changes_nothing_writes_nothing(client):
    made = await client.post(client.CONFIG_MAPS, client.config_map("a", {"k": "1"}))
    async with client.watch(client.CONFIG_MAPS, resourceVersion=made["metadata"]["resourceVersion"]) as watch:
        assert await client.put(client.CONFIG_MAPS + "/a", client.config_map("a", {"k": "1"})) == made
        assert await client.patch(client.CONFIG_MAPS + "/a", {"data": {"k": "1"}}) == made
        await watch.silent()


async def test_conflicts_of_update(client):
    made = await client.post(client.CONFIG_MAPS, client.config_map("a"))
    await client.put(client.CONFIG_MAPS + "/a", client.config_map("a", {"k": "2"}))
    stale = await client.send("PUT", client.CONFIG_MAPS + "/a", made)
    assert (stale.status, stale.reason) == (409, "Conflict")
    assert stale.message.startswith('Operation cannot be fulfilled on configmaps "a": the object has been modified')
    other = await client.send("PUT", client.CONFIG_MAPS + "/a", client.config_map("a", uid="other"))
    assert other.status == 409
    named = await client.send("PUT", client.CONFIG_MAPS + "/a", client.config_map("b"))
    assert (named.status, named.reason) == (400, "BadRequest")
    missing = await client.send("PUT", client.CONFIG_MAPS + "/b", client.config_map("b"))
    assert (missing.status, missing.message) == (404, 'configmaps "b" not found')


async def test_put_creates_where_the_kind_allows_it(client):
    leases = "/apis/coordination.k8s.io/v1/namespaces/default/leases"
    created = await client.send("PUT", leases + "/l", {"metadata": {"name": "l"}, "spec": {"holderIdentity": "me"}})
    assert created.expect(201)["spec"]["holderIdentity"] == "me"


async def test_of_many_writers_none_is_lost(client):
    await client.post(client.CONFIG_MAPS, client.config_map("a"))
    await asyncio.gather(*(client.patch(client.CONFIG_MAPS + "/a", {"data": {f"k{i}": "v"}}) for i in range(30)))
    assert len((await client.get(client.CONFIG_MAPS + "/a"))["data"]) == 30


async def test_status_is_written_apart(client):
    await client.post(client.PODS, client.pod("a"))
    main = await client.get(client.PODS + "/a")
    main["status"]["phase"] = "Running"
    main["metadata"]["labels"] = {"x": "y"}
    main = await client.put(client.PODS + "/a", main)
    assert (main["status"]["phase"], main["metadata"]["labels"]) == ("Pending", {"x": "y"})
    main["status"]["phase"] = "Running"
    main["spec"]["containers"][0]["image"] = "other:1"
    status = await client.put(client.PODS + "/a/status", main)
    assert status["status"]["phase"] == "Running"
    assert status["spec"]["containers"][0]["image"] == "busybox:1"
    patched = await client.patch(client.PODS + "/a/status", {"status": {"podIP": "10.0.0.1"}}, "strategic-merge-patch")
    assert (patched["status"]["podIP"], patched["status"]["phase"]) == ("10.0.0.1", "Running")
    assert (await client.get(client.PODS + "/a/status"))["status"]["podIP"] == "10.0.0.1"


async def test_the_spec_of_a_pod_stays(client):
    made = await client.post(client.PODS, client.pod("a"))
    made["spec"]["containers"][0]["command"] = ["sh"]
    answer = await client.send("PUT", client.PODS + "/a", made)
    assert answer.status == 422
    assert "pod updates may not change fields other than" in answer.message


async def test_patches(client):
    await client.post(client.PODS, client.pod("a"))
    path = client.PODS + "/a"
    merged = await client.patch(path, {"metadata": {"labels": {"a": "1", "b": "2"}}})
    assert merged["metadata"]["labels"] == {"a": "1", "b": "2"}
    merged = await client.patch(path, {"metadata": {"labels": {"a": None}}})
    assert merged["metadata"]["labels"] == {"b": "2"}
    listed = await client.patch(path, [{"op": "add", "path": "/metadata/labels/c", "value": "3"}], "json-patch")
    assert listed["metadata"]["labels"] == {"b": "2", "c": "3"}
    image = {"spec": {"containers": [{"name": "main", "image": "busybox:2"}]}}
    strategic = await client.patch(path, image, "strategic-merge-patch")
    assert strategic["spec"]["containers"][0]["image"] == "busybox:2"
    assert strategic["spec"]["containers"][0]["terminationMessagePath"] == "/dev/termination-log"


async def test_patch_with_a_stale_revision_conflicts_and_without_one_never(client):
    made = await client.post(client.PODS, client.pod("a"))
    await client.patch(client.PODS + "/a", {"metadata": {"labels": {"a": "1"}}})
    body = {"metadata": {"resourceVersion": made["metadata"]["resourceVersion"], "labels": {"a": "2"}}}
    headers = {"content-type": "application/merge-patch+json"}
    assert (await client.send("PATCH", client.PODS + "/a", body, headers=headers)).status == 409


@pytest.mark.parametrize(
    ("media_type", "body", "status"),
    [
        ("application/json-patch+json", [{"op": "test", "path": "/metadata/name", "value": "b"}], 422),
        ("application/json-patch+json", {"op": "test"}, 400),
        ("application/merge-patch+json", [], 400),
        ("application/apply-patch+yaml", {}, 415),
        ("application/json", {}, 415),
        ("application/merge-patch+json", {"metadata": {"name": "b"}}, 400),
        ("application/merge-patch+json", {"kind": "Node"}, 400),
        ("application/merge-patch+json", {"spec": {"nope": 1}}, 400),
    ],
)
async def test_patches_that_are_refused(client, media_type, body, status):
    await client.post(client.PODS, client.pod("a"))
    headers = {"content-type": media_type}
    answer = await client.send("PATCH", client.PODS + "/a", body, headers=headers, fieldValidation="Strict")
    assert answer.status == status, answer.body


async def test_who_sends_protobuf_is_told_the_way_round_it(client):
    headers = {"content-type": "application/vnd.kubernetes.protobuf"}
    answer = await client.send("POST", "/api/v1/namespaces", b"k8s\0...", headers=headers)
    assert (answer.status, answer.reason) == (415, "UnsupportedMediaType")
    assert answer.message.endswith("of kubectl, add `--dry-run=client -o yaml | kubectl apply -f -`")


@pytest.mark.parametrize("patch", ["json", "merge", "strategic-merge"])
@pytest.mark.parametrize("depth", [900, 100_000])
async def test_patches_that_are_nested_too_deeply_are_the_senders_mistake(client, patch, depth):
    await client.post(client.PODS, client.pod("a"))
    body = b'{"metadata":{"annotations":' + b'{"a":' * depth + b"1" + b"}" * depth + b"}}"
    headers = {"content-type": f"application/{patch}-patch+json"}
    answer = await client.send("PATCH", client.PODS + "/a", body, headers=headers)
    assert (answer.status, answer.reason) == (400, "BadRequest")


async def test_warnings_of_fields_on_which_nothing_acts(client):
    answer = await client.send("POST", client.PODS, client.pod("a", hostUsers=False))
    assert answer.status == 201
    assert "spec.hostUsers" in answer.headers["warning"]


async def test_pods_get_account_priority_and_tolerations(client):
    spec = (await client.post(client.PODS, client.pod("a")))["spec"]
    assert (spec["serviceAccountName"], spec["priority"], spec["preemptionPolicy"]) == (
        "default",
        0,
        "PreemptLowerPriority",
    )
    assert [toleration["tolerationSeconds"] for toleration in spec["tolerations"]] == [300, 300]
    no_account = await client.send("POST", client.PODS, client.pod("b", serviceAccountName="who"))
    assert (no_account.status, no_account.reason) == (403, "Forbidden")
    assert 'serviceaccount "who" not found' in no_account.message
    no_class = await client.send("POST", client.PODS, client.pod("b", priorityClassName="vip"))
    assert "no PriorityClass with name vip was found" in no_class.message
    own = await client.send("POST", client.PODS, client.pod("b", priority=5))
    assert own.status == 403
    system = await client.post(client.PODS, client.pod("b", priorityClassName="system-node-critical"))
    assert system["spec"]["priority"] == 2_000_001_000


async def test_kinds_with_rules_of_their_own(client):
    namespace = await client.post("/api/v1/namespaces", {"metadata": {"name": "ns"}, "status": {"phase": "Odd"}})
    assert namespace["metadata"]["labels"] == {"kubernetes.io/metadata.name": "ns"}
    assert (namespace["spec"], namespace["status"]) == ({"finalizers": ["kubernetes"]}, {"phase": "Active"})
    secret = {"metadata": {"name": "s"}, "stringData": {"a": "b"}}
    made = await client.post("/api/v1/namespaces/default/secrets", secret)
    assert (made["data"], made["type"], "stringData" in made) == ({"a": "Yg=="}, "Opaque", False)
    node = {"metadata": {"name": "n"}, "status": {"capacity": {"cpu": "2"}}}
    assert (await client.post(client.NODES, node))["status"]["capacity"] == {"cpu": "2"}
    frozen = await client.post(client.CONFIG_MAPS, {**client.config_map("c", {"a": "1"}), "immutable": True})
    frozen["data"]["a"] = "2"
    assert (await client.send("PUT", client.CONFIG_MAPS + "/c", frozen)).status == 422
