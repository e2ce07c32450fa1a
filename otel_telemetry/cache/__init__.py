"""A cache for expensive answers of models, tools and searches.

    cache = otel_telemetry.cache.ResponseCache()


    @cache.cached(tool="search", ttl=600)
    async def search(query: str, top_k: int = 5) -> list[dict[str, str]]: ...

Values are redacted before they are stored: what a hit gives back is the redacted value. See response_cache.py.
Names are loaded when they are first used, so that `import otel_telemetry` stays light.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from otel_telemetry.cache.config import CacheSettings
    from otel_telemetry.cache.entries import Entry
    from otel_telemetry.cache.keys import cache_key
    from otel_telemetry.cache.response_cache import ResponseCache
    from otel_telemetry.instrument.cache_measures import record_drift, record_repair

__all__ = ["CacheSettings", "Entry", "ResponseCache", "cache_key", "record_drift", "record_repair"]

_HOME = {
    "CacheSettings": "otel_telemetry.cache.config",
    "Entry": "otel_telemetry.cache.entries",
    "ResponseCache": "otel_telemetry.cache.response_cache",
    "cache_key": "otel_telemetry.cache.keys",
    "record_drift": "otel_telemetry.instrument.cache_measures",
    "record_repair": "otel_telemetry.instrument.cache_measures",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)
