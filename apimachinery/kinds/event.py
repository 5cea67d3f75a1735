"""Event: something that happened to an object. The same objects are core/v1's and, under other field names, those of
events.k8s.io/v1 (note = message, regarding = involvedObject, reportingController = reportingComponent, ...)."""

from __future__ import annotations

from apimachinery.kind import Kind
from apimachinery.meta import Int32, MicroTime, ObjectMeta, ObjectReference, Record, Time, always, fresh


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


KIND = Kind(
    group="",
    version="v1",
    kind="Event",
    plural="events",
    type=Event,
    short_names=("ev",),
    create_on_update=True,
    ttl_seconds=3600.0,
    description="Event is a report of an event somewhere in the cluster.",
)
