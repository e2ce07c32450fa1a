"""A cache in Redis that is never waited for long: what Redis does not answer in time is a miss and is counted.

One client for threads, and one for each event loop. Nothing is retried: the next call connects anew. After a timeout,
or three failures in a row, Redis is left alone for `cooldown` seconds (breaker.py). The calls made here are not
instrumented.

    wait of one call <= connect timeout + time of an answer, `timeout` each (name resolution is the system's business)
"""

import asyncio
import math
import threading
import weakref
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from types import FunctionType
from typing import Any, Final, TypeVar

from opentelemetry.instrumentation.utils import suppress_instrumentation

from otel_telemetry.base import metrics
from otel_telemetry.base.errors import ConfigurationError
from otel_telemetry.cache.breaker import Breaker
from otel_telemetry.cache.config import CacheSettings

SERVER_NUMBERS: Final = ("used_memory", "maxmemory", "evicted_keys", "expired_keys")
"""Of Redis' INFO, what is shown at the gateway's /metrics."""
LOCK_SECONDS: Final = 30.0
"""After which the lock of a process that died lets go."""
PAUSES: Final = (0.01, 0.02, 0.04, *[0.05] * 1000)
"""Seconds between two looks at what another process is making."""

T = TypeVar("T")
_NOTHING: Final = nullcontext()
_NO_KEY: Final = -2
_FOR_GOOD: Final = -1
_RELEASE: Final = "if redis.call('get',KEYS[1])==ARGV[1] then return redis.call('del',KEYS[1]) else return 0 end"


