"""PATCH of an object or of one of its writable subresources: JSON, merge and strategic merge patches.

The patch is applied anew to whatever is stored when the write is tried, so a patch without a resourceVersion never
fails because somebody else was faster.
"""

from __future__ import annotations

from typing import Any

from apimachinery import codec, patch
from apimachinery.errors import BadRequest
from apimachinery.kind import Kind
from apiserver.registry.registry import Writer
from componentbase.http import Request, Response

from . import tables
from .answers import json_answer
from .bodies import PATCHES, content_type, field_validation, is_dry_run, raw_body, report_faults, unsupported
from .context import Context, Target, writer_of
from .media import choose_form


async def handle(context: Context, target: Target, request: Request) -> Response:
    kind = target.kind
    form = choose_form(request.headers.get("accept", ""))
    media_type = content_type(request)
    if media_type not in PATCHES:
        raise unsupported(PATCHES)
    writer = writer_of(request)
    writer.dry_run = is_dry_run(request.query.every("dryRun"))
    mode = field_validation(request.query)
    document, duplicates = codec.parse_body(await raw_body(request))
    warned = list(writer.warnings)

    def change(old: Any) -> Any:
        # Faults are told once, however often the patch is applied.
        writer.warnings[:] = warned
        return _patched(kind, old, document, media_type, duplicates, mode, writer)

    saved = await context.registry.update(
        kind, target.namespace, target.name, change, writer, subresource=target.subresource
    )
    if form.table:
        return tables.object_answer(context, target, request, form, saved.obj, warnings=writer.warnings)
    return json_answer(saved.data, warnings=writer.warnings)


def _patched(
    kind: Kind, old: Any, document: Any, media_type: str, duplicates: list[str], mode: str, writer: Writer
) -> Any:
    after = patch.apply(media_type, codec.to_dict(old), document, kind)
    decoded = codec.convert(kind, after)
    report_faults(kind, codec.field_faults(decoded.unknown, duplicates), mode, writer)
    new = decoded.object
    if new.apiVersion != kind.api_version or new.kind != kind.kind:
        raise BadRequest(f"a patch may not change apiVersion or kind: {new.apiVersion} {new.kind}")
    return new
