"""What figures of one's own and the audit trail cost: rows written without and with them, in turns, in one run.

    python benchmarks/row_extras.py [--requests 2000] [--rounds 5]

Each round writes as many requests of three spans, 100 at a time, into a new SQLite file: with neither, with two figures
(one of requests, one of calls), and with the trail. Ratios are those of the medians, against neither.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from otel_telemetry.base import records
from otel_telemetry.exporters.request_log.audit import keys, trail
from otel_telemetry.exporters.request_log.audit.config import AuditSettings
from otel_telemetry.exporters.request_log.config import RequestLogSettings
from otel_telemetry.exporters.request_log.db import database
from otel_telemetry.exporters.request_log.kpis.config import KpiSettings, LabelSettings
from otel_telemetry.exporters.request_log.kpis.definitions import compiled
from otel_telemetry.exporters.request_log.kpis.measures import active
from otel_telemetry.exporters.request_log.store.store import open_store

START = 1_790_000_000_000_000_000
CALL: dict[str, Any] = {
    "gen_ai.operation.name": "chat",
    "gen_ai.provider.name": "openai",
    "gen_ai.request.model": "gpt-4o-mini",
    "gen_ai.usage.input_tokens": 100,
    "gen_ai.usage.output_tokens": 20,
}


def request(number: int) -> list[records.Span]:
    return [
        records.Span(
            trace_id=f"{number + 1:032x}",
            span_id=f"{place:016x}",
            parent_span_id=None if place == 1 else f"{1:016x}",
            local_root=place == 1,
            name="span",
            kind="SERVER" if place == 1 else "CLIENT",
            start_ns=START + number,
            end_ns=START + number + place * 1_000_000,
            status="UNSET",
            status_message="",
            attributes={"request_log.route": "a"} if place == 1 else CALL,
            events=(),
            resource={"service.name": "chat"},
        )
        for place in (1, 2, 3)
    ]


KPIS = compiled(
    {
        "answers": KpiSettings(
            source="requests", kind="counter", labels={"route": LabelSettings(path="route", most=20)}
        ),
        "prompts": KpiSettings(source="calls", kind="histogram", value="prompt_tokens", buckets=(10, 100, 1_000)),
    }
)


def seconds(url: str, what: str, folder: Path, count: int) -> float:
    """Return how long it takes to write that many requests."""
    audit = AuditSettings(enabled=what == "audit", key_file=folder / "key")
    active.use(KPIS if what == "kpi" else ())
    engine = database.connect(url)
    if audit.enabled:
        with engine.begin() as connection:
            trail.start(connection, keys.make(audit))
    engine.dispose()
    store = open_store(RequestLogSettings(url=url, audit=audit))
    spans = [request(number) for number in range(count)]
    begin = time.perf_counter()
    for start in range(0, count, 100):
        store.write([span for each in spans[start : start + 100] for span in each])
    taken = time.perf_counter() - begin
    store.close()
    return taken


def main() -> None:
    given = argparse.ArgumentParser(description=__doc__)
    given.add_argument("--requests", type=int, default=2_000)
    given.add_argument("--rounds", type=int, default=5)
    asked = given.parse_args()
    taken: dict[str, list[float]] = {"neither": [], "kpi": [], "audit": []}
    with tempfile.TemporaryDirectory() as folder:
        for turn in range(asked.rounds):
            for what, found in taken.items():
                url = f"sqlite:///{folder}/{turn}-{what}.db"
                found.append(seconds(url, what, Path(folder), asked.requests))
    plain = statistics.median(taken["neither"])
    for what, found in taken.items():
        own = statistics.median(found)
        print(f"{what:8} {asked.requests / own:8,.0f} requests/s, {own / plain:.2f} times as long as neither")


if __name__ == "__main__":
    main()
