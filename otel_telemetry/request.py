"""The values that an app records for a request: its route, its stages, and why the answer is degraded.

    with otel_telemetry.request(route="web_then_grok", session_id=sid) as r:
        with r.stage("router"):
            ...
        r.degrade("web_failed")

Everything becomes `request_log.*` attributes (docs/tables.md) on the request's root span: the server span that the
FastAPI hooks remember, or the current span if it is a server's or consumer's, or else our own span. A `request()`
within another one adds to the same request. Values go through the redactor like any attribute. Nothing here raises into
the app: an internal error, or an argument that cannot be used, is counted and logged once.
"""

import functools
import inspect
import json
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from contextvars import Token
from typing import Any, ParamSpec, Self, TypeVar

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.trace import Span, SpanKind, Status, StatusCode

from otel_telemetry.app import events
from otel_telemetry.base import conventions
from otel_telemetry.instrument import active
from otel_telemetry.instrument.shield import shielded

COMPONENT = "request"
MAX_ERROR = 500  # characters of an error
_ROOT_KINDS = (SpanKind.SERVER, SpanKind.CONSUMER)
_WEBSOCKET = ("ws", "wss")
_OF_RUNS = conventions.RUN_TYPES | conventions.STEP_TYPES

P = ParamSpec("P")
R = TypeVar("R")
_enabled = True


@functools.cache
def _tracer() -> trace.Tracer:
    """Return the tracer of spans of our own; taken when first needed: a provider that cannot be loaded raises."""
    return trace.get_tracer(conventions.SCOPE_NAME)


def set_enabled(enabled: bool) -> None:
    """Switch `request()`, feedback and events on or off for the whole process; off, they do nothing at all."""
    global _enabled  # noqa: PLW0603 - one switch a process
    _enabled = enabled
    events.set_enabled(enabled)


def request(
    route: str | None = None,
    *,
    id: str | None = None,  # noqa: A002 - the column's name
    session_id: str | None = None,
    user_id: str | None = None,
    conversation_id: str | None = None,
    **columns: Any,
) -> "Request":
    """Return a request to be entered with `with` or `async with`, or to decorate a function or coroutine function.

    `columns` are columns of request_log by name; a name that is none of them lands in `meta`. None is left out.
    """
    columns.update(route=route, id=id, session_id=session_id, user_id=user_id, conversation_id=conversation_id)
    return (Request if _enabled else _Silent)(columns)


def _guarded(method: Callable[P, R]) -> Callable[P, R | None]:
    """Shield the app from what goes wrong in a method."""

    @functools.wraps(method)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> R | None:
        try:
            return method(*args, **kwargs)
        except Exception as error:  # noqa: BLE001 - the border to the app
            shielded(COMPONENT, error)
            return None

    return guarded


