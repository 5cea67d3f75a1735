"""Objects from files: YAML or JSON, one or many to a file, with the place of every mistake.

A key that stands twice is an error. What a field means is for the server to say.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from apimachinery import yamls
from pyctl.api import Document
from pyctl.failure import Failure

SUFFIXES = (".yaml", ".yml", ".json")


@dataclass(frozen=True, slots=True)
class Manifest:
    """One object and where it stands."""

    file: str
    line: int
    document: Document

    @property
    def kind(self) -> str:
        return str(self.document["kind"])

    @property
    def api_version(self) -> str:
        return str(self.document["apiVersion"])

    @property
    def name(self) -> str:
        return str(self.document["metadata"].get("name") or "")

    @property
    def namespace(self) -> str:
        return str(self.document["metadata"].get("namespace") or "")

    @property
    def place(self) -> str:
        return f"{self.file}: line {self.line}"


def read(paths: Sequence[str], *, recursive: bool = False) -> list[Manifest]:
    """All objects of files, directories and `-` (standard input), in their order. Raises Failure naming file, line,
    column."""
    found: list[Manifest] = []
    for path in paths:
        if path == "-":
            found += parse(sys.stdin.buffer.read(), "standard input")
            continue
        for file in _files(Path(path), recursive):
            try:
                found += parse(file.read_bytes(), str(file))
            except OSError as error:
                raise Failure(f"{file}: {(error.strerror or str(error)).lower()}") from error
    if not found:
        raise Failure(f"no objects in {', '.join(paths)}")
    return found


def _files(path: Path, recursive: bool) -> list[Path]:
    if not path.is_dir():
        return [path]
    candidates = path.rglob("*") if recursive else path.iterdir()
    files = sorted(each for each in candidates if each.suffix in SUFFIXES and each.is_file())
    if not files:
        more = "" if recursive else "; -R looks into the directories below"
        raise Failure(f"{path}: no {', '.join(SUFFIXES)} file in it{more}")
    return files


def parse(data: bytes, file: str) -> list[Manifest]:
    """The objects of one file's text."""
    found: list[Manifest] = []
    try:
        for document in yamls.parse_all(data, file=file):
            if document.duplicates:
                raise Failure(f"{file}: line {document.line}: the key {document.duplicates[0]} stands there twice")
            found += _objects(document.value, file, document.line)
    except yamls.YamlError as error:
        place = f"line {error.line}, column {error.column}: " if error.line else ""
        raise Failure(f"{file}: {place}not valid YAML: {error.problem}") from error
    return found


def _objects(document: Any, file: str, line: int) -> Iterator[Manifest]:
    place = f"{file}: line {line}"
    if not isinstance(document, dict):
        raise Failure(f"{place}: an object is expected here, not {_said(document)}")
    for field in ("apiVersion", "kind"):
        if not isinstance(document.get(field), str) or not document[field]:
            raise Failure(f"{place}: {field} is not set, so this is no Kubernetes object")
    if document["kind"] == "List" or (document["kind"].endswith("List") and isinstance(document.get("items"), list)):
        for item in document.get("items") or []:
            yield from _objects(item, file, line)
        return
    metadata = document.get("metadata")
    if not isinstance(metadata, dict) or not (metadata.get("name") or metadata.get("generateName")):
        raise Failure(f"{place}: metadata.name of this {document['kind']} is not set")
    yield Manifest(file, line, document)


def _said(value: Any) -> str:
    return (
        f"the text {value[:40]!r}" if isinstance(value, str) else "a list" if isinstance(value, list) else repr(value)
    )
