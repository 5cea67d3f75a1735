"""`python -m runtime`: the container runtime alone, on a Unix socket that speaks the CRI."""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import replace
from pathlib import Path

from runtime import app
from runtime.config import DEFAULT_ROOT, Config, ConfigError, read_file


def parse(arguments: list[str]) -> tuple[Config, bool]:
    """The configuration, and whether to clean up instead of serving. Raises ConfigError."""
    parser = argparse.ArgumentParser(
        prog="python -m runtime",
        description="A container runtime: CRI runtime.v1 over gRPC on a Unix socket. Needs root.",
    )
    parser.add_argument("--root", type=Path, default=Path(DEFAULT_ROOT), help="where images and containers are kept")
    parser.add_argument("--socket", type=Path, help="the Unix socket to serve on (default: ROOT/runtime.sock)")
    parser.add_argument("--config", type=Path, help="a TOML file; options on the command line win over it")
    parser.add_argument(
        "--registry-config",
        type=Path,
        help="mirrors: a directory with REGISTRY/hosts.toml as containerd has it (default: $PYCTL_REGISTRY_CONFIG)",
    )
    parser.add_argument("--cgroup-parent", help="the cgroup below which ours is made (default: /)")
    parser.add_argument("--pod-cidr", help="the range of pod addresses (default: a free one, kept)")
    parser.add_argument("--name", help="name of our bridge, cgroup and nftables table (default: from the root)")
    parser.add_argument("--log-level", choices=("debug", "info", "warning", "error"))
    parser.add_argument(
        "--cleanup", action="store_true", help="end and remove everything that was made for this root, then exit"
    )
    given = parser.parse_args(arguments)
    config = Config(root=given.root.absolute())
    if given.config:
        config = read_file(given.config, config)
    registry = given.registry_config or os.environ.get("PYCTL_REGISTRY_CONFIG")
    changes = {
        "socket": (given.socket or given.root / "runtime.sock").absolute(),
        "registry_config": Path(registry) if registry else config.registry_config,
    }
    for name in ("cgroup_parent", "pod_cidr", "name", "log_level"):
        if getattr(given, name) is not None:
            changes[name] = getattr(given, name)
    return replace(config, **changes), given.cleanup


def main() -> int:
    try:
        config, clean = parse(sys.argv[1:])
    except ConfigError as error:
        print(f"runtime: {error}", file=sys.stderr)
        return 2
    return app.cleanup(config) if clean else app.main(config)


if __name__ == "__main__":
    sys.exit(main())
