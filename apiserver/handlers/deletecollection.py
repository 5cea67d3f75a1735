"""DELETE of a collection: every selected object, each by the rules of a single DELETE."""

from __future__ import annotations

from apimachinery import codec
from apimachinery.errors import NotFound
from componentbase.http import Request, Response

from . import list_options
from .answers import list_answer
from .bodies import read_delete_options
from .context import Context, Target, writer_of
from .list import find, list_metadata


async def handle(context: Context, target: Target, request: Request) -> Response:
    kind = target.kind
    writer = writer_of(request)
    options = await read_delete_options(request, writer)
    chosen = list_options.parse(kind, request.query, watch=False)
    selection = chosen.selection(context.cacher.of(kind), target.namespace)
    found = await find(context, target, chosen, selection)
    deleted: list[bytes] = []
    for item in found.page.items:
        namespace, _, name = item.key.removeprefix(item.layout.prefix).rpartition("/")
        try:
            saved = await context.registry.delete(kind, namespace, name, options, writer)
        except NotFound:
            continue
        deleted.append(saved.data)
    head = b'{"kind":"%bList","apiVersion":"%b","metadata":%b,"items":[' % (
        kind.kind.encode(), kind.api_version.encode(), codec.encode(list_metadata(found, selection)),
    )  # fmt: skip
    return list_answer(request, head, deleted)
