"""The agent's HTTPS API, the kubelet's paths: a plain handler of a Request. Sockets and TLS are `app.py`'s.

Only the API server and administrators may ask (group system:masters); that somebody has a certificate of the
cluster is checked below, by TLS.
"""

from __future__ import annotations

import logging

import msgspec

from apimachinery.errors import BadRequest, Forbidden, InternalError, MethodNotAllowed, NotFound, StatusError
from componentbase.clock import Clock
from componentbase.http import Request, Response
from nodeagent.agent import Agent
from nodeagent.cri import CRIError
from nodeagent.podworker.worker import PodWorker
from nodeagent.server import answers, logs, streams
from nodeagent.server.images import ImageRoutes
from nodeagent.server.stats import summary

log = logging.getLogger(__name__)

MASTERS = "system:masters"
IMAGES = "/pyctl/v1/images"


def streams_body(method: str, path: str) -> bool:
    """Which requests have a body that is too large to be held."""
    return method == "POST" and path == f"{IMAGES}/import"


class Routes:
    """Answers for one agent."""

    def __init__(self, agent: Agent, images: ImageRoutes, clock: Clock) -> None:
        self._agent = agent
        self._images = images
        self._clock = clock

    async def handle(self, request: Request) -> Response:
        """Answer; every failure is a Status."""
        try:
            return await self._route(request)
        except StatusError as error:
            return answers.failure(error)
        except CRIError as error:
            return answers.failure(answers.from_runtime(error))
        except Exception:
            log.exception("%s %s failed", request.method, request.path)
            return answers.failure(InternalError("an internal error was logged by the node agent"))

    async def _route(self, request: Request) -> Response:
        if request.user is None or MASTERS not in request.user.groups:
            name = request.user.name if request.user is not None else "anonymous"
            raise Forbidden(f'user "{name}" may not use the API of node "{self._agent.identity.name}"')
        path = request.path.rstrip("/")
        if path == IMAGES or path.startswith(f"{IMAGES}/"):
            return await self._images.handle(path.removeprefix(IMAGES), request)
        first, *rest = path.removeprefix("/").split("/")
        if first in ("containerLogs", "exec", "attach", "portForward"):
            return await self._of_pod(first, rest, request)
        if request.method not in ("GET", "HEAD"):
            raise MethodNotAllowed(f"{request.method} is not possible on {request.path}")
        if path == "/healthz":
            return answers.text("ok")
        if path == "/pods":
            return answers.json({"apiVersion": "v1", "kind": "PodList", "metadata": {}, "items": self._pods()})
        if path == "/stats/summary":
            return answers.json(await summary(self._agent, self._clock.now()))
        raise NotFound(f"the server could not find the requested resource: {request.path}")

    async def _of_pod(self, verb: str, rest: list[str], request: Request) -> Response:
        if verb == "portForward":
            if len(rest) not in (2, 3):
                raise BadRequest(f"{request.path}: must be /portForward/NAMESPACE/POD")
            return await streams.port_forward(self._worker(rest[0], rest[1]), request)
        if len(rest) != 3:
            raise BadRequest(f"{request.path}: must be /{verb}/NAMESPACE/POD/CONTAINER")
        worker, container = self._worker(rest[0], rest[1]), rest[2]
        if verb == "containerLogs":
            return logs.serve(worker, container, request, self._clock)
        if not request.wants_upgrade:
            raise BadRequest(f"{verb} needs a connection that is upgraded")
        return await (streams.execute if verb == "exec" else streams.attach)(worker, container, request)

    def _worker(self, namespace: str, name: str) -> PodWorker:
        worker = self._agent.worker_named(namespace, name)
        if worker is None:
            raise NotFound(f'pod "{name}" in namespace "{namespace}" is not on node "{self._agent.identity.name}"')
        return worker

    def _pods(self) -> list[msgspec.Raw]:
        return [msgspec.Raw(msgspec.json.encode(worker.current())) for worker in self._agent.workers.values()]
