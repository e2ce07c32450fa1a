"""What every record of this kind has: an id that is its own, a time, and where it comes from."""

from datetime import UTC, datetime
from hashlib import blake2b
from typing import Any, Final

from otel_telemetry import conventions, records
from otel_telemetry.exporters.request_log import coerce, schema
from otel_telemetry.exporters.request_log.coerce import Notes
from otel_telemetry.exporters.request_log.said import identity

_DAY_NS: Final = 86_400 * 1_000_000_000


class Unfit(ValueError):
    """A record that lacks what makes it a row."""


def record_id(said: records.Said, *about: str) -> str:
    """Return the key of a record: `event_id`, else made from its sender's own `id`, else from all that is said.

    A sender's id only needs to be its own among records of one type about one run and step.
    """
    given = coerce.text(said.values.get("event_id"), "event_id", Notes(), coerce.ID_LIMIT)
    if given is not None:
        return given
    own = coerce.text(said.values.get("id"), "id", Notes(), coerce.ID_LIMIT)
    if own is None or own in about:
        return identity(said)
    told = [said.name, str(said.values.get("type")), *about, own]
    return blake2b(schema.encode(told).encode(), digest_size=16, person=b"said id").hexdigest()


def when(said: records.Said) -> int:
    """Return when it was, in nanoseconds: by who says it, else by who first saw it, else now.

    A time more than a day after it was seen is a clock that is wrong: it would be the newest word for good.
    """
    if said.time_ns and not (said.observed_ns and said.time_ns > said.observed_ns + _DAY_NS):
        return said.time_ns
    return said.observed_ns or int(datetime.now(UTC).timestamp() * 1e9)


def service(said: records.Said, notes: Notes) -> str | None:
    """Return the service that says it, where it has a name."""
    name = said.resource.get(conventions.SERVICE_NAME)
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
