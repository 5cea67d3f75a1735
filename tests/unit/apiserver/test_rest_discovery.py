"""Discovery, OpenAPI, version, health, and who may see what."""

import pytest

from apimachinery.scheme import SCHEME
from apiserver.handlers.discovery import SUBRESOURCES
from apiserver.handlers.router import BY_SUBRESOURCE

V2 = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
V2BETA1 = "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList"


@pytest.mark.parametrize(
    ("accept", "version"),
    [(f"{V2},{V2BETA1},application/json", "v2"), (f"{V2BETA1},application/json", "v2beta1")],
)
async def test_aggregated_discovery_echoes_its_version(client, accept, version):
    answer = await client.send("GET", "/api", headers={"accept": accept})
    document = answer.expect(200)
    assert (
        answer.headers["content-type"] == f"application/json;g=apidiscovery.k8s.io;v={version};as=APIGroupDiscoveryList"
    )
    assert (document["kind"], document["apiVersion"]) == ("APIGroupDiscoveryList", f"apidiscovery.k8s.io/{version}")
    resources = {each["resource"]: each for each in document["items"][0]["versions"][0]["resources"]}
    pods = resources["pods"]
    assert (pods["scope"], pods["singularResource"], pods["shortNames"], pods["categories"]) == (
        "Namespaced",
        "pod",
        ["po"],
        ["all"],
    )
    assert pods["responseKind"] == {"group": "", "version": "v1", "kind": "Pod"}
    assert {"log", "exec", "binding", "status"} <= {each["subresource"] for each in pods["subresources"]}
    headers = {"accept": accept, "if-none-match": answer.headers["etag"]}
    unchanged = await client.send("GET", "/api", headers=headers)
    assert (unchanged.status, unchanged.body) == (304, b"")
    assert unchanged.headers["content-type"] == answer.headers["content-type"]
    groups = (await client.send("GET", "/apis", headers={"accept": accept})).expect(200)
    assert [item["metadata"]["name"] for item in groups["items"]] == ["coordination.k8s.io"]


async def test_legacy_discovery(client):
    assert (await client.get("/api"))["versions"] == ["v1"]
    groups = await client.get("/apis/")
    assert (groups["kind"], groups["groups"][0]["name"]) == ("APIGroupList", "coordination.k8s.io")
    assert groups["groups"][0]["preferredVersion"] == {"groupVersion": "coordination.k8s.io/v1", "version": "v1"}
    assert (await client.get("/apis/coordination.k8s.io"))["kind"] == "APIGroup"
    core = await client.get("/api/v1")
    assert (core["kind"], core["groupVersion"]) == ("APIResourceList", "v1")
    names = {each["name"]: each for each in core["resources"]}
    assert names["pods/log"]["verbs"] == ["get"]
    assert names["nodes"]["namespaced"] is False
    leases = await client.get("/apis/coordination.k8s.io/v1")
    assert [each["name"] for each in leases["resources"]] == ["leases"]


async def test_openapi(client):
    index = await client.get("/openapi/v3")
    url = index["paths"]["api/v1"]["serverRelativeURL"]
    assert url.startswith("/openapi/v3/api/v1?hash=")
    answer = await client.send("GET", url)
    document = answer.expect(200)
    patches = [operation["patch"] for operation in document["paths"].values() if "patch" in operation]
    gvk = [patch.get("x-kubernetes-group-version-kind") for patch in patches]
    assert {"group": "", "version": "v1", "kind": "Pod"} in gvk
    assert any(parameter.get("name") == "fieldValidation" for parameter in patches[0]["parameters"])
    assert "immutable" in answer.headers["cache-control"]
    same = await client.send("GET", url, headers={"if-none-match": answer.headers["etag"]})
    assert same.status == 304
    assert (await client.send("GET", "/openapi/v3/apis/nothing/v1")).status == 404


async def test_openapi_2_is_a_document_without_definitions(client):
    plain = await client.get("/openapi/v2")
    assert (plain["swagger"], plain["info"]["version"], plain["paths"]) == ("2.0", "v1.33.0+pyctl", {})
    accept = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf"
    answer = await client.send("GET", "/openapi/v2", headers={"accept": accept})
    assert answer.headers["content-type"] == "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
    assert answer.body == b"\x0a\x032.0" + b"\x12\x1b" + b"\x0a\x0aKubernetes" + b"\x12\x0dv1.33.0+pyctl"


async def test_version_and_health(client):
    version = await client.get("/version/")
    assert (version["major"], version["minor"], version["gitVersion"]) == ("1", "33", "v1.33.0+pyctl")
    for path in ("/healthz", "/livez", "/readyz"):
        answer = await client.send("GET", path)
        assert (answer.status, answer.body) == (200, b"ok")
    verbose = await client.send("GET", "/readyz", verbose="")
    assert b"[+]watch-cache ok" in verbose.body
    assert "/version" in (await client.get("/"))["paths"]


