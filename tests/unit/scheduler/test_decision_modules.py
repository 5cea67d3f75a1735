"""What decides must be usable anywhere: in a simulator, in a notebook, in virtual time."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def test_deciding_loads_no_event_loop_no_socket_and_no_client() -> None:
    forbidden = ["asyncio", "socket", "subprocess", "aiohttp", "grpc", "kubeclient"]
    program = (
        "import sys, scheduler.decide, scheduler.snapshot, scheduler.policies.default, scheduler.policies.catalog\n"
        f"print([name for name in {forbidden!r} if name in sys.modules])"
    )
    root = Path(__file__).parents[3]
    shown = subprocess.run([sys.executable, "-c", program], cwd=root, capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"
