"""`/exec`, `/attach`, `/portForward`: asks the runtime for a URL and ties the two connections together, byte for byte.

Who speaks WebSocket is the runtime's streaming server; here nobody looks into the bytes.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from apimachinery.errors import BadRequest, InternalError
from componentbase.http import Duplex, Headers, Query, Request, Response, pump
from kubeclient.config import ClusterAccess
from kubeclient.http_transport import HttpTransport
from kubeclient.transport import TransportError
from nodeagent.podworker.worker import PodWorker
from nodeagent.server.logs import flag
from pb.cri.v1 import api_pb2 as cri

# The kubelet's own names for the streams, and kubectl's.
STDIN, STDOUT, STDERR = ("stdin", "input"), ("stdout", "output"), ("stderr", "error")
PASSED_ON = ("upgrade", "connection", "x-stream-protocol-version", "content-length")


async def execute(worker: PodWorker, container: str, request: Request) -> Response:
    """Run a command in a container."""
    query = request.query
    command = query.every("command")
    if not command:
        raise BadRequest("you must specify at least 1 command for the container")
    tty = flag(query, "tty")
    wanted = cri.ExecRequest(
        container_id=_running(worker, container),
        cmd=command,
        tty=tty,
        stdin=_any(query, STDIN),
        stdout=_any(query, STDOUT),
        # A terminal has one output; clients ask for both all the same.
        stderr=_any(query, STDERR) and not tty,
    )
    return await _tie(request, await worker.services.runtime.exec(wanted))


async def attach(worker: PodWorker, container: str, request: Request) -> Response:
    """Join a container's own streams."""
    query = request.query
    identity = _running(worker, container)
    tty = bool(worker.machine.containers[container].spec.tty)
    wanted = cri.AttachRequest(
        container_id=identity,
        tty=tty,
        stdin=_any(query, STDIN),
        stdout=_any(query, STDOUT),
        stderr=_any(query, STDERR) and not tty,
    )
    return await _tie(request, await worker.services.runtime.attach(wanted))


async def port_forward(worker: PodWorker, request: Request) -> Response:
    """Connections to ports of the pod."""
    sandbox = worker.machine.sandbox
    if sandbox.state != "ready":
        raise BadRequest(f"pod {worker.key} is not running")
    ports = [
        int(part) for each in request.query.every("ports") + request.query.every("port") for part in each.split(",")
    ]
    wanted = cri.PortForwardRequest(pod_sandbox_id=sandbox.id, port=ports)
    return await _tie(request, await worker.services.runtime.port_forward(wanted))


def _running(worker: PodWorker, container: str) -> str:
    record = worker.machine.containers.get(container)
    if record is None:
        raise BadRequest(f"container {container} is not valid for pod {worker.pod.metadata.name}")
    if not record.live or not record.id:
        raise BadRequest(f'container "{container}" in pod "{worker.pod.metadata.name}" is not running')
    return record.id


def _any(query: Query, names: tuple[str, str]) -> bool:
    return any(flag(query, name) for name in names)


async def _tie(request: Request, url: str) -> Response:
    """Repeat the request at `url` and let the two peers talk."""
    parts = urlsplit(url)
    headers = Headers(
        {
            name: value
            for name, value in request.headers.items()
            if name in PASSED_ON or name.startswith("sec-websocket")
        }
    )
    transport = HttpTransport(ClusterAccess(server=f"{parts.scheme}://{parts.netloc}"))
    onward = Request(request.method, parts.path, Query.parse(parts.query), headers, stream=True)
    try:
        answer = await transport.request(onward)
    except TransportError as error:
        raise InternalError(f"the runtime's streaming server cannot be reached: {error}") from error
    if answer.connection is None:
        body = await answer.read()
        await transport.close()
        return Response(answer.status, answer.headers, body)
    connection = answer.connection

    async def tunnel(client: Duplex) -> None:
        try:
            await pump(client, connection)
        finally:
            await transport.close()

    return Response(101, answer.headers, tunnel=tunnel)