class RedisStore:
    """Keeps bytes by key, each for its time, and locks that let go by themselves. No method raises."""

    def __init__(self, config: CacheSettings) -> None:
        try:
            import redis.asyncio.retry  # noqa: PLC0415  # an extra
            import redis.backoff  # noqa: PLC0415
            import redis.retry  # noqa: PLC0415
        except ImportError:
            raise ConfigurationError(
                "cache.url", "redis is not installed", "pip install 'otel-telemetry[redis]'"
            ) from None
        self._methods, self._async_methods = vars(redis.Redis), vars(redis.asyncio.Redis)
        self._unavailable = (redis.ConnectionError, redis.TimeoutError, OSError)
        self._url = config.url.get_secret_value() if config.url else ""
        self._prefix = config.prefix
        self._breaker = Breaker(config.cooldown)
        once = redis.backoff.NoBackoff()
        options = _options(config.timeout, redis.retry.Retry(once, 0))
        self._client = _client(redis.Redis, self._url, options)
        async_options = _options(config.timeout, redis.asyncio.retry.Retry(once, 0))
        self._make_async: Callable[[], Any] = lambda: _client(redis.asyncio.Redis, self._url, async_options)
        self._by_loop: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Any] = weakref.WeakKeyDictionary()
        self._lock = threading.Lock()

    # --- for threads --------------------------------------------------------------------------------------------

    def get(self, key: str) -> bytes | None:
        """Return the stored bytes, or None."""
        return self._try("get", lambda client: client.get(self._prefix + key), None)

    def set(self, key: str, data: bytes, seconds: float) -> bool:
        """Store bytes; return whether that worked."""
        return self._try("set", lambda client: bool(client.set(self._prefix + key, data, px=_ms(seconds))), False)

    def delete(self, key: str) -> bool:
        """Delete a key; return whether it existed."""
        return self._try("delete", lambda client: bool(client.delete(self._prefix + key)), False)

    def claim(self, key: str, token: str, seconds: float) -> bool | None:
        """Take the lock of a key for some seconds; None if Redis does not answer."""
        name = self._lock_name(key)
        return self._try("lock", lambda client: bool(client.set(name, token, nx=True, px=_ms(seconds))), None)

    def peek(self, key: str) -> tuple[bytes | None, bool]:
        """Return the stored bytes, and whether a process holds the lock."""
        names = [self._prefix + key, self._lock_name(key)]
        data, token = self._try("get", lambda client: client.mget(names), (None, None))
        return data, token is not None

    def release(self, key: str, token: str) -> None:
        """Give the lock back, if it is still ours."""
        self._try("lock", lambda client: client.eval(_RELEASE, 1, self._lock_name(key), token), None)

    def answers(self) -> bool:
        """Return whether Redis answers."""
        return self._try("ping", lambda client: bool(client.ping()), False)

    def server_numbers(self) -> Mapping[str, float]:
        """Return Redis's own figures under the names of SERVER_NUMBERS; nothing if it does not answer."""
        figures: Mapping[str, Any] = self._try("info", lambda client: client.info("memory", "stats"), {})
        return {name: float(figures[name]) for name in SERVER_NUMBERS if isinstance(figures.get(name), int | float)}

    def close(self) -> None:
        """Close the connections of threads."""
        self._try("close", lambda client: client.close(), None)

    # --- for event loops ----------------------------------------------------------------------------------------

    async def aget(self, key: str) -> bytes | None:
        """Return the stored bytes, or None."""
        return await self._atry("get", lambda client: client.get(self._prefix + key), None)

    async def aleft(self, key: str) -> float | None:
        """Return for how many seconds a key is still there: infinity for one that does not go, None for none."""
        left = await self._atry("get", lambda client: client.pttl(self._prefix + key), _NO_KEY)
        return None if left == _NO_KEY else math.inf if left == _FOR_GOOD else left / 1_000

    async def aset(self, key: str, data: bytes, seconds: float) -> bool:
        """Store bytes; return whether that worked."""
        set_it = lambda client: client.set(self._prefix + key, data, px=_ms(seconds))  # noqa: E731
        return bool(await self._atry("set", set_it, False))

    async def adelete(self, key: str) -> bool:
        """Delete a key; return whether it existed."""
        return bool(await self._atry("delete", lambda client: client.delete(self._prefix + key), 0))

    async def aclaim(self, key: str, token: str, seconds: float) -> bool | None:
        """Take the lock of a key for some seconds; None if Redis does not answer."""
        unknown = object()
        name = self._lock_name(key)
        answer = await self._atry("lock", lambda client: client.set(name, token, nx=True, px=_ms(seconds)), unknown)
        return None if answer is unknown else bool(answer)

    async def apeek(self, key: str) -> tuple[bytes | None, bool]:
        """Return the stored bytes, and whether a process holds the lock."""
        names = [self._prefix + key, self._lock_name(key)]
        data, token = await self._atry("get", lambda client: client.mget(names), (None, None))
        return data, token is not None

    async def arelease(self, key: str, token: str) -> None:
        """Give the lock back, if it is still ours."""
        await self._atry("lock", lambda client: client.eval(_RELEASE, 1, self._lock_name(key), token), None)

    async def aclose(self) -> None:
        """Close the connections of this event loop."""
        client = self._by_loop.pop(asyncio.get_running_loop(), None)
        if client is not None:
            await client.aclose()

    # --- what keeps faults away ---------------------------------------------------------------------------------

    def _try(self, operation: str, call: Callable[[Any], Any], otherwise: T) -> Any | T:
        if not self._breaker.allows():
            return self._missed(operation, "open", otherwise)
        try:
            with _unseen(self._methods):
                answer = call(self._client)
        except Exception as error:  # noqa: BLE001 - whatever is wrong with a cache, the app is answered without it
            return self._failed(operation, error, otherwise)
        self._breaker.succeeded()
        return answer

    async def _atry(self, operation: str, call: Callable[[Any], Awaitable[Any]], otherwise: T) -> Any | T:
        if not self._breaker.allows():
            return self._missed(operation, "open", otherwise)
        try:
            with _unseen(self._async_methods):
                answer = await call(self._async_client())
        except Exception as error:  # noqa: BLE001 - likewise
            return self._failed(operation, error, otherwise)
        self._breaker.succeeded()
        return answer

    def _failed(self, operation: str, error: Exception, otherwise: T) -> T:
        away = isinstance(error, self._unavailable)
        timed_out = isinstance(error, (self._unavailable[1], TimeoutError))
        if away:
            self._breaker.failed(timed_out=timed_out)
        return self._missed(operation, "timeout" if timed_out else "away" if away else "refused", otherwise)

    @staticmethod
    def _missed(operation: str, reason: str, otherwise: T) -> T:
        metrics.cache_problems.add(1, {"operation": operation, "reason": reason})
        return otherwise

    def _async_client(self) -> Any:
        loop = asyncio.get_running_loop()
        client = self._by_loop.get(loop)
        if client is None:
            with self._lock:
                client = self._by_loop[loop] = self._make_async()
        return client

    def _lock_name(self, key: str) -> str:
        return f"{self._prefix}lock:{key}"


def _unseen(methods: Mapping[str, Any]) -> AbstractContextManager[Any]:
    """Keep instrumentation from seeing a call, where there is any."""
    return _NOTHING if type(methods["execute_command"]) is FunctionType else suppress_instrumentation()


def _client(kind: Any, url: str, options: dict[str, Any]) -> Any:
    try:
        return kind.from_url(url, **options)
    except ValueError as error:
        raise ConfigurationError("cache.url", str(error), "write it as redis://host:6379/0") from None


def _options(timeout: float, retry: Any) -> dict[str, Any]:
    return {"socket_timeout": timeout, "socket_connect_timeout": timeout, "retry": retry}


def _ms(seconds: float) -> int:
    return max(1, int(seconds * 1000))
