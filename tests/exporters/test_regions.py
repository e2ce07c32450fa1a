"""Regions: a gateway in each, one to which all forward, and a line that is cut: all is there, and once."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.deploy import running_gateway as running
from tests.exporters.gateway_program import Gateway
from tests.waiting import eventually


@pytest.fixture(name="start")
def start_fixture(tmp_path: Path) -> Iterator[Callable[..., Gateway]]:
    started: list[Gateway] = []

    def start(name: str, **sections: Any) -> Gateway:
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        started.append(Gateway(folder, gateway={"workers": 0}, **sections))
        return started[-1]

    yield start
    for gateway in started:
        if gateway.process.poll() is None:
            gateway.process.kill()
            gateway.process.wait()


@pytest.fixture(name="url")
def url_fixture(postgres: Any) -> str:
    url: str = postgres.database()  # the regions' own rows are in SQLite
    return url


def traces_of(region: str, seed: int) -> bytes:
    body = ExportTraceServiceRequest.FromString(running.requests(10, seed))
    for of_resource in body.resource_spans:
        running.attribute(of_resource.resource, "cloud.region", region)
    return body.SerializeToString()


def rows(url: str) -> dict[tuple[str, ...], Any]:
    return dict(running.asked(url, "SELECT region, count(*) FROM request_log GROUP BY 1"))


def test_what_regions_forward_over_a_line_that_is_cut_is_whole_and_once(start: Any, url: str, tmp_path: Path) -> None:
    central = start("central", request_log={"url": url})
    there = {"endpoint": central.url, "protocol": "http", "signals": ["traces"]}
    edges = {
        region: start(
            region, forward={"central": there}, request_log={"url": f"sqlite:///{tmp_path / region}.db"}
        )
        for region in ("eu-north-1", 'us "east"\n{1}')
    }  # fmt: skip
    for number, (region, edge) in enumerate(edges.items(), 1):
        edge.send(traces_of(region, number))
    eventually(lambda: sum(rows(url).values()) == 20)

    central.process.kill()  # the line is cut
    central.process.wait()
    for number, (region, edge) in enumerate(edges.items(), 1):
        edge.send(traces_of(region, number))  # again
        edge.send(traces_of(region, number + 10))
    for edge in edges.values():
        eventually(lambda edge=edge: edge.exporter("forward.central")["status"] == "waiting")  # type: ignore[misc]
    central.start()
    eventually(lambda: sum(rows(url).values()) == 40)
    for edge in edges.values():
        eventually(lambda edge=edge: edge.exporter("forward.central")["lag"]["items"] == 0)  # type: ignore[misc]
    assert rows(url) == {(region,): 20 for region in edges}
    calls = running.asked(url, "SELECT region, count(*) FROM llm_call GROUP BY 1")
    assert dict(calls) == {(region,): 40 for region in edges}
    shown = running.shown(central, "otel_telemetry_requests_total", "region")
    assert set(shown) == {(region,) for region in edges}

    command = [sys.executable, "-m", "otel_telemetry.cli", "report", "--by", "region", "--json", "--db", url]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ})
    assert {row["region"]: row["requests"] for row in json.loads(done.stdout)} == dict.fromkeys(edges, 20)
