"""What FastAPI apps get on top of OpenTelemetry's own instrumentation: the client's address, and time to first byte.

`fastapi_hooks(config)` are arguments for FastAPIInstrumentor (or OpenTelemetryMiddleware of any ASGI app). They

- exclude the spans of single `send` and `receive` messages: a streamed answer makes one span, not one a chunk;
- set `client.address` (client_address.py), raw: the redactor hashes it before anything leaves the process;
- remember the server span as the request's root, which `request()` then annotates.

`time_first_byte()` adds `request_log.ttfb_ms`. No hook sees the answer's body once the `send` spans are excluded, so it
wraps OpenTelemetryMiddleware's `__call__`. Each request is timed; the attribute is only written for one that is a
request for the request_log, because `request()` was entered or a model was called (active.py).
"""

from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any

import wrapt
from opentelemetry import trace
from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware

from otel_telemetry.base import conventions
from otel_telemetry.instrument import active
from otel_telemetry.instrument.client_address import Networks, client_address, networks
from otel_telemetry.instrument.config import InstrumentSettings
from otel_telemetry.instrument.shield import shielded

COMPONENT = "fastapi"
_ROOT = "otel_telemetry.root"  # in the ASGI scope
_FORWARDING = {b"x-forwarded-for": "x-forwarded-for", b"forwarded": "forwarded"}

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]


def fastapi_hooks(config: InstrumentSettings | None = None) -> dict[str, Any]:
    """Return the keyword arguments for FastAPIInstrumentor.instrument() and .instrument_app()."""
    trusted = networks((config or InstrumentSettings()).trusted_proxies)

    def server_request_hook(span: trace.Span, scope: Scope) -> None:
        try:
            _server_request(span, scope, trusted)
        except Exception as error:  # noqa: BLE001 - the border to the app
            shielded(COMPONENT, error)

    return {"server_request_hook": server_request_hook, "exclude_spans": ["send", "receive"]}


def _server_request(span: trace.Span, scope: Scope, trusted: Networks) -> None:
    if span is None or not span.is_recording():
        return
    peer = (scope.get("client") or (None,))[0]
    address = client_address(peer, _forwarding(scope), trusted) if trusted else peer
    if address:
        span.set_attribute(conventions.CLIENT_ADDRESS, address)
    if scope["type"] != "http":
        active.root.set(None)  # a websocket's span lasts for many requests: each gets a span of its own
    elif active.live_root() is None:  # else an app called in-process by the app that has the outer span
        root = active.Root(span)
        active.root.set(root)
        scope[_ROOT] = root


def _forwarding(scope: Scope) -> dict[str, Sequence[str]]:
    found: dict[str, list[str]] = {}
    for name, value in scope.get("headers", ()):
        if key := _FORWARDING.get(name.lower()):
            found.setdefault(key, []).append(value.decode("latin-1"))
    return dict(found)


_timing: Callable[[], None] | None = None


def time_first_byte() -> Callable[[], None]:
    """Time the first byte of answers from now on and return what undoes it; a second call changes nothing."""
    global _timing  # noqa: PLW0603 - one wrapper a process
    if _timing is None:
        wrapt.wrap_function_wrapper(OpenTelemetryMiddleware, "__call__", _timed)
        ours = OpenTelemetryMiddleware.__dict__["__call__"]

        def undo() -> None:
            global _timing  # noqa: PLW0603
            if _timing is not None and OpenTelemetryMiddleware.__dict__["__call__"] is ours:
                OpenTelemetryMiddleware.__call__ = ours.__wrapped__  # type: ignore[method-assign]  # as it was
                _timing = None

        _timing = undo
    return _timing


def _timed(
    wrapped: Callable[..., Awaitable[None]], instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Awaitable[None]:
    del instance
    if kwargs or len(args) != 3 or args[0]["type"] != "http":  # noqa: PLR2004 - (scope, receive, send)
        return wrapped(*args, **kwargs)
    scope, receive, send = args

    async def watched(message: Message) -> None:
        if message["type"] == "http.response.body" and message.get("body"):
            root = scope.get(_ROOT)
            if root is not None:
                root.answered()
        await send(message)

    return wrapped(scope, receive, watched)


__all__ = ["fastapi_hooks", "time_first_byte"]
