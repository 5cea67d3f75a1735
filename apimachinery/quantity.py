"""Kubernetes' quantities: exact arithmetic on strings such as "100m", "1.5Gi", "1e3".

Objects store the canonical string; arithmetic goes through `Quantity`, an integer count of nano-units, so no float
is ever involved. The smallest unit is 1n: smaller amounts are rounded away from zero, so that whoever asks for
something gets something. The rules and the canonical form are those of k8s.io/apimachinery/pkg/api/resource."""

from __future__ import annotations

import re
from functools import lru_cache, total_ordering
from typing import Literal

import msgspec

Family = Literal["DecimalSI", "BinarySI", "DecimalExponent"]

_NANO = 10**9
_MAX_BINARY = (2**63 - 1) * _NANO
_NUMBER = re.compile(r"([+-]?)([0-9]*)(?:\.([0-9]*))?(.*)", re.ASCII | re.DOTALL)
_EXPONENT = re.compile(r"[eE]([+-]?[0-9]+)", re.ASCII)
_DECIMAL = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_BINARY = {"Ki": 10, "Mi": 20, "Gi": 30, "Ti": 40, "Pi": 50, "Ei": 60}
_DECIMAL_SUFFIX = {exponent: suffix for suffix, exponent in _DECIMAL.items()}
_BINARY_SUFFIX = ["", *_BINARY]

FORM = "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
# The same amounts come again and again. Long texts are not kept: they would fill the memory.
_LONGEST_KEPT = 32
_LARGEST_EXPONENT = 64  # a longer one would only make huge integers; Kubernetes caps far below


@total_ordering
class Quantity(msgspec.Struct, frozen=True):
    """An amount in nano-units and the suffix family that it is written in. Equality and order are by amount alone."""

    nanos: int
    family: Family = "DecimalSI"

    def __eq__(self, other: object) -> bool:
        return self.nanos == other.nanos if isinstance(other, Quantity) else NotImplemented

    def __lt__(self, other: Quantity) -> bool:
        return self.nanos < other.nanos

    def __hash__(self) -> int:
        return hash(self.nanos)

    def __add__(self, other: Quantity) -> Quantity:
        return Quantity(self.nanos + other.nanos, self.family if self.nanos else other.family)

    def __sub__(self, other: Quantity) -> Quantity:
        return Quantity(self.nanos - other.nanos, self.family if self.nanos else other.family)

    def __neg__(self) -> Quantity:
        return Quantity(-self.nanos, self.family)

    def __bool__(self) -> bool:
        return self.nanos != 0

    def __str__(self) -> str:
        return format(self)

    def milli(self) -> int:
        """Thousandths, rounded up."""
        return _ceil(self.nanos, 10**6)

    def value(self) -> int:
        """Whole units, rounded up."""
        return _ceil(self.nanos, _NANO)


ZERO = Quantity(0)


def parse(text: str) -> Quantity:
    """The amount that `text` stands for. ValueError says what is wrong with it."""
    return _parse_kept(text) if len(text) <= _LONGEST_KEPT else _parse(text)


def _parse(text: str) -> Quantity:
    match = _NUMBER.fullmatch(text)
    assert match is not None  # every part is optional
    sign, whole, fraction, suffix = match.groups()
    if not whole and not fraction:
        raise ValueError(FORM)
    fraction = fraction or ""
    digits = int(whole + fraction or "0")
    family: Family = "DecimalSI"
    if suffix in _DECIMAL:
        nanos = _scale(digits, _DECIMAL[suffix] - len(fraction) + 9)
    elif suffix in _BINARY:
        family = "BinarySI"
        nanos = min(_scale(digits << _BINARY[suffix], 9 - len(fraction)), _MAX_BINARY)
        if 0 < nanos < _NANO:
            family = "DecimalSI"
    elif found := _EXPONENT.fullmatch(suffix):
        family = "DecimalExponent"
        exponent = int(found[1])
        if abs(exponent) > _LARGEST_EXPONENT:
            raise ValueError("unable to parse quantity's suffix")
        nanos = _scale(digits, exponent - len(fraction) + 9)
    elif re.fullmatch(r"[eEinumkKMGTP]*[-+]?[0-9]*", suffix):
        raise ValueError("unable to parse quantity's suffix")
    else:
        raise ValueError(FORM)
    return Quantity(-nanos if sign == "-" else nanos, family)


_parse_kept = lru_cache(maxsize=65536)(_parse)


def format(quantity: Quantity) -> str:
    """The canonical form: the largest suffix of its family that leaves no fraction."""
    nanos = quantity.nanos
    if nanos == 0:
        return "0"
    if quantity.family == "BinarySI" and abs(nanos) >= 1024 * _NANO and nanos % _NANO == 0:
        amount, power = nanos // _NANO, 0
        while amount % 1024 == 0 and power < 6:
            amount, power = amount // 1024, power + 1
        return f"{amount}{_BINARY_SUFFIX[power]}"
    amount, exponent = nanos, -9
    while amount % 1000 == 0 and (exponent < 18 or quantity.family == "DecimalExponent"):
        amount, exponent = amount // 1000, exponent + 3
    if quantity.family == "DecimalExponent":
        return f"{amount}e{exponent}" if exponent else str(amount)
    return f"{amount}{_DECIMAL_SUFFIX[exponent]}"


def canonical(text: str) -> str:
    """`format(parse(text))`: "1024Mi" is "1Gi", "0.5" is "500m". ValueError when it is no quantity."""
    return _canonical_kept(text) if len(text) <= _LONGEST_KEPT else format(_parse(text))


@lru_cache(maxsize=65536)
def _canonical_kept(text: str) -> str:
    return format(_parse(text))


def milli(text: str) -> int:
    """Thousandths, rounded up: "100m" is 100, "2" is 2000. For cpu. "" is 0."""
    return parse(text).milli() if text else 0


def value(text: str) -> int:
    """Whole units, rounded up: "1Ki" is 1024, "100m" is 1. For memory and counts. "" is 0."""
    return parse(text).value() if text else 0


def from_milli(amount: int) -> str:
    """1500 is "1500m", 2000 is "2"."""
    return format(Quantity(amount * 10**6))


def from_value(amount: int, family: Family = "DecimalSI") -> str:
    """1024 is "1024" in DecimalSI and "1Ki" in BinarySI (use that for bytes)."""
    return format(Quantity(amount * _NANO, family))


def _scale(digits: int, exponent: int) -> int:
    return digits * 10**exponent if exponent >= 0 else _ceil(digits, 10**-exponent)


def _ceil(amount: int, unit: int) -> int:
    """Rounds away from zero, as Kubernetes does for both signs."""
    rounded = -(-abs(amount) // unit)
    return rounded if amount >= 0 else -rounded
