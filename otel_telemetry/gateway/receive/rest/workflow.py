"""POST /events and POST /log: bodies in, log records of workflow events out, with the outcome of each item."""

from collections.abc import Container, Mapping, Sequence
from typing import Any, Final

from otel_telemetry.base import conventions
from otel_telemetry.base.errors import MalformedTelemetry
from otel_telemetry.gateway.receive import request_headers, status
from otel_telemetry.gateway.receive.rest import models
from otel_telemetry.gateway.receive.rest.call import Call
from otel_telemetry.gateway.receive.rest.records import Record

ACCEPTED: Final = "accepted"
REJECTED: Final = "rejected"
_SUBJECTS: Final = frozenset({"run_id", "step_id"})
#: Headers say of a run how it starts; of what follows they only say where it was sent.
_OF_ALL: Final = frozenset({"application", "environment"})
_MILLISECOND: Final = 1_000_000


class Positions:
    """Where each event of a list stands among the others: a list of one time keeps its order."""

    def __init__(self) -> None:
        self._after: dict[tuple[int, str], int] = {}
        self._numbers: dict[tuple[int, str, str], int] = {}

    def of(self, event: models.WorkflowEvent, index: int) -> dict[str, int | None]:
        """Return the attributes of the event at this place; those that are 0 are None."""
        inside = event.data if isinstance(event.data, dict) else {}
        run, step = event.run_id or inside.get("run_id"), event.step_id or inside.get("step_id")
        own = event.id or inside.get("id")
        about = str((run or own, None) if event.type in conventions.RUN_TYPES else (run, step or own))
        at = (event.time_ns or 0) // _MILLISECOND
        number = self._numbers.get((at, event.type, about), 0)
        self._numbers[at, event.type, about] = number + 1
        kind = conventions.EVENT_ORDER.get(event.type, 0)
        after = max(self._after.get((at, about), 0), kind)
        self._after[at, about] = after
        return {
            conventions.EVENT_PLACE: index or None,
            conventions.EVENT_AFTER: after if after > kind else None,
            conventions.EVENT_NUMBER: number or None,
        }


class Batch:
    """The events of one request: `records` of those that can be taken, and an outcome for each."""

    def __init__(self, given: Any, call: Call) -> None:
        self.records: list[Record] = []
        self.outcomes: list[dict[str, Any]] = []
        self._positions = Positions()
        self._types: dict[int, str] = {}
        defaults = request_headers.of(call.request)
        items = _items(given)
        call.expect(len(items))
        for index, item in enumerate(items):
            self._take(item, defaults, call, index)

    def _take(self, item: Any, defaults: Mapping[str, Any], call: Call, index: int) -> None:
        try:
            item = _with_ids(item, defaults)
            event = models.read(models.WorkflowEvent, item)
            record = _event_record(event, item, defaults, call, index)
            record.attributes = self._positions.of(event, index)
            record.write()
        except MalformedTelemetry as error:
            why = {"field": error.field, "error": error.problem}
            self.outcomes.append({"index": index, "status": REJECTED, **why})
            return
        self.records.append(record)
        self._types[index] = str(record.values["type"])
        own = record.values.get("event_id")
        self.outcomes.append({"index": index, "status": ACCEPTED, **({"id": own} if own else {})})

    @property
    def accepted(self) -> list[str]:
        """The types of the events that were taken."""
        return [self._types[each["index"]] for each in self.outcomes if each["status"] == ACCEPTED]

    def mark_lost(self, stored: Container[int], at: int, why: str) -> None:
        """Correct the outcomes of events that were left out, and say why; `stored` has the times of the others."""
        for outcome in self.outcomes:
            if outcome["status"] == ACCEPTED and at + outcome["index"] not in stored:
                outcome.update(status=REJECTED, field="", error=why or status.REDACTION_FAILED.message)


def log_record(entry: models.LogEntry, payload: Mapping[str, Any], own: str, call: Call) -> Record:
    """Return the record of a log entry: a workflow event of its type, with its payload as data."""
    about = entry.payload.metadata or models.Metadata()
    values: dict[str, Any] = {"type": entry.event, "event_id": own, "data": payload}
    for name in ("user_id", "session_id", "request_id"):
        values[name] = getattr(about, name) or getattr(entry.payload, name)
    defaults = request_headers.of(call.request)
    values |= {key: value for key, value in defaults.items() if values.get(key) is None}
    service = entry.payload.service or defaults.get("application")
    title = f"log: {entry.event}"
    return Record(
        conventions.WORKFLOW_EVENT,
        title,
        call.at,
        entry.payload.timestamp,
        values,
        {},
        service,
        defaults.get("environment"),
    )


def _event_record(
    event: models.WorkflowEvent, item: Mapping[str, Any], defaults: Mapping[str, Any], call: Call, index: int
) -> Record:
    values: dict[str, Any] = {key: value for key, value in item.items() if key not in {"timestamp", "time", "ts"}}
    for name in ("id", "run_id", "step_id"):
        values[name] = getattr(event, name)
    inside = event.data if isinstance(event.data, dict) else {}
    follows = event.type in conventions.EVENT_ORDER and event.type != conventions.RUN_START
    for key, value in defaults.items():
        is_meant = key in _OF_ALL if follows else key not in _SUBJECTS
        if is_meant and values.get(key) is None and inside.get(key) is None:
            values[key] = value
    values.pop("event_id", None)
    has_own = event.id is not None and event.id not in {event.run_id, event.step_id} and not _is_subject(event)
    if call.is_idempotent or not (has_own or event.time_ns):
        values["event_id"] = call.own_id(str(index))
    service, environment = (values.get(name) or inside.get(name) for name in ("application", "environment"))
    return Record(
        conventions.WORKFLOW_EVENT,
        event.type,
        call.at + index,
        event.time_ns,
        values,
        {},
        service if isinstance(service, str) else None,
        environment if isinstance(environment, str) else None,
    )


def _is_subject(event: models.WorkflowEvent) -> bool:
    """Return whether `id` is that of the run or step which the event is about."""
    full = event.run_id if event.type in conventions.RUN_TYPES else event.step_id
    return full is None and event.type in conventions.RUN_TYPES | conventions.STEP_TYPES


def _with_ids(item: Any, defaults: Mapping[str, Any]) -> Any:
    """Return an event with the run and step from headers, where it has none."""
    if not isinstance(item, dict):
        return item
    inside = item["data"] if isinstance(item.get("data"), dict) else {}
    kind = str(item.get("type"))
    subject = {"run_id": conventions.RUN_TYPES, "step_id": conventions.STEP_TYPES}
    missing = {
        name: defaults[name]
        for name, types in subject.items()
        if name in defaults
        and item.get(name) is None
        and inside.get(name) is None
        and not (item.get("id") is not None and kind in types)
    }
    return {**item, **missing} if missing else item


def _items(given: Any) -> Sequence[Any]:
    """Return the events of a body: one, a list, or a list under `events`."""
    if isinstance(given, dict) and "events" in given and "type" not in given:
        given = given["events"]
        if not isinstance(given, list):
            raise MalformedTelemetry("must be a list", "events")
    return given if isinstance(given, list) else [given]
