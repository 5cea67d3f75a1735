"""What handlers get: the server's parts, and where the request wants to go."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from apimachinery.kind import Kind
from apimachinery.scheme import Scheme
from apiserver.cacher.cacher import Cacher
from apiserver.registry.identity import Identities
from apiserver.registry.registry import Registry, Writer
from componentbase.clock import Clock
from componentbase.http import Request, Response, User

ANONYMOUS = User("system:anonymous", ("system:unauthenticated",))


class NodeConnector(Protocol):
    """How the server reaches a node's agent."""

    async def forward(self, host: str, port: int, request: Request) -> Response:
        """Send the request, whose path is the agent's, and give its answer; an upgrade comes back as `connection`.

        ConnectionError when the agent cannot be reached.
        """

    async def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Context:
    """The parts of the server that handlers use."""

    scheme: Scheme
    registry: Registry
    cacher: Cacher
    clock: Clock
    identities: Identities
    nodes: NodeConnector


@dataclass(frozen=True, slots=True)
class Target:
    """A resource path taken apart. `rest` is what follows a proxy subresource."""

    kind: Kind
    namespace: str
    name: str
    subresource: str
    rest: str
    verb: str


def writer_of(request: Request) -> Writer:
    """Who writes; whether it is a dry run is the handlers' business."""
    return Writer(request.user or ANONYMOUS)
