"""Request bodies to objects: media types, unknown and duplicate fields, and the options that every write takes."""

from __future__ import annotations

from typing import Any

from apimachinery import codec
from apimachinery.errors import BadRequest, Cause, Invalid, UnsupportedMediaType
from apimachinery.kind import Kind
from apimachinery.meta import DeleteOptions
from apimachinery.patch import JSON_PATCH, MERGE_PATCH, STRATEGIC_PATCH
from apiserver.registry.registry import Writer
from componentbase.http import Query, Request

JSON = "application/json"
READABLE = ("application/json", "application/yaml")
PROTOBUF = "application/vnd.kubernetes.protobuf"
PATCHES = (JSON_PATCH, MERGE_PATCH, STRATEGIC_PATCH)
FIELD_VALIDATION = ("Ignore", "Strict", "Warn")
POLICIES = ("Orphan", "Background", "Foreground")


def content_type(request: Request) -> str:
    """The media type of the body without its parameters; JSON when none is given."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower() or JSON


async def raw_body(request: Request) -> bytes:
    """The whole body."""
    if isinstance(request.body, bytes):
        return request.body
    return b"".join([chunk async for chunk in request.body])


def readable_type(request: Request) -> str:
    """The media type of a body that is to be decoded. UnsupportedMediaType."""
    found = content_type(request)
    if found not in READABLE:
        # `kubectl create namespace x` of 1.32 and newer; its users cannot choose another format, but another command.
        hint = "; of kubectl, add `--dry-run=client -o yaml | kubectl apply -f -`" if found == PROTOBUF else ""
        raise unsupported(READABLE, hint)
    return found


def unsupported(accepted: tuple[str, ...], hint: str = "") -> UnsupportedMediaType:
    return UnsupportedMediaType(
        f"the body of the request was in an unknown format - accepted media types include: {', '.join(accepted)}{hint}"
    )


async def read_object(request: Request, kind: Kind, writer: Writer) -> Any:
    """The object in the body, without defaults yet. BadRequest names what cannot be read."""
    media_type = readable_type(request)
    data = await raw_body(request)
    if not data.strip():
        raise BadRequest(f"the body is empty: expected a {kind.kind}")
    mode = field_validation(request.query)
    decoded = codec.decode(kind, data, content_type=media_type, duplicates=mode != "Ignore")
    report_faults(kind, decoded.faults, mode, writer)
    obj = decoded.object
    if (obj.apiVersion, obj.kind) != (kind.api_version, kind.kind):
        if obj.apiVersion != kind.api_version:
            raise BadRequest(
                f"the API version in the data ({obj.apiVersion}) does not match the expected API version "
                f"({kind.api_version})"
            )
        raise BadRequest(f"the kind in the data ({obj.kind}) does not match the expected kind ({kind.kind})")
    return obj


def report_faults(kind: Kind, faults: list[str], mode: str, writer: Writer) -> None:
    """Unknown and duplicate fields: refused by Strict, told by Warn."""
    if not faults or mode == "Ignore":
        return
    if mode == "Strict":
        raise codec.strict_error(kind, faults)
    writer.warnings += faults


def field_validation(query: Query) -> str:
    mode = query.first("fieldValidation") or "Warn"
    if mode not in FIELD_VALIDATION:
        raise _option("CreateOptions", "fieldValidation", mode, FIELD_VALIDATION)
    return mode


def is_dry_run(values: list[str]) -> bool:
    """dryRun may only be All."""
    for value in values:
        if value not in ("All", ""):
            raise _option("CreateOptions", "dryRun", value, ("All",))
    return "All" in values


async def read_delete_options(request: Request, writer: Writer) -> DeleteOptions:
    """DeleteOptions from the body, or from the query when there is no body."""
    data = await raw_body(request)
    if data.strip():
        options = codec.decode(DeleteOptions, data, content_type=readable_type(request), duplicates=False).object
    else:
        options = _options_of_query(request.query)
    writer.dry_run = is_dry_run([*options.dryRun, *request.query.every("dryRun")])
    if options.propagationPolicy and options.orphanDependents is not None:
        message = "Invalid value: orphanDependents and deletionPropagation cannot be both set"
        cause = Cause(reason="FieldValueInvalid", message=message, field="propagationPolicy")
        raise Invalid("DeleteOptions", "", [cause], group="meta.k8s.io")
    if options.propagationPolicy and options.propagationPolicy not in POLICIES:
        raise _option("DeleteOptions", "propagationPolicy", options.propagationPolicy, POLICIES)
    if options.propagationPolicy in ("Foreground", "Orphan") or options.orphanDependents:
        policy = options.propagationPolicy or "Orphan"
        writer.warnings.append(f"propagationPolicy {policy}: nothing collects dependents yet, they stay as they are")
    return options


def _options_of_query(query: Query) -> DeleteOptions:
    options = DeleteOptions(propagationPolicy=query.first("propagationPolicy"))
    if seconds := query.first("gracePeriodSeconds"):
        options.gracePeriodSeconds = whole_number("gracePeriodSeconds", seconds)
    if orphan := query.first("orphanDependents"):
        options.orphanDependents = orphan in ("true", "1")
    return options


def whole_number(name: str, text: str) -> int:
    """An integer of the query."""
    try:
        return int(text)
    except ValueError:
        raise BadRequest(f'unable to parse query parameter {name}="{text}": not an integer') from None


def _option(kind: str, field: str, value: str, supported: tuple[str, ...]) -> Invalid:
    known = ", ".join(f'"{each}"' for each in sorted(supported))
    message = f'Unsupported value: "{value}": supported values: {known}'
    return Invalid(
        kind, "", [Cause(reason="FieldValueNotSupported", message=message, field=field)], group="meta.k8s.io"
    )
