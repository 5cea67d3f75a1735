"""Stands in front of the routes while there are none yet: the port must be known before the agent can be made."""

from __future__ import annotations

from apimachinery.errors import ServiceUnavailable
from componentbase.http import Request, Response
from nodeagent.server import answers
from nodeagent.server.routes import Routes


class Front:
    """Hands requests to `routes` as soon as they are set."""

    routes: Routes | None = None

    async def handle(self, request: Request) -> Response:
        if self.routes is None:
            return answers.failure(ServiceUnavailable("the node agent is starting", retry_after=1))
        return await self.routes.handle(request)
