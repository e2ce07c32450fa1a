"""The response cache: what was dear to make once is kept, redacted, and given again.

    cache = otel_telemetry.cache.ResponseCache()                      # as the settings say
    cache = otel_telemetry.cache.ResponseCache(url="redis://...")     # settings given here go first


    @cache.cached(tool="search", ttl=600)
    def search(query: str, top_k: int = 5) -> list[dict[str, str]]: ...

**Redacted.** What is stored is the redacted value, and that is what a hit gives back. Who makes a value, and who waits
for it while it is made, gets it as it is. A value that cannot be redacted is not stored.

**Values** are what JSON holds: None, bool, numbers, texts, lists and dicts with texts as keys. Anything else (a tuple,
an object) would come back as something else, so it is given on and not stored.

**Nothing here fails or delays a call.** Redis away, slow or frozen, a damaged value, an argument that no key can be
made of: the function is called as if there were no cache, and `otel_telemetry.cache_problems` says why.

**The request's row.** A hit sets `request_log.cache_hit` and adds the time and cost that it saved: how long the value
took to make, less the wait for the hit; and what the model calls cost that were made for it, where each of them was
seen and priced (`request_log.cache_saved_ms`, `.cache_saved_usd`).
"""

import functools
import inspect
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, ParamSpec, TypeVar, cast

from otel_telemetry import metrics
from otel_telemetry.cache import source
from otel_telemetry.cache.asynchronous import AsyncWay
from otel_telemetry.cache.calls import Signature
from otel_telemetry.cache.config import CacheSettings
from otel_telemetry.cache.entry import Entry
from otel_telemetry.cache.keeper import Keeper
from otel_telemetry.cache.keys import KeyMaker, Unkeyable
from otel_telemetry.cache.parts import Parts, Price, Redacts
from otel_telemetry.cache.synchronous import SyncWay
from otel_telemetry.instrument.cache_measures import CacheMeasures, default

_logger = logging.getLogger(__name__)
P = ParamSpec("P")
R = TypeVar("R")


class ResponseCache:
    """A cache in Redis, or in memory where no `url` is set. For threads and event loops at the same time.

    `ResponseCache(**settings)` takes what is missing from the settings (`cache.*`, docs/settings.md), and redacts as
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
        self._keeper = Keeper(parts, measures)
        self._sync = SyncWay(self._keeper)
        self._async = AsyncWay(self._keeper)
        self._told: set[str] = set()

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
        """Keep a value, redacted, for `ttl` seconds at most; return what is kept, or None where it could not be."""
        return self._sync.store(key, value, ttl)

    def delete(self, key: str) -> bool:
        """Forget a key; tell whether it was there."""
        return self._keeper.store.delete(key)

    async def aget(self, key: str, default: Any = None) -> Any:
        """Return the value of a key, or `default`."""
        entry = await self.alookup(key)
        return default if entry is None else entry.value

    async def alookup(self, key: str) -> Entry | None:
        """Return the value of a key with its times, or None."""
        return await self._async.lookup(key)

    async def aset(self, key: str, value: Any, ttl: float | None = None) -> Entry | None:
        """Keep a value, redacted; return what is kept, or None."""
        return await self._async.store(key, value, ttl)

    async def adelete(self, key: str) -> bool:
        """Forget a key; tell whether it was there."""
        return await self._keeper.store.adelete(key)

    def answers(self) -> bool:
        """Tell whether what keeps the values can be asked right now."""
        return self._keeper.store.answers()

    def close(self) -> None:
        """Close the connections of threads."""
        self._keeper.store.close()

    async def aclose(self) -> None:
        """Close the connections of this event loop, and those of threads."""
        await self._keeper.store.aclose()
        self._keeper.store.close()

    def cached(self, tool: str, ttl: float | None = None) -> Callable[[Callable[P, R]], Callable[P, R]]:
        """Decorate a function or coroutine function: the same call is made once in `ttl` seconds.

        `tool` names it in keys and metrics; two functions of one name share what they keep. Raises TypeError for a
        generator: a stream cannot be kept.
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
        if message not in self._told and len(self._told) < 100:  # noqa: PLR2004 - of the same cache
            self._told.add(message)
            _logger.warning("otel_telemetry: cache: %s", message)


__all__ = ["ResponseCache"]
