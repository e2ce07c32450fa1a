"""The cache endpoints, and what they need of a cache: assemble.py passes one in."""

import time
from collections.abc import Mapping
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any, Final, Protocol

from google.rpc import code_pb2
from starlette.requests import Request
from starlette.responses import Response

from otel_telemetry.base.errors import MalformedTelemetry
from otel_telemetry.gateway.receive.rest import models
from otel_telemetry.gateway.receive.rest.call import Call, answer_json, parsed
from otel_telemetry.gateway.receive.status import Refusal, RefusedError

_NOT_STORED: Final = Refusal(
    "not_cached",
    code_pb2.UNAVAILABLE,
    HTTPStatus.SERVICE_UNAVAILABLE,
    "the value was not kept: the cache is away",
    retry_after=2.0,
)
_TOO_LARGE: Final = Refusal(
    "too_large",
    code_pb2.INVALID_ARGUMENT,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    "the value was not kept: it is no JSON, or larger than cache.max_value_bytes; send a smaller one",
    field="data",
)


class StoredValue(Protocol):
    """A stored value. Times are seconds since 1970."""

    @property
    def value(self) -> Any:
        """The value, redacted."""

    @property
    def stored_at(self) -> float:
        """When it was put there."""

    @property
    def expires_at(self) -> float:
        """When it goes."""


class Cache(Protocol):
    """Keeps values by key. No method raises."""

    async def get(self, key: str) -> StoredValue | None:
        """Return what is kept, or None."""

    async def set(self, key: str, value: Any, ttl: float | None) -> StoredValue | None:
        """Keep a value, redacted; return what is kept, or None where it could not be."""

    def fits(self, value: Any) -> bool:
        """Return whether a value can be kept at all."""

    async def delete(self, key: str) -> bool:
        """Delete a key; return whether it existed."""

    def state(self) -> dict[str, str]:
        """Return its kind and whether it answers, as `status`: for /health, and not for the event loop."""

    def server_numbers(self) -> Mapping[str, float]:
        """Return figures of the server behind it, under Redis's names: for /metrics; blocks."""

    async def close(self) -> None:
        """Give back connections."""


class CacheEndpoints:
    """GET /cache/get, POST /cache/set, DELETE /cache."""

    def __init__(self, cache: Cache) -> None:
        self._cache = cache

    async def get(self, call: Call) -> Response:
        """Answer with what is kept."""
        stored = await self._cache.get(_key(call.request))
        return answer_json({"hit": False} if stored is None else {"hit": True, "data": _response(stored)})

    async def set(self, call: Call) -> Response:
        """Keep a value."""
        item = models.read(models.CacheItem, parsed(await call.body()))
        stored = await self._cache.set(item.key, item.data, item.ttl)
        if stored is None:
            raise RefusedError(_NOT_STORED if self._cache.fits(item.data) else _TOO_LARGE)
        return answer_json({"status": "cached", "key": item.key, "expires_at": _iso(stored.expires_at)})

    async def delete(self, call: Call) -> Response:
        """Forget a key."""
        return answer_json({"deleted": await self._cache.delete(_key(call.request))})


def _key(request: Request) -> str:
    key = request.query_params.get("key")
    if not key:
        raise MalformedTelemetry("is missing", "key")
    return key


def _response(stored: StoredValue) -> dict[str, Any]:
    """Return a kept value with its times; what is no object is shown as `value`."""
    value = stored.value if isinstance(stored.value, dict) else {"value": stored.value}
    left = max(0, round(stored.expires_at - time.time()))
    return {"timestamp": _iso(stored.stored_at), **value, "ttl_remaining": left}


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
