"""Model calls over urllib3, by itself or below requests and botocore: `HTTPConnectionPool.urlopen` is wrapped.

urllib3's own redirects and retries stay inside one call. The answer gets a class of ours that differs from its own in
nothing but that the call sees the raw bytes as they are read. Nothing more refers to it than did before, so that
connections go back to their pool when they always did.
"""

import functools
import time
from collections.abc import Callable
from types import ModuleType
from typing import Any, Final

import wrapt

from otel_telemetry.instrument import afterwards
from otel_telemetry.instrument.llm_http.call import COMPONENT, ModelCall
from otel_telemetry.instrument.llm_http.observer import CurrentSpan, Observer, when_imported
from otel_telemetry.instrument.llm_http.outgoing import OutgoingRequest
from otel_telemetry.instrument.shield import shielded

_MODULE: Final = "urllib3.connectionpool"
_CALL: Final = "_otel_telemetry_call"


def observe(observer: Observer) -> list[Callable[[], None]]:
    """Let an observer see what is sent, from when urllib3 is imported on; return what undoes it."""
    return [when_imported(_MODULE, _wrap, observer)]


def _wrap(module: ModuleType, observer: Observer) -> Callable[[], None]:
    pool = module.HTTPConnectionPool
    wrapt.wrap_function_wrapper(pool, "urlopen", _urlopen(observer))
    ours = pool.__dict__["urlopen"]

    def undo() -> None:
        if pool.__dict__.get("urlopen") is ours:
            pool.urlopen = ours.__wrapped__

    return undo


def _urlopen(observer: Observer) -> Callable[..., Any]:
    def urlopen(wrapped: Callable[..., Any], pool: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        method = args[0] if args else kwargs.get("method")
        call = observer.begin(str(method).upper(), _sent, pool, args, kwargs)
        if call is None:
            return wrapped(*args, **kwargs)
        with CurrentSpan(call):
            response = wrapped(*args, **kwargs)
        _watch(call, response)
        return response

    return urlopen


def _sent(pool: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> OutgoingRequest:
    """Return a request; its URL is a path, or a whole address where a proxy is asked."""
    url, body, headers = (
        args[position] if len(args) > position else kwargs.get(name)
        for position, name in ((1, "url"), (2, "body"), (3, "headers"))
    )
    path = str(url).partition("?")[0]
    scheme, host, port = pool.scheme, pool.host, pool.port
    if "://" in path:
        scheme, _, rest = path.partition("://")
        address, slash, path = rest.partition("/")
        path = slash + path
        host, _, given = address.rpartition("@")[2].partition(":")
        port = int(given) if given.isdecimal() else None
    named = {_text(name).lower(): _text(value) for name, value in (headers or pool.headers or {}).items()}
    raw = body.encode() if isinstance(body, str) else bytes(body) if isinstance(body, (bytes, bytearray)) else None
    return OutgoingRequest(scheme, host.strip("[]"), port, path, named.get, raw)


def _text(value: Any) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)


def _watch(call: ModelCall, response: Any) -> None:
    """Let a call see the answer, or what was read of it already."""
    try:
        call.headers(response.status, response.headers)
        body = getattr(response, "_body", None)
        if isinstance(body, bytes) or getattr(response, "_fp", None) is None:  # urllib3 has read it (`preload_content`)
            call.feed_decoded(body or b"")
            call.finish()
            return
        call.encoded(response.headers.get("content-encoding", ""))
        vars(response)[_CALL] = call
        base: Any = type(response)
        response.__class__ = _observed(base)
    except Exception as error:  # noqa: BLE001 - the border to the app, e.g. a response class of its own
        shielded(COMPONENT, error)
        call.finish()


class _Observed:
    """What is different in an answer that is watched. All bytes of a body pass one of two private methods."""

    def _fp_read(self, *args: Any, **kwargs: Any) -> bytes:
        data: bytes = self._seen(super()._fp_read, *args, **kwargs)  # type: ignore[misc]  # of urllib3's response
        call = vars(self).get(_CALL)
        if call is not None and (not data or not _limit(args, kwargs) or _is_closed(self)):
            call.exhausted()
        return data

    def _handle_chunk(self, *args: Any, **kwargs: Any) -> bytes:
        data: bytes = self._seen(super()._handle_chunk, *args, **kwargs)  # type: ignore[misc]  # the same
        return data

    def _update_chunk_length(self) -> None:
        call = vars(self).pop(_CALL, None)  # what fails here closes the answer first, as if its app had
        try:
            super()._update_chunk_length()  # type: ignore[misc]  # the same
        except BaseException as error:
            if call is not None:
                call.finish(error)
            raise
        if call is not None:
            vars(self)[_CALL] = call
            if vars(self).get("chunk_left") == 0:
                call.exhausted()

    def _seen(self, read: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        call = vars(self).get(_CALL)
        if call is None:
            return read(*args, **kwargs)
        try:
            data = read(*args, **kwargs)
        except BaseException as error:
            call.finish(error)
            raise
        if data:
            call.feed(data)
        return data

    def close(self) -> None:
        call = vars(self).get(_CALL)
        try:
            super().close()  # type: ignore[misc]  # the same
        finally:
            if call is not None:
                call.finish()

    def __del__(self) -> None:
        call = vars(self).pop(_CALL, None)  # before the base class closes it: this may be anywhere, see afterwards.py
        if call is not None and call.is_open:
            afterwards.do(call.end_as_of, time.perf_counter(), time.time_ns())
        if (base := getattr(super(), "__del__", None)) is not None:
            base()


def _limit(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Return how many bytes were asked for; None is all."""
    return args[0] if args else kwargs.get("amt")


def _is_closed(response: Any) -> bool:
    """Return whether http.client has come to the end of the body."""
    is_closed = getattr(response._fp, "isclosed", None)  # noqa: SLF001 - there is no public way to it
    return is_closed is not None and bool(is_closed())


@functools.cache
def _observed(base: Any) -> type:
    return type(base.__name__, (_Observed, base), {"__module__": base.__module__})
