"""pods/log, pods/exec and nodes/proxy: what is checked here, and what reaches the node's agent."""

import asyncio

import pytest

from apimachinery.errors import BadRequest
from apimachinery.kinds.pod import Container, Pod, PodSpec
from apimachinery.meta import ObjectMeta
from apiserver.handlers.connect import choose_container
from componentbase.http import Headers, Request, Response, duplex_pair

UPGRADE = {"connection": "Upgrade", "upgrade": "websocket", "sec-websocket-key": "k", "sec-websocket-version": "13"}


class Agent:
    """A node agent that tells what it was asked."""

    def __init__(self):
        self.asked = []
        self.far = None

    async def forward(self, host, port, request):
        if port == 1:
            raise ConnectionRefusedError(111, "Connection refused")
        self.asked.append((host, port, request.method, request.target, request.headers))
        if request.wants_upgrade:
            near, self.far = duplex_pair()
            return Response(101, Headers({"sec-websocket-protocol": "v5.channel.k8s.io"}), connection=near)
        return Response(200, Headers({"content-type": "text/plain", "connection": "close"}), lines(request))

    async def close(self):
        pass


async def lines(request):
    yield b"line 1\n"
    if not isinstance(request.body, bytes):
        async for chunk in request.body:
            yield b"got " + chunk


@pytest.fixture
def agent():
    return Agent()


@pytest.fixture
def nodes(agent):
    return agent


async def make_node(client, port=10250):
    node = {"metadata": {"name": "n1"}}
    await client.post(client.NODES, node)
    status = {
        "addresses": [{"type": "Hostname", "address": "n1"}, {"type": "InternalIP", "address": "10.0.0.7"}],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": port}},
    }
    await client.patch(client.NODES + "/n1/status", {"status": status})


async def make_pod(client, bound=True):
    await client.post(client.PODS, client.pod("a"))
    if bound:
        await client.bind("a", "n1")


async def test_logs_come_from_the_agent(client, agent):
    await make_node(client)
    await make_pod(client)
    query = {"tailLines": "5", "timestamps": "true", "follow": "true", "container": "main"}
    answer = await client.send("GET", client.PODS + "/a/log", **query)
    assert (answer.status, answer.body) == (200, b"line 1\n")
    assert "connection" not in answer.headers
    (asked,) = agent.asked
    assert asked[:3] == ("10.0.0.7", 10250, "GET")
    assert asked[3] == "/containerLogs/default/a/main?tailLines=5&timestamps=true&follow=true"


async def test_exec_is_a_tunnel_of_bytes(client, agent):
    await make_node(client)
    await make_pod(client)
    headers = {**UPGRADE, "sec-websocket-protocol": "v5.channel.k8s.io"}
    response = await client.raw(
        "GET", client.PODS + "/a/exec?command=sh&command=-c&stdin=true&stdout=true", headers=headers
    )
    assert response.status == 101
    assert response.headers["upgrade"] == "websocket" and response.headers["connection"] == "Upgrade"
    assert response.headers["sec-websocket-protocol"] == "v5.channel.k8s.io"
    assert agent.asked[0][3] == "/exec/default/a/main?command=sh&command=-c&stdin=true&stdout=true"
    assert agent.asked[0][4]["sec-websocket-key"] == "k"
    client_end, server_end = duplex_pair()
    tunnel = asyncio.ensure_future(response.tunnel(server_end))
    await client_end.write(b"there")
    assert await agent.far.read() == b"there"
    await agent.far.write(b"back")
    assert await client_end.read() == b"back"
    agent.far.close()
    async with asyncio.timeout(5):
        assert await client_end.read() == b""
        await tunnel


async def test_a_tunnel_that_nobody_takes_is_closed(client, agent):
    await make_node(client)
    await make_pod(client)
    response = await client.raw("POST", client.PODS + "/a/exec?command=sh&stdin=true", headers=UPGRADE)
    await response.aclose()
    async with asyncio.timeout(5):
        assert await agent.far.read() == b""


