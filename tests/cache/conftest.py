"""Caches of both kinds, in Redis and in memory, and what they count."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from otel_telemetry.base import metrics
from otel_telemetry.cache import CacheSettings, ResponseCache
from otel_telemetry.instrument.cache_measures import CacheMeasures
from otel_telemetry.processors.config import RedactionSettings
from otel_telemetry.processors.redact.redactor import Redactor

PROBLEMS = "otel_telemetry.cache_problems"


class Counted:
    """What caches made here counted."""

    def __init__(self) -> None:
        self.reader = InMemoryMetricReader()
        self.meters = MeterProvider(metric_readers=[self.reader])
        self.measures = CacheMeasures(self.meters.get_meter("cache"))

    def _points(self, name: str) -> list[Any]:
        data = self.reader.get_metrics_data()
        found = [m for r in data.resource_metrics for s in r.scope_metrics for m in s.metrics] if data else []
        return [point for metric in found if metric.name == name for point in metric.data.data_points]

    def total(self, name: str) -> int:
        return sum(point.value for point in self._points(f"telemetry_cache.{name}"))

    @property
    def hits_misses(self) -> tuple[int, int]:
        return self.total("cache_hits"), self.total("cache_misses")

    @property
    def problems(self) -> dict[tuple[str, str], int]:
        return {(p.attributes["operation"], p.attributes["reason"]): p.value for p in self._points(PROBLEMS)}


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Iterator[Counted]:
    found = Counted()
    monkeypatch.setattr(metrics, "cache_problems", found.meters.get_meter("ours").create_counter(PROBLEMS))
    yield found
    found.meters.shutdown()


@pytest.fixture(scope="session")
def redactor() -> Redactor:
    return Redactor(RedactionSettings())


Make = Callable[..., ResponseCache]


@pytest.fixture
def make(counted: Counted, redactor: Redactor) -> Iterator[Make]:
    """Give a function that makes caches from settings; they are closed at the end."""
    made: list[ResponseCache] = []

    def make_one(*, redactor: Any = redactor, price: Any = None, **settings: Any) -> ResponseCache:
        patient = {"timeout": 10} | settings  # a busy machine is no Redis that is away
        cache = ResponseCache(
            CacheSettings(**patient), redactor=redactor, price=price, secret=b"s" * 16, measures=counted.measures
        )
        made.append(cache)
        return cache

    yield make_one
    for cache in made:
        cache.close()


@pytest.fixture(params=["redis", "memory"])
def where(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Settings of each kind of cache."""
    return {"url": request.getfixturevalue("redis_server").url} if request.param == "redis" else {}


@pytest.fixture
def cache(make: Make, where: dict[str, Any]) -> ResponseCache:
    return make(**where)


def everything(url: str) -> dict[bytes, bytes]:
    with redis.Redis.from_url(url) as client:
        return {key: client.get(key) for key in client.scan_iter()}
