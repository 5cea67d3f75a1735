"""The agent on this machine: a real API server, the real runtime, real containers. Needs root.

All three run as processes in a network namespace of their own; the runtime's cgroups lie below a parent of their own.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from apimachinery import codec
from apimachinery.errors import BadRequest, NotFound, StatusError, from_status
from apimachinery.kinds.configmap import ConfigMap
from apimachinery.kinds.event import Event
from apimachinery.kinds.node import Node
from apimachinery.kinds.pod import Pod
from apimachinery.meta import ObjectMeta
from componentbase import websocket
from componentbase.http import Headers, Query, Request
from componentbase.tls import Authority
from kubeclient.config import ClusterAccess, load_kubeconfig, write_kubeconfig
from kubeclient.http_transport import HttpTransport
from kubeclient.rest import STRATEGIC_PATCH, Client
from nodeagent.cri import POD_NAME
from pb.cri.v1 import api_pb2 as cri
from tests.integration.runtime_daemon import CHECKOUT, Daemon, eventually

pytestmark = [pytest.mark.root, pytest.mark.skipif(os.geteuid() != 0, reason="needs root")]

PROGRAMS = ["sh", "sleep", "cat", "echo", "ls", "id", "env", "true"]
IMAGE = "local/tools:1"
API_PORT, AGENT_PORT = 16443, 16250


class World:
    """The processes. `kill` is kill -9; `start` starts again what was killed."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.daemon = Daemon(home, share_network=True)
        self.parent = f"{self.daemon.parent}/{self._runtime_name()}"
        self._pki()
        self.commands = {
            "apiserver": [
                *("--data-dir", f"{home}/api", "--port", str(API_PORT), "--store", f"sqlite:{home}/state.db"),
                *("--tls-certificate", f"{home}/pki/apiserver.crt", "--tls-key", f"{home}/pki/apiserver.key"),
                *("--client-ca", f"{home}/pki/ca.crt"),
                *("--kubelet-certificate", f"{home}/pki/kubelet-client.crt"),
                *("--kubelet-key", f"{home}/pki/kubelet-client.key"),
            ],
            "nodeagent": [
                *("--kubeconfig", f"{home}/node.kubeconfig", "--node-name", "n1", "--data-dir", f"{home}/agent"),
                *("--cri-endpoint", f"unix://{self.daemon.socket}", "--port", str(AGENT_PORT)),
                *("--cgroup-parent", self.parent, "--node-ip", "127.0.0.1"),
                *("--tls-certificate", f"{home}/pki/node-server.crt", "--tls-key", f"{home}/pki/node-server.key"),
            ],
        }
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def _runtime_name(self) -> str:
        """The group that the runtime makes below the parent it was given."""
        import hashlib

        digest = hashlib.sha256(os.path.realpath(self.daemon.root).encode()).hexdigest()
        return f"pyctl-{digest[:8]}"

    def _pki(self) -> None:
        authority = Authority.load_or_create(self.home / "pki")
        hosts = ("127.0.0.1", "localhost")
        authority.issue("apiserver", common_name="kube-apiserver", hosts=hosts, server=True)
        node = {"common_name": "system:node:n1", "organizations": ("system:nodes",)}
        authority.issue("node-server", hosts=hosts, server=True, **node)
        masters = ("system:masters",)
        authority.issue(
            "kubelet-client", common_name="kube-apiserver-kubelet-client", organizations=masters, client=True
        )
        authority.issue("admin", common_name="admin", organizations=masters, client=True)
        authority.issue("node", client=True, **node)
        for name in ("admin", "node"):
            access = ClusterAccess(
                server=f"https://127.0.0.1:{API_PORT}",
                ca=authority.certificate_path.read_bytes(),
                cert=(self.home / "pki" / f"{name}.crt").read_bytes(),
                key=(self.home / "pki" / f"{name}.key").read_bytes(),
            )
            write_kubeconfig(self.home / f"{name}.kubeconfig", access, user=name)

    def start(self, name: str) -> None:
        if name == "runtime":
            self.daemon.start()
            return
        with (self.home / f"{name}.log").open("ab") as log:
            command = [sys.executable, "-m", name, *self.commands[name]]
            self.processes[name] = subprocess.Popen(command, cwd=CHECKOUT, stdout=log, stderr=log)

    def kill(self, name: str) -> None:
        if name == "runtime":
            self.daemon.kill()
            return
        self.processes[name].send_signal(signal.SIGKILL)
        self.processes[name].wait()

    def stop(self, name: str) -> int:
        self.processes[name].send_signal(signal.SIGTERM)
        return self.processes[name].wait(20)

    def log_of(self, name: str) -> str:
        return (self.home / f"{name}.log").read_text()

    def sandboxes(self) -> list[str]:
        """Names of the pods that the runtime has."""
        found = self.daemon.runtime.ListPodSandbox(cri.ListPodSandboxRequest(), timeout=10)
        return [each.metadata.name for each in found.items]

    def exited(self, pod: str) -> bool:
        found = self.daemon.runtime.ListContainers(cri.ListContainersRequest(), timeout=10).containers
        return any(each.labels[POD_NAME] == pod and each.state == cri.CONTAINER_EXITED for each in found)

    def close(self) -> None:
        for process in self.processes.values():
            if process.poll() is None:
                process.kill()
                process.wait()
        # What the agent mounted for pods that were still there (emptyDir in memory, subPaths).
        for line in Path("/proc/self/mountinfo").read_text().splitlines()[::-1]:
            if f"{self.home}/agent/pods" in line:
                subprocess.run(["umount", "--lazy", line.split(" ")[4]], check=False)
        self.daemon.close()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    world = World(tmp_path_factory.mktemp("n"))
    try:
        for name in ("runtime", "apiserver", "nodeagent"):
            world.start(name)
        eventually(lambda: "registered node" in world.log_of("nodeagent"))
        yield world
    finally:
        world.close()


