"""How answers look on the terminal: the server's tables, YAML, JSON, names, and ages as people say them."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from pyctl.api import Document, Resource

GAP = 3


@dataclass(slots=True)
class TableWriter:
    """Turns the server's tables into aligned lines. Widths only grow, so that a watch stays in its columns.

    prefix: written before names, as `pod/`, where several types are shown one after the other.
    """

    wide: bool = False
    with_namespace: bool = False
    with_labels: bool = False
    headers: bool = True
    prefix: str = ""
    _columns: list[Document] = field(default_factory=list)
    _widths: list[int] = field(default_factory=list)
    _headed: bool = False

    def lines(self, table: Document) -> list[str]:
        """The lines for one table; the header comes with the first row."""
        self._columns = table.get("columnDefinitions") or self._columns
        shown = [index for index, column in enumerate(self._columns) if self.wide or not column.get("priority")]
        rows = [self._cells(row, shown) for row in table.get("rows") or []]
        if rows and self.headers and not self._headed:
            rows.insert(0, self._header(shown))
            self._headed = True
        return self.aligned(rows)

    def _header(self, shown: list[int]) -> list[str]:
        names = [str(self._columns[index]["name"]).upper() for index in shown]
        return ["NAMESPACE"] * self.with_namespace + names + ["LABELS"] * self.with_labels

    def _cells(self, row: Document, shown: list[int]) -> list[str]:
        metadata = (row.get("object") or {}).get("metadata") or {}
        cells = row.get("cells") or []
        texts = []
        for index in shown:
            text = _cell(cells[index]) if index < len(cells) else ""
            if self.prefix and self._columns[index].get("format") == "name":
                text = self.prefix + text
            texts.append(text)
        if self.with_namespace:
            texts.insert(0, metadata.get("namespace", ""))
        if self.with_labels:
            labels = metadata.get("labels") or {}
            texts.append(",".join(f"{key}={labels[key]}" for key in sorted(labels)) or "<none>")
        return texts

    def aligned(self, rows: Sequence[Sequence[str]]) -> list[str]:
        """The rows as lines whose columns stand below each other."""
        for row in rows:
            self._widths += [0] * (len(row) - len(self._widths))
            for index, text in enumerate(row):
                self._widths[index] = max(self._widths[index], len(text))
        return [
            "".join(text.ljust(self._widths[index] + GAP) for index, text in enumerate(row)).rstrip() for row in rows
        ]


def columns(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Aligned lines of a table of our own; an empty header is left out."""
    return TableWriter().aligned([header, *rows] if header else [*rows])


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    return str(value)


def as_table(document: Document) -> Document:
    """A table of names and ages, for a server that answered with the objects themselves."""
    if document.get("kind") == "Table":
        return document
    items = document.get("items") if str(document.get("kind", "")).endswith("List") else [document]
    rows = [
        {"cells": [item["metadata"]["name"], age_of(item["metadata"].get("creationTimestamp", ""))], "object": item}
        for item in items or []
    ]
    definitions = [{"name": "Name", "format": "name"}, {"name": "Age"}]
    return {"kind": "Table", "columnDefinitions": definitions, "rows": rows, "metadata": document.get("metadata")}


def as_list(items: list[Document]) -> Document:
    """Several objects as the one `List` that `-o yaml` and `-o json` print."""
    return {"apiVersion": "v1", "items": items, "kind": "List", "metadata": {"resourceVersion": ""}}


def without_bookkeeping(item: Document) -> Document:
    """The object as people want to read it: without `managedFields`."""
    metadata = {key: value for key, value in (item.get("metadata") or {}).items() if key != "managedFields"}
    return {**item, "metadata": metadata} if metadata else item


def to_json(document: Document) -> str:
    return json.dumps(document, indent=4, sort_keys=True, ensure_ascii=False) + "\n"


def to_yaml(document: Document) -> str:
    import yaml

    base: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)

    class Dumper(base):  # type: ignore[misc]
        """Long texts stand as blocks, the way people write them."""

        def ignore_aliases(self, data: Any) -> bool:
            return True

    def text(dumper: Any, value: str) -> Any:
        return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value else None)

    Dumper.add_representer(str, text)
    dumped: str = yaml.dump(document, Dumper=Dumper, default_flow_style=False, allow_unicode=True, width=10**9)
    return dumped


def reference(resource: Resource, name: str) -> str:
    """`pod/x`, `deployment.apps/x`: what `-o name` prints."""
    return f"{resource.shown}/{name}"


# -- times -------------------------------------------------------------------------------------------------------------


def age_of(timestamp: str, now: float | None = None) -> str:
    """How long ago an RFC 3339 time was, `<unknown>` if there is none."""
    if not timestamp:
        return "<unknown>"
    try:
        then = datetime.fromisoformat(timestamp.replace("Z", "+00:00")).timestamp()
    except ValueError:
        return "<invalid>"
    return duration((time.time() if now is None else now) - then)


def duration(seconds: float) -> str:
    """Two units at most, one where the second would not matter: 45s, 3m12s, 25m, 4h3m, 9h, 2d4h, 12d."""
    whole = int(seconds)
    if whole < 0:
        return "0s" if whole >= -2 else "<invalid>"
    minutes, hours, days = whole // 60, whole // 3600, whole // 86400
    if whole < 120:
        return f"{whole}s"
    if minutes < 10:
        return _two(minutes, "m", whole % 60, "s")
    if hours < 3:
        return f"{minutes}m"
    if hours < 8:
        return _two(hours, "h", minutes % 60, "m")
    if days < 2:
        return f"{hours}h"
    if days < 8:
        return _two(days, "d", hours % 24, "h")
    if days < 365 * 2:
        return f"{days}d"
    return _two(days // 365, "y", days % 365, "d") if days < 365 * 8 else f"{days // 365}y"


def _two(big: int, big_unit: str, small: int, small_unit: str) -> str:
    return f"{big}{big_unit}{small}{small_unit}" if small else f"{big}{big_unit}"


def parse_duration(text: str) -> float:
    """Seconds of `90`, `30s`, `5m`, `1h30m`. Raises ValueError with the text."""
    units = {"s": 1, "m": 60, "h": 3600, "d": 86400}
    total, number = 0.0, ""
    for character in text:
        if character.isdigit() or character == ".":
            number += character
        elif character in units and number:
            total, number = total + float(number) * units[character], ""
        else:
            raise ValueError(f"duration {text!r}: write it like 30s, 5m or 1h30m")
    if not text:
        raise ValueError("an empty duration")
    return total + (float(number) if number else 0.0)
