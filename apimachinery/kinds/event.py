"""Event: something that happened to an object. The same objects are core/v1's and, under other field names, those of
events.k8s.io/v1 (note = message, regarding = involvedObject, reportingController = reportingComponent, ...)."""

from __future__ import annotations

from typing import Any

from apimachinery.causes import invalid, one_of
from apimachinery.errors import Cause
from apimachinery.kind import Column, Kind
from apimachinery.meta import Int32, MicroTime, ObjectMeta, ObjectReference, Record, Time, always, fresh
from apimachinery.table import NAME, age


class EventSource(Record, kw_only=True):
    """Who reported it, in the older form."""

    component: str = ""
    host: str = ""


class EventSeries(Record, kw_only=True):
    """Repeats of the event."""

    count: Int32 | None = None
    lastObservedTime: MicroTime = ""


class Event(Record, kw_only=True):
    """One observation, or a run of equal ones. type is Normal or Warning."""

    apiVersion: str = always("v1")
    kind: str = always("Event")
    metadata: ObjectMeta = fresh(ObjectMeta)
    involvedObject: ObjectReference = fresh(ObjectReference)
    reason: str = ""
    message: str = ""
    source: EventSource = fresh(EventSource)
    firstTimestamp: Time = ""
    lastTimestamp: Time = ""
    count: Int32 | None = None
    type: str = ""
    eventTime: MicroTime = ""
    series: EventSeries | None = None
    action: str = ""
    related: ObjectReference | None = None
    reportingComponent: str = always("")
    reportingInstance: str = always("")


def validate(event: Event) -> list[Cause]:
    """An event lies in the namespace of what it is about; that of a thing without a namespace in default (or nowhere
    in particular)."""
    found: list[Cause] = []
    namespace, about = event.metadata.namespace, event.involvedObject.namespace
    if (about and about != namespace) or (not about and namespace not in ("default", "kube-system", "")):
        found.append(invalid("involvedObject.namespace", about, "does not match event.namespace"))
    if event.eventTime:  # made through the newer API, whose rules are stricter
        found += one_of("type", event.type, ("Normal", "Warning"))
    return found


def field_values(event: Event) -> dict[str, str]:
    """What field selectors may compare."""
    about = event.involvedObject
    return {
        "metadata.name": event.metadata.name,
        "metadata.namespace": event.metadata.namespace,
        "involvedObject.kind": about.kind,
        "involvedObject.namespace": about.namespace,
        "involvedObject.name": about.name,
        "involvedObject.uid": about.uid,
        "involvedObject.apiVersion": about.apiVersion,
        "involvedObject.resourceVersion": about.resourceVersion,
        "involvedObject.fieldPath": about.fieldPath,
        "reason": event.reason,
        "reportingComponent": event.reportingComponent,
        "source": event.source.component or event.reportingComponent,
        "type": event.type,
    }


def cells(event: Event, now: float) -> list[Any]:
    """Last seen, type, reason, object, subobject, source, message, first seen, count, name."""
    first = event.firstTimestamp or event.eventTime
    last, count = event.lastTimestamp or first, event.count or 1
    if event.series is not None:
        last, count = event.series.lastObservedTime or last, event.series.count or 1
    about = event.involvedObject
    target = about.kind.lower() + (f"/{about.name}" if about.name else "")
    source = [event.source.component or event.reportingComponent, event.source.host or event.reportingInstance]
    return [
        age(last, now),
        event.type,
        event.reason,
        target,
        about.fieldPath,
        ", ".join(part for part in source if part),
        event.message.strip(),
        age(first, now),
        count,
        event.metadata.name,
    ]


COLUMNS = (
    Column("Last Seen", description="The time at which the most recent occurrence was recorded."),
    Column("Type", description="Normal or Warning."),
    Column("Reason", description="Why, in one word, for machines."),
    Column("Object", description="What it happened to."),
    Column("Subobject", description="Which part of the object.", priority=1),
    Column("Source", description="Who reported it.", priority=1),
    Column("Message", description="What happened, for people."),
    Column("First Seen", description="The time at which the event was first recorded.", priority=1),
    Column("Count", description="The number of times that it has occurred.", priority=1),
    Column("Name", format="name", description=NAME.description, priority=1),
)

KIND = Kind(
    group="",
    version="v1",
    kind="Event",
    plural="events",
    type=Event,
    short_names=("ev",),
    validate=validate,
    columns=COLUMNS,
    cells=cells,
    field_values=field_values,
    create_on_update=True,
    ttl_seconds=3600.0,
    description="Event is a report of an event somewhere in the cluster.",
)
