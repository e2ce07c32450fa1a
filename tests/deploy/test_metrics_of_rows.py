"""/metrics of a running gateway says what its tables say, whatever came twice, in whichever process it was written."""

import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.openmetrics import parser as openmetrics

from tests.deploy import running_gateway as running
from tests.exporters.gateway_program import Gateway
from tests.waiting import eventually

OUTCOME = "CASE WHEN ok THEN 'ok' ELSE 'error' END"
REQUEST = ("service", "route", "model", "degraded_reason", "outcome")
OF_REQUESTS = f"SELECT service, route, model, degraded, {OUTCOME}, {{}} FROM request_log GROUP BY 1, 2, 3, 4, 5"  # noqa: S608  # ours
CALL = ("service", "provider", "model", "outcome")
OF_CALLS = f"SELECT application, provider, model, {OUTCOME}, {{}} FROM llm_call GROUP BY 1, 2, 3, 4"  # noqa: S608  # ours
OF_MODELS = "SELECT application, provider, model, {} FROM llm_call {} GROUP BY 1, 2, 3"


@pytest.fixture(name="url", params=["sqlite", "postgres"])
def url_fixture(request: pytest.FixtureRequest, empty_database: Callable[[str], str]) -> str:
    return empty_database(request.param)


@pytest.fixture(name="start")
def start_fixture(tmp_path: Path) -> Iterator[Callable[..., Gateway]]:
    started: list[Gateway] = []

    def start(**sections: Any) -> Gateway:
        started.append(Gateway(tmp_path, **sections))
        return started[-1]

    yield start
    for gateway in started:
        gateway.stop()


def all_is_written(gateway: Gateway) -> bool:
    return not any(running.shown(gateway, "otel_telemetry_spool_lag_items", "exporter").values())


def agree(gateway: Gateway, url: str) -> None:
    """Compare everything that is counted of rows with the rows."""
    for metric, query, labels in (
        ("requests_total", OF_REQUESTS.format("count(*)"), REQUEST),
        ("request_duration_seconds_count", OF_REQUESTS.format("count(latency_ms)"), REQUEST),
        ("request_ttfb_seconds_count", OF_REQUESTS.format("count(ttfb_ms)"), REQUEST),
        ("llm_calls_total", OF_CALLS.format("count(*)"), CALL),
        ("llm_call_duration_seconds_count", OF_CALLS.format("count(total_latency_ms)"), CALL),
        ("llm_call_ttfb_seconds_count", OF_CALLS.format("count(ttfb_ms)"), CALL),
        ("unpriced_calls_total", OF_MODELS.format("count(*)", "WHERE cost_source = 'unpriced'"), CALL[:3]),
        ("cost_usd_total", OF_MODELS.format("sum(cost_usd)", "WHERE cost_usd > 0"), CALL[:3]),
    ):
        rows = running.asked(url, query)
        assert rows, metric
        assert running.shown(gateway, f"otel_telemetry_{metric}", *labels) == rows, metric
    prompt = running.asked(url, "SELECT 'prompt', sum(prompt_tokens) FROM llm_call")
    shown = running.shown(gateway, "otel_telemetry_tokens_total", "type")
    assert shown["prompt",] == prompt["prompt",] > 0


@pytest.mark.parametrize("workers", [0, 2])
def test_what_is_counted_is_what_the_tables_hold(start: Any, url: str, workers: int) -> None:
    gateway = start(request_log={"url": url, "cost_budget_per_day_usd": 5}, gateway={"workers": workers})
    for seed in (1, 2, 1, 3, 2):
        gateway.send(running.requests(40, seed))
    eventually(lambda: all_is_written(gateway))
    assert running.asked(url, "SELECT 'all', count(*) FROM request_log")["all",] == 120
    agree(gateway, url)
    assert running.shown(gateway, "otel_telemetry_cost_budget_per_day_usd") == {(): 5}


def test_rows_that_helpers_write_are_counted_too(start: Any, url: str) -> None:
    gateway = start(request_log={"url": url, "writers": 3}, gateway={"role": "receive", "workers": 0})
    for seed in range(1, 13):  # below 1 MiB each, so that no trace is cut apart and counted before its calls are known
        gateway.send(running.requests(100, seed, "x" * 4_000))
    gateway.stop()
    gateway = start(request_log={"url": url, "writers": 3}, gateway={"workers": 1})
    eventually(lambda: all_is_written(gateway))
    assert running.asked(url, "SELECT 'all', count(*) FROM request_log")["all",] == 1_200
    assert running.helpers(gateway), "all was written by one process"
    agree(gateway, url)


def test_a_histogram_is_one_as_prometheus_wants_it(start: Any, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'rows.db'}"
    gateway = start(request_log={"url": url}, gateway={"workers": 1})
    gateway.send(running.requests(50, 1))
    eventually(lambda: all_is_written(gateway))
    buckets = running.shown(gateway, "otel_telemetry_request_duration_seconds_bucket", "le")
    bounds = sorted((float(bound.replace("+Inf", "inf")), count) for (bound,), count in buckets.items())
    for bound, count in bounds:
        at_most = f"SELECT 'n', count(*) FROM request_log WHERE latency_ms <= {min(bound, 1e9) * 1_000}"  # noqa: S608  # a number
        assert count == running.asked(url, at_most)["n",], bound
    seconds = running.asked(url, "SELECT 'n', sum(latency_ms) / 1000 FROM request_log")["n",]
    assert float(running.shown(gateway, "otel_telemetry_request_duration_seconds_sum")[()]) == pytest.approx(
        float(seconds)
    )


def test_openmetrics_lead_from_a_bucket_to_a_trace_that_is_in_it(start: Any, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'rows.db'}"
    gateway = start(request_log={"url": url}, gateway={"workers": 2})
    gateway.send(running.requests(50, 1))
    eventually(lambda: all_is_written(gateway))
    asked = urllib.request.Request(f"{gateway.url}/metrics", headers={"accept": "application/openmetrics-text"})
    with urllib.request.urlopen(asked, timeout=60) as answer:
        assert answer.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
        text = answer.read().decode()
    found = 0
    for family in openmetrics.text_string_to_metric_families(text):
        for sample in family.samples if family.name == "otel_telemetry_request_duration_seconds" else ():
            if sample.exemplar is not None:
                trace = sample.exemplar.labels["trace_id"]
                row = f"SELECT route, latency_ms / 1000 FROM request_log WHERE trace_id = '{trace}'"  # noqa: S608  # ours
                ((labels, seconds),) = running.asked(url, row).items()
                assert labels == (sample.labels["route"],)
                assert sample.exemplar.value == pytest.approx(float(seconds))
                assert sample.exemplar.value <= float(sample.labels["le"].replace("+Inf", "inf"))
                found += 1
    assert found > 5
