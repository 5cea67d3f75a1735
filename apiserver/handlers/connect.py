"""What a node's agent answers: pods/log, pods/exec, nodes/proxy. This server checks, finds the node and passes on.

Tunnels are passed on as bytes; nobody here looks into them.
"""

from __future__ import annotations

from apimachinery.errors import BadRequest, InternalError, NotFound, ServiceUnavailable
from apimachinery.kinds.node import KIND as NODE
from apimachinery.kinds.node import Node
from apimachinery.kinds.pod import Pod
from componentbase.http import Duplex, Headers, Query, Request, Response, pump

from .bodies import whole_number
from .context import Context, Target

DEFAULT_CONTAINER = "kubectl.kubernetes.io/default-container"
# What a proxy must not pass on (RFC 9110, section 7.6.1), but for the upgrade that it does pass on. Hop by hop.
HOP_HEADERS = (
    "connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "te", "trailer", "transfer-encoding",
    "upgrade", "host", "content-length", "authorization",
)  # fmt: skip
LOG_NUMBERS = ("tailLines", "limitBytes", "sinceSeconds")


async def log(context: Context, target: Target, request: Request) -> Response:
    """GET pods/P/log."""
    if request.method != "GET":
        raise BadRequest("pods/log can only be read")
    for name in LOG_NUMBERS:
        if (given := request.query.first(name)) and whole_number(name, given) < 0:
            raise BadRequest(f"{name} must be greater than or equal to 0: {given}")
    pod = await _pod(context, target)
    container = choose_container(pod, request.query.first("container"))
    path = f"/containerLogs/{target.namespace}/{target.name}/{container}"
    return await _to_pod(context, pod, path, request, Query(each for each in request.query if each[0] != "container"))


async def execute(context: Context, target: Target, request: Request) -> Response:
    """GET or POST pods/P/exec, upgraded to a WebSocket."""
    if not request.query.first("command"):
        raise BadRequest("you must specify at least 1 command for the container")
    if not any(request.query.first(stream) in ("true", "1") for stream in ("stdin", "stdout", "stderr")):
        raise BadRequest("at least one of stdin, stdout, stderr must be true")
    pod = await _pod(context, target)
    container = choose_container(pod, request.query.first("container"))
    if pod.status.phase in ("Succeeded", "Failed"):
        raise BadRequest(f"cannot exec into a container in a completed pod; current phase is {pod.status.phase}")
    _check_assigned(pod)
    # Only now: kubectl comes back with SPDY after any refusal, and shows the second one.
    if request.headers.get("upgrade", "").lower() != "websocket":
        raise BadRequest("exec needs a connection that is upgraded to websocket (SPDY is not spoken here)")
    path = f"/exec/{target.namespace}/{target.name}/{container}"
    return await _to_pod(context, pod, path, request, Query(each for each in request.query if each[0] != "container"))


async def proxy(context: Context, target: Target, request: Request) -> Response:
    """Any method on nodes/N/proxy/<path>."""
    await context.cacher.fresh()
    return await _to_node(context, target.name, "/" + target.rest, request, request.query)


def choose_container(pod: Pod, asked: str) -> str:
    """The container that a log or exec is about. BadRequest says what there is to choose from."""
    spec = pod.spec
    init = [container.name for container in spec.initContainers]
    regular = [container.name for container in spec.containers]
    ephemeral = [container.name for container in spec.ephemeralContainers]
    if asked:
        if asked not in init + regular + ephemeral:
            raise BadRequest(f"container {asked} is not valid for pod {pod.metadata.name}")
        return asked
    if len(regular) == 1:
        return regular[0]
    default = pod.metadata.annotations.get(DEFAULT_CONTAINER, "")
    if default in regular:
        return default
    text = f"a container name must be specified for pod {pod.metadata.name}, choose one of: [{' '.join(regular)}]"
    if init:
        text += f" or one of the init containers: [{' '.join(init)}]"
    raise BadRequest(text)


async def _pod(context: Context, target: Target) -> Pod:
    found = await context.registry.read(target.kind, target.namespace, target.name)
    pod: Pod = found.decode()
    return pod


def _check_assigned(pod: Pod) -> None:
    if not pod.spec.nodeName:
        raise BadRequest(f"pod {pod.metadata.name} does not have a host assigned")


async def _to_pod(context: Context, pod: Pod, path: str, request: Request, query: Query) -> Response:
    _check_assigned(pod)
    return await _to_node(context, pod.spec.nodeName, path, request, query)


async def _to_node(context: Context, name: str, path: str, request: Request, query: Query) -> Response:
    host, port = _address(context, name)
    headers = Headers({key: value for key, value in request.headers.items() if key not in HOP_HEADERS})
    if request.wants_upgrade:
        headers["connection"] = "Upgrade"
        headers["upgrade"] = request.headers["upgrade"]
    onward = Request(request.method, path, query, headers, request.body, stream=True)
    try:
        answer = await context.nodes.forward(host, port, onward)
    except OSError as error:
        raise InternalError(f"error dialing backend: node {name} at {host}:{port}: {error}") from error
    answer.headers = Headers({key: value for key, value in answer.headers.items() if key not in HOP_HEADERS})
    if answer.connection is None:
        return answer
    connection = answer.connection
    answer.headers["connection"] = "Upgrade"
    answer.headers["upgrade"] = headers["upgrade"]

    async def tunnel(client: Duplex) -> None:
        await pump(client, connection)

    # Named too: whoever lets go of the answer without a client for the tunnel closes the way to the node.
    return Response(answer.status, answer.headers, tunnel=tunnel, connection=connection)


def _address(context: Context, name: str) -> tuple[str, int]:
    found = context.cacher.of(NODE).get("", name)
    if found is None:
        raise NotFound.of(NODE.plural, name)
    node: Node = found.decode()
    addresses = {each.type: each.address for each in node.status.addresses}
    host = addresses.get("InternalIP") or addresses.get("Hostname") or ""
    port = node.status.daemonEndpoints.kubeletEndpoint.Port
    if not host or not port:
        raise ServiceUnavailable(f"node {name} has not said where its agent listens: address {host!r}, port {port}")
    return host, port
