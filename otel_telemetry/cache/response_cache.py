"""The response cache: stores results that were expensive to make, redacted, and returns them again.

    cache = otel_telemetry.cache.ResponseCache()                     # as in the settings
    cache = otel_telemetry.cache.ResponseCache(url="redis://...")    # settings given here have priority

    @cache.cached(tool="search", ttl=600)
    def search(query: str, top_k: int = 5) -> list[dict[str, str]]: ...

**Redacted.** The redacted value is stored, and a hit returns it. The caller that makes a value, and callers that wait
for it meanwhile, get it unredacted. A value that cannot be redacted is not stored.

**Values** are JSON values: None, bool, numbers, texts, lists and dicts with texts as keys. Anything else (a tuple, an
object) would come back as something else, so it is returned and not stored.

**Nothing here fails or delays a call.** If Redis is down, slow or frozen, a value is damaged, or an argument cannot be
part of a key, the function is called as without a cache, and `otel_telemetry.cache_problems` has the reason.

**The request's row.** A hit sets `request_log.cache_hit` and adds the saved time and cost: how long the value took to
make, less the wait for the hit; and the cost of the model calls that were made for it, if each of them was recorded and
priced (`request_log.cache_saved_ms`, `.cache_saved_usd`).
"""

import functools
import inspect
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, ParamSpec, TypeVar, cast

from otel_telemetry.base import metrics
from otel_telemetry.cache import source
from otel_telemetry.cache.asynchronous import AsyncLookup
from otel_telemetry.cache.calls import Signature
from otel_telemetry.cache.config import CacheSettings
from otel_telemetry.cache.entries import Entry
from otel_telemetry.cache.entry_handler import EntryHandler
from otel_telemetry.cache.keys import KeyMaker, Unkeyable
from otel_telemetry.cache.parts import Parts, Price, Redacts
from otel_telemetry.cache.synchronous import SyncLookup
from otel_telemetry.instrument.cache_measures import CacheMeasures, default

_logger = logging.getLogger(__name__)
P = ParamSpec("P")
R = TypeVar("R")


