"""`pyctl version`: ours, and the server's if it answers."""

from __future__ import annotations

import json
import sys

import click

from pyctl.failure import Failure
from pyctl.options import verb
from pyctl.settings import Settings
from pyctl.versions import own_version


@verb(name="version", short_help="versions of pyctl and of the server")
@click.option("--client", is_flag=True, help="Do not ask the server.")
@click.option("-o", "--output", type=click.Choice(["json"]), default=None, help="How to print.")
def command(settings: Settings, client: bool, output: str | None) -> int:
    """Print the versions of pyctl and of the API server."""
    document: dict[str, object] = {"client": own_version()}
    code = 0
    if not client:
        try:
            document["server"] = settings.api().get("/version")["gitVersion"]
        except Failure as failure:
            print(f"error: {failure.message}", file=sys.stderr)
            code = 1
    if output == "json":
        print(json.dumps(document))
    else:
        for key, value in document.items():
            print(f"{key}: {value}")
    return code
