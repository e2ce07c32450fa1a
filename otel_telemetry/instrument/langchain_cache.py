"""Marks the spans of answers from LangChain's cache, because these are not model calls.

LangChain reports a cached answer to its callbacks like any other, with the counts of the call that filled the cache.
While `generate` of a chat model runs, the answers that come from the cache are counted; if all do, the spans that end
meanwhile are marked.
"""

from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from types import ModuleType
from typing import Any, Final, cast

import wrapt
from opentelemetry.sdk.trace import Span, SpanProcessor, TracerProvider

from otel_telemetry.base import conventions
from otel_telemetry.base.providers import add_span_processor
from otel_telemetry.instrument.shield import shielded

_MODULE: Final = "langchain_core.language_models.chat_models"
_COMPONENT: Final = "langchain_cache"


class _Generation:
    """One run of `generate`: how many answers are wanted, and how many came from the cache."""

    __slots__ = ("cached", "wanted")

    def __init__(self, wanted: int) -> None:
        self.wanted = wanted
        self.cached = 0


_running: ContextVar[_Generation | None] = ContextVar("otel_telemetry_langchain_generation", default=None)


class CachedAnswers(SpanProcessor):
    """Marks spans of answers that come from LangChain's cache."""

    def _on_ending(self, span: Span) -> None:
        running = _running.get()
        if running is not None and 0 < running.wanted <= running.cached:
            try:  # the span takes no attributes any more by its public methods
                cast("Any", span)._attributes._dict[conventions.ANSWERED_FROM_CACHE] = True  # noqa: SLF001
            except Exception as error:  # noqa: BLE001 - the border to the app
                shielded(_COMPONENT, error)


def mark_cached_answers(provider: object) -> None:
    """Have the spans of a provider marked, from when LangChain is imported on."""
    if isinstance(provider, TracerProvider):
        wrapt.register_post_import_hook(_wrap, _MODULE)
        add_span_processor(provider, CachedAnswers())


def _wrap(module: ModuleType) -> None:
    try:
        for name, wrapper in (("generate", _generate), ("agenerate", _agenerate)):
            wrapt.wrap_function_wrapper(module, f"BaseChatModel.{name}", wrapper)
        wrapt.wrap_function_wrapper(module, "BaseChatModel._convert_cached_generations", _converted)
    except Exception as error:  # noqa: BLE001 - the border to the app: another version of LangChain
        shielded(_COMPONENT, error)


def _wanted(args: tuple[Any, ...], kwargs: dict[str, Any]) -> _Generation:
    messages = args[0] if args else kwargs.get("messages")
    return _Generation(len(messages) if isinstance(messages, (list, tuple)) else 0)


def _generate(wrapped: Callable[..., Any], model: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    del model
    token = _running.set(_wanted(args, kwargs))
    try:
        return wrapped(*args, **kwargs)
    finally:
        _running.reset(token)


async def _agenerate(
    wrapped: Callable[..., Awaitable[Any]], model: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    del model
    token = _running.set(_wanted(args, kwargs))
    try:
        return await wrapped(*args, **kwargs)
    finally:
        _running.reset(token)


def _converted(wrapped: Callable[..., Any], model: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Count an answer from the cache: only those are converted."""
    del model
    running = _running.get()
    if running is not None:
        running.cached += 1
    return wrapped(*args, **kwargs)
