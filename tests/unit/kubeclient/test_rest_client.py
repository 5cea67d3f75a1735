"""What the typed client refuses before it asks anybody."""

from __future__ import annotations

import pytest

from apimachinery.errors import BadRequest
from apimachinery.kinds.pod import Pod
from componentbase.http import Request, Response
from kubeclient.rest import Client


class Nobody:
    async def request(self, request: Request) -> Response:
        raise AssertionError(f"{request.method} {request.path} was sent")

    async def close(self) -> None: ...


@pytest.mark.parametrize(
    ("name", "namespace"), [("", "default"), ("..", "default"), ("a/status", "default"), ("a", ".."), ("a", "b/pods")]
)
async def test_a_name_is_one_part_of_a_path(name: str, namespace: str) -> None:
    client = Client(Nobody())
    for work in (
        client.delete(Pod, name, namespace),
        client.get(Pod, name, namespace),
        client.patch(Pod, name, namespace, {}),
    ):
        with pytest.raises(BadRequest, match="cannot be a name"):
            await work