async def test_paths_that_are_not_served(client):
    for path in ("/api/v1/namespaces/default/nothings", "/apis/apps/v1/deployments", "/api/v2/pods", "/api/v1/pods/a"):
        answer = await client.send("GET", path)
        assert (answer.status, answer.reason) == (404, "NotFound"), path
    assert (await client.send("GET", "/nothing")).status == 404
    attach = await client.send("GET", client.PODS + "/a/attach")
    assert (attach.status, 'pods has no subresource "attach"' in attach.message) == (404, True)
    assert attach.json["details"] == {"kind": "pods"}


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/api/v1/namespaces/default/pods/a"),
        ("PUT", "/api/v1/namespaces/default/pods"),
        ("PATCH", "/api/v1/namespaces/default/pods"),
        ("DELETE", "/api/v1/namespaces"),
        ("GET", "/api/v1/namespaces/default/bindings"),
        ("DELETE", "/api/v1/namespaces/default/pods/a/status"),
        ("POST", "/version"),
    ],
)
async def test_methods_that_are_not_allowed(client, method, path):
    answer = await client.send(method, path, {})
    assert (answer.status, answer.reason) == (405, "MethodNotAllowed")


async def test_nobody_is_401_but_may_ask_for_health(client):
    client.user = None
    answer = await client.send("GET", client.PODS)
    assert (answer.status, answer.reason, answer.message) == (401, "Unauthorized", "Unauthorized")
    assert (await client.send("GET", "/healthz")).status == 200
    assert (await client.get("/version"))["major"] == "1"
    assert (await client.send("GET", "/api")).status == 401


async def test_identities_may_do_what_their_work_needs(client):
    stranger = client.as_user("jane", "dev")
    assert (await stranger.send("GET", "/api")).status == 200
    refused = await stranger.send("GET", client.PODS)
    assert (refused.status, refused.reason) == (403, "Forbidden")
    assert refused.message == (
        'pods is forbidden: User "jane" cannot list resource "pods" in API group "" in the namespace "default"'
    )
    cluster = await stranger.send("DELETE", "/api/v1/nodes/n")
    assert 'nodes "n" is forbidden' in cluster.message and "at the cluster scope" in cluster.message
    assert 'cannot get path "/metrics"' in (await stranger.send("GET", "/metrics")).message
    scheduler = client.as_user("system:kube-scheduler")
    await client.post(client.PODS, client.pod("a"))
    assert (await scheduler.send("GET", "/api/v1/pods")).status == 200
    assert (await scheduler.send("POST", client.PODS + "/a/binding", {"target": {"name": "n"}})).status == 201
    assert (await scheduler.send("GET", "/api/v1/secrets")).status == 403
    node = client.as_user("system:node:n", "system:nodes")
    assert (await node.send("POST", client.NODES, {"metadata": {"name": "n"}})).status == 201
    status = {"status": {"phase": "Running"}}
    headers = {"content-type": "application/merge-patch+json"}
    assert (await node.send("PATCH", client.PODS + "/a/status", status, headers=headers)).status == 200
    assert (await node.send("DELETE", "/api/v1/namespaces/ns")).status == 403
    assert (await node.send("GET", "/api/v1/namespaces/default/secrets/s")).status == 404
    assert (await node.send("GET", "/api/v1/secrets")).status == 403
    assert (await node.send("POST", client.PODS, client.pod("b", hostPID=True))).status == 403
    pretender = client.as_user("n", "system:nodes")
    assert (await pretender.send("GET", client.PODS)).status == 403


async def test_too_many_requests_at_once(app, client):
    app._in_flight._limit = 0
    answer = await client.send("GET", client.PODS)
    assert (answer.status, answer.reason, answer.headers["retry-after"]) == (429, "TooManyRequests", "1")
    async with client.watch(client.PODS):
        pass


async def test_a_failing_store_is_503(client, store):
    await store.close()
    answer = await client.send("POST", client.CONFIG_MAPS, client.config_map("a"))
    assert (answer.status, answer.reason) == (503, "ServiceUnavailable")


async def test_a_defect_is_a_status_too(client, app, monkeypatch, caplog):
    monkeypatch.setattr(app, "_route", None)
    answer = await client.send("GET", client.PODS)
    assert (answer.status, answer.reason) == (500, "InternalError")
    assert "failed" in caplog.text


async def test_without_certificates_no_agent_is_reached(client):
    await client.post(client.NODES, {"metadata": {"name": "n1"}})
    addresses = [{"type": "InternalIP", "address": "127.0.0.1"}]
    status = {"addresses": addresses, "daemonEndpoints": {"kubeletEndpoint": {"Port": 10250}}}
    await client.patch(client.NODES + "/n1/status", {"status": status})
    answer = await client.send("GET", "/api/v1/nodes/n1/proxy/healthz")
    assert answer.status == 500 and "was not given a certificate" in answer.message


def test_what_is_advertised_is_served():
    for kind in SCHEME.kinds:
        for subresource in kind.subresources:
            assert set(SUBRESOURCES[subresource].verbs) <= set(BY_SUBRESOURCE[subresource]), (kind.plural, subresource)
