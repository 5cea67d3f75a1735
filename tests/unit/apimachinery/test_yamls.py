"""YAML as Kubernetes reads it."""

from typing import Any

import pytest

from apimachinery import yamls


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: 1", {"a": 1}),
        ("a: 0644", {"a": 420}),
        ("a: 0o644", {"a": 420}),
        ("a: 0x1f", {"a": 31}),
        ("a: -0b11", {"a": -3}),
        ("a: 1_000", {"a": 1000}),
        ("a: 22:22", {"a": "22:22"}),
        ("a: 1:30", {"a": "1:30"}),
        ("a: 1.5", {"a": 1.5}),
        ("a: 1.0", {"a": 1}),
        ("a: 1e3", {"a": 1000}),
        ("a: 1.2.3", {"a": "1.2.3"}),
        ("a: yes", {"a": True}),
        ("a: off", {"a": False}),
        ("a: 'yes'", {"a": "yes"}),
        ("a: ~", {"a": None}),
        ("a:", {"a": None}),
        ("a: null", {"a": None}),
        ("a: 2024-01-01T00:00:00Z", {"a": "2024-01-01T00:00:00Z"}),
        ("1: x\ntrue: u\nnull: z", {"1": "x", "true": "u", "null": "z"}),
        ("a: |\n  x\n  y\n", {"a": "x\ny\n"}),
        ("a: &x {b: 1}\nc: *x", {"a": {"b": 1}, "c": {"b": 1}}),
        ("a: &x {b: 1, c: 2}\nd: {<<: *x, c: 3}", {"a": {"b": 1, "c": 2}, "d": {"b": 1, "c": 3}}),
        ('{"json": [1, {"x": null}]}', {"json": [1, {"x": None}]}),
        ("", None),
        ("# nothing\n", None),
        ("a: 08", {"a": 8}),
    ],
)
def test_scalars_and_maps(text: str, expected: Any) -> None:
    assert yamls.parse(text).value == expected


def test_duplicates_have_paths() -> None:
    assert yamls.parse("a: {b: 1, b: 2}\nc: [{d: 1, d: 2}]\na: 3").duplicates == ["a.b", "c[0].d", "a"]


def test_documents_have_lines_and_empty_ones_are_left_out() -> None:
    found = list(yamls.parse_all("---\n# only words\n---\na: 1\n---\n---\nb: 2\n"))
    assert [(document.value, document.line) for document in found] == [({"a": 1}, 4), ({"b": 2}, 7)]


@pytest.mark.parametrize(
    ("text", "line", "column"),
    [
        ("a: [1\nb: 2\n", 2, 2),
        ("a: 1\n b: 2\n", 2, 3),
        ("a:\n\tb: 1\n", 2, 1),
        ("? [x]\n: 1", 1, 3),
        ("a: *nope", 1, 4),
        ("a: .inf", 1, 4),
    ],
)
def test_errors_know_their_place(text: str, line: int, column: int) -> None:
    with pytest.raises(yamls.YamlError) as caught:
        yamls.parse(text, file="pod.yaml")
    assert (caught.value.file, caught.value.line, caught.value.column) == ("pod.yaml", line, column)
    assert str(caught.value).startswith(f"pod.yaml: line {line}, column {column}: ")


def test_one_document_is_wanted() -> None:
    with pytest.raises(yamls.YamlError, match="line 3, column 1: expected one document"):
        yamls.parse("a: 1\n---\nb: 2")


def test_aliases_do_not_blow_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(yamls, "_MOST_NODES", 10_000)
    bomb = "a0: &a0 [x,x,x,x,x,x,x,x,x]\n" + "".join(
        f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 9)
    )
    with pytest.raises(yamls.YamlError, match="expand to too much"):
        yamls.parse(bomb)
    with pytest.raises(yamls.YamlError):
        yamls.parse("a: &x [*x]")


def test_bytes_that_are_no_text() -> None:
    with pytest.raises(yamls.YamlError):
        yamls.parse(b"\xff\xfe\x00\x01\x02")


@pytest.mark.parametrize("opening", ["[", "{a: ", "- ", "? "])
def test_deep_nesting_is_refused_and_ends_no_process(opening: str) -> None:
    with pytest.raises(yamls.YamlError, match="nested too deeply"):
        yamls.parse(opening * 200_000)


def test_a_number_too_long_to_be_one_is_refused_where_it_stands() -> None:
    with pytest.raises(yamls.YamlError, match="5000 digits") as caught:
        yamls.parse("a: 1\nb: " + "7" * 5000)
    assert (caught.value.line, caught.value.column) == (2, 4)
