"""`describe` of what holds data: keys as they are, and no secret on the screen."""

from __future__ import annotations

import base64

import pytest

from pyctl.descriptions import describe

META = {"name": "x", "namespace": "default", "creationTimestamp": "2026-01-01T00:00:00Z"}


@pytest.mark.parametrize("size", range(7))
def test_a_secret_tells_only_sizes(size: int) -> None:
    value = base64.b64encode(b"\xab" * size).decode()
    item = {"kind": "Secret", "metadata": META, "type": "Opaque", "data": {"password": value, "user.name": "YQ=="}}
    lines = [line.split() for line in describe(item, [])]
    assert ["password:", str(size), "byte" if size == 1 else "bytes"] in lines
    assert ["user.name:", "1", "byte"] in lines and ["Type:", "Opaque"] in lines
    assert not value or not any(value in line for line in describe(item, []))


def test_a_config_map_keeps_its_keys_and_lines() -> None:
    data = {"greeting": "hello", "app.ini": "a=1\n\n  b=2\n", "empty": ""}
    item = {"kind": "ConfigMap", "metadata": META, "data": data, "binaryData": {"blob": "AAEC"}}
    text = "\n".join(describe(item, []))
    assert "  greeting:       hello\n" in text
    assert "  app.ini:\n    a=1\n\n      b=2\n" in text
    assert "Binary data:\n  blob:           3 bytes\n" in text
    assert "Data:             <none>" in "\n".join(describe({"kind": "ConfigMap", "metadata": META}, []))
