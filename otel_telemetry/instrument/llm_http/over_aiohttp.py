"""Model calls over aiohttp: `ClientSession._request` is wrapped, through which its `request`, `post` and others go.

The answer's `content` is replaced by a reader that hands everything on to the one that was there, and lets the call see
what comes out of it; aiohttp has decoded that already.
"""

import importlib
import json
import time
from collections.abc import Awaitable, Callable
from types import ModuleType
from typing import Any, Final
from urllib.parse import urlsplit

import wrapt

from otel_telemetry.instrument import afterwards
from otel_telemetry.instrument.llm_http.call import COMPONENT, ModelCall
from otel_telemetry.instrument.llm_http.observer import CurrentSpan, Observer, when_imported
from otel_telemetry.instrument.llm_http.outgoing import OutgoingRequest
from otel_telemetry.instrument.shield import shielded

_MODULE: Final = "aiohttp.client"
#: The reader's methods that give bytes; `readchunk` gives them with whether a chunk of HTTP ends there.
_READS: Final = ("read", "readany", "readline", "readuntil", "readexactly", "readchunk")


def observe(observer: Observer) -> list[Callable[[], None]]:
    """Let an observer see what is sent, from when aiohttp is imported on; return what undoes it."""
    return [when_imported(_MODULE, _wrap, observer)]


def _wrap(module: ModuleType, observer: Observer) -> Callable[[], None]:
    reader = _reader_of(importlib.import_module("aiohttp.streams").StreamReader)
    wrapped: list[tuple[Any, str, Callable[..., Any]]] = [
        (module.ClientSession, "_request", _request(observer, reader)),
        (module.ClientResponse, "close", _ended),
        (module.ClientResponse, "release", _ended),
    ]
    for owner, name, wrapper in wrapped:
        wrapt.wrap_function_wrapper(owner, name, wrapper)
    ours = [(owner, name, owner.__dict__[name]) for owner, name, _ in wrapped]

    def undo() -> None:
        for owner, name, wrapper in ours:
            if owner.__dict__.get(name) is wrapper:
                setattr(owner, name, wrapper.__wrapped__)

    return undo


def _request(observer: Observer, reader: type) -> Callable[..., Any]:
    async def request(
        wrapped: Callable[..., Awaitable[Any]], session: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        method = args[0] if args else kwargs.get("method")
        call = observer.begin(str(method).upper(), _sent, session, args, kwargs)
        if call is None:
            return await wrapped(*args, **kwargs)
        with CurrentSpan(_Refusable(call)):  # type: ignore[arg-type]  # it has what is needed of a call
            response = await wrapped(*args, **kwargs)
        _watch(call, response, reader)
        return response

    return request


class _Refusable:
    """A call that may end in an error with a status: `raise_for_status` makes one of a provider's refusal."""

    __slots__ = ("_call", "span")

    def __init__(self, call: ModelCall) -> None:
        self._call = call
        self.span = call.span

    def finish(self, error: BaseException | None = None) -> None:
        """End the call."""
        status = getattr(error, "status", None)
        if isinstance(status, int) and status >= 400:  # noqa: PLR2004 - the class of HTTP errors
            self._call.headers(status, getattr(error, "headers", None) or {})
            error = None
        self._call.finish(error)


def _sent(session: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> OutgoingRequest:
    given = args[1] if len(args) > 1 else kwargs.get("str_or_url") or kwargs.get("url")
    base = getattr(session, "_base_url", None)
    url = urlsplit(str(base.join(type(base)(str(given))) if base is not None else given))
    named = {str(name).lower(): str(value) for name, value in (getattr(session, "headers", None) or {}).items()}
    headers = kwargs.get("headers") or {}
    named.update((str(name).lower(), str(value)) for name, value in dict(headers).items())
    return OutgoingRequest(url.scheme, url.hostname or "", url.port, url.path, named.get, _raw(kwargs))


def _raw(kwargs: dict[str, Any]) -> bytes | None:
    """Return a body that is in memory."""
    data = kwargs.get("data")
    if kwargs.get("json") is not None:
        return json.dumps(kwargs["json"], default=str).encode()
    return data.encode() if isinstance(data, str) else data if isinstance(data, bytes) else None


def _watch(call: ModelCall, response: Any, reader: type) -> None:
    try:
        call.headers(response.status, response.headers)
        content = response.content
        if content.is_eof() and not content.total_bytes:
            call.exhausted()
        else:
            response.content = reader(content, call)
    except Exception as error:  # noqa: BLE001 - the border to the app
        shielded(COMPONENT, error)
        call.finish()


def _ended(wrapped: Callable[..., Any], response: Any, args: Any, kwargs: Any) -> Any:
    """End the call of an answer that its app has done with."""
    try:
        return wrapped(*args, **kwargs)
    finally:
        call = getattr(getattr(response, "content", None), "observed_call", None)
        if call is not None:
            call.finish()


def _reader_of(base: Any) -> type:
    """Return the reader: a subclass of aiohttp's in name, which does nothing by itself."""

    class ObservedReader(base):  # type: ignore[misc]  # known at run time
        def __init__(self, inner: Any, call: ModelCall) -> None:
            self.__dict__.update(_inner=inner, observed_call=call)

        def __getattribute__(self, name: str) -> Any:
            own = object.__getattribute__(self, "__dict__")
            if name in _OWN or name.startswith("__"):
                return object.__getattribute__(self, name)
            return getattr(own["_inner"], name)

        def __del__(self) -> None:
            call = object.__getattribute__(self, "__dict__").get("observed_call")
            if call is not None and call.is_open:
                afterwards.do(call.end_as_of, time.perf_counter(), time.time_ns())

        def read_nowait(self, n: int = -1) -> bytes:
            data: bytes = self._inner.read_nowait(n)
            _saw(self, data)
            return data

    for name in _READS:
        setattr(ObservedReader, name, _reading(name))
    return ObservedReader


_ITERATES: Final = ("iter_chunked", "iter_any", "iter_chunks")  # they read from `self`, by the methods above
_OWN: Final = frozenset({"_inner", "observed_call", "read_nowait", *_READS, *_ITERATES})


def _reading(name: str) -> Callable[..., Awaitable[Any]]:
    async def read(self: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            found = await getattr(self._inner, name)(*args, **kwargs)
        except BaseException as error:
            self.observed_call.finish(error)
            raise
        _saw(self, found[0] if isinstance(found, tuple) else found)
        return found

    read.__name__ = name
    return read


def _saw(reader: Any, data: bytes) -> None:
    call = reader.observed_call
    if data:
        call.feed(data)
    if reader._inner.at_eof():  # noqa: SLF001 - our own
        call.exhausted()
