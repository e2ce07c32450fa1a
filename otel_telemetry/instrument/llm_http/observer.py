"""Decides which requests are model calls that nobody else sees, whatever client sends them, and begins their calls."""

import re
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any, NamedTuple

import wrapt
from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.instrumentation.utils import is_http_instrumentation_enabled
from opentelemetry.trace import NonRecordingSpan, Tracer

from otel_telemetry.instrument import active, afterwards
from otel_telemetry.instrument.config import InstrumentSettings
from otel_telemetry.instrument.llm_http import endpoints, later, others, unseen
from otel_telemetry.instrument.llm_http.call import COMPONENT, ModelCall, request_body
from otel_telemetry.instrument.llm_http.measures import Measures
from otel_telemetry.instrument.shield import shielded

#: Set by other instrumentations of model calls around a call that they do not want to be seen.
_SUPPRESS_LLM = "suppress_language_model_instrumentation"
_RETRY_COUNT = "x-stainless-retry-count"  # of SDKs that Stainless generates: openai, anthropic, groq
_PORTS = {"https": 443, "http": 80}
#: Where a form, which may hold a large file, names the model.
_MODEL_OF_FORM = re.compile(rb'name="model"\r\n(?:[\w-]+: [^\r\n]{0,128}\r\n){0,3}\r\n([\w./:-]{1,128})\r\n')
_FORM_PART = 8 << 10
Undo = Callable[[], None]


class OutgoingRequest(NamedTuple):
    """A request as its client has it: `raw` is its body where that is in memory, else None."""

    scheme: str
    host: str
    port: int | None
    path: str
    header: Callable[[str], str | None]
    raw: bytes | None

    def body(self) -> Mapping[str, Any]:
        """Return a JSON body, of a form the model that it names; one that is streamed is left alone."""
        if self.raw is None:
            return {}
        if self.raw[:1] == b"{":
            return request_body(self.raw)
        named = _MODEL_OF_FORM.search(self.raw[:_FORM_PART]) or _MODEL_OF_FORM.search(self.raw[-_FORM_PART:])
        return {"model": named[1].decode()} if named and self.raw[:2] == b"--" else {}


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
        target = endpoints.Target(sent.host, sent.port, sent.path, sent.header, sent.body)
        endpoint = endpoints.recognise(target, self._hosts, self._providers)
        if not is_http_instrumentation_enabled() or otel_context.get_value(_SUPPRESS_LLM):
            return None
        if endpoint is None:
            unseen.look(sent.host, sent.raw)
            return None
        if root := active.live_root():
            root.is_request()
        current = trace.get_current_span()
        if others.see_it(current, self._tracer) or others.will_see_it(endpoint.dialect, sent.header):
            return None
        afterwards.watch()
        call = ModelCall(endpoint, self._measures, capture=self._capture)
        port = sent.port or _PORTS.get(sent.scheme)
        call.start(self._tracer, sent.body(), sent.host, port, _parent_context(current, root))
        if attempt := sent.header(_RETRY_COUNT):
            call.resent(attempt)
        return call

    def _fetch(self, sent: OutgoingRequest) -> ModelCall | None:
        """Return the call that began before, whose answer a GET asks for, if it does."""
        begun = later.fetched(sent.path)
        if begun is None or not is_http_instrumentation_enabled() or otel_context.get_value(_SUPPRESS_LLM):
            return None
        call = ModelCall(begun.endpoint, self._measures, capture=self._capture, fetches=begun)
        context = trace.set_span_in_context(NonRecordingSpan(begun.context))
        call.start(self._tracer, {}, sent.host, sent.port or _PORTS.get(sent.scheme), context)
        return call


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
