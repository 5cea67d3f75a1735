"""POST to a collection."""

from __future__ import annotations

from apimachinery.errors import BadRequest
from componentbase.http import Request, Response

from . import binding, tables
from .answers import json_answer
from .bodies import is_dry_run, read_object
from .context import Context, Target, writer_of
from .media import choose_form


async def handle(context: Context, target: Target, request: Request) -> Response:
    kind = target.kind
    if kind.virtual:
        return await binding.handle_collection(context, target, request)
    form = choose_form(request.headers.get("accept", ""))
    writer = writer_of(request)
    writer.dry_run = is_dry_run(request.query.every("dryRun"))
    obj = await read_object(request, kind, writer)
    namespace = target.namespace
    if kind.namespaced and not namespace:
        raise BadRequest(f"an empty namespace may not be set during creation of {kind.resource}")
    saved = await context.registry.create(kind, namespace, obj, writer)
    if form.table:
        return tables.object_answer(context, target, request, form, saved.obj, status=201, warnings=writer.warnings)
    return json_answer(saved.data, status=201, warnings=writer.warnings)
