"""The command line in this process, in front of a server that is a dictionary."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from kubeclient.config import ClusterAccess
from pyctl.api import Api
from pyctl.main import run
from pyctl.settings import Settings
from tests.unit.pyctl.server import Server


@dataclass
class Outcome:
    code: int
    out: str
    err: str


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Server:
    it = Server()

    def api(self: Settings, **_: float) -> Api:
        return Api(it, self.namespace or "default", "https://127.0.0.1:6443")  # type: ignore[arg-type]

    monkeypatch.setattr(Settings, "api", api)
    monkeypatch.setattr(Settings, "access", lambda self: ClusterAccess("https://127.0.0.1:6443"))
    return it


@pytest.fixture
def pyctl(server: Server, capfd: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    def call(*arguments: str) -> Outcome:
        capfd.readouterr()
        code = run(list(arguments))
        out, err = capfd.readouterr()
        return Outcome(code, out, err)

    return call
