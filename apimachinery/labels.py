"""Label selectors: the query string's equality and set forms, and the LabelSelector struct. Also which keys and
values a label may have.

A selector is a conjunction of requirements. `!=` and `notin` match objects that lack the key."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from apimachinery.meta import LabelSelector
from apimachinery.names import label_key_faults, label_value_faults

_TOKEN = re.compile(r"\s*(?:(!=|==|=|!|,|\(|\)|>|<)|([^\s=!,()<>]+))")
_WIRE_OPERATOR = {"In": "in", "NotIn": "notin", "Exists": "exists", "DoesNotExist": "!"}


@dataclass(frozen=True, slots=True)
class Requirement:
    """One term. `operator` is in, notin, exists, !, gt or lt; = and != are in and notin with one value."""

    key: str
    operator: str
    values: frozenset[str] = frozenset()

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether an object with these labels satisfies the term."""
        held = labels.get(self.key)
        match self.operator:
            case "in":
                return held is not None and held in self.values
            case "notin":
                return held is None or held not in self.values
            case "exists":
                return held is not None
            case "!":
                return held is None
        if held is None or not re.fullmatch(r"[+-]?\d+", held):
            return False
        bound = int(next(iter(self.values)))
        return int(held) > bound if self.operator == "gt" else int(held) < bound

    def __str__(self) -> str:
        values = ",".join(sorted(self.values))
        match self.operator:
            case "exists":
                return self.key
            case "!":
                return "!" + self.key
            case "gt" | "lt":
                return f"{self.key}{'>' if self.operator == 'gt' else '<'}{values}"
        if len(self.values) == 1:
            return f"{self.key}{'=' if self.operator == 'in' else '!='}{values}"
        return f"{self.key} {self.operator} ({values})"


@dataclass(frozen=True, slots=True)
class Selector:
    """All of the requirements must hold; without any it matches everything, and with `nothing` nothing."""

    requirements: tuple[Requirement, ...] = ()
    nothing: bool = False

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether an object with these labels is selected."""
        if self.nothing:
            return False
        return all(requirement.matches(labels) for requirement in self.requirements)

    @property
    def empty(self) -> bool:
        """Selects everything."""
        return not self.requirements and not self.nothing

    def __str__(self) -> str:
        return ",".join(str(requirement) for requirement in self.requirements)


EVERYTHING = Selector()
NOTHING = Selector(nothing=True)


@lru_cache(maxsize=512)
def parse(text: str) -> Selector:
    """Selector from `a=b,c!=d,e in (f,g),h notin (i),j,!k`. ValueError tells what was found and what was expected."""
    tokens = _tokens(text)
    found: list[Requirement] = []
    position = 0
    while position < len(tokens):
        requirement, position = _requirement(tokens, position, text)
        found.append(requirement)
        if position < len(tokens):
            if tokens[position] != ",":
                raise ValueError(f'found "{tokens[position]}", expected: "," or the end of "{text}"')
            position += 1  # a trailing comma is tolerated: some clients send it
    return Selector(tuple(sorted(found, key=lambda requirement: requirement.key)))


def _tokens(text: str) -> list[str]:
    tokens: list[str] = []
    position = 0
    while position < len(text.rstrip()):
        match = _TOKEN.match(text, position)
        if match is None:
            raise ValueError(f'unable to parse "{text}" at column {position + 1}')
        tokens.append(match[1] or match[2])
        position = match.end()
    return tokens


def _requirement(tokens: list[str], position: int, text: str) -> tuple[Requirement, int]:
    def take(expected: str) -> str:
        nonlocal position
        if position >= len(tokens):
            raise ValueError(f'"{text}" ends where {expected} is expected')
        position += 1
        return tokens[position - 1]

    def operand() -> str:
        # Nothing between the operator and the comma is the empty value.
        if position >= len(tokens) or tokens[position] == ",":
            return ""
        word = take("a value")
        if word in ("(", ")", "=", "==", "!=", "!", "<", ">"):
            raise ValueError(f'found "{word}", expected: a value')
        return word

    word = take("a key")
    if word == "!":
        return _checked(take("a key"), "!", ()), position
    key = word
    if position >= len(tokens) or tokens[position] == ",":
        return _checked(key, "exists", ()), position
    operator = take("an operator")
    if operator in ("=", "=="):
        return _checked(key, "in", (operand(),)), position
    if operator == "!=":
        return _checked(key, "notin", (operand(),)), position
    if operator in (">", "<"):
        return _checked(key, "gt" if operator == ">" else "lt", (operand(),)), position
    if operator not in ("in", "notin"):
        raise ValueError(f'found "{operator}", expected: in, notin, =, ==, !=, <, >')
    if (opening := take('"("')) != "(":
        raise ValueError(f'found "{opening}", expected: "("')
    values: list[str] = []
    pending = ""
    while (word := take('"," or ")"')) != ")":
        if word == ",":
            values.append(pending)
            pending = ""
        else:
            pending = word
    values.append(pending)
    return _checked(key, operator, tuple(values)), position


def _checked(key: str, operator: str, values: tuple[str, ...]) -> Requirement:
    for fault in label_key_faults(key):
        raise ValueError(f'key: Invalid value: "{key}": {fault}')
    for value in values:
        if operator in ("gt", "lt"):
            if not re.fullmatch(r"[+-]?\d+", value):
                raise ValueError(
                    f"values: Invalid value: \"{value}\": for 'Gt', 'Lt' operators, the value must be an integer"
                )
        else:
            for fault in label_value_faults(value):
                raise ValueError(f'values[0][{key}]: Invalid value: "{value}": {fault}')
    return Requirement(key, operator, frozenset(values))


def from_label_selector(selector: LabelSelector | None) -> Selector:
    """Selector of the struct: None selects nothing, an empty one everything. ValueError for an unknown operator."""
    if selector is None:
        return NOTHING
    found = [Requirement(key, "in", frozenset((value,))) for key, value in selector.matchLabels.items()]
    for expression in selector.matchExpressions:
        operator = _WIRE_OPERATOR.get(expression.operator)
        if operator is None:
            raise ValueError(f'"{expression.operator}" is not a valid label selector operator')
        found.append(Requirement(expression.key, operator, frozenset(expression.values)))
    return Selector(tuple(sorted(found, key=lambda requirement: requirement.key)))


def from_mapping(labels: Mapping[str, str]) -> Selector:
    """Selector that wants exactly these pairs among an object's labels."""
    return Selector(tuple(Requirement(key, "in", frozenset((labels[key],))) for key in sorted(labels)))
