"""Hits and misses of redis-py, for threads and event loops, single commands and pipelines.

Wraps what OpenTelemetry's own Redis instrumentation wraps (`execute_command`, `Pipeline.execute`), one layer further
in: its hooks do not see a pipeline's commands. So its span is the current one here, and gets these attributes:

cache.hits, cache.misses, cache.hit (one value), cache.family, cache.bytes, cache.duration_ms

The same goes to the metrics of cache_measures.py, also without such a span. Neither ever contains a key or value.
Personal data that the other instrumentation would export is removed: the text and documents of FT.SEARCH, the messages
of errors (redis-py and Redis quote commands with their arguments in them), names of pipelines that grow with each
command.
"""

import importlib
import time
from collections.abc import Callable, Collection, Sequence
from typing import Any, Final

import wrapt
from opentelemetry import metrics
from opentelemetry.instrumentation.instrumentor import BaseInstrumentor  # type: ignore[attr-defined]  # untyped
from opentelemetry.instrumentation.utils import is_instrumentation_enabled

from otel_telemetry.base import conventions
from otel_telemetry.instrument import afterwards, cache_measures, redis_commands, redis_spans
from otel_telemetry.instrument.cache_measures import REDIS, CacheMeasures
from otel_telemetry.instrument.config import InstrumentSettings
from otel_telemetry.instrument.families import Families
from otel_telemetry.instrument.redis_commands import Lookup
from otel_telemetry.instrument.shield import shielded

COMPONENT = "redis"
#: (module, class, method, is a pipeline's, is asynchronous)
_METHODS: Final = (
    ("redis.client", "Redis", "execute_command", False, False),
    ("redis.client", "Pipeline", "immediate_execute_command", False, False),
    ("redis.client", "Pipeline", "execute", True, False),
    ("redis.cluster", "RedisCluster", "execute_command", False, False),
    ("redis.cluster", "ClusterPipeline", "execute", True, False),
    ("redis.asyncio.client", "Redis", "execute_command", False, True),
    ("redis.asyncio.client", "Pipeline", "immediate_execute_command", False, True),
    ("redis.asyncio.client", "Pipeline", "execute", True, True),
    ("redis.asyncio.cluster", "RedisCluster", "execute_command", False, True),
    ("redis.asyncio.cluster", "ClusterPipeline", "execute", True, True),
)

_WRAPPERS: Final = (wrapt.FunctionWrapper, wrapt.BoundFunctionWrapper)

Wrapper = Callable[[Any, Any, tuple[Any, ...], dict[str, Any]], Any]


class RedisCacheInstrumentor(BaseInstrumentor):  # type: ignore[misc]  # untyped, see its import
    """Counts hits and misses of redis-py and puts them on the spans of `opentelemetry-instrumentation-redis`.

    `instrument(config=None, meter_provider=None)`. That other instrumentation may come before, after, or not at all.
    """

    _undo: Callable[[], None] | None = None

    def instrumentation_dependencies(self) -> Collection[str]:
        """Return nothing: without redis-py there is nothing to do."""
        return ()

    def _instrument(self, **kwargs: Any) -> None:
        config = kwargs.get("config") or InstrumentSettings()
        provider = kwargs.get("meter_provider")
        if config.redis_cache:
            measures = (
                CacheMeasures(metrics.get_meter(conventions.SCOPE_NAME, meter_provider=provider))
                if provider
                else cache_measures.default
            )
            self._undo = install(Observer(measures, Families(config.redis_family_parts)))

    def _uninstrument(self, **kwargs: Any) -> None:
        del kwargs
        undo, self._undo = self._undo, None
        if undo is not None:
            undo()


def install(observer: "Observer") -> Callable[[], None]:
    """Let an observer see what redis-py looks up; return what undoes it."""
    afterwards.at_exit()
    switch = [True]
    placed = []
    for module, name, method, pipeline, asynchronous in _METHODS:
        owner = _class(module, name)
        if owner is not None and method in vars(owner):
            wrapper = (_async if asynchronous else _sync)(observer, switch, of_pipeline=pipeline)
            _wrap(owner, method, wrapper)
            placed.append((owner, method, wrapper))

    def undo() -> None:
        switch.clear()
        for owner, method, wrapper in placed:
            _take_out(owner, method, wrapper)

    return undo


def _class(module: str, name: str) -> type | None:
    try:
        found = getattr(importlib.import_module(module), name, None)
    except ImportError:
        return None
    return found if isinstance(found, type) else None


def _wrap(owner: type, method: str, wrapper: Wrapper) -> None:
    """Put a wrapper around the method itself, below all wrappers that are there already."""
    outer: Any = None
    inner = vars(owner)[method]
    while isinstance(inner, _WRAPPERS):
        outer, inner = inner, inner.__wrapped__
    ours = wrapt.FunctionWrapper(inner, wrapper)
    if outer is None:
        setattr(owner, method, ours)
    else:
        outer.__wrapped__ = ours


