"""The contract's metric names, as a Prometheus that scrapes the process sees them."""

from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry.context import Context
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import MeterProvider
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from otel_telemetry.cache import CacheSettings, ResponseCache
from otel_telemetry.instrument.cache_measures import CacheMeasures
from otel_telemetry.instrument.llm_http.measures import CallMeasurement, Measures


class Scraped:
    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        reader = PrometheusMetricReader(registry=self.registry, scope_info_enabled=False, disable_target_info=True)
        self.provider = MeterProvider(metric_readers=[reader])
        self.measures = CacheMeasures(self.provider.get_meter("t"))

    def samples(self) -> dict[str, list[tuple[dict[str, str], float]]]:
        found: dict[str, list[tuple[dict[str, str], float]]] = {}
        for family in text_string_to_metric_families(generate_latest(self.registry).decode()):
            for sample in family.samples:
                found.setdefault(sample.name, []).append((sample.labels, sample.value))
        return found


@pytest.fixture
def scraped() -> Iterator[Scraped]:
    found = Scraped()
    yield found
    found.provider.shutdown()


def test_hits_misses_and_their_rate_have_the_contracts_names(scraped: Scraped, redactor: Any) -> None:
    cache = ResponseCache(CacheSettings(), redactor=redactor, measures=scraped.measures)
    made = cache.cached(tool="search")(lambda x: x)
    for value in (1, 1, 1, 2):
        made(value)
    samples = scraped.samples()
    labels = {"cache": "response", "command": "get", "family": "tool:search"}
    assert samples["telemetry_cache_cache_hits_total"] == [(labels, 2.0)]
    assert samples["telemetry_cache_cache_misses_total"] == [(labels, 2.0)]
    assert samples["telemetry_cache_cache_hit_rate"] == [({"cache": "response"}, 0.5)]
    assert samples["telemetry_cache_read_bytes_total"][0][1] > 0


def test_lookups_of_redis_are_kept_apart_from_those_of_the_response_cache(scraped: Scraped) -> None:
    scraped.measures.count(("redis", "GET", "user"), 3, 1, 100)
    scraped.measures.count(("response", "get", "tool"), 0, 1)
    scraped.measures.took(("redis", "GET", "user"), 0.002)
    samples = scraped.samples()
    rates = {labels["cache"]: value for labels, value in samples["telemetry_cache_cache_hit_rate"]}
    assert rates == {"redis": 0.75, "response": 0.0}
    assert samples["telemetry_cache_lookup_duration_seconds_count"][0][1] == 1


def test_repairs_and_drift_have_the_contracts_names_and_bounded_labels(scraped: Scraped) -> None:
    scraped.measures.repaired("json", 2)
    scraped.measures.drifted("tone", 1)
    for n in range(500):
        scraped.measures.repaired(f"kind {n}", 1)
    samples = scraped.samples()
    repairs = {labels["kind"]: value for labels, value in samples["telemetry_cache_repair_rate_total"]}
    assert repairs["json"] == 2
    assert sum(repairs.values()) == 502
    assert len(repairs) <= 101
    assert samples["telemetry_cache_drift_incidents_total"] == [({"policy": "tone"}, 1.0)]


def test_the_public_functions_count_into_the_process_default(monkeypatch: pytest.MonkeyPatch, scraped: Scraped) -> None:
    import otel_telemetry
    from otel_telemetry.instrument import cache_measures

    monkeypatch.setattr(cache_measures, "default", scraped.measures)
    otel_telemetry.cache.record_repair("json")
    otel_telemetry.cache.record_drift("tone", count=3)
    samples = scraped.samples()
    assert samples["telemetry_cache_repair_rate_total"] == [({"kind": "json"}, 1.0)]
    assert samples["telemetry_cache_drift_incidents_total"] == [({"policy": "tone"}, 3.0)]


def test_time_to_first_byte_and_output_rate_have_the_contracts_names(scraped: Scraped) -> None:
    measures = Measures(scraped.provider.get_meter("t"))
    taken = CallMeasurement(3.0, 10, 41, None, 1.0, (), None)
    measures.record(taken, {"gen_ai.provider.name": "openai"}, Context())
    measures.record(taken._replace(first_chunk=None), {"gen_ai.provider.name": "azure"}, Context())
    measures.record(taken._replace(reasoning_tokens=5), {"gen_ai.provider.name": "other"}, Context())
    samples = scraped.samples()
    buckets = [labels["le"] for labels, _ in samples["telemetry_cache_ttfb_seconds_bucket"]][:6]
    assert buckets == ["0.1", "0.5", "1.0", "2.0", "5.0", "+Inf"]
    providers = {labels["gen_ai_provider_name"] for labels, _ in samples["telemetry_cache_ttfb_seconds_count"]}
    assert providers == {"openai", "other"}  # unknown is not recorded
    assert samples["telemetry_cache_tokens_per_second"] == [({"gen_ai_provider_name": "openai"}, 20.0)]
