"""Quantities: canonical forms, exact arithmetic, rounding."""

from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apimachinery import quantity
from apimachinery.quantity import Quantity, canonical, from_milli, from_value, milli, parse, value


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0", "0"),
        ("0Ki", "0"),
        ("1024Mi", "1Gi"),
        ("1.5Gi", "1536Mi"),
        ("0.5", "500m"),
        ("1000m", "1"),
        ("1000", "1k"),
        ("1024", "1024"),
        ("1500M", "1500M"),
        ("1000M", "1G"),
        ("512Ki", "512Ki"),
        ("1023", "1023"),
        ("0.5Gi", "512Mi"),
        ("0.5Ki", "512"),
        ("0.1Gi", "107374182400m"),
        ("1e3", "1e3"),
        ("1e4", "10e3"),
        ("5E-3", "5e-3"),
        ("12e6", "12e6"),
        ("2E", "2E"),
        ("-1.5", "-1500m"),
        ("+3", "3"),
        (".5", "500m"),
        ("5.", "5"),
        ("0.0000000001", "1n"),
        ("100u", "100u"),
        ("1.2345m", "1234500n"),
        ("1048576Ki", "1Gi"),
    ],
)
def test_canonical_form(text: str, expected: str) -> None:
    assert canonical(text) == expected


@pytest.mark.parametrize(
    "text",
    ["", "x", "1x", "1K", "1kk", "Ki", ".", "-", "1 ", " 1", "1Gi ", "--1", "1e", "1.2.3", "0x10", "1e999999999"],
)
def test_what_is_no_quantity(text: str) -> None:
    with pytest.raises(ValueError, match="quantit"):
        parse(text)


@pytest.mark.parametrize(
    ("text", "thousandths", "units"),
    [
        ("100m", 100, 1),
        ("1", 1000, 1),
        ("1500m", 1500, 2),
        ("1n", 1, 1),
        ("1Ki", 1024000, 1024),
        ("", 0, 0),
        ("-1.5", -1500, -2),
    ],
)
def test_milli_and_value_round_up(text: str, thousandths: int, units: int) -> None:
    assert (milli(text), value(text)) == (thousandths, units)


def test_a_binary_quantity_is_capped() -> None:
    assert canonical("1000000Ei") == canonical("9223372036854775807")


def test_from_numbers() -> None:
    assert (from_milli(1500), from_milli(2000), from_value(1024), from_value(1024, "BinarySI")) == (
        "1500m",
        "2",
        "1024",
        "1Ki",
    )
    assert from_value(3 * 1024**3 + 1, "BinarySI") == "3221225473"


def test_order_and_equality_are_by_amount() -> None:
    assert parse("1Gi") == parse("1073741824")
    assert hash(parse("1Gi")) == hash(parse("1073741824"))
    assert parse("999m") < parse("1") < parse("1.1")
    assert not parse("0")
    assert -parse("1") < quantity.ZERO


def test_sums_keep_the_family_of_the_first_that_is_something() -> None:
    assert str(parse("1Gi") + parse("512Mi")) == "1536Mi"
    assert str(quantity.ZERO + parse("1Gi")) == "1Gi"
    assert str(parse("1") - parse("100m")) == "900m"


amounts = st.builds(
    Quantity,
    nanos=st.integers(min_value=-(10**24), max_value=10**24),
    family=st.sampled_from(["DecimalSI", "BinarySI", "DecimalExponent"]),
)
texts = st.builds(
    lambda number, suffix: number + suffix,
    st.from_regex(r"\A[+-]?[0-9]{1,9}(\.[0-9]{1,6})?\Z"),
    st.sampled_from(["", "n", "u", "m", "k", "M", "G", "T", "P", "E", "Ki", "Mi", "Gi", "Ti", "e3", "E-2", "e+6"]),
)


@settings(max_examples=200, deadline=None)
@given(amounts)
def test_formatting_loses_nothing(amount: Quantity) -> None:
    assert parse(quantity.format(amount)) == amount


@settings(max_examples=200, deadline=None)
@given(texts)
def test_canonical_is_stable_and_means_the_same(text: str) -> None:
    once = canonical(text)
    assert canonical(once) == once
    assert parse(once) == parse(text)


@settings(max_examples=200, deadline=None)
@given(amounts, amounts)
def test_arithmetic_is_exact(left: Quantity, right: Quantity) -> None:
    assert (left + right) - right == left
    assert Fraction((left + right).nanos) == Fraction(left.nanos) + Fraction(right.nanos)
    assert (left < right) == (right > left)
