"""Response streams that pass every chunk on as it comes and let a model call look at it.

A close from outside ends the call at once. A stream that nobody closes is ended when it is collected, which may happen
anywhere; see afterwards.py.
"""

import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from types import ModuleType
from typing import Any

from otel_telemetry.instrument import afterwards
from otel_telemetry.instrument.llm_http.call import ModelCall


class _Tee:
    """What both streams have in common: everything else that the inner stream offers, and the end of an orphan."""

    def __init__(self, inner: Any, call: ModelCall) -> None:
        self._inner = inner
        self._call = call

    def __getattr__(self, name: str) -> Any:
        """Return what only the inner stream has: httpx2 keeps `elapsed` there."""
        if name in ("_inner", "_call"):  # not there yet: __init__ did not run
            raise AttributeError(name)
        return getattr(self._inner, name)

    def __del__(self) -> None:
        call = self.__dict__.get("_call")
        if call is not None and call.is_open:
            afterwards.do(call.end_as_of, time.perf_counter(), time.time_ns())


class _SyncTee(_Tee):
    def __iter__(self) -> Iterator[bytes]:
        feed = self._call.feed
        try:
            for chunk in self._inner:
                feed(chunk)
                yield chunk
        except GeneratorExit:
            raise  # a reader that stopped early closes the stream next, or nobody does: see _Tee.__del__
        except BaseException as error:
            self._call.finish(error)
            raise
        self._call.exhausted()

    def close(self) -> None:
        try:
            self._inner.close()
        finally:
            self._call.finish()


class _AsyncTee(_Tee):
    async def __aiter__(self) -> AsyncIterator[bytes]:
        feed = self._call.feed
        inner = self._inner.__aiter__()
        try:
            async for chunk in inner:
                feed(chunk)
                yield chunk
        except GeneratorExit:
            raise
        except BaseException as error:
            self._call.finish(error)
            raise
        finally:
            if isinstance(inner, AsyncGenerator):
                await inner.aclose()
        self._call.exhausted()

    async def aclose(self) -> None:
        try:
            await self._inner.aclose()
        finally:
            self._call.finish()


class Tees:
    """The two streams as subclasses of a module's own (httpx or httpx2): its responses check for them."""

    def __init__(self, module: ModuleType) -> None:
        self._sync_base: type = module.SyncByteStream
        self._async_base: type = module.AsyncByteStream
        self._sync: Any = type("ObservedSyncStream", (_SyncTee, module.SyncByteStream), {})
        self._async: Any = type("ObservedAsyncStream", (_AsyncTee, module.AsyncByteStream), {})

    def sync(self, response: Any, call: ModelCall) -> bool:
        """Put a stream that `call` sees in the place of a response's own; False where it has none of this kind."""
        fits = isinstance(response.stream, self._sync_base)
        if fits:
            call.encoded(response.headers.get("content-encoding", ""))
            response.stream = self._sync(response.stream, call)
        return fits

    def asynchronous(self, response: Any, call: ModelCall) -> bool:
        """Do the same for an asynchronous stream."""
        fits = isinstance(response.stream, self._async_base)
        if fits:
            call.encoded(response.headers.get("content-encoding", ""))
            response.stream = self._async(response.stream, call)
        return fits
