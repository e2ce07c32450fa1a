"""What the endpoints accept, as pydantic models: their errors name the field, and never quote a value."""

from typing import Annotated, Any, Final, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from otel_telemetry.base import conventions, times
from otel_telemetry.base.errors import MalformedTelemetry

_ID_LIMIT: Final = 200
_NAME_LIMIT: Final = 128
_SOME: Final = 3


def _time(value: Any) -> int | None:
    try:
        return times.nanoseconds(value)
    except (ValueError, OverflowError):
        raise ValueError("must be a time: ISO 8601, or a number since 1970") from None


def _text(value: Any) -> Any:
    """Take numbers as text, too: ids are often some."""
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


Time = Annotated[int | None, BeforeValidator(_time)]
Text = Annotated[str | None, BeforeValidator(_text)]
Label = Annotated[Annotated[str, Field(max_length=_ID_LIMIT)] | None, BeforeValidator(_text)]
Id = Label
Name = Annotated[str, Field(min_length=1, max_length=_NAME_LIMIT)]


class _Open(BaseModel):
    """Keeps what it does not know."""

    model_config = ConfigDict(extra="allow")


class Metadata(_Open):
    """Whom a log entry is about."""

    user_id: Id = None
    session_id: Id = None
    request_id: Id = None


class Payload(_Open):
    """The content of a log entry."""

    timestamp: Time = None
    service: Label = None
    metadata: Metadata | None = None
    user_id: Id = None
    session_id: Id = None
    request_id: Id = None


class LogEntry(BaseModel):
    """The body of POST /log."""

    event: Name
    payload: Payload

    @model_validator(mode="after")
    def _is_no_step(self) -> "LogEntry":
        if self.event in conventions.RUN_TYPES | conventions.STEP_TYPES:
            raise ValueError("event: events of runs and steps go to /events")
        return self


class Feedback(BaseModel):
    """The body of POST /feedback."""

    verdict: Literal["up", "down"]
    request_id: Id = None
    trace_id: Id = None
    session_id: Id = None
    sid: Id = None
    query: Text = None
    answer: Text = None
    note: Text = None
    model: Label = None
    scope: Label = None
    sources: Any = None


class BrowserEvent(BaseModel):
    """The body of POST /telemetry. `ts` is the browser's time, and is stored as it is."""

    type: Name
    ts: int | float | str | None = None
    sid: Id = None
    ua: Text = None
    data: Any = None


class WorkflowEvent(_Open):
    """One item of POST /events. What else it has goes along."""

    type: Name
    id: Id = None
    run_id: Id = None
    step_id: Id = None
    timestamp: Time = None
    time: Time = None
    ts: Time = None
    data: Any = None

    @property
    def time_ns(self) -> int | None:
        """When it was, by whichever name."""
        return self.timestamp or self.time or self.ts

    @model_validator(mode="after")
    def _names_its_subject(self) -> "WorkflowEvent":
        """Refuse an event of a run or step without its id."""
        inside = self.data if isinstance(self.data, dict) else {}
        of_step, of_run = self.type in conventions.STEP_TYPES, self.type in conventions.RUN_TYPES
        own = self.id or inside.get("id")
        if of_run and not (self.run_id or inside.get("run_id") or own):
            raise ValueError("run_id: missing")
        if of_step and not (self.step_id or inside.get("step_id") or own):
            raise ValueError("step_id: missing")
        if of_step and not (self.run_id or inside.get("run_id")):
            raise ValueError("run_id: missing")
        return self


class CacheItem(BaseModel):
    """The body of POST /cache/set."""

    key: Annotated[str, Field(min_length=1, max_length=4_096), BeforeValidator(_text)]
    data: Any = None
    ttl: Annotated[float, Field(gt=0, le=315_360_000)] | None = None

    @model_validator(mode="before")
    @classmethod
    def _has_data(cls, given: Any) -> Any:
        if isinstance(given, dict) and "data" not in given:
            raise ValueError("data: missing")
        return given


M = TypeVar("M", bound=BaseModel)


def read(model: type[M], given: Any) -> M:
    """Return a body as its model; raises MalformedTelemetry with the path of the first field that is wrong."""
    if not isinstance(given, dict):
        raise MalformedTelemetry("must be a JSON object")
    try:
        return model.model_validate(given)
    except ValidationError as error:
        raise _first(error) from None


def _first(error: ValidationError) -> MalformedTelemetry:
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    field = ".".join(str(part)[:_NAME_LIMIT] for part in first["loc"][:_SOME])
    message = first["msg"].removeprefix("Value error, ")
    if not field and ": " in message:
        field, _, message = message.partition(": ")
    return MalformedTelemetry("is missing" if message in {"missing", "Field required"} else message, field)
