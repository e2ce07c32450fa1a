"""The instrumentor: wraps `Client.send` and `AsyncClient.send` of httpx and httpx2.

`send` is public, every SDK goes through it, and it covers each transport; redirects and authentication stay inside one
call, an SDK's retries are calls of their own. The body is watched as it streams past (streams.py).
"""

import importlib
from collections.abc import Awaitable, Callable, Collection, Mapping
from types import ModuleType
from typing import Any

import wrapt
from opentelemetry import context as otel_context
from opentelemetry import metrics, trace
from opentelemetry.instrumentation.instrumentor import BaseInstrumentor  # type: ignore[attr-defined]  # untyped
from opentelemetry.instrumentation.utils import is_http_instrumentation_enabled
from opentelemetry.metrics import MeterProvider
from opentelemetry.trace import Tracer, TracerProvider

from otel_telemetry import conventions
from otel_telemetry.instrument import active
from otel_telemetry.instrument.config import InstrumentSettings
from otel_telemetry.instrument.llm_http import afterwards, endpoints, others
from otel_telemetry.instrument.llm_http.call import COMPONENT, ModelCall, request_body
from otel_telemetry.instrument.llm_http.measures import Measures
from otel_telemetry.instrument.llm_http.streams import Tees
from otel_telemetry.instrument.shield import shielded

MODULES = ("httpx", "httpx2")
#: Set by other instrumentations of model calls around a call that they do not want to be seen.
_SUPPRESS_LLM = "suppress_language_model_instrumentation"
_RETRY_COUNT = "x-stainless-retry-count"  # of SDKs that Stainless generates: openai, anthropic, groq


class LlmHttpInstrumentor(BaseInstrumentor):  # type: ignore[misc]  # untyped, see its import
    """Gives every model call over httpx or httpx2 a GenAI span and the GenAI client metrics.

    `instrument(config=None, tracer_provider=None, meter_provider=None)`; without arguments the defaults and the global
    providers. A call that another GenAI instrumentation has a span for already gets no second one.
    """

    _undo: tuple[Callable[[], None], ...] = ()

    def instrumentation_dependencies(self) -> Collection[str]:
        """Return nothing: whichever of httpx and httpx2 is there is instrumented."""
        return ()

    def _instrument(self, **kwargs: Any) -> None:
        config = kwargs.get("config") or InstrumentSettings()
        tracer_provider: TracerProvider | None = kwargs.get("tracer_provider")
        meter_provider: MeterProvider | None = kwargs.get("meter_provider")
        if not config.llm_http:
            return
        observer = Observer(
            config,
            trace.get_tracer(conventions.SCOPE_NAME, tracer_provider=tracer_provider),
            Measures(metrics.get_meter(conventions.SCOPE_NAME, meter_provider=meter_provider)),
        )
        afterwards.at_exit()
        unwrap = [_wrap(module, observer) for name in MODULES if (module := _imported(name))]
        self._undo = (observer.stop, *unwrap)

    def _uninstrument(self, **kwargs: Any) -> None:
        del kwargs
        undo, self._undo = self._undo, ()
        for step in undo:
            step()
        afterwards.flush()


def _imported(name: str) -> ModuleType | None:
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


