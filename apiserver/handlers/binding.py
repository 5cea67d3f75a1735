"""POST of a Binding: pods/NAME/binding, or bindings in a namespace."""

from __future__ import annotations

from apimachinery.errors import success
from apimachinery.kinds.binding import KIND as BINDING
from apimachinery.kinds.binding import Binding
from apiserver.registry.binding import bind
from componentbase.http import Request, Response

from .answers import document
from .bodies import is_dry_run, read_object
from .context import Context, Target, writer_of


async def handle(context: Context, target: Target, request: Request) -> Response:
    return await _bind(context, target, request, target.name)


async def handle_collection(context: Context, target: Target, request: Request) -> Response:
    return await _bind(context, target, request, "")


async def _bind(context: Context, target: Target, request: Request, name: str) -> Response:
    writer = writer_of(request)
    writer.dry_run = is_dry_run(request.query.every("dryRun"))
    binding: Binding = await read_object(request, BINDING, writer)
    await bind(context.registry, target.namespace, name or binding.metadata.name, binding, writer)
    return document(success(code=201), status=201)
