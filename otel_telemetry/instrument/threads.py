"""Carries what goes on in a task or thread into the threads that it starts: calls made there belong to their request.

Threads begin with an empty context, and so do the threads of a pool: a model call made there would be a request of its
own. `Thread.start` and `ThreadPoolExecutor.submit` (which `loop.run_in_executor` and the pools of frameworks use) carry
the OpenTelemetry context and our own variables over, and nothing else: an app's own context variables stay as they are.
`asyncio.to_thread` carries all of them by itself.
"""

import threading
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from typing import Any, Final

import wrapt
from opentelemetry import context as otel_context
from opentelemetry.instrumentation.instrumentor import BaseInstrumentor  # type: ignore[attr-defined]  # untyped

from otel_telemetry.instrument import active
from otel_telemetry.instrument.shield import shielded

COMPONENT: Final = "threads"
#: Who starts threads that serve many requests: `submit` brings each piece of work its own context.
_POOLS: Final = (
    "concurrent.",
    "anyio.",
    "asyncio.",
    "opentelemetry.",
    "otel_telemetry.",
    "uvicorn.",
    "grpc.",
    "celery.",
)
_VARIABLES: Final[tuple[ContextVar[Any], ...]] = (active.root, active.stage, active.spending)


class ThreadsInstrumentor(BaseInstrumentor):  # type: ignore[misc]  # untyped, see its import
    """Makes threads and thread pools continue the request that they work for."""

    def instrumentation_dependencies(self) -> Collection[str]:
        """Return nothing: threads are always there."""
        return ()

    def _instrument(self, **kwargs: Any) -> None:
        del kwargs
        wrapt.wrap_function_wrapper(threading, "Thread.start", _start)
        wrapt.wrap_function_wrapper(ThreadPoolExecutor, "submit", _submit)

    def _uninstrument(self, **kwargs: Any) -> None:
        del kwargs
        for owner, name in ((threading.Thread, "start"), (ThreadPoolExecutor, "submit")):
            wrapper = owner.__dict__[name]
            if isinstance(wrapper, wrapt.FunctionWrapper):  # unless somebody else has wrapped it since
                setattr(owner, name, wrapper.__wrapped__)


def _start(wrapped: Callable[[], None], thread: Any, args: Any, kwargs: Any) -> None:
    try:
        if _is_going_on() and not _serves_many(thread):
            thread.run = carried(thread.run)
    except Exception as error:  # noqa: BLE001 - the border to the app: its thread starts in any case
        shielded(COMPONENT, error)
    wrapped(*args, **kwargs)


def _submit(wrapped: Callable[..., Any], pool: Any, args: Any, kwargs: Any) -> Any:
    del pool
    if args:  # also where nothing goes on here: the pool's thread may have been started by a request
        args = (carried(args[0]), *args[1:])
    return wrapped(*args, **kwargs)


def _is_going_on() -> bool:
    """Return whether there is anything to carry."""
    return bool(otel_context.get_current()) or any(variable.get() is not None for variable in _VARIABLES)


def _serves_many(thread: threading.Thread) -> bool:
    target = getattr(thread, "_target", None)  # private, but the only place where it is
    names = (type(thread).__module__, getattr(target, "__module__", None) or "")
    return any(f"{name}.".startswith(_POOLS) for name in names)


def carried(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function as it runs in the present context, in whatever thread it is called."""
    current = otel_context.get_current()
    values = [(variable, variable.get()) for variable in _VARIABLES]

    def run(*args: Any, **kwargs: Any) -> Any:
        token = otel_context.attach(current)
        known: list[tuple[Any, Any]] = [(variable, variable.set(value)) for variable, value in values]
        try:
            return function(*args, **kwargs)
        finally:
            for variable, before in known:
                variable.reset(before)
            otel_context.detach(token)

    return run