async def test_refusals_before_anybody_is_asked(client, agent):
    await make_pod(client, bound=False)
    exec_query = {"command": "ls", "stdout": "true"}
    for path, query, text in [
        ("/a/log", {}, "pod a does not have a host assigned"),
        ("/a/log", {"container": "b"}, "container b is not valid for pod a"),
        ("/a/log", {"tailLines": "-1"}, "tailLines must be greater than or equal to 0"),
        ("/a/log", {"tailLines": "x"}, "not an integer"),
        ("/a/exec", {}, "you must specify at least 1 command"),
        ("/a/exec", {"command": "ls"}, "at least one of stdin, stdout, stderr"),
        ("/a/exec", exec_query, "pod a does not have a host assigned"),
    ]:
        answer = await client.send("GET", client.PODS + path, headers=UPGRADE, **query)
        assert (answer.status, answer.reason) == (400, "BadRequest")
        assert text in answer.message
    assert (await client.send("GET", client.PODS + "/b/log")).status == 404
    await client.bind("a", "n1")
    spdy = await client.send(
        "POST", client.PODS + "/a/exec", headers={"connection": "Upgrade", "upgrade": "SPDY/3.1"}, **exec_query
    )
    assert spdy.status == 400 and "SPDY is not spoken here" in spdy.message
    no_node = await client.send("GET", client.PODS + "/a/log")
    assert (no_node.status, no_node.message) == (404, 'nodes "n1" not found')
    await client.post(client.NODES, {"metadata": {"name": "n1"}})
    silent = await client.send("GET", client.PODS + "/a/log")
    assert (silent.status, silent.reason) == (503, "ServiceUnavailable")
    assert agent.asked == []


async def test_an_agent_that_is_not_there(client):
    await make_node(client, port=1)
    await make_pod(client)
    answer = await client.send("GET", client.PODS + "/a/log")
    assert (answer.status, answer.reason) == (500, "InternalError")
    assert "error dialing backend: node n1 at 10.0.0.7:1" in answer.message


async def test_the_proxy_of_a_node_hands_on_method_path_query_and_body(client, agent):
    await make_node(client)

    async def body():
        yield b"archive"

    request = Request("POST", "/api/v1/nodes/n1/proxy/pyctl/v1/images/import", body=body(), user=client.user)
    request.query = type(request.query)([("tag", "a:1")])
    response = await client.handle(request)
    assert await response.read() == b"line 1\ngot archive"
    assert agent.asked[0][2:4] == ("POST", "/pyctl/v1/images/import?tag=a%3A1")
    await client.send("DELETE", "/api/v1/nodes/n1/proxy/pyctl/v1/images/reg/a@sha256:1")
    assert agent.asked[1][2:4] == ("DELETE", "/pyctl/v1/images/reg/a@sha256:1")
    assert (await client.send("GET", "/api/v1/nodes/n2/proxy/healthz")).status == 404


def pod_of(*names, init=(), **annotations):
    return Pod(
        metadata=ObjectMeta(name="p", annotations=annotations),
        spec=PodSpec(
            containers=[Container(name=name) for name in names],
            initContainers=[Container(name=name) for name in init],
        ),
    )


def test_which_container_is_meant():
    assert choose_container(pod_of("a"), "") == "a"
    assert choose_container(pod_of("a", "b"), "b") == "b"
    assert choose_container(pod_of("a", init=["i"]), "i") == "i"
    default = pod_of("a", "b")
    default.metadata.annotations["kubectl.kubernetes.io/default-container"] = "b"
    assert choose_container(default, "") == "b"
    with pytest.raises(BadRequest) as error:
        choose_container(pod_of("a", "b", init=["i"]), "")
    assert error.value.message == (
        "a container name must be specified for pod p, choose one of: [a b] or one of the init containers: [i]"
    )
