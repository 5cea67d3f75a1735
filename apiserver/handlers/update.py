"""PUT of an object or of one of its writable subresources."""

from __future__ import annotations

from typing import Any

from apimachinery.errors import NotFound
from componentbase.http import Request, Response

from . import tables
from .answers import json_answer
from .bodies import is_dry_run, read_object
from .context import Context, Target, writer_of
from .media import choose_form


async def handle(context: Context, target: Target, request: Request) -> Response:
    kind, registry = target.kind, context.registry
    form = choose_form(request.headers.get("accept", ""))
    writer = writer_of(request)
    writer.dry_run = is_dry_run(request.query.every("dryRun"))
    obj = await read_object(request, kind, writer)
    given = obj.metadata

    def change(old: Any) -> Any:
        # Asked again after a lost race: what the client said about identity and revision must still be checked.
        obj.metadata = _copy(given)
        return obj

    try:
        saved = await registry.update(
            kind, target.namespace, target.name, change, writer, subresource=target.subresource
        )
    except NotFound:
        if not kind.create_on_update or target.subresource or given.uid or given.resourceVersion:
            raise
        obj.metadata = _copy(given)
        obj.metadata.name = target.name
        saved = await registry.create(kind, target.namespace, obj, writer)
    status = 201 if saved.created else 200
    if form.table:
        return tables.object_answer(context, target, request, form, saved.obj, status=status, warnings=writer.warnings)
    return json_answer(saved.data, status=status, warnings=writer.warnings)


def _copy(meta: Any) -> Any:
    return type(meta)(**{name: getattr(meta, name) for name in meta.__struct_fields__})
