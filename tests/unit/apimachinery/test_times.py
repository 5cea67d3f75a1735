"""Times in and out, and the durations of tables."""

import pytest

from apimachinery.times import (
    canonical_micro_time,
    canonical_time,
    format_micro_time,
    format_time,
    human_duration,
    parse_time,
)


def test_seconds_and_micros() -> None:
    assert format_time(1700000000.9) == "2023-11-14T22:13:20Z"
    assert format_micro_time(1700000000.25) == "2023-11-14T22:13:20.250000Z"
    assert parse_time("2023-11-14T22:13:20Z") == 1700000000.0
    assert parse_time("2023-11-14T22:13:20.250000Z") == 1700000000.25
    assert parse_time("2023-11-15T00:13:20+02:00") == 1700000000.0
    assert format_time(-1) == "1969-12-31T23:59:59Z"


@pytest.mark.parametrize(
    ("text", "seconds", "micros"),
    [
        ("2024-01-01T02:00:00+02:00", "2024-01-01T00:00:00Z", "2024-01-01T00:00:00.000000Z"),
        ("2024-01-01T00:00:00.123456789Z", "2024-01-01T00:00:00Z", "2024-01-01T00:00:00.123456Z"),
        ("2024-01-01T00:00:00.5Z", "2024-01-01T00:00:00Z", "2024-01-01T00:00:00.500000Z"),
        ("2024-01-01T00:00:00.999999Z", "2024-01-01T00:00:00Z", "2024-01-01T00:00:00.999999Z"),
    ],
)
def test_canonical_times(text: str, seconds: str, micros: str) -> None:
    assert canonical_time(text) == seconds
    assert canonical_micro_time(text) == micros


@pytest.mark.parametrize(
    "text", ["", "yesterday", "2024-01-01", "2024-01-01T00:00:00", "2024-13-01T00:00:00Z", "2024-02-30T00:00:00Z"]
)
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(ValueError, match="parsing time"):
        parse_time(text)


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (-5, "<invalid>"),
        (-1, "0s"),
        (0, "0s"),
        (1.9, "1s"),
        (119, "119s"),
        (120, "2m"),
        (125, "2m5s"),
        (599, "9m59s"),
        (600, "10m"),
        (179 * 60 + 59, "179m"),
        (3 * 3600, "3h"),
        (3 * 3600 + 60, "3h1m"),
        (8 * 3600, "8h"),
        (47 * 3600, "47h"),
        (48 * 3600, "2d"),
        (49 * 3600, "2d1h"),
        (8 * 86400, "8d"),
        (729 * 86400, "729d"),
        (730 * 86400, "2y"),
        (800 * 86400, "2y70d"),
        (9 * 365 * 86400, "9y"),
    ],
)
def test_human_duration(seconds: float, expected: str) -> None:
    assert human_duration(seconds) == expected
