"""The response cache for the gateway's endpoints: any key, any JSON value, for exactly the requested time.

A key that contains personal data is stored redacted, with a digest of the whole key under the secret of the pseudonyms:
so two people's keys never collide. Entries that an older service left in Redis, as plain JSON at the key itself, are
found too, and redacted when they are read.
"""

import hmac
from collections.abc import Mapping
from hashlib import sha256
from typing import Any

from otel_telemetry.cache import entries
from otel_telemetry.cache.entries import Entry
from otel_telemetry.cache.parts import Parts
from otel_telemetry.cache.response_cache import ResponseCache

_DIGEST_CHARACTERS = 32


class KeyValueCache:
    """Gets, sets and deletes by key. No method raises."""

    def __init__(self, parts: Parts) -> None:
        exact = parts.config.model_copy(update={"ttl_jitter": 0.0})
        self._cache = ResponseCache(exact, redactor=parts.redactor, price=parts.price, secret=parts.secret)
        self._largest = parts.config.max_value_bytes
        self._is_redis = parts.config.url is not None
        self._redact = parts.redactor.value
        self._secret = parts.secret or b""

    async def get(self, key: str) -> Entry | None:
        """Return the stored value, or None."""
        return await self._cache.alookup(self._safe(key), key)

    async def set(self, key: str, value: Any, ttl: float | None) -> Entry | None:
        """Store a value, redacted; return the stored value, or None."""
        return await self._cache.aset(self._safe(key), value, ttl)

    def fits(self, value: Any) -> bool:
        """Return whether a value is JSON, and no larger than what is kept."""
        text = entries.dump(value)
        return text is not None and len(text) <= self._largest

    async def delete(self, key: str) -> bool:
        """Delete a key; return whether it existed."""
        safe = self._safe(key)
        gone = await self._cache.adelete(safe)
        left = self._is_redis and safe != key and await self._cache.adelete(key)
        return gone or left

    def state(self) -> dict[str, str]:
        """Return where values are stored, and whether that store answers now."""
        return {"status": "ok" if self._cache.answers() else "away", "kind": "redis" if self._is_redis else "memory"}

    def server_numbers(self) -> Mapping[str, float]:
        """Return Redis's own figures: memory and evicted keys; nothing without Redis."""
        return self._cache.server_numbers()

    async def close(self) -> None:
        """Close the connections."""
        await self._cache.aclose()

    def _safe(self, key: str) -> str:
        clean = self._redact(key)
        if clean == key:
            return key
        digest = hmac.new(self._secret, key.encode("utf-8", "surrogatepass"), sha256).hexdigest()
        return f"{clean}:{digest[:_DIGEST_CHARACTERS]}"
