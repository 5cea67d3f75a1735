"""GET of one object, or of its status."""

from __future__ import annotations

from componentbase.http import Request, Response

from . import tables
from .answers import json_answer
from .context import Context, Target
from .list_options import parse_revision
from .media import choose_form


async def handle(context: Context, target: Target, request: Request) -> Response:
    form = choose_form(request.headers.get("accept", ""))
    revision = parse_revision(request.query.first("resourceVersion"))
    found = await context.registry.read(target.kind, target.namespace, target.name, not_older_than=revision)
    if form.table:
        return tables.object_answer(context, target, request, form, found.decode())
    return json_answer(found.data)
