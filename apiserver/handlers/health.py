"""/healthz, /livez, /readyz and /version: who is there, and can it work."""

from __future__ import annotations

import platform

from apiserver.cacher.cacher import Cacher
from componentbase.http import Request, Response

from .answers import document, text_answer

VERSION = {
    "major": "1",
    "minor": "33",
    "emulationMajor": "1",
    "emulationMinor": "33",
    "minCompatibilityMajor": "1",
    "minCompatibilityMinor": "32",
    "gitVersion": "v1.33.0+pyctl",
    "gitCommit": "",
    "gitTreeState": "clean",
    "buildDate": "1970-01-01T00:00:00Z",
    "goVersion": "",
    "compiler": f"python{platform.python_version()}",
    "platform": f"linux/{ {'x86_64': 'amd64', 'aarch64': 'arm64'}.get(platform.machine(), platform.machine()) }",
}


def handle(cacher: Cacher, request: Request) -> Response | None:
    """The answer at this path; None when there is none."""
    match request.path.strip("/"):
        case "version":
            return document(VERSION)
        case "healthz" | "livez" | "readyz" as name:
            checks = {"ping": True, "watch-cache": cacher.started and not cacher.stopping}
            return _report(name, checks, verbose=request.query.has("verbose"))
    return None


def _report(name: str, checks: dict[str, bool], *, verbose: bool) -> Response:
    healthy = all(checks.values()) or name == "livez"
    if healthy and not verbose:
        return text_answer("ok")
    lines = [f"[{'+' if fine else '-'}]{check} {'ok' if fine else 'failed'}" for check, fine in checks.items()]
    lines.append(f"{name} check {'passed' if healthy else 'failed'}")
    return text_answer("\n".join(lines) + "\n", status=200 if healthy else 500)
