"""The response cache as the gateway's endpoints use it: any key, any JSON value, for exactly as long as was asked.

A key that holds personal data is kept as what redaction leaves of it, with a digest of the whole under the secret of
the pseudonyms: so two people's keys never meet.
"""

import hmac
from hashlib import sha256
from typing import Any

from otel_telemetry.cache.entry import Entry
from otel_telemetry.cache.parts import Parts
from otel_telemetry.cache.response_cache import ResponseCache

_DIGEST_CHARACTERS = 32


class CacheDoor:
    """Gets, sets and deletes by key. No method raises."""

    def __init__(self, parts: Parts) -> None:
        exact = parts.config.model_copy(update={"ttl_jitter": 0.0})
        self._cache = ResponseCache(exact, redactor=parts.redactor, price=parts.price, secret=parts.secret)
        self._is_redis = parts.config.url is not None
        self._redact = parts.redactor.value
        self._secret = parts.secret or b""

    async def get(self, key: str) -> Entry | None:
        """Return what is kept, or None."""
        return await self._cache.alookup(self._safe(key))

    async def set(self, key: str, value: Any, ttl: float | None) -> Entry | None:
        """Keep a value, redacted; return what is kept, or None."""
        return await self._cache.aset(self._safe(key), value, ttl)

    async def delete(self, key: str) -> bool:
        """Forget a key; tell whether it was there."""
        return await self._cache.adelete(self._safe(key))

    def state(self) -> dict[str, str]:
        """Return where values are kept, and whether it answers right now."""
        return {"status": "ok" if self._cache.answers() else "away", "kind": "redis" if self._is_redis else "memory"}

    async def close(self) -> None:
        """Close the connections."""
        await self._cache.aclose()

    def _safe(self, key: str) -> str:
        clean = self._redact(key)
        if clean == key:
            return key
        digest = hmac.new(self._secret, key.encode("utf-8", "surrogatepass"), sha256).hexdigest()
        return f"{clean}:{digest[:_DIGEST_CHARACTERS]}"
