"""Who may do what: fixed rules for the identities of the system, and the seam where RBAC will decide.

`authorize(user, attributes)` gives a Decision. Until roles are served, `system:masters` may do everything, the
scheduler and the nodes what their work needs, and everybody else who is known may see what kinds are served.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from apimachinery.errors import Forbidden
from apiserver.handlers.context import Target
from componentbase.http import Request, User

READ = frozenset(("get", "list", "watch"))
ALL = frozenset(("get", "list", "watch", "create", "update", "patch", "delete", "deletecollection"))
PUBLIC_PATHS = ("/healthz", "/livez", "/readyz", "/version")
DISCOVERY_PATHS = ("/api", "/apis", "/openapi")


@dataclass(frozen=True, slots=True)
class AccessAttributes:
    """What is asked for. For a path that is no object, only `path` and `verb` are set."""

    verb: str
    group: str = ""
    resource: str = ""
    subresource: str = ""
    namespace: str = ""
    name: str = ""
    path: str = ""


class Decision(NamedTuple):
    allowed: bool
    reason: str = ""


# resource[/subresource] -> verbs
Rules = dict[str, frozenset[str]]

SCHEDULER: Rules = {
    "namespaces": READ,
    "nodes": READ,
    "bindings": ALL,
    "events": ALL,
    "leases": ALL,
    "pods": READ | {"delete"},
    "pods/binding": ALL,
    "pods/status": ALL,
}
# Until there is a node authorizer, what one node may do concerns the others too: no more than our agent needs.
NODES: Rules = {
    "configmaps": frozenset(("get",)),
    "namespaces": READ,
    "secrets": frozenset(("get",)),
    "serviceaccounts": READ,
    "events": ALL,
    "leases": ALL,
    "nodes": READ | {"create", "update", "patch"},
    "nodes/status": ALL,
    "pods": READ | {"delete"},
    "pods/status": ALL,
}


def authorize(user: User, attributes: AccessAttributes) -> Decision:
    """Decide by the built-in identities."""
    if "system:masters" in user.groups:
        return Decision(True)
    if not attributes.resource:
        return _on_path(user, attributes)
    if user.name == "system:kube-scheduler":
        return Decision(_covers(SCHEDULER, attributes))
    if "system:nodes" in user.groups and user.name.startswith("system:node:"):
        return Decision(_covers(NODES, attributes))
    return Decision(False)


def _on_path(user: User, attributes: AccessAttributes) -> Decision:
    path = attributes.path.rstrip("/") or "/"
    if path in PUBLIC_PATHS:
        return Decision(attributes.verb == "get")
    known = "system:authenticated" in user.groups
    discovery = any(path == each or path.startswith(each + "/") for each in DISCOVERY_PATHS)
    return Decision(known and discovery and attributes.verb == "get")


def _covers(rules: Rules, attributes: AccessAttributes) -> bool:
    resource = f"{attributes.resource}/{attributes.subresource}" if attributes.subresource else attributes.resource
    return attributes.verb in rules.get(resource, frozenset())


def attributes_of(target: Target | None, request: Request) -> AccessAttributes:
    if target is None:
        verb = "get" if request.method in ("GET", "HEAD") else request.method.lower()
        return AccessAttributes(verb, path=request.path)
    kind = target.kind
    return AccessAttributes(
        target.verb, kind.group, kind.plural, target.subresource, target.namespace, target.name, request.path
    )


def refusal(user: User, attributes: AccessAttributes, decision: Decision) -> Forbidden:
    """`pods "x" is forbidden: User "u" cannot get resource "pods" in API group "" in the namespace "n"`."""
    because = f": {decision.reason}" if decision.reason else ""
    if not attributes.resource:
        return Forbidden(f'forbidden: User "{user.name}" cannot {attributes.verb} path "{attributes.path}"{because}')
    resource = f"{attributes.resource}/{attributes.subresource}" if attributes.subresource else attributes.resource
    where = f'in the namespace "{attributes.namespace}"' if attributes.namespace else "at the cluster scope"
    qualified = f"{attributes.resource}.{attributes.group}" if attributes.group else attributes.resource
    named = f'{qualified} "{attributes.name}"' if attributes.name else qualified
    return Forbidden(
        f'{named} is forbidden: User "{user.name}" cannot {attributes.verb} resource "{resource}" '
        f'in API group "{attributes.group}" {where}{because}',
        name=attributes.name,
        kind=attributes.resource,
        group=attributes.group,
    )
