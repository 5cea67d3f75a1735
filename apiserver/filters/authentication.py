"""Who asks: the user that the connection's client certificate names. Without one only health and version answer."""

from __future__ import annotations

from apimachinery.errors import Unauthorized
from apiserver.handlers.context import ANONYMOUS
from componentbase.http import Request

PUBLIC_PATHS = ("/healthz", "/livez", "/readyz", "/version")
AUTHENTICATED = "system:authenticated"


def identify(request: Request) -> None:
    """Set `request.user`. Unauthorized when there is none and the path is not public."""
    user = request.user
    if user is None:
        if request.path.rstrip("/") not in PUBLIC_PATHS:
            raise Unauthorized("Unauthorized")
        request.user = ANONYMOUS
    elif AUTHENTICATED not in user.groups:
        request.user = type(user)(user.name, (*user.groups, AUTHENTICATED))
