"""`pyctl apply`: create what does not exist, patch what does, as kubectl's client-side apply; the two can be mixed."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import click

from pyctl import documents
from pyctl.api import MERGE_PATCH, STRATEGIC_PATCH, Api, ApiError, Document, Resource, segment
from pyctl.failure import Failure
from pyctl.options import verb
from pyctl.patches import LAST_APPLIED, three_way
from pyctl.printing import reference
from pyctl.settings import Settings

if TYPE_CHECKING:
    from apimachinery.shapes import Shape

ATTEMPTS = 5


@verb(name="apply", short_help="create or change what files describe")
@click.option("-f", "--filename", "paths", multiple=True, required=True, metavar="FILE|DIR|-", help="What to apply.")
@click.option("-R", "--recursive", is_flag=True, help="Also the directories below.")
@click.option("--dry-run", is_flag=True, help="Let the server check everything and keep nothing.")
def command(settings: Settings, paths: tuple[str, ...], recursive: bool, dry_run: bool) -> int:
    """Create what does not exist, and change what differs.

    \b
    pyctl apply -f pod.yaml
    pyctl apply -R -f manifests/
    """
    manifests = documents.read(paths, recursive=recursive)
    api = settings.api()
    code = 0
    for manifest in manifests:
        try:
            print(_apply(api, manifest, settings.namespace, dry_run), flush=True)
        except ApiError as error:
            print(f"error: {manifest.place}: {error.message}", file=sys.stderr)
            code = 1
        except Failure as failure:
            if "does not answer" in failure.message:
                raise
            print(f"error: {manifest.place}: {failure.message}", file=sys.stderr)
            code = 1
    return code


def _apply(api: Api, manifest: documents.Manifest, namespace: str, dry_run: bool) -> str:
    """Apply one object; what to say of it."""
    resource = api.resource_of(manifest.api_version, manifest.kind)
    if not manifest.name:
        raise Failure("metadata.name is not set: an object that is named by the server cannot be applied")
    if namespace and manifest.namespace not in ("", namespace):
        raise Failure(f"it is of namespace {manifest.namespace}, and -n says {namespace}")
    place = manifest.namespace or api.namespace
    path = resource.path(place, segment(manifest.name))
    wanted = _with_annotation(manifest.document, resource, place)
    query = {"fieldManager": "kubectl-client-side-apply", "fieldValidation": "Strict"}
    if dry_run:
        query["dryRun"] = "All"
    for attempt in range(1, ATTEMPTS + 1):
        try:
            live = api.find(path)
            if live is None:
                api.write("POST", resource.path(place), wanted, query)
                outcome = "created"
            else:
                outcome = _patch(api, resource, path, wanted, live, query)
            break
        except ApiError as error:
            # Somebody was faster: look again at what is there now.
            if error.reason not in ("Conflict", "AlreadyExists", "NotFound") or attempt == ATTEMPTS:
                raise
            if error.reason == "NotFound" and live is None:
                raise
    return f"{reference(resource, manifest.name)} {outcome}" + (" (dry run)" if dry_run else "")


def _patch(api: Api, resource: Resource, path: str, wanted: Document, live: Document, query: dict[str, str]) -> str:
    annotation = (live.get("metadata", {}).get("annotations") or {}).get(LAST_APPLIED, "")
    try:
        last = json.loads(annotation) if annotation else {}
    except ValueError:
        last = {}
    shape = _shape(resource)
    patch = three_way(last, wanted, live, shape)
    if not patch:
        return "unchanged"
    kind = STRATEGIC_PATCH if shape is not None else MERGE_PATCH
    after = api.write("PATCH", path, patch, query, content_type=kind)
    same = after["metadata"].get("resourceVersion") == live["metadata"].get("resourceVersion")
    return "unchanged" if same and "dryRun" not in query else "configured"


def _with_annotation(document: Document, resource: Resource, namespace: str) -> Document:
    """The object as it is sent: in its namespace, and with itself in the annotation that the next apply compares
    with."""
    metadata = {**document["metadata"]}
    if resource.namespaced:
        metadata["namespace"] = namespace
    annotations = {key: value for key, value in (metadata.get("annotations") or {}).items() if key != LAST_APPLIED}
    bare = {**document, "metadata": {**metadata, "annotations": annotations}}
    annotations = {**annotations, LAST_APPLIED: _as_kubectl_writes(bare)}
    return {**document, "metadata": {**metadata, "annotations": annotations}}


def _as_kubectl_writes(document: Document) -> str:
    # To the letter, so that an object applied by one of the two is "unchanged" for the other.
    text = json.dumps(document, separators=(",", ":"), sort_keys=True, ensure_ascii=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text + "\n"


def _shape(resource: Resource) -> Shape | None:
    """How the kind's lists merge; None for kinds that we do not know. Loaded only when there is something to
    compare."""
    from apimachinery.scheme import SCHEME
    from apimachinery.shapes import shape_of

    kind: Any = SCHEME.by_kind(resource.api_version, resource.kind)
    return None if kind is None else shape_of(kind.type)