class Request:
    """One request under way. Made by `request()`, entered once."""

    __slots__ = ("_before", "_columns", "_own", "_root", "_route", "_span", "_stages", "_token")

    def __init__(self, columns: dict[str, Any]) -> None:
        self._columns = columns
        self._route: str | None = None
        self._span: Span = trace.INVALID_SPAN
        self._own = False
        self._root: active.Root | None = None
        self._before: active.Root | None = None
        self._token: Token[otel_context.Context] | None = None
        self._stages: dict[str, float] = {}

    @property
    def route(self) -> str | None:
        """The route that was set last."""
        return self._route

    def set(self, **columns: Any) -> None:
        """Set columns of the request; the last value for each counts."""
        for name, value in columns.items():
            if value is not None:
                self._set(name, value)

    @_guarded
    def degrade(self, reason: str) -> None:
        """Record why the answer is degraded, as a fixed token to group by."""
        self._set("degraded", reason)

    @_guarded
    def skip(self, reason: str) -> None:
        """Record that the request was declined and why: no model is called, the row is written all the same."""
        self._set("degraded", reason)
        if self._route is None:
            self._set("route", "none")

    @_guarded
    def fail(self, error: BaseException | str) -> None:
        """Record that the request failed, with the exception or a text."""
        text = error if isinstance(error, str) else type(error).__name__
        self._set("ok", False)
        self._set("error", text[:MAX_ERROR])
        # What cancels a task writes the address of its scope into the message: nothing to group by.
        if isinstance(error, Exception) and (message := str(error)):
            text = f"{text}: {message}"
            self._set("error", text[:MAX_ERROR])
        if self._own:
            self._span.set_status(Status(StatusCode.ERROR, text[:MAX_ERROR]))

    @_guarded
    def cache_hit(self) -> None:
        """Record that the answer came from a cache."""
        self._set("cache_hit", True)

    @_guarded
    def feedback(self, verdict: str, **fields: Any) -> str | None:
        """Record a person's verdict on this request's answer, `up` or `down`; see `otel_telemetry.feedback`."""
        about = events.request_ids(self._span) | self._known("session_id")
        return events.feedback(verdict, **{**about, **fields})

    @_guarded
    def event(self, type: str, /, **fields: Any) -> str | None:  # noqa: A002 - the column's name
        """Record an event in a workflow of this request; see `otel_telemetry.event`."""
        about = {} if type in _OF_RUNS else events.request_ids(self._span)
        return events.event(type, **{**about, **self._known("session_id", "user_id"), **fields})

    def _known(self, *names: str) -> dict[str, Any]:
        return {name: self._columns[name] for name in names if self._columns.get(name) is not None}

    def stage(self, name: str) -> "Stage":
        """Return a stage to be entered with `with` or `async with`: its time is added to `stage_ms`."""
        return Stage(self, name if isinstance(name, str) else type(name).__name__)

    def __enter__(self) -> Self:
        self._open()
        return self

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        self._close(error)

    async def __aenter__(self) -> Self:
        self._open()
        return self

    async def __aexit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        self._close(error)

    def __call__(self, function: Callable[P, R]) -> Callable[P, R]:
        """Decorate a function or coroutine function: each of its calls is a request with these columns."""
        columns = self._columns
        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def awaited(*args: P.args, **kwargs: P.kwargs) -> Any:
                with request(**columns):
                    return await function(*args, **kwargs)

            return awaited  # type: ignore[return-value]  # R is the coroutine that this one stands for

        @functools.wraps(function)
        def called(*args: P.args, **kwargs: P.kwargs) -> R:
            with request(**columns):
                return function(*args, **kwargs)

        return called

    @_guarded
    def _open(self) -> None:
        self._before = active.root.get()
        root = active.live_root() or _server_root()
        if root is None:
            root = self._start()
        self._root, self._span = root, root.span
        active.root.set(root)
        root.is_request()
        self.set(**self._columns)

    def _start(self) -> active.Root:
        route = self._columns.get("route")
        span = _tracer().start_span(f"request {route}" if route else "request", kind=SpanKind.INTERNAL)
        self._own = True
        self._token = otel_context.attach(trace.set_span_in_context(span))
        return active.Root(span)

    def _close(self, error: BaseException | None) -> None:
        if error is not None and not isinstance(error, GeneratorExit):
            self.fail(error)
            self._record(error)
        self._leave()

    @_guarded
    def _record(self, error: BaseException) -> None:
        if self._own:
            self._span.record_exception(error)

    @_guarded
    def _leave(self) -> None:
        if active.root.get() is self._root:
            active.root.set(self._before)
        if self._token is not None:
            # A generator may be closed in another context than it was opened in; that one never had our span.
            with suppress(ValueError):
                self._token.var.reset(self._token)
        if self._own:
            self._span.end()

    @_guarded
    def _set(self, name: str, value: Any) -> None:
        if name == "route":
            self._route = str(value)
        if not self._span.is_recording():
            return
        if name in conventions.MAP_COLUMNS and isinstance(value, Mapping):
            for key, item in value.items():
                self._span.set_attribute(f"{conventions.REQUEST_LOG}{name}.{key}", _attribute(item))
        else:
            key = conventions.CONVERSATION_ID if name == "conversation_id" else conventions.REQUEST_LOG + name
            self._span.set_attribute(key, _attribute(value))

    @_guarded
    def _spent(self, stage: str, seconds: float) -> None:
        self._stages[stage] = self._stages.get(stage, 0.0) + seconds * 1000
        self._set(f"stage_ms.{stage}", round(self._stages[stage], 3))


class Stage:
    """A part of a request that is timed; model calls within it carry its name (`request_log.stage`)."""

    __slots__ = ("_before", "_name", "_request", "_started")

    def __init__(self, request: Request, name: str) -> None:
        self._request = request
        self._name = name
        self._before: str | None = None
        self._started = 0.0

    def __enter__(self) -> Self:
        self._started = time.perf_counter()
        self._before = active.stage.get()
        active.stage.set(self._name)
        return self

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if active.stage.get() == self._name:
            active.stage.set(self._before)
        self._request._spent(self._name, time.perf_counter() - self._started)  # noqa: SLF001 - its own request

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        self.__exit__(kind, error, traceback)


class _Silent(Request):
    """A request while everything is switched off."""

    __slots__ = ()

    def _open(self) -> None:
        """Do nothing."""

    def _close(self, error: BaseException | None) -> None:
        """Do nothing."""

    def _spent(self, stage: str, seconds: float) -> None:
        """Do nothing."""

    def feedback(self, verdict: str, **fields: Any) -> None:
        """Do nothing."""

    def event(self, type: str, /, **fields: Any) -> None:  # noqa: A002 - the column's name
        """Do nothing."""


def _server_root() -> active.Root | None:
    """Return the current span as a root where it is a server's: of a framework whose hooks are not ours."""
    span = trace.get_current_span()
    if not span.is_recording() or getattr(span, "kind", None) not in _ROOT_KINDS:
        return None
    attributes = getattr(span, "attributes", None) or {}
    scheme = attributes.get("url.scheme", attributes.get("http.scheme"))
    return None if scheme in _WEBSOCKET else active.Root(span)  # a websocket's span lasts for many requests


def _attribute(value: Any) -> str | bool | int | float:
    """Return a value that an attribute can hold: numbers and texts as they are, lists and maps as JSON text."""
    if isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Mapping | list | tuple):
        return json.dumps(value, ensure_ascii=False, default=str)
    return str(value)


__all__ = ["Request", "Stage", "request", "set_enabled"]
