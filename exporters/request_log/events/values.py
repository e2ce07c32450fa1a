"""What every record of this kind has: an id that is its own, a time, and where it comes from."""

from datetime import UTC, datetime
from typing import Any, Final

from otel_telemetry.base import conventions, ids, records
from otel_telemetry.exporters.request_log.db import coerce, column_types
from otel_telemetry.exporters.request_log.db.coerce import Notes
from otel_telemetry.exporters.request_log.events.app_events import identity

_DAY_NS: Final = 86_400 * 1_000_000_000


class InvalidEvent(ValueError):
    """A record that lacks a field which its row needs."""


def record_id(event: records.AppEvent, *about: str) -> str:
    """Return the key of a record: `event_id`, else made from its sender's own `id`, else from the whole content.

    A sender's id only needs to be unique among records of one type in one run and step.
    """
    given = coerce.text(event.values.get("event_id"), "event_id", Notes(), coerce.ID_LIMIT)
    if given is not None:
        return given
    own = coerce.text(event.values.get("id"), "id", Notes(), coerce.ID_LIMIT)
    if own is None or own in about:
        return identity(event)
    identifying = [event.name, str(event.values.get("type")), *about, own]
    return ids.digest(column_types.encode(identifying).encode(), b"said id")


def when(event: records.AppEvent) -> int:
    """Return the time of an event, in nanoseconds: the sender's, else that of the first receiver, else now.

    A time more than a day after it was received comes from a wrong clock: it would be the newest value forever.
    """
    if event.time_ns and not (event.observed_ns and event.time_ns > event.observed_ns + _DAY_NS):
        return event.time_ns
    return event.observed_ns or int(datetime.now(UTC).timestamp() * 1e9)


def service(event: records.AppEvent, notes: Notes) -> str | None:
    """Return the name of the sending service, if it has one."""
    name = event.resource.get(conventions.SERVICE_NAME)
    found = coerce.text(name, conventions.SERVICE_NAME, notes, coerce.NAME_LIMIT)
    return None if found is None or found.startswith(conventions.UNKNOWN_SERVICE) else found


def as_map(value: Any, key: str, notes: Notes) -> dict[str, Any]:
    """Return a map that may have come as JSON text; anything else is noted, and none."""
    found = coerce.parsed(value, key, notes)
    if isinstance(found, dict):
        return found
    if found is not None:
        notes.refuse(key, "not a map")
    return {}