class Hand:
    """What a user can do."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.access = load_kubeconfig(world.home / "admin.kubeconfig")
        self.transport = HttpTransport(self.access)
        self.client = Client(self.transport)

    async def pod(self, name: str, script: str = "sleep 1000", **fields: Any) -> None:
        """Create a pod; `script` is for its one container, other containers come in `spec`."""
        container = {"name": "c", "image": IMAGE, "command": ["sh", "-c", script], **fields.pop("container", {})}
        spec = {"nodeName": "n1", "terminationGracePeriodSeconds": 1, "containers": [container], **fields}
        document = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "default"}, "spec": spec}
        await self.client.create(codec.to_object(Pod, document))

    async def pod_when_possible(self, name: str) -> None:
        """Create it as soon as the API server takes it."""
        async with asyncio.timeout(20):
            while True:
                with contextlib.suppress(ConnectionError):
                    return await self.pod(name)
                await asyncio.sleep(0.05)

    async def until(self, name: str, holds: Callable[[Pod], Any], seconds: float = 20.0) -> Pod:
        pod = None
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while True:
                    with contextlib.suppress(ConnectionError):
                        pod = await self.client.get(Pod, name, "default")
                        if pod.status.containerStatuses and holds(pod):
                            return pod
                    await asyncio.sleep(0.02)
        raise AssertionError(f"{pod.status if pod else None}\n{self.world.log_of('nodeagent')[-3000:]}")

    async def running(self, name: str, seconds: float = 20.0) -> Pod:
        return await self.until(name, lambda pod: all(each.ready for each in pod.status.containerStatuses), seconds)

    async def gone(self, name: str, grace: int | None = None) -> None:
        await self.client.delete(Pod, name, "default", grace_seconds=grace)
        async with asyncio.timeout(20):
            while True:
                try:
                    await self.client.get(Pod, name, "default")
                except NotFound:
                    return
                await asyncio.sleep(0.02)

    async def node_ready(self) -> str:
        node = await self.client.get(Node, "n1")
        return next(each.status for each in node.status.conditions if each.type == "Ready")

    async def raw(self, method: str, path: str, body: bytes = b"", **query: str) -> bytes:
        request = Request(method, path, Query.of(query), Headers({"content-type": "application/json"}), body)
        answer = await self.transport.request(request)
        if answer.status >= 400:
            raise from_status(json.loads(await answer.read()))
        return await answer.read()

    async def logs(self, name: str, **query: str) -> str:
        return (await self.raw("GET", f"/api/v1/namespaces/default/pods/{name}/log", **query)).decode()

    async def exec(self, name: str, *command: str, stdin: bytes | None = None) -> tuple[str, dict[str, Any]]:
        """stdout, and the Status at the end."""
        query = Query(
            [*(("command", word) for word in command), ("stdout", "true"), ("stdin", str(stdin is not None).lower())]
        )
        headers = websocket.request_headers(("v5.channel.k8s.io",))
        path = f"/api/v1/namespaces/default/pods/{name}/exec"
        answer = await self.transport.request(Request("GET", path, query, headers, stream=True))
        assert answer.status == 101, (answer.status, await answer.read())
        assert answer.connection is not None
        socket = websocket.WebSocket(answer.connection, client=True)
        if stdin is not None:
            await socket.send(bytes([0]) + stdin)
            await socket.send(bytes([255, 0]))
        output, status = b"", b""
        while (data := await socket.receive()) is not None:
            output += data[1:] if data[:1] == b"\x01" else b""
            status += data[1:] if data[:1] == b"\x03" else b""
        answer.connection.close()
        return output.decode(), json.loads(status)


@pytest.fixture
async def hand(world: World) -> AsyncIterator[Hand]:
    hand = Hand(world)
    images = "/api/v1/nodes/n1/proxy/pyctl/v1/images"
    listed = json.loads(await hand.raw("GET", images))
    if not any(IMAGE in reference for each in listed["images"] for reference in each["references"]):
        await hand.raw("POST", f"{images}/build", json.dumps({"programs": PROGRAMS, "tag": IMAGE}).encode())
    yield hand
    await hand.transport.close()


async def eventually_is(wanted: Any, ask: Callable[[], Awaitable[Any]], seconds: float = 20.0) -> None:
    """Ask until the answer is the wanted one."""
    found = None
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            while (found := await ask()) != wanted:  # noqa: ASYNC110  there is no event for this
                await asyncio.sleep(0.02)
    assert found == wanted


def mounts_of_this_process() -> str:
    return Path("/proc/self/mountinfo").read_text()


def state(pod: Pod) -> str:
    found = pod.status.containerStatuses[0].state
    return found.waiting.reason if found.waiting else found.terminated.reason if found.terminated else "Running"


async def test_two_containers_share_files_and_see_their_configuration(hand: Hand) -> None:
    await hand.client.create(ConfigMap(metadata=ObjectMeta(name="cm", namespace="default"), data={"motd": "hello"}))
    script = "cat /data/from-init /cm/motd /one; echo $GREETING $POD_IP; id -u; sleep 1000"
    mounts = [
        {"name": "d", "mountPath": "/data"},
        {"name": "cm", "mountPath": "/cm"},
        {"name": "cm", "mountPath": "/one", "subPath": "motd"},
        {"name": "m", "mountPath": "/mem"},
    ]
    env = [
        {"name": "GREETING", "valueFrom": {"configMapKeyRef": {"name": "cm", "key": "motd"}}},
        {"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
    ]
    init = {"name": "i", "image": IMAGE, "command": ["sh", "-c", "echo from-init > /data/from-init"]}
    await hand.pod(
        "two",
        script,
        container={"volumeMounts": mounts, "env": env, "securityContext": {"runAsUser": 7}},
        initContainers=[{**init, "volumeMounts": mounts[:1]}],
        volumes=[
            {"name": "d", "emptyDir": {}},
            {"name": "cm", "configMap": {"name": "cm"}},
            {"name": "m", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}},
        ],
    )
    pod = await hand.running("two")
    expected = f"from-init\nhellohellohello {pod.status.podIP}\n7\n"
    await hand.until("two", lambda _: True)
    await eventually_is(expected, lambda: hand.logs("two", container="c"))
    output, status = await hand.exec("two", "sh", "-c", "cat /proc/mounts; exit 3")
    assert "tmpfs /mem tmpfs" in output and "size=1024k" in output
    assert status["details"]["causes"][0]["message"] == "3"
    output, status = await hand.exec("two", "cat", stdin=b"through and back")
    assert (output, status["status"]) == ("through and back", "Success")
    await hand.gone("two")
    agent = hand.world.home / "agent"
    assert os.listdir(agent / "pods") == os.listdir(agent / "logs") == []
    assert str(agent) not in mounts_of_this_process()


async def test_what_goes_wrong_is_told(hand: Hand) -> None:
    await hand.pod("noimage", container={"image": "127.0.0.1:9/none:1"})
    await hand.pod("nocommand", container={"command": ["/nope"]})
    await hand.pod("noconfig", container={"envFrom": [{"configMapRef": {"name": "none"}}]})
    await hand.pod("novolume", volumes=[{"name": "share", "nfs": {"server": "x", "path": "/"}}])
    await hand.pod(
        "message", "echo last words; exit 3", container={"terminationMessagePolicy": "FallbackToLogsOnError"}
    )
    assert state(await hand.until("noimage", lambda pod: "Pull" in state(pod))) == "ErrImagePull"
    pod = await hand.until("noimage", lambda pod: state(pod) == "ImagePullBackOff")
    assert "127.0.0.1:9" in pod.status.containerStatuses[0].state.waiting.message
    pod = await hand.until("nocommand", lambda pod: state(pod) == "RunContainerError")
    assert "/nope" in pod.status.containerStatuses[0].state.waiting.message
    pod = await hand.until("noconfig", lambda pod: state(pod) == "CreateContainerConfigError")
    assert pod.status.containerStatuses[0].state.waiting.message == 'configmap "none" not found'
    pod = await hand.until("message", lambda pod: state(pod) == "CrashLoopBackOff")
    last = pod.status.containerStatuses[0].lastState.terminated
    assert (last.exitCode, last.message) == (3, "last words\n")
    assert await hand.logs("message", previous="true") == "last words\n"
    with pytest.raises(BadRequest, match="waiting to start"):
        await hand.logs("noimage")
    events = {(each.involvedObject.name, each.reason, each.message) for each in (await hand.client.list(Event)).items}
    refused = 'MountVolume.SetUp failed for volume "share" : volumes of type nfs are not supported'
    assert ("novolume", "FailedMount", refused) in events
    assert ("noconfig", "Failed", 'Error: configmap "none" not found') in events
    for name in ("noimage", "nocommand", "noconfig", "novolume", "message"):
        await hand.gone(name, 0)


async def test_fields_that_the_node_acts_on(hand: Hand) -> None:
    """Each of these must not be answered with a warning that nothing acts on it."""
    host = hand.world.home / "shared"
    host.mkdir()
    mounts = [
        {"name": "e", "mountPath": "/e"},
        {"name": "e", "mountPath": "/part", "subPathExpr": "$(NAME)"},
        {"name": "h", "mountPath": "/h", "mountPropagation": "HostToContainer"},
        {"name": "h", "mountPath": "/ro", "readOnly": True, "recursiveReadOnly": "Enabled"},
    ]
    script = """
        echo "groups $(id -G)"; ls -ld /e /e/acting; cat /proc/sys/net/ipv4/ip_unprivileged_port_start
        echo x > /ro/file || echo read-only; cat /side/here; sleep 1000"""
    side = {"name": "s", "image": IMAGE, "command": ["sh", "-c", "echo side > /side/here; sleep 1000"]}
    shared = {"name": "side", "mountPath": "/side"}
    await hand.pod(
        "acting",
        script,
        container={"env": [{"name": "NAME", "value": "acting"}], "volumeMounts": [*mounts, shared]},
        initContainers=[{**side, "restartPolicy": "Always", "volumeMounts": [shared]}],
        volumes=[
            {"name": "e", "emptyDir": {}},
            {"name": "side", "emptyDir": {}},
            {"name": "h", "hostPath": {"path": str(host)}},
        ],
        securityContext={
            "runAsUser": 7,
            "runAsGroup": 8,
            "fsGroup": 9,
            "supplementalGroups": [10],
            "supplementalGroupsPolicy": "Strict",
            "runAsNonRoot": True,
            "sysctls": [{"name": "net.ipv4.ip_unprivileged_port_start", "value": "80"}],
        },
        readinessGates=[{"conditionType": "example.com/gate"}],
    )
    pod = await hand.running("acting")
    await eventually_is(True, lambda: said(hand, "acting", "side"))
    text = await hand.logs("acting", container="c")
    lines = text.splitlines()
    assert lines[0] == "groups 8 9 10", text
    assert all(line.startswith("drwxrwsrwx") and " 9 " in line for line in lines[1:3]), text
    assert lines[3] == "80" and lines[-2:] == ["read-only", "side"], text
    ready = {each.type: each for each in pod.status.conditions}
    assert (ready["Ready"].status, ready["Ready"].reason) == ("False", "ReadinessGatesNotReady")
    assert ready["ContainersReady"].status == "True"
    gate = {"status": {"conditions": [{"type": "example.com/gate", "status": "True"}]}}
    await hand.client.patch(Pod, "acting", "default", gate, content_type=STRATEGIC_PATCH, subresource="status")
    await hand.until(
        "acting", lambda pod: {each.type: each.status for each in pod.status.conditions}["Ready"] == "True"
    )
    await hand.gone("acting")
    await hand.pod("root", securityContext={"runAsNonRoot": True})
    pod = await hand.until("root", lambda pod: state(pod) == "CreateContainerConfigError")
    assert "image will run as root" in pod.status.containerStatuses[0].state.waiting.message
    await hand.gone("root")


async def said(hand: Hand, name: str, word: str) -> bool:
    return word in await hand.logs(name, container="c")


async def test_a_container_that_uses_too_much_memory(hand: Hand) -> None:
    grow = "x=aaaaaaaaaaaaaaaa; while true; do x=$x$x; done"
    await hand.pod("oom", grow, container={"resources": {"limits": {"memory": "20Mi"}}}, restartPolicy="Never")
    pod = await hand.until("oom", lambda pod: pod.status.phase == "Failed")
    assert (state(pod), pod.status.containerStatuses[0].state.terminated.exitCode) == ("OOMKilled", 137)
    await hand.gone("oom")


async def test_following_a_log_ends_with_the_container(hand: Hand) -> None:
    await hand.pod("counter", "for i in 1 2 3; do echo $i; sleep 0.2; done", restartPolicy="Never")
    await hand.until("counter", lambda pod: state(pod) != "ContainerCreating")
    assert await hand.logs("counter", follow="true") == "1\n2\n3\n"
    assert await hand.logs("counter", tailLines="1") == "3\n"
    pod = await hand.until("counter", lambda pod: pod.status.phase == "Succeeded")
    assert state(pod) == "Completed"
    await hand.gone("counter")


@pytest.mark.parametrize("part", ["nodeagent", "runtime", "apiserver"])
async def test_kill_9_and_the_container_never_notices(hand: Hand, part: str) -> None:
    name = f"survivor-{part}"
    await hand.pod(name)
    before = (await hand.running(name)).status.containerStatuses[0]
    hand.world.kill(part)
    hand.world.start(part)
    await hand.pod_when_possible(f"{name}-2")
    await hand.running(f"{name}-2", 30)
    await eventually_is("True", hand.node_ready)
    after = (await hand.running(name)).status.containerStatuses[0]
    assert (after.containerID, after.restartCount, after.state) == (before.containerID, 0, before.state)
    assert (await hand.exec(name, "echo", "alive"))[0] == "alive\n"
    await hand.gone(name)
    await hand.gone(f"{name}-2")


async def test_what_happened_while_the_agent_was_dead_is_put_right(hand: Hand) -> None:
    await hand.pod("exits", "sleep 0.5; exit 4", restartPolicy="Never")
    await hand.pod("deleted")
    await hand.pod("forced")
    for name in ("exits", "deleted", "forced"):
        await hand.running(name)
    hand.world.kill("nodeagent")
    await hand.client.delete(Pod, "deleted", "default")
    await hand.client.delete(Pod, "forced", "default", grace_seconds=0)
    eventually(lambda: hand.world.exited("exits"))
    hand.world.start("nodeagent")
    pod = await hand.until("exits", lambda pod: pod.status.phase == "Failed")
    assert pod.status.containerStatuses[0].state.terminated.exitCode == 4
    assert await hand.logs("exits") == ""
    await hand.gone("exits")

    async def left() -> list[Any]:
        return (await hand.client.list(Pod, "default")).items + os.listdir(hand.world.home / "agent" / "pods")

    await eventually_is([], left)
    eventually(lambda: not hand.world.sandboxes())


async def test_the_agents_own_api_lets_in_masters_only(hand: Hand) -> None:
    pki = hand.world.home / "pki"
    ca = (pki / "ca.crt").read_bytes()

    def door(name: str) -> HttpTransport:
        cert = (pki / f"{name}.crt").read_bytes() if name else b""
        key = (pki / f"{name}.key").read_bytes() if name else b""
        return HttpTransport(ClusterAccess(server=f"https://127.0.0.1:{AGENT_PORT}", ca=ca, cert=cert, key=key))

    admin, node, nobody = door("admin"), door("node"), door("")
    assert await (await admin.request(Request("GET", "/healthz"))).read() == b"ok"
    assert (await node.request(Request("GET", "/pods"))).status == 403
    with pytest.raises(ConnectionError):
        await nobody.request(Request("GET", "/healthz"))
    for transport in (admin, node, nobody):
        await transport.close()
    with pytest.raises(NotFound):
        await hand.raw("DELETE", "/api/v1/nodes/n1/proxy/pyctl/v1/images/none:1")
    with pytest.raises(StatusError, match="programs"):
        await hand.raw("POST", "/api/v1/nodes/n1/proxy/pyctl/v1/images/build", b"{}")


async def test_stopping_the_agent_is_clean_and_leaves_pods_alone(hand: Hand) -> None:
    await hand.pod("stays")
    before = (await hand.running("stays")).status.containerStatuses[0].containerID
    assert hand.world.stop("nodeagent") == 0
    hand.world.start("nodeagent")
    after = (await hand.running("stays")).status.containerStatuses[0]
    assert (after.containerID, after.restartCount) == (before, 0)
    await hand.gone("stays")
