"""Model calls over httpx and httpx2: `Client.send` and `AsyncClient.send` are wrapped.

`send` is public, every SDK goes through it, and it covers each transport; redirects and authentication stay inside one
call, an SDK's retries are calls of their own. The body is watched as it streams past (streams.py).
"""

import functools
import importlib
import json
from collections.abc import Awaitable, Callable
from types import ModuleType
from typing import Any

from otel_telemetry.instrument.llm_http.call import COMPONENT, ModelCall
from otel_telemetry.instrument.llm_http.observer import CurrentSpan, Observer
from otel_telemetry.instrument.llm_http.outgoing import OutgoingRequest
from otel_telemetry.instrument.llm_http.streams import Tees
from otel_telemetry.instrument.shield import shielded

MODULES = ("httpx", "httpx2")


def observe(observer: Observer) -> list[Callable[[], None]]:
    """Let an observer see what is sent; return what undoes it."""
    return [_wrap(module, observer) for name in MODULES if (module := _imported(name))]


def _imported(name: str) -> ModuleType | None:
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


def _sent(request: Any) -> OutgoingRequest:
    url = request.url
    path = url.raw_path.partition(b"?")[0].decode("ascii", "replace")
    content = getattr(request, "_content", None)  # `.content` raises where the body was not loaded
    raw = content if isinstance(content, bytes) else _form(getattr(request, "stream", None))
    return OutgoingRequest(url.scheme, url.host, url.port, path, functools.partial(_header, request.headers), raw)


def _header(headers: Any, name: str) -> str | None:
    """Return a header; httpx finds out that it has none several times as fast as it gets one."""
    return headers[name] if name in headers else None  # noqa: SIM401 - that is `get`


def _form(stream: Any) -> bytes | None:
    """Return the model that a form names, as JSON: the form itself is made while it is sent."""
    for field in getattr(stream, "fields", ()):
        if getattr(field, "name", None) == "model":
            value = getattr(field, "value", None)
            named = value.decode("utf-8", "replace") if isinstance(value, bytes) else value
            return json.dumps({"model": named}).encode() if isinstance(named, str) else None
    return None


def _wrap(module: ModuleType, observer: Observer) -> Callable[[], None]:
    """Wrap both clients of a module and return what undoes it where no wrapper came later."""
    tees = Tees(module)
    ours = {
        module.Client: _sync_send(module.Client.send, observer, tees),
        module.AsyncClient: _async_send(module.AsyncClient.send, observer, tees),
    }
    for client, wrapper in ours.items():
        client.send = wrapper

    def undo() -> None:
        for client, wrapper in ours.items():
            if client.__dict__.get("send") is wrapper:
                client.send = wrapper.__wrapped__

    return undo


def _sync_send(wrapped: Callable[..., Any], observer: Observer, tees: Tees) -> Any:
    """Return the wrapper: a plain function, for wrapt's take a part of a call's time that can be measured."""

    @functools.wraps(wrapped)
    def send(client: Any, *args: Any, **kwargs: Any) -> Any:
        request: Any = args[0] if args else kwargs.get("request")
        call = observer.begin(getattr(request, "method", ""), _sent, request)
        if call is None:
            return wrapped(client, *args, **kwargs)
        stream = kwargs.pop("stream", False)
        with CurrentSpan(call):
            response = wrapped(client, *args, stream=stream or call.expects_stream, **kwargs)
        if _watch(call, response, tees.sync) and not stream:
            try:
                response.read()
            except BaseException:
                response.close()
                raise
        return response

    return send


def _async_send(wrapped: Callable[..., Awaitable[Any]], observer: Observer, tees: Tees) -> Any:
    @functools.wraps(wrapped)
    async def send(client: Any, *args: Any, **kwargs: Any) -> Any:
        request: Any = args[0] if args else kwargs.get("request")
        call = observer.begin(getattr(request, "method", ""), _sent, request)
        if call is None:
            return await wrapped(client, *args, **kwargs)
        stream = kwargs.pop("stream", False)
        with CurrentSpan(call):
            response = await wrapped(client, *args, stream=stream or call.expects_stream, **kwargs)
        if _watch(call, response, tees.asynchronous) and not stream:
            try:
                await response.aread()
            except BaseException:
                await response.aclose()
                raise
        return response

    return send


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
