"""Columns, ages, durations and YAML as people see them."""

from __future__ import annotations

import pytest
import yaml

from pyctl.printing import TableWriter, age_of, duration, parse_duration, to_yaml


@pytest.mark.parametrize(
    "seconds, said",
    [
        (-1, "0s"), (-60, "<invalid>"), (0, "0s"), (45, "45s"), (119, "119s"), (120, "2m"),
        (192, "3m12s"), (599, "9m59s"), (600, "10m"), (3600 * 2, "120m"), (3600 * 4 + 180, "4h3m"), (3600 * 9, "9h"),
        (86400 * 2 + 14400, "2d4h"),
        (86400 * 12, "12d"), (86400 * 800, "2y70d"), (86400 * 365 * 9, "9y"),
    ],
)  # fmt: skip
def test_durations_in_words(seconds: float, said: str) -> None:
    assert duration(seconds) == said


def test_ages() -> None:
    assert age_of("2024-01-01T00:00:00Z", now=1_704_067_200 + 45) == "45s"
    assert age_of("2024-01-01T00:00:00.500000Z", now=1_704_067_200 + 45.6) == "45s"
    assert (age_of(""), age_of("soon")) == ("<unknown>", "<invalid>")


@pytest.mark.parametrize("text, seconds", [("90", 90), ("30s", 30), ("1h30m", 5400), ("1.5m", 90), ("2d", 172800)])
def test_durations_from_words(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "soon", "m", "-5s", "5x"])
def test_no_durations(text: str) -> None:
    with pytest.raises(ValueError):
        parse_duration(text)


def table(*names: str) -> dict[str, object]:
    columns = [{"name": "Name", "format": "name"}, {"name": "Ready", "format": ""}, {"name": "Node", "priority": 1}]
    return {"columnDefinitions": columns, "rows": [{"cells": [name, True, None]} for name in names]}


def test_columns_stay_in_place_over_a_watch() -> None:
    writer = TableWriter()
    assert writer.lines(table()) == []
    assert writer.lines(table("a-long-name")) == ["NAME          READY", "a-long-name   true"]
    assert writer.lines({"rows": table("b")["rows"]}) == ["b             true"]


def test_wide_columns_labels_and_prefixes() -> None:
    writer = TableWriter(wide=True, with_labels=True, prefix="pod/")
    document = table("x")
    document["rows"][0]["object"] = {"metadata": {"labels": {"b": "2", "a": "1"}}}  # type: ignore[index]
    assert writer.lines(document) == ["NAME    READY   NODE   LABELS", "pod/x   true           a=1,b=2"]


def test_yaml_reads_back_and_shows_texts_as_blocks() -> None:
    document = {"a": "yes", "b": "one\ntwo\n", "c": ["1", 1, 1.5, None, True], "d": "ü" * 200, "e": {"f": {}}}
    shared = {"x": 1}
    text = to_yaml({**document, "g": [shared, shared]})
    assert yaml.safe_load(text) == {**document, "g": [shared, shared]}
    assert "b: |\n  one\n  two\n" in text and "&" not in text
