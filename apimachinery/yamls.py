"""YAML as Kubernetes reads it: turned into JSON-like data, with duplicate keys reported and errors that know their
place.

Plain scalars resolve as in the YAML library that Kubernetes uses: no times, no base-60 numbers, `yes` and `on` are
booleans, `0o17` and `017` are octal. Keys become strings. Aliases and `<<` are expanded, up to a bound."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import yaml
from yaml.composer import Composer

_MOST_NODES = 1_000_000
# More digits than any number of Kubernetes has; Python refuses to read some thousands.
_MOST_DIGITS = 400

try:
    _Base: Any = yaml.CSafeLoader
except AttributeError:  # PyYAML without libyaml
    _Base = yaml.SafeLoader


class _Loader(Composer, _Base):  # type: ignore[misc]
    """Nodes are composed in Python even from libyaml's events: its own composer recurses on the C stack, and a text of
    100 kB of brackets ends the process."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}

    def __init__(self, stream: str | bytes) -> None:
        _Base.__init__(self, stream)
        Composer.__init__(self)


_TRUE = ("y", "Y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON")
_FALSE = ("n", "N", "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF")
_INT = r"[-+]?(?:0b[01_]+|0o?[0-7_]+|0x[0-9a-fA-F_]+|0|[1-9][0-9_]*)"
_FLOAT = r"[-+]?(?:\.[0-9]+|[0-9][0-9_]*(?:\.[0-9_]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)"
for _tag, _pattern, _first in (
    ("bool", "|".join(_TRUE + _FALSE), "yYnNtTfFoO"),
    ("null", "~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("int", _INT, "-+0123456789"),
    ("float", _FLOAT, "-+0123456789."),
    ("merge", "<<", "<"),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"(?:{_pattern})\\Z", re.ASCII), list(_first))


class YamlError(ValueError):
    """Text that is no YAML. line and column count from 1; file is the name that was given, or ""."""

    def __init__(self, problem: str, *, file: str = "", line: int = 0, column: int = 0) -> None:
        self.problem, self.file, self.line, self.column = problem, file, line, column
        place = f"line {line}, column {column}" if line else ""
        super().__init__(": ".join(part for part in (file, place, problem) if part))


class Document(NamedTuple):
    """One document: its data, the paths of keys given twice, and the line where it begins."""

    value: Any
    duplicates: list[str]
    line: int


def parse(text: str | bytes, *, file: str = "") -> Document:
    """The only document of the text; an empty text is None. YamlError with file, line and column."""
    found = list(parse_all(text, file=file))
    if len(found) > 1:
        raise YamlError("expected one document, found more", file=file, line=found[1].line, column=1)
    return found[0] if found else Document(None, [], 1)


def parse_all(text: str | bytes, *, file: str = "") -> Iterator[Document]:
    """The documents of the text; those without content are left out."""
    try:
        for node in yaml.compose_all(text, Loader=_Loader):
            reader = _Reader(file)
            value = reader.value(node, "")
            if value is not None:
                yield Document(value, reader.duplicates, node.start_mark.line + 1)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        problem = str(error.problem or error.context or "malformed")
        if mark is None:
            raise YamlError(problem, file=file) from None
        raise YamlError(problem, file=file, line=mark.line + 1, column=mark.column + 1) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise YamlError(str(error).replace("\n", " "), file=file) from None
    except RecursionError:
        raise YamlError("nested too deeply", file=file) from None


class _Reader:
    """Turns nodes into data."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.duplicates: list[str] = []
        self._seen = 0
        self._open: set[int] = set()

    def value(self, node: yaml.Node, path: str) -> Any:
        self._seen += 1
        if self._seen > _MOST_NODES:
            raise self._error(node, "aliases expand to too much")
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node)
        if id(node) in self._open:
            raise self._error(node, "an anchor contains itself")
        self._open.add(id(node))
        try:
            if isinstance(node, yaml.SequenceNode):
                return [self.value(item, f"{path}[{index}]") for index, item in enumerate(node.value)]
            return self._mapping(node, path)
        finally:
            self._open.discard(id(node))

    def _mapping(self, node: yaml.Node, path: str) -> dict[str, Any]:
        found: dict[str, Any] = {}
        merged: dict[str, Any] = {}
        for key_node, item in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                sources = item.value if isinstance(item, yaml.SequenceNode) else [item]
                for source in sources:
                    given = self.value(source, path)
                    if not isinstance(given, dict):
                        raise self._error(source, "map merge requires map or sequence of maps as the value")
                    merged = {**given, **merged}
                continue
            if not isinstance(key_node, yaml.ScalarNode):
                raise self._error(key_node, "a key must be a scalar")
            key = self._key(key_node)
            place = f"{path}.{key}" if path else key
            if key in found and place not in self.duplicates:
                self.duplicates.append(place)
            found[key] = self.value(item, place)
        return {**merged, **found} if merged else found

    def _key(self, node: yaml.ScalarNode) -> str:
        key = self._scalar(node)
        if isinstance(key, bool):
            return "true" if key else "false"
        return str(node.value) if key is None or isinstance(key, float) else str(key)

    def _scalar(self, node: yaml.ScalarNode) -> Any:
        text: str = node.value
        match node.tag.rpartition(":")[2]:
            case "null":
                return None
            case "bool":
                return text in _TRUE
            case "int":
                if len(text) > _MOST_DIGITS:
                    raise self._error(node, f"a number of {len(text)} digits")
                return _integer(text)
            case "float":
                number = float(text.replace("_", "").replace(".inf", "inf").replace(".nan", "nan"))
                if number != number or number in (float("inf"), float("-inf")):
                    raise self._error(node, f"{text} has no JSON form")
                # 1.0 is written as 1 in JSON, and so an integer field may have it.
                return int(number) if number.is_integer() and abs(number) < 2**53 else number
        return text

    def _error(self, node: yaml.Node, problem: str) -> YamlError:
        return YamlError(problem, file=self.file, line=node.start_mark.line + 1, column=node.start_mark.column + 1)


def _integer(text: str) -> int:
    digits = text.replace("_", "")
    sign, digits = (-1, digits[1:]) if digits[0] == "-" else (1, digits.lstrip("+"))
    if digits[:2] in ("0b", "0o", "0x"):
        return sign * int(digits, 0)
    return sign * (int(digits, 8) if digits[0] == "0" and len(digits) > 1 else int(digits))
