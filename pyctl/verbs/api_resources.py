"""`pyctl api-resources`: what discovery tells."""

from __future__ import annotations

from pyctl.options import verb
from pyctl.printing import columns
from pyctl.settings import Settings


@verb(name="api-resources", short_help="what kinds the server knows")
def command(settings: Settings) -> int:
    """List the kinds that the server knows, with their short names and verbs."""
    rows = [
        (
            each.plural,
            ",".join(each.short_names),
            each.api_version,
            str(each.namespaced).lower(),
            each.kind,
            ",".join(each.verbs),
        )
        for each in settings.api().resources()
    ]
    for line in columns(("NAME", "SHORTNAMES", "APIVERSION", "NAMESPACED", "KIND", "VERBS"), rows):
        print(line)
    return 0
