"""Field selectors: `status.phase=Running,spec.nodeName!=a`. Only equality, joined by commas; commas, equals signs and
backslashes in a value are escaped by a backslash. Which keys a kind knows is in its `Kind.field_values`."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import lru_cache

_SPLIT = re.compile(r"((?:[^\\,]|\\.)*)(?:,|$)", re.DOTALL)
_TERM = re.compile(r"(.*?)(!=|==|=)(.*)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Term:
    """One comparison."""

    key: str
    value: str
    equal: bool = True

    def __str__(self) -> str:
        return f"{self.key}{'=' if self.equal else '!='}{_escape(self.value)}"


@dataclass(frozen=True, slots=True)
class FieldSelector:
    """All terms must hold; without any it matches everything."""

    terms: tuple[Term, ...] = ()

    def matches(self, values: Mapping[str, str]) -> bool:
        """Whether an object with these field values (`Kind.field_values(obj)`) is selected. An absent field is ""."""
        return all((values.get(term.key, "") == term.value) is term.equal for term in self.terms)

    @property
    def empty(self) -> bool:
        """Selects everything."""
        return not self.terms

    def exact(self, key: str) -> str | None:
        """The only value that `key` may have, if the selector says so: lets a list by name become a get."""
        return next((term.value for term in self.terms if term.key == key and term.equal), None)

    def unknown(self, known: Collection[str]) -> list[str]:
        """The keys that are not among `known`: answered 400 "field label not supported"."""
        return [term.key for term in self.terms if term.key not in known]

    def __str__(self) -> str:
        return ",".join(str(term) for term in self.terms)


EVERYTHING = FieldSelector()


@lru_cache(maxsize=512)
def parse(text: str) -> FieldSelector:
    """Selector of a query string. ValueError names the part that is no comparison. A trailing comma is tolerated."""
    terms: list[Term] = []
    position = 0
    while position < len(text):
        match = _SPLIT.match(text, position)
        if match is None:
            raise ValueError(f'invalid field selector: "{text}"')
        position = match.end()
        part = match[1].strip()
        if not part:
            continue
        found = _TERM.fullmatch(part)
        if found is None:
            raise ValueError(f"invalid selector: '{text}'; can't understand '{part}'")
        terms.append(Term(found[1].strip(), _unescape(found[3]), found[2] != "!="))
    return FieldSelector(tuple(terms))


def by(**values: str) -> FieldSelector:
    """`by(spec__nodeName="a")` is `spec.nodeName=a`: two underscores stand for a dot."""
    return FieldSelector(tuple(Term(key.replace("__", "."), value) for key, value in values.items()))


def selects(selector: FieldSelector, values_of: Callable[[object], Mapping[str, str]], obj: object) -> bool:
    """As `matches`, but does not compute the values for an empty selector."""
    return not selector.terms or selector.matches(values_of(obj))


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace(",", "\\,").replace("=", "\\=")


def _unescape(value: str) -> str:
    if "\\" not in value:
        if "=" in value:
            raise ValueError(f'invalid field selector: unescaped "=" in "{value}"')
        return value
    bad = re.search(r"\\(?![\\,=])", re.sub(r"\\[\\,=]", "", value))
    if bad:
        raise ValueError(f'invalid field selector: bad escape in "{value}"')
    return re.sub(r"\\([\\,=])", r"\1", value)
