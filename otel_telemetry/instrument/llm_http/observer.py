"""Decides which requests are model calls that nobody else sees, whatever client sends them, and begins their calls."""

from collections.abc import Callable
from types import ModuleType
from typing import Any

import wrapt
from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.instrumentation.utils import is_http_instrumentation_enabled
from opentelemetry.trace import NonRecordingSpan, Tracer

from otel_telemetry.instrument import active, afterwards
from otel_telemetry.instrument.config import InstrumentSettings
from otel_telemetry.instrument.llm_http import endpoints, later, others, unseen
from otel_telemetry.instrument.llm_http.call import COMPONENT, ModelCall
from otel_telemetry.instrument.llm_http.measures import Measures
from otel_telemetry.instrument.llm_http.outgoing import OutgoingRequest
from otel_telemetry.instrument.shield import shielded

#: Set by other instrumentations of model calls around a call that they do not want to be seen.
_SUPPRESS_LLM = "suppress_language_model_instrumentation"
_RETRY_COUNT = "x-stainless-retry-count"  # of SDKs that Stainless generates: openai, anthropic, groq
_PORTS = {"https": 443, "http": 80}
Undo = Callable[[], None]


class Observer:
    """Decides which requests are observed, and begins their calls, until it is stopped."""

    def __init__(self, config: InstrumentSettings, tracer: Tracer, measures: Measures) -> None:
        self._hosts = frozenset(host.lower() for host in config.llm_hosts)
        self._providers = tuple((host.lower(), provider) for host, provider in config.llm_providers.items())
        self._capture = config.captures()
        self._tracer = tracer
        self._measures = measures
        self._stopped = False

    def stop(self) -> None:
        """Begin no more calls: a wrapper that somebody else has wrapped stays where it is."""
        self._stopped = True

    def begin(self, method: str, describe: Callable[..., OutgoingRequest], *given: Any) -> ModelCall | None:
        """Return the call that a request begins, or None where it is none or somebody else sees it.

        `describe(*given)` is the request. Never raises.
        """
        try:
            if method == "POST":
                return None if self._stopped else self._begin(describe(*given))
            if method == "GET" and later.any_waiting():
                return None if self._stopped else self._fetch(describe(*given))
        except Exception as error:  # noqa: BLE001 - the border to the app: the request goes out in any case
            shielded(COMPONENT, error)
        return None

    def _begin(self, sent: OutgoingRequest) -> ModelCall | None:
        endpoint = endpoints.recognise(sent, self._hosts, self._providers)
        context = otel_context.get_current()
        if context and _is_suppressed(context):
            return None
        if endpoint is None:
            unseen.look(sent.host, sent.path, sent.raw)
            return None
        if root := active.live_root():
            root.is_request()
        current = trace.get_current_span(context)
        if others.see_it(current, self._tracer) or others.will_see_it(endpoint.dialect, sent.header):
            return None
        afterwards.watch()
        call = ModelCall(endpoint, self._measures, capture=self._capture)
        port = sent.port or _PORTS.get(sent.scheme)
        call.start(self._tracer, sent.body(), sent.host, port, _parent_context(current, root) or context)
        if attempt := sent.header(_RETRY_COUNT):
            call.resent(attempt)
        return call

    def _fetch(self, sent: OutgoingRequest) -> ModelCall | None:
        """Return the call that began before, whose answer a GET asks for, if it does."""
        begun = later.fetched(sent.path)
        if begun is None or _is_suppressed(otel_context.get_current()):
            return None
        call = ModelCall(begun.endpoint, self._measures, capture=self._capture, fetches=begun)
        context = trace.set_span_in_context(NonRecordingSpan(begun.context))
        call.start(self._tracer, {}, sent.host, sent.port or _PORTS.get(sent.scheme), context)
        return call


def _is_suppressed(context: Context) -> bool:
    """Return whether somebody wants no spans of what is sent now: nearly always there is nothing to ask about."""
    for key in context:
        if key.startswith("suppress"):  # as all keys for that do
            return bool(context.get(_SUPPRESS_LLM)) or not is_http_instrumentation_enabled()
    return False


def _parent_context(current: trace.Span, root: active.Root | None) -> Context | None:
    """Return where a call's span belongs if not below the current span.

    LangSmith makes a span current that is none, with a trace id of its own: the call would leave its request. MLflow
    makes one current that has no ids at all.
    """
    if root is None or not isinstance(current, NonRecordingSpan):
        return None
    at, request = current.get_span_context(), root.span.get_span_context()
    is_elsewhere = at is None or (at.is_valid and not at.is_remote and at.trace_id != request.trace_id)
    return trace.set_span_in_context(root.span) if is_elsewhere else None


def when_imported(name: str, wrap: Callable[[ModuleType, Observer], Callable[[], None]], observer: Observer) -> Undo:
    """Wrap a module now, or once somebody imports it; return what undoes it."""
    undo: list[Undo] = []
    wrapt.register_post_import_hook(lambda module: undo.append(wrap(module, observer)), name)

    def undo_all() -> None:
        for step in undo:
            step()

    return undo_all


class CurrentSpan:
    """Makes a call's span the current one while the request goes out, and ends the call if that fails."""

    __slots__ = ("_call", "_token")

    def __init__(self, call: ModelCall) -> None:
        self._call = call

    def __enter__(self) -> None:
        self._token = otel_context.attach(trace.set_span_in_context(self._call.span))

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        try:  # noqa: SIM105 - `suppress` takes as long as all of this
            self._token.var.reset(self._token)
        except ValueError:
            pass  # a coroutine that was dropped is closed in another context, which never had our span
        if error is not None:
            self._call.finish(error)
