"""Admission: plugins that may change an object (`mutate`) or refuse it (`validate`) before it is stored.

After defaulting all mutating plugins run, then the kind's own validation, then all validating plugins. A plugin raises
a `StatusError` to refuse. Plugins are asked in the order of the chain; each says in its own file what it is for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from apimachinery.errors import Cause, Forbidden
from apimachinery.kind import Kind
from componentbase.http import User

Operation = Literal["CREATE", "UPDATE", "DELETE"]


@dataclass(frozen=True, slots=True)
class Attributes:
    """What is about to happen, to what, by whom. `warnings` collects texts for the answer's Warning headers."""

    operation: Operation
    kind: Kind
    namespace: str
    name: str
    subresource: str
    user: User
    dry_run: bool
    warnings: list[str] = field(default_factory=list)

    def forbidden(self, why: str, cause_reason: str = "", cause_field: str = "") -> Forbidden:
        """`pods "x" is forbidden: why`."""
        causes = [Cause(reason=cause_reason, message=why, field=cause_field)] if cause_reason else None
        return Forbidden(
            f'{self.kind.resource} "{self.name}" is forbidden: {why}',
            name=self.name,
            kind=self.kind.plural,
            group=self.kind.group,
            causes=causes,
        )


class Plugin:
    """Base of all plugins: lets everything pass."""

    async def mutate(self, attributes: Attributes, obj: Any, old: Any | None) -> None:
        """Change `obj` in place. Not called for DELETE."""

    async def validate(self, attributes: Attributes, obj: Any | None, old: Any | None) -> None:
        """Raise to refuse. `obj` is None for DELETE, `old` is None for CREATE."""


class Chain:
    def __init__(self, plugins: Sequence[Plugin]) -> None:
        # Most plugins do only one of the two; the empty methods are not worth an await each.
        self._mutating = [plugin for plugin in plugins if type(plugin).mutate is not Plugin.mutate]
        self._validating = [plugin for plugin in plugins if type(plugin).validate is not Plugin.validate]

    async def mutate(self, attributes: Attributes, obj: Any, old: Any | None) -> None:
        for plugin in self._mutating:
            await plugin.mutate(attributes, obj, old)

    async def validate(self, attributes: Attributes, obj: Any | None, old: Any | None) -> None:
        for plugin in self._validating:
            await plugin.validate(attributes, obj, old)