class ResponseCache:
    """A cache in Redis, or in memory if no `url` is set. For threads and event loops at the same time.

    `ResponseCache(**settings)` takes missing values from the settings (`cache.*`, docs/settings.md), and redacts as
    they say; `ResponseCache(config, redactor=...)` reads no settings. Raises ConfigurationError, here and nowhere else.
    """

    def __init__(
        self,
        config: CacheSettings | None = None,
        *,
        redactor: Redacts | None = None,
        price: Price | None = None,
        secret: bytes | None = None,
        measures: CacheMeasures = default,
        **settings: Any,
    ) -> None:
        if config is not None and redactor is not None:
            parts = Parts(config, redactor, price, secret)
        else:
            found = source.parts(settings if config is None else {**config.model_dump(), **settings})
            parts = Parts(found.config, redactor or found.redactor, price or found.price, secret or found.secret)
        self._keys = KeyMaker(parts.redactor.value, parts.secret)
        self._handler = EntryHandler(parts, measures)
        self._sync = SyncLookup(self._handler)
        self._async = AsyncLookup(self._handler)
        self._logged: set[str] = set()

    def key(self, tool: str, arguments: Mapping[str, Any]) -> str | None:
        """Return the key of a call, or None where none can be made of its arguments."""
        try:
            return self._keys.key(tool, arguments)
        except Unkeyable as error:
            self._problem("key", "arguments", f"{tool}: no key can be made of {error.kind}; its calls are not cached")
        except Exception as error:  # noqa: BLE001 - the border to the app
            self._problem("key", "failed", f"{tool}: no key could be made ({type(error).__name__})")
        return None

    def get(self, key: str, default: Any = None) -> Any:  # noqa: A002, RUF100
        """Return the value of a key, or `default`."""
        entry = self.lookup(key)
        return default if entry is None else entry.value

    def lookup(self, key: str) -> Entry | None:
        """Return the value of a key with its times, or None."""
        return self._sync.lookup(key)

    def set(self, key: str, value: Any, ttl: float | None = None) -> Entry | None:
        """Store a value, redacted, for `ttl` seconds at most; return the stored value, or None if that failed."""
        return self._sync.store(key, value, ttl)

    def delete(self, key: str) -> bool:
        """Delete a key; return whether it existed."""
        return self._handler.store.delete(key)

    async def aget(self, key: str, default: Any = None) -> Any:
        """Return the value of a key, or `default`."""
        entry = await self.alookup(key)
        return default if entry is None else entry.value

    async def alookup(self, key: str, plain: str | None = None) -> Entry | None:
        """Return the value of a key with its times, or None; `plain`: where others may have left JSON in Redis."""
        return await self._async.lookup(key, plain)

    async def aset(self, key: str, value: Any, ttl: float | None = None) -> Entry | None:
        """Store a value, redacted; return the stored value, or None."""
        return await self._async.store(key, value, ttl)

    async def adelete(self, key: str) -> bool:
        """Delete a key; return whether it existed."""
        return await self._handler.store.adelete(key)

    def answers(self) -> bool:
        """Return whether what keeps the values can be asked right now."""
        return self._handler.store.answers()

    def server_numbers(self) -> Mapping[str, float]:
        """Return the figures of the server that stores the values, under its own names."""
        return self._handler.store.server_numbers()

    def close(self) -> None:
        """Close the connections of threads."""
        self._handler.store.close()

    async def aclose(self) -> None:
        """Close the connections of this event loop, and those of threads."""
        await self._handler.store.aclose()
        self._handler.store.close()

    def cached(self, tool: str, ttl: float | None = None) -> Callable[[Callable[P, R]], Callable[P, R]]:
        """Decorate a function or coroutine function: the same call is made once in `ttl` seconds.

        `tool` names it in keys and metrics; two functions of one name share their stored values. Raises TypeError for a
        generator: a stream cannot be stored.
        """
        if ttl is not None and ttl <= 0:
            raise ValueError("ttl: must be more than 0 seconds")

        def decorate(function: Callable[P, R]) -> Callable[P, R]:
            if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
                raise TypeError(f"{function.__qualname__} is a generator: a stream cannot be cached")
            signature = Signature(function)
            if inspect.iscoroutinefunction(function):
                return cast("Callable[P, R]", self._async_cached(function, signature, tool, ttl))
            return self._sync_cached(function, signature, tool, ttl)

        return decorate

    def _sync_cached(
        self, function: Callable[P, R], signature: Signature, tool: str, ttl: float | None
    ) -> Callable[P, R]:
        @functools.wraps(function)
        def called(*args: P.args, **kwargs: P.kwargs) -> R:
            arguments = signature.arguments(args, kwargs)
            key = None if arguments is None else self.key(tool, arguments)
            if key is None:
                return function(*args, **kwargs)
            return cast("R", self._sync.through(key, ttl, lambda: function(*args, **kwargs)))

        return called

    def _async_cached(
        self, function: Callable[..., Awaitable[R]], signature: Signature, tool: str, ttl: float | None
    ) -> Callable[..., Awaitable[R]]:
        @functools.wraps(function)
        async def awaited(*args: Any, **kwargs: Any) -> R:
            arguments = signature.arguments(args, kwargs)
            key = None if arguments is None else self.key(tool, arguments)
            if key is None:
                return await function(*args, **kwargs)
            return cast("R", await self._async.through(key, ttl, lambda: function(*args, **kwargs)))

        return awaited

    def _problem(self, operation: str, reason: str, message: str) -> None:
        metrics.cache_problems.add(1, {"operation": operation, "reason": reason})
        if message not in self._logged and len(self._logged) < 100:  # noqa: PLR2004 - of the same cache
            self._logged.add(message)
            _logger.warning("otel_telemetry: cache: %s", message)


__all__ = ["ResponseCache"]