class Observer:
    """Decides which requests are observed, and begins their calls, until it is stopped."""

    def __init__(self, config: InstrumentSettings, tracer: Tracer, measures: Measures) -> None:
        self._hosts = frozenset(host.lower() for host in config.llm_hosts)
        self._capture = config.capture_content
        self._tracer = tracer
        self._measures = measures
        self._stopped = False

    def stop(self) -> None:
        """Begin no more calls: a wrapper that somebody else has wrapped stays where it is."""
        self._stopped = True

    def begin(self, request: Any) -> ModelCall | None:
        """Return the call that a request begins, or None where it is none or somebody else sees it."""
        try:
            return self._begin(request) if request.method == "POST" and not self._stopped else None
        except Exception as error:  # noqa: BLE001 - the border to the app: the request goes out in any case
            shielded(COMPONENT, error)
            return None

    def _begin(self, request: Any) -> ModelCall | None:
        url = request.url
        path = url.raw_path.partition(b"?")[0].decode("ascii", "replace")
        target = endpoints.Target(url.host, url.port, path, request.headers.get)
        endpoint = endpoints.recognise(target, self._hosts)
        if endpoint is None or not is_http_instrumentation_enabled() or otel_context.get_value(_SUPPRESS_LLM):
            return None
        if root := active.live_root():
            root.is_request()
        if others.see_it(trace.get_current_span()) or others.will_see_it(endpoint.dialect, request):
            return None
        afterwards.watch()
        call = ModelCall(endpoint, self._measures, capture=self._capture)
        port = url.port or {"https": 443, "http": 80}.get(url.scheme)
        call.start(self._tracer, _body(request), target.host, port)
        if _RETRY_COUNT in request.headers:
            call.resent(request.headers[_RETRY_COUNT])
        return call


def _body(request: Any) -> Mapping[str, Any]:
    """Return a JSON body that is in memory already; one that is streamed or multipart is left alone."""
    content = getattr(request, "_content", None)  # `.content` raises where the body was not loaded
    return request_body(content) if isinstance(content, bytes) and content[:1] == b"{" else {}


def _wrap(module: ModuleType, observer: Observer) -> Callable[[], None]:
    """Wrap both clients of a module and return what undoes it where no wrapper came later."""
    tees = Tees(module)
    for name, wrapper in (("Client", _sync_send(observer, tees)), ("AsyncClient", _async_send(observer, tees))):
        wrapt.wrap_function_wrapper(module, f"{name}.send", wrapper)
    ours = {name: getattr(module, name).__dict__["send"] for name in ("Client", "AsyncClient")}

    def undo() -> None:
        for name, wrapper in ours.items():
            client = getattr(module, name)
            if client.__dict__.get("send") is wrapper:
                client.send = wrapper.__wrapped__

    return undo


Wrapper = Callable[[Any, Any, tuple[Any, ...], dict[str, Any]], Any]


def _sync_send(observer: Observer, tees: Tees) -> Wrapper:
    def send(wrapped: Callable[..., Any], _: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        call = observer.begin(args[0] if args else kwargs.get("request"))
        if call is None:
            return wrapped(*args, **kwargs)
        stream = kwargs.pop("stream", False)
        with _Current(call):
            response = wrapped(*args, stream=stream or call.expects_stream, **kwargs)
        if _watch(call, response, tees.sync) and not stream:
            try:
                response.read()
            except BaseException:
                response.close()
                raise
        return response

    return send


def _async_send(observer: Observer, tees: Tees) -> Wrapper:
    async def send(
        wrapped: Callable[..., Awaitable[Any]], _: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        call = observer.begin(args[0] if args else kwargs.get("request"))
        if call is None:
            return await wrapped(*args, **kwargs)
        stream = kwargs.pop("stream", False)
        with _Current(call):
            response = await wrapped(*args, stream=stream or call.expects_stream, **kwargs)
        if _watch(call, response, tees.asynchronous) and not stream:
            try:
                await response.aread()
            except BaseException:
                await response.aclose()
                raise
        return response

    return send


class _Current:
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


def _watch(call: ModelCall, response: Any, replace: Callable[[Any, ModelCall], bool]) -> bool:
    """Let a call see the answer; False where there is nothing left to read: it was read before it came to us."""
    try:
        call.headers(response.status_code, response.headers)
        if not response.is_closed:
            if replace(response, call):
                return True
        else:
            call.feed_decoded(response.content)
        call.finish()
    except Exception as error:  # noqa: BLE001 - the border to the app, e.g. a response class of its own
        shielded(COMPONENT, error)
        call.finish()
    return not response.is_closed
