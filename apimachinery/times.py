"""Kubernetes' times: RFC 3339 strings in UTC, whole seconds (`Time`) or microseconds (`MicroTime`), from and to Unix
seconds; and the short durations of tables."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from functools import lru_cache

_RFC3339 = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt](\d\d):(\d\d):(\d\d)(?:[.,](\d{1,9})\d{0,9})?(Z|z|[+-]\d\d:\d\d)", re.ASCII
)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def format_time(epoch: float) -> str:
    """Unix seconds as `2006-01-02T15:04:05Z`; parts of a second are dropped."""
    return datetime.fromtimestamp(epoch // 1, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def format_micro_time(epoch: float) -> str:
    """Unix seconds as `2006-01-02T15:04:05.000000Z`."""
    return datetime.fromtimestamp(epoch, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


@lru_cache(maxsize=4096)
def parse_time(text: str) -> float:
    """RFC 3339 text, with or without a fraction, as Unix seconds. ValueError names the text."""
    match = _RFC3339.fullmatch(text)
    if match is None:
        raise ValueError(f'parsing time "{text}" as "2006-01-02T15:04:05Z07:00": not an RFC 3339 time')
    year, month, day, hour, minute, second = (int(part) for part in match.groups()[:6])
    try:
        moment = datetime(year, month, day, hour, minute, second, tzinfo=UTC)
    except ValueError as error:
        raise ValueError(f'parsing time "{text}": {error}') from None
    seconds = (moment - _EPOCH).total_seconds()
    zone = match[8]
    if zone not in "Zz":
        offset = int(zone[1:3]) * 3600 + int(zone[4:6]) * 60
        seconds += offset if zone[0] == "-" else -offset
    return seconds + (int(match[7].ljust(9, "0")) / 1e9 if match[7] else 0.0)


def canonical_time(text: str) -> str:
    """The same moment in UTC and whole seconds, as Kubernetes writes a Time."""
    if len(text) == 20 and text[19] == "Z" and text[10] == "T":
        parse_time(text)
        return text
    return format_time(parse_time(text))


def canonical_micro_time(text: str) -> str:
    """The same moment in UTC with six digits, as Kubernetes writes a MicroTime."""
    if len(text) == 27 and text[26] == "Z" and text[10] == "T" and text[19] == ".":
        parse_time(text)
        return text
    # Through integers: a float of seconds holds no exact microseconds.
    whole = parse_time(re.sub(r"[.,]\d+", "", text))
    fraction = re.search(r"[.,](\d+)", text)
    micros = fraction[1][:6].ljust(6, "0") if fraction else "000000"
    return f"{format_time(whole)[:-1]}.{micros}Z"


def human_duration(seconds: float) -> str:
    """A duration as kubectl's AGE column shows it: two units at most, fewer when the first is large."""
    total = int(seconds)
    if total < -1:
        return "<invalid>"
    if total < 0:
        return "0s"
    if total < 60 * 2:
        return f"{total}s"
    minutes = total // 60
    if minutes < 10:
        return f"{minutes}m{total % 60}s" if total % 60 else f"{minutes}m"
    if minutes < 60 * 3:
        return f"{minutes}m"
    hours = minutes // 60
    if hours < 8:
        return f"{hours}h{minutes % 60}m" if minutes % 60 else f"{hours}h"
    if hours < 48:
        return f"{hours}h"
    if hours < 24 * 8:
        return f"{hours // 24}d{hours % 24}h" if hours % 24 else f"{hours // 24}d"
    if hours < 24 * 365 * 2:
        return f"{hours // 24}d"
    if hours < 24 * 365 * 8:
        days = hours // 24 % 365
        return f"{hours // 24 // 365}y{days}d" if days else f"{hours // 24 // 365}y"
    return f"{hours // 24 // 365}y"
