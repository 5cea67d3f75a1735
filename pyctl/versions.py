"""Which pyctl this is."""

from __future__ import annotations

from pathlib import Path


def own_version() -> str:
    """The version of the installed distribution; that of the checkout where it runs from one."""
    project = Path(__file__).parents[1] / "pyproject.toml"
    if project.exists():
        for line in project.read_text().splitlines():
            if line.startswith("version = "):
                return line.split('"')[1]
    from importlib import metadata

    try:
        return metadata.version("pyctl")
    except metadata.PackageNotFoundError:
        return "unknown"
