"""Modules that decide know no clock, socket, process or event loop: what they import says so."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3] / "nodeagent"
DECIDE = [
    *("podworker/states.py", "podworker/messages.py", "podworker/record.py", "podworker/adopt.py"),
    *("podworker/containers.py", "podworker/machine.py", "status.py", "environment.py", "resources.py", "dns.py"),
    *("admission.py", "hosts.py", "cri_config.py", "capacity.py", "volumes/payload.py", "logs/format.py"),
]
DOERS = {"asyncio", "socket", "subprocess", "threading", "time", "random", "aiohttp", "grpc"}


@pytest.mark.parametrize("name", DECIDE)
def test_decisions_do_nothing(name: str) -> None:
    tree = ast.parse((ROOT / name).read_text())
    imported = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imported |= {each.name.split(".")[0] for each in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            imported.add(node.module.split(".")[0])
    assert not imported & DOERS
