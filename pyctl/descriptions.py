"""The text of `describe`: an object as indented `Name: value` lines, with what matters of pods and nodes told in
words."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from pyctl.api import Document
from pyctl.printing import age_of, columns
from pyctl.verbs.events import last_seen

WIDTH = 18
Lines = Iterator[str]


def describe(item: Document, events: list[Document]) -> list[str]:
    """The lines for one object and the events about it."""
    own = {"Pod": _pod, "Node": _node, "ConfigMap": _config_map, "Secret": _secret}
    body = own.get(str(item.get("kind")), _generic)
    return [*_head(item), *body(item), *_events(events)]


def _line(name: str, value: Any, indent: int = 0) -> str:
    return f"{'  ' * indent}{name + ':':<{max(WIDTH - 2 * indent, len(name) + 2)}}{value}"


def _pairs(name: str, pairs: dict[str, Any] | None, indent: int = 0) -> Lines:
    """A map with one entry a line below each other; <none> for an empty one."""
    texts = [f"{key}={value}" for key, value in sorted((pairs or {}).items())]
    for index, text in enumerate(texts or ["<none>"]):
        yield _line(name, text, indent) if index == 0 else " " * WIDTH + text


def _head(item: Document) -> Lines:
    metadata = item["metadata"]
    yield _line("Name", metadata.get("name", ""))
    if metadata.get("namespace"):
        yield _line("Namespace", metadata["namespace"])
    yield from _pairs("Labels", metadata.get("labels"))
    shown = {key: value for key, value in (metadata.get("annotations") or {}).items() if "last-applied" not in key}
    yield from _pairs("Annotations", shown)
    created = metadata.get("creationTimestamp", "")
    yield _line("Created", f"{created} ({age_of(created)} ago)")
    if metadata.get("deletionTimestamp"):
        grace = metadata.get("deletionGracePeriodSeconds", 0)
        yield _line("Terminating", f"since {metadata['deletionTimestamp']}, grace {grace}s")
    for owner in metadata.get("ownerReferences") or []:
        yield _line("Controlled by", f"{owner.get('kind')}/{owner.get('name')}")


def _pod(item: Document) -> Lines:
    spec, status = item.get("spec") or {}, item.get("status") or {}
    yield _line(
        "Node", f"{spec.get('nodeName') or '<none>'}" + (f"/{status['hostIP']}" if status.get("hostIP") else "")
    )
    yield _line("Status", status.get("phase", ""))
    for field in ("reason", "message"):
        if status.get(field):
            yield _line(field.capitalize(), status[field])
    yield _line("IP", status.get("podIP") or "<none>")
    yield _line("QoS class", status.get("qosClass") or "<none>")
    yield _line("Restart policy", spec.get("restartPolicy", ""))
    if spec.get("priorityClassName"):
        yield _line("Priority", f"{spec['priorityClassName']} ({spec.get('priority', 0)})")
    known = {
        each["name"]: each
        for key in ("initContainerStatuses", "containerStatuses", "ephemeralContainerStatuses")
        for each in status.get(key) or []
    }
    for title, key in (
        ("Init containers", "initContainers"),
        ("Containers", "containers"),
        ("Ephemeral containers", "ephemeralContainers"),
    ):
        if spec.get(key):
            yield f"{title}:"
            for container in spec[key]:
                yield from _container(container, known.get(container["name"], {}))
    yield from _conditions(status)
    yield "Volumes:" if spec.get("volumes") else _line("Volumes", "<none>")
    for volume in spec.get("volumes") or []:
        source = next((key for key in volume if key != "name"), "")
        yield _line(volume["name"], f"{source} {_short(volume.get(source))}".rstrip(), 1)
    yield from _pairs("Node selector", spec.get("nodeSelector"))
    tolerations = [_toleration(each) for each in spec.get("tolerations") or []]
    yield _line("Tolerations", "; ".join(tolerations) or "<none>")


def _container(container: Document, status: Document) -> Lines:
    yield f"  {container['name']}:"
    yield _line("Container ID", status.get("containerID") or "<none>", 2)
    yield _line("Image", container.get("image", ""), 2)
    if status.get("imageID"):
        yield _line("Image ID", status["imageID"], 2)
    for port in container.get("ports") or []:
        yield _line("Port", f"{port.get('containerPort')}/{port.get('protocol', 'TCP')}", 2)
    for field in ("command", "args"):
        yield from _words(field.capitalize(), container.get(field) or [])
    yield from _state("State", status.get("state") or {})
    if status.get("lastState"):
        yield from _state("Last state", status["lastState"])
    yield _line("Ready", status.get("ready", False), 2)
    yield _line("Restarts", status.get("restartCount", 0), 2)
    resources = container.get("resources") or {}
    for field in ("limits", "requests"):
        if resources.get(field):
            yield _line(field.capitalize(), _short(resources[field]), 2)
    for variable in container.get("env") or []:
        yield _line(f"Env {variable['name']}", variable.get("value") or _short(variable.get("valueFrom")), 2)
    for mount in container.get("volumeMounts") or []:
        mode = "ro" if mount.get("readOnly") else "rw"
        yield _line("Mount", f"{mount.get('mountPath')} from {mount.get('name')} ({mode})", 2)


def _words(title: str, words: list[str]) -> Lines:
    """A command: on one line if it fits, else each word and each line of it on its own, as it will be read."""
    text = " ".join(map(_quoted, words))
    if text and len(text) <= 80 and "\n" not in text:
        yield _line(title, text, 2)
    elif words:
        yield f"    {title}:"
        for word in words:
            yield from (f"      {line}".rstrip() for line in word.rstrip("\n").split("\n"))


def _state(title: str, state: Document) -> Lines:
    name = next(iter(state), "waiting")
    detail = state.get(name) or {}
    yield _line(title, name.capitalize(), 2)
    for field in ("reason", "message", "exitCode", "signal", "startedAt", "finishedAt"):
        if detail.get(field) is not None:
            yield _line(field[0].upper() + field[1:], detail[field], 3)


def _node(item: Document) -> Lines:
    spec, status = item.get("spec") or {}, item.get("status") or {}
    taints = [f"{each['key']}={each.get('value', '')}:{each['effect']}" for each in spec.get("taints") or []]
    yield _line("Taints", ", ".join(taints) or "<none>")
    yield _line("Unschedulable", spec.get("unschedulable", False))
    yield _line("Pod range", spec.get("podCIDR") or "<none>")
    for address in status.get("addresses") or []:
        yield _line(address["type"], address["address"])
    yield from _conditions(status)
    capacity, allocatable = status.get("capacity") or {}, status.get("allocatable") or {}
    yield "Resources:"
    rows = [(f"  {name}", str(capacity[name]), str(allocatable.get(name, ""))) for name in sorted(capacity)]
    yield from columns(("  NAME", "CAPACITY", "ALLOCATABLE"), rows)
    yield "System:"
    facts = sorted((status.get("nodeInfo") or {}).items())
    yield from columns((), [(f"  {name[0].upper()}{name[1:]}:", str(value)) for name, value in facts])


def _config_map(item: Document) -> Lines:
    yield "Data:" if item.get("data") else _line("Data", "<none>")
    for key, value in sorted((item.get("data") or {}).items()):
        lines = str(value).splitlines() or [""]
        if len(lines) == 1:
            yield _line(key, lines[0], 1)
        else:
            yield f"  {key}:"
            yield from (f"    {line}".rstrip() for line in lines)
    if item.get("binaryData"):
        yield "Binary data:"
        yield from _sizes(item["binaryData"])


def _secret(item: Document) -> Lines:
    """Not the values: who wants those asks for them with `get -o yaml`."""
    yield _line("Type", item.get("type", ""))
    yield "Data:" if item.get("data") else _line("Data", "<none>")
    yield from _sizes(item.get("data") or {})


def _sizes(data: dict[str, str]) -> Lines:
    for key, value in sorted(data.items()):
        size = len(value.rstrip("=")) * 3 // 4  # of base64
        yield _line(key, f"{size} byte{'' if size == 1 else 's'}", 1)


def _generic(item: Document) -> Lines:
    for name, value in item.items():
        if name not in ("apiVersion", "kind", "metadata"):
            yield from _tree(name, value, 0)


def _tree(name: str, value: Any, indent: int) -> Lines:
    pad = "  " * indent
    title = name[:1].upper() + name[1:]
    if isinstance(value, dict) and value:
        yield f"{pad}{title}:"
        for key, below in value.items():
            yield from _tree(key, below, indent + 1)
    elif isinstance(value, list) and any(isinstance(each, dict) for each in value):
        for each in value:
            yield from _tree(name, each, indent)
    elif isinstance(value, list):
        yield _line(title, ", ".join(map(str, value)) or "<none>", indent)
    else:
        lines = str(value).splitlines() or [""]
        yield _line(title, lines[0], indent)
        yield from (f"{pad}  {line}" for line in lines[1:])


def _conditions(status: Document) -> Lines:
    conditions = status.get("conditions") or []
    if not conditions:
        return
    yield "Conditions:"
    rows = [
        (
            f"  {each.get('type', '')}",
            str(each.get("status", "")),
            age_of(each.get("lastTransitionTime", "")),
            each.get("reason") or "",
            each.get("message") or "",
        )
        for each in conditions
    ]
    yield from columns(("  TYPE", "STATUS", "SINCE", "REASON", "MESSAGE"), rows)


def _events(events: list[Document]) -> Lines:
    if not events:
        yield _line("Events", "<none>")
        return
    yield "Events:"
    rows = []
    for event in sorted(events, key=last_seen):
        count = event.get("count") or 1
        source = (event.get("source") or {}).get("component") or event.get("reportingComponent") or ""
        seen = age_of(last_seen(event)) + (f" (x{count})" if count > 1 else "")
        message = str(event.get("message", "")).strip().replace("\n", " ")
        rows.append((f"  {event.get('type', '')}", event.get("reason", ""), seen, source, message))
    yield from columns(("  TYPE", "REASON", "AGE", "FROM", "MESSAGE"), rows)


def _toleration(each: Document) -> str:
    key = each.get("key") or "(every key)"
    value = f"={each['value']}" if each.get("value") else ""
    effect = f":{each['effect']}" if each.get("effect") else ""
    seconds = each.get("tolerationSeconds")
    return f"{key}{value}{effect}" + (f" for {seconds}s" if seconds is not None else "")


def _short(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key}={_short(below)}" for key, below in value.items())
    if isinstance(value, list):
        return f"[{', '.join(map(_short, value))}]"
    return "" if value is None else str(value)


def _quoted(word: str) -> str:
    import shlex

    return shlex.quote(word)


def joined(blocks: Iterable[list[str]]) -> str:
    """Several descriptions with room between them."""
    return "\n\n\n".join("\n".join(block) for block in blocks)