def _take_out(owner: type, method: str, wrapper: Wrapper) -> None:
    """Take our wrapper out from between the others; where something else hides it, it is switched off only.

    It is known by its function: who takes out a wrapper around it with `getattr` leaves a bound copy of it behind.
    """
    outer: Any = None
    inner = vars(owner).get(method)
    while isinstance(inner, _WRAPPERS) and inner._self_wrapper is not wrapper:  # noqa: SLF001 - wrapt has no other name
        outer, inner = inner, inner.__wrapped__
    if isinstance(inner, _WRAPPERS):
        if outer is None:
            setattr(owner, method, inner.__wrapped__)
        else:
            outer.__wrapped__ = inner.__wrapped__


# --- the four wrappers ------------------------------------------------------------------------------------------


def _sync(observer: "Observer", switch: list[bool], *, of_pipeline: bool) -> Wrapper:
    def execute(wrapped: Callable[..., Any], instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if not switch or not is_instrumentation_enabled():
            return wrapped(*args, **kwargs)
        commands = observer.queued(instance) if of_pipeline else observer.single(args)
        started = time.perf_counter()
        try:
            answer = wrapped(*args, **kwargs)
        except Exception as error:
            observer.failed(error)
            raise
        observer.answered(commands, answer if of_pipeline else [answer], time.perf_counter() - started)
        return answer

    return execute


def _async(observer: "Observer", switch: list[bool], *, of_pipeline: bool) -> Wrapper:
    async def execute(wrapped: Callable[..., Any], instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if not switch or not is_instrumentation_enabled():
            return await wrapped(*args, **kwargs)
        commands = observer.queued(instance) if of_pipeline else observer.single(args)
        started = time.perf_counter()
        try:
            answer = await wrapped(*args, **kwargs)
        except Exception as error:
            observer.failed(error)
            raise
        observer.answered(commands, answer if of_pipeline else [answer], time.perf_counter() - started)
        return answer

    return execute


# --- what is seen -----------------------------------------------------------------------------------------------


class Observer:
    """Sees commands and their answers. No method raises."""

    def __init__(self, measures: CacheMeasures, families: Families) -> None:
        self._measures = measures
        self._families = families

    def single(self, command: Sequence[Any]) -> list[Sequence[Any]]:
        """Keep the arguments of a command that starts out of its span; return the command in a list."""
        try:
            if not redis_commands.command_of(command):
                redis_spans.clean_name(command)
        except Exception as error:  # noqa: BLE001 - the border to the app
            shielded(COMPONENT, error)
        return [command]

    def queued(self, pipeline: Any) -> list[Sequence[Any]]:
        """Return the commands that a pipeline is about to send: it forgets them when it has."""
        try:
            commands = [_args(command) for command in _stack(pipeline)]
            redis_spans.name_pipeline(commands)
        except Exception as error:  # noqa: BLE001 - the border to the app
            shielded(COMPONENT, error)
            return []
        return commands

    def failed(self, error: Exception) -> None:
        """Keep the message of an error out of the span: it may quote a command with its arguments."""
        try:
            span = redis_spans.current()
            if span is not None and type(error).__name__ not in redis_spans.SAFE_ERRORS:
                redis_spans.hush(span, type(error).__qualname__)
        except Exception as fault:  # noqa: BLE001 - the border to the app
            shielded(COMPONENT, fault)

    def answered(self, commands: Sequence[Sequence[Any]], answers: Any, seconds: float) -> None:
        """Count what was found."""
        try:
            self._answered(commands, answers, seconds)
        except Exception as error:  # noqa: BLE001 - the border to the app
            shielded(COMPONENT, error)

    def _answered(self, commands: Sequence[Sequence[Any]], answers: Any, seconds: float) -> None:
        if not isinstance(answers, list) or len(answers) != len(commands):
            return
        seen = []
        for args, answer in zip(commands, answers, strict=True):
            command = redis_commands.command_of(args)
            found = redis_commands.lookup(command, args, answer, self._families) if command else None
            if found is not None:
                seen.append(found)
        if seen:
            self._count(seen)
            self._time(seen, seconds)
            redis_spans.annotate(seen, seconds)

    def _count(self, seen: Sequence[Lookup]) -> None:
        for command, found in seen:
            for family, (hits, misses, size) in found.items():
                self._measures.count((REDIS, command, family), hits, misses, size)

    def _time(self, seen: Sequence[Lookup], seconds: float) -> None:
        command = seen[0].command if len(seen) == 1 else "PIPELINE"
        families = {family for _, found in seen for family in found}
        family = families.pop() if len(families) == 1 else "mixed"
        afterwards.watch()
        afterwards.do(self._measures.took, (REDIS, command, family), seconds)


def _stack(pipeline: Any) -> Sequence[Any]:
    """Return a pipeline's commands; those of a cluster's are kept by its strategy."""
    strategy = getattr(pipeline, "_execution_strategy", None)
    for owner, name in ((strategy, "command_queue"), (strategy, "_command_queue"), (pipeline, "command_stack")):
        if owner is not None and hasattr(owner, name):
            return list(getattr(owner, name))
    return list(getattr(pipeline, "_command_stack", ()))


def _args(command: Any) -> Sequence[Any]:
    args = command.args if hasattr(command, "args") else command[0]
    return args if isinstance(args, Sequence) else ()


__all__ = ["Observer", "RedisCacheInstrumentor", "install"]
