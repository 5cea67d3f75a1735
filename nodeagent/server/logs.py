"""`/containerLogs/{namespace}/{pod}/{container}`: which log, from where on, for how long."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator

from apimachinery.errors import BadRequest, NotFound
from apimachinery.times import parse_time
from componentbase.clock import Clock
from componentbase.http import Headers, Query, Request, Response
from nodeagent.logs.tail import Options, read_log
from nodeagent.podworker.record import ContainerRecord
from nodeagent.podworker.states import State
from nodeagent.podworker.worker import PodWorker

STREAMS = {"": "", "All": "", "Stdout": "stdout", "Stderr": "stderr"}


def options(query: Query, now: float) -> Options:
    """What the query asks for. Raises BadRequest naming the parameter."""
    since = 0.0
    if (seconds := _number(query, "sinceSeconds")) is not None:
        since = now - seconds
    if moment := query.first("sinceTime"):
        try:
            since = parse_time(moment)
        except ValueError as error:
            raise BadRequest(f"sinceTime: {error}") from error
    stream = query.first("stream")
    if stream not in STREAMS:
        raise BadRequest(f"stream {stream!r} must be one of All, Stdout, Stderr")
    return Options(
        follow=flag(query, "follow"),
        tail_lines=_number(query, "tailLines"),
        since=since,
        timestamps=flag(query, "timestamps"),
        limit_bytes=_number(query, "limitBytes"),
        stream=STREAMS[stream],
    )


def attempt_of(record: ContainerRecord, pod: str, *, previous: bool) -> int:
    """The attempt whose log is meant. Raises BadRequest when there is none."""
    waiting = record.state not in (State.RUNNING, State.STOPPING, State.DONE)
    if previous:
        # While it waits to be restarted, the last one that ended counts as the previous one, as in the status.
        if record.exit is not None and waiting and record.waiting_reason:
            return record.attempt
        if record.last_exit is not None and record.attempt > 0:
            return record.attempt - 1
        raise BadRequest(f'previous terminated container "{record.name}" in pod "{pod}" not found')
    if record.id:
        return record.attempt
    if record.last_exit is not None and record.attempt > 0:
        return record.attempt - 1
    reason = record.waiting_reason or "ContainerCreating"
    if record.waiting_message:
        reason = f"{reason}: {record.waiting_message}" if "Back" not in reason else f"trying and failing: {reason}"
    raise BadRequest(f'container "{record.name}" in pod "{pod}" is waiting to start: {reason}')


def serve(worker: PodWorker, container: str, request: Request, clock: Clock) -> Response:
    """The log as a stream of text."""
    record = worker.machine.containers.get(container)
    name = worker.pod.metadata.name
    if record is None:
        raise BadRequest(f"container {container} is not valid for pod {name}")
    wanted = options(request.query, clock.now())
    attempt = attempt_of(record, name, previous=flag(request.query, "previous"))
    path = worker.services.logs.path(worker.pod, container, attempt)

    def ended() -> bool:
        return record.attempt != attempt or not record.live or worker.gone

    if not os.path.exists(path) and (not wanted.follow or ended()):
        raise NotFound(f'the log of container "{container}" in pod "{name}" is not there any more')
    body = _quietly(read_log(path, wanted, clock, ended), path)
    return Response(200, Headers({"content-type": "text/plain"}), body)


async def _quietly(chunks: AsyncIterator[bytes], path: str) -> AsyncIterator[bytes]:
    """The head of the answer is out: a log that vanishes meanwhile only ends."""
    try:
        async for chunk in chunks:
            yield chunk
    except FileNotFoundError:
        return


def flag(query: Query, name: str) -> bool:
    """A boolean parameter: true, 1, or given without a value."""
    return query.has(name) and query.first(name).lower() in ("true", "1", "")


def _number(query: Query, name: str) -> int | None:
    given = query.first(name)
    if not given:
        return None
    if not given.isdigit():
        raise BadRequest(f"{name} must be a whole number, not {given!r}")
    return int(given)
