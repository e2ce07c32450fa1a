"""Feedback and browser events from web pages, as log records: for the gateway, and for apps without one."""

from http import HTTPStatus
from typing import Any

from google.rpc import code_pb2

from otel_telemetry.base import conventions
from otel_telemetry.gateway.receive.rest import models
from otel_telemetry.gateway.receive.rest.records import Record
from otel_telemetry.gateway.receive.status import Refusal


def feedback(given: Any, own: str, at: int, address: str | None) -> Record:
    """Return the record of a body of /feedback, whose id is `own`; raises MalformedTelemetry."""
    read = models.read(models.Feedback, given)
    values = read.model_dump(exclude={"sid"}) | {"event_id": own, "session_id": read.session_id or read.sid}
    who = {conventions.CLIENT_ADDRESS: address}
    return Record(conventions.FEEDBACK_EVENT, f"feedback: {read.verdict}", at, None, values, who)


def browser_event(given: Any, own: str, at: int, address: str | None, agent: str | None) -> Record:
    """Return the record of a body of /telemetry; `agent` is the User-Agent header, used if the body has none."""
    read = models.read(models.BrowserEvent, given)
    values = {"type": read.type, "event_id": own, "session_id": read.sid, "data": _with_ts(read)}
    who = {conventions.CLIENT_ADDRESS: address, conventions.USER_AGENT: read.ua or agent}
    return Record(conventions.BROWSER_EVENT, read.type, at, None, values, who)


def _with_ts(read: models.BrowserEvent) -> Any:
    """Return a browser's data with the time of its clock."""
    if read.ts is None:
        return read.data
    data = read.data if isinstance(read.data, dict) else {} if read.data is None else {"value": read.data}
    return {**data, "ts": read.ts}


def too_often(wait: float) -> Refusal:
    """Refuse a client that sends too often, for that many seconds."""
    message = "too many events from this client"
    code, busy = code_pb2.RESOURCE_EXHAUSTED, HTTPStatus.TOO_MANY_REQUESTS
    return Refusal("rate_limited", code, busy, message, retry_after=wait)
