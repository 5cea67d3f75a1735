"""DELETE of one object."""

from __future__ import annotations

from apimachinery.errors import success
from apiserver.registry.registry import Saved
from componentbase.http import Request, Response

from .answers import document, json_answer
from .bodies import read_delete_options
from .context import Context, Target, writer_of


async def handle(context: Context, target: Target, request: Request) -> Response:
    kind = target.kind
    writer = writer_of(request)
    options = await read_delete_options(request, writer)
    saved = await context.registry.delete(kind, target.namespace, target.name, options, writer)
    if saved.removed and not context.registry.strategy(kind).returns_deleted:
        return _status(target, saved, writer.warnings)
    return json_answer(saved.data, warnings=writer.warnings)


def _status(target: Target, saved: Saved, warnings: list[str]) -> Response:
    kind = target.kind
    done = success(name=target.name, kind=kind.plural, group=kind.group, uid=saved.obj.metadata.uid)
    response = document(done)
    return json_answer(response.body if isinstance(response.body, bytes) else b"", warnings=warnings)
