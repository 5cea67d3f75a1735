"""What the runtime can be told, and the names on the host that follow from it. Imports nothing heavy."""

from __future__ import annotations

import hashlib
import os
import tomllib
from dataclasses import dataclass, replace
from pathlib import Path

DEFAULT_ROOT = "/var/lib/pyctl/runtime"


class ConfigError(Exception):
    """The configuration cannot be used; the text says why."""


@dataclass(frozen=True, kw_only=True)
class Config:
    """`name` is the bridge's, the nftables table's and the cgroup's, at most 15 characters.

    `cgroup_parent` is the cgroup below which our own group `name` is made; `pod_cidr` "" chooses a free range;
    `mtu` 0 takes that of the host's way out; `stream_port` 0 takes any free port of `stream_address`; `prepare_ahead`
    keeps one sandbox ready for the next pod.
    """

    root: Path = Path(DEFAULT_ROOT)
    socket: Path = Path("/run/pyctl/runtime.sock")
    name: str = ""
    registry_config: Path | None = None
    cgroup_parent: str = "/"
    pod_cidr: str = ""
    mtu: int = 0
    stream_address: str = "127.0.0.1"
    stream_port: int = 0
    snapshotter: str = "overlay"
    prepare_ahead: bool = True
    log_level: str = "info"

    @property
    def host_name(self) -> str:
        """`name`, or one derived from the real path of the root: the same root has the same names."""
        if self.name:
            return self.name
        digest = hashlib.sha256(os.path.realpath(self.root).encode()).hexdigest()
        return f"pyctl-{digest[:8]}"

    @property
    def cgroup_root(self) -> str:
        return f"{self.cgroup_parent.rstrip('/')}/{self.host_name}"


_KEYS: dict[str, type] = {
    "name": str,
    "cgroup_parent": str,
    "pod_cidr": str,
    "mtu": int,
    "stream_address": str,
    "stream_port": int,
    "snapshotter": str,
    "prepare_ahead": bool,
    "log_level": str,
    "registry_config": str,
}


def read_file(path: Path, base: Config) -> Config:
    """`base` with what a TOML file says; its keys are the fields of Config. Unknown keys are errors."""
    try:
        document = tomllib.loads(path.read_text())
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: {error}") from None
    changes: dict[str, object] = {}
    for key, value in document.items():
        if key not in _KEYS:
            raise ConfigError(f"{path}: unknown key {key!r}; known are {', '.join(sorted(_KEYS))}")
        if not isinstance(value, _KEYS[key]):
            raise ConfigError(f"{path}: {key} must be of type {_KEYS[key].__name__}, not {value!r}")
        changes[key] = Path(str(value)) if key == "registry_config" else value
    return replace(base, **changes)  # type: ignore[arg-type]


def check(config: Config) -> None:
    """Raise ConfigError for values that could not work."""
    if len(config.host_name) > 15 or not config.host_name.replace("-", "").replace(".", "").isalnum():
        raise ConfigError(f"name {config.host_name!r}: at most 15 letters, digits, '-' and '.', for it names a bridge")
    if config.snapshotter not in ("overlay", "copy"):
        raise ConfigError(f"snapshotter {config.snapshotter!r}: must be overlay or copy")
    if len(os.fsencode(config.socket)) > 107:
        raise ConfigError(f"socket path {config.socket} is longer than the 107 bytes that Unix sockets allow")
