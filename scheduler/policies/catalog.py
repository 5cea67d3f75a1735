"""Finds a policy: one of this package by its name, or one in a Python file of the user's."""

from __future__ import annotations

import importlib.util
import pkgutil
from pathlib import Path
from types import ModuleType

import scheduler.policies
from scheduler.framework import Policy


def names() -> list[str]:
    """The policies that come with the scheduler."""
    found = (module.name for module in pkgutil.iter_modules(scheduler.policies.__path__))
    return sorted(name for name in found if name != "catalog")


def load(name: str) -> Policy:
    """The POLICY of `scheduler.policies.<name>`, or of a file if `name` ends in ".py".

    Raises ValueError that says what is wrong; what the file itself raises is passed on.
    """
    module = _from_file(Path(name)) if name.endswith(".py") else _from_package(name)
    policy = getattr(module, "POLICY", None)
    if not isinstance(policy, Policy):
        raise ValueError(f"policy {name!r} does not define POLICY, a scheduler.framework.Policy")
    return policy


def _from_package(name: str) -> ModuleType:
    if name not in names():
        raise ValueError(f"no policy is named {name!r}; there are {', '.join(names())}, or give a .py file")
    return importlib.import_module(f"scheduler.policies.{name}")


def _from_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise ValueError(f"policy file {path} does not exist")
    spec = importlib.util.spec_from_file_location(f"pyctl_policy_{path.stem}", path)
    assert spec is not None and spec.loader is not None, "a .py file always has a loader"
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
