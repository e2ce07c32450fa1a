"""What figures of one's own, the audit trail and anomalies cost, switched on and off: CPU time, in one run.

    python benchmarks/row_extras.py [--requests 2000] [--rounds 5] [--rows 100000]

Writing: each round writes as many requests of three spans, 100 at a time, into a new SQLite file: with none of them,
with two figures (one of requests, one of calls), and with the trail. Ratios are those of the medians, against none.
Off: with none of them, a profiler adds up the time in their code (kpis/, audit/, anomalies/) while requests are
written. Reading: `report --kpi` over so many rows, and one look at nine weeks of them for anomalies, as a gateway does
every ten minutes.
"""

import argparse
import cProfile
import pstats
import random
import statistics
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import sqlalchemy as sa

from otel_telemetry.exporters.request_log.anomalies.config import AnomalySettings
from otel_telemetry.exporters.request_log.anomalies.incidents import look
from otel_telemetry.exporters.request_log.audit import keys, trail
from otel_telemetry.exporters.request_log.audit.config import AuditSettings
from otel_telemetry.exporters.request_log.config import RequestLogSettings
from otel_telemetry.exporters.request_log.db import database, schema
from otel_telemetry.exporters.request_log.kpis.config import KpiSettings, LabelSettings
from otel_telemetry.exporters.request_log.kpis.definitions import compiled
from otel_telemetry.exporters.request_log.kpis.measures import active
from otel_telemetry.exporters.request_log.operate import report_kpis
from otel_telemetry.exporters.request_log.operate.report_groups import Period
from otel_telemetry.exporters.request_log.store.store import open_store
from tests.exporters.request_log_writer import request

KPIS = compiled(
    {
        "answers": KpiSettings(
            source="requests", kind="counter", labels={"route": LabelSettings(path="route", most=20)}
        ),
        "prompts": KpiSettings(source="calls", kind="histogram", value="prompt_tokens", buckets=(10, 100, 1_000)),
    }
)


READ: Final = compiled(
    {
        "latency": KpiSettings(
            source="requests", kind="histogram", value="latency_ms", buckets=(100, 1_000),
            labels={"route": LabelSettings(path="route", most=20)},
        ),
        "words": KpiSettings(
            source="requests", kind="histogram", value="meta.answer.words", buckets=(100, 1_000),
            labels={"plan": LabelSettings(path="meta.plan", values=("free", "paid"))},
        ),
        "rows": KpiSettings(source="requests", kind="counter", labels={"route": LabelSettings(path="route", most=9)}),
    }
)  # fmt: skip
FLAGS: Final = ("escalated", "fallback_fired", "cache_hit", "ceiling_hit", "per_user_cap_hit", "rate_limited")
PARTS: Final = ("kpis", "audit", "anomalies")


def seconds(url: str, what: str, folder: Path, count: int, profiler: cProfile.Profile | None = None) -> float:
    """Return the CPU seconds that it takes to write that many requests."""
    audit = AuditSettings(enabled=what == "audit", key_file=folder / "key")
    active.use(KPIS if what == "kpi" else ())
    engine = database.connect(url)
    if audit.enabled:
        with engine.begin() as connection:
            trail.start(connection, keys.make(audit))
    engine.dispose()
    store = open_store(RequestLogSettings(url=url, audit=audit))
    spans = [request(number) for number in range(1, count + 1)]
    begin = time.process_time()
    if profiler:
        profiler.enable()
    for start in range(0, count, 100):
        store.write([span for each in spans[start : start + 100] for span in each])
    if profiler:
        profiler.disable()
    taken = time.process_time() - begin
    store.close()
    return taken


def written(folder: Path, count: int, rounds: int) -> None:
    """Print how long writing takes with each of them."""
    taken: dict[str, list[float]] = {"none": [], "kpi": [], "audit": []}
    for number in range(rounds):
        for what, found in taken.items():
            found.append(seconds(f"sqlite:///{folder}/{number}-{what}.db", what, folder, count))
    plain = statistics.median(taken["none"])
    for what, found in taken.items():
        own = statistics.median(found)
        print(f"{what:8} {count / own:8,.0f} requests/s, {own / plain:.2f} times as long as with none")


def off(folder: Path, count: int) -> None:
    """Print which share of writing is spent in their code while they are off."""
    profiler = cProfile.Profile()
    seconds(f"sqlite:///{folder}/off.db", "none", folder, count, profiler)
    found = pstats.Stats(profiler).stats  # type: ignore[attr-defined]  # the type stubs leave it out
    own = {key: value for key, value in found.items() if Path(key[0]).parent.name in PARTS}
    calls, inside = sum(value[0] for value in own.values()), sum(value[2] for value in own.values())
    every = sum(value[2] for value in found.values())
    each = calls / (count / 100)
    print(f"off      {each:.0f} calls into their code in each write of 300 spans: {inside / every:.3%} of its time")


def filled(url: str, count: int) -> datetime:
    """Write rows of two services over nine weeks; return the time of the last."""
    chance, first = random.Random(1), datetime(2026, 9, 7, tzinfo=UTC)  # noqa: S311  # no secret
    step = timedelta(weeks=9) / count
    engine = database.connect(url)
    with engine.begin() as connection:
        for start in range(0, count, 5_000):
            rows = [
                {
                    **dict.fromkeys(FLAGS, False), "id": f"r-{number}", "ts": first + number * step, "ok": True,
                    "trace_id": f"{number:032x}", "span_id": "1" * 16, "service": chance.choice(("shop", "chat")),
                    "route": chance.choice(("web", "direct", "trivial")), "llm_calls": 1, "retries": 0,
                    "latency_ms": chance.random() * 1_000, "prompt_tokens": chance.randrange(1_000), "cost_usd": 0.01,
                    "meta": {"plan": chance.choice(("free", "paid")), "answer": {"words": chance.randrange(500)}},
                }
                for number in range(start, min(count, start + 5_000))
            ]  # fmt: skip
            connection.execute(sa.insert(schema.request_log), rows)
    engine.dispose()
    return first + count * step


def read(folder: Path, count: int) -> None:
    """Print how long the report of each figure takes, and a look for anomalies."""
    url = f"sqlite:///{folder}/rows.db"
    now = filled(url, count)
    engine = database.reader(url)
    for kpi in READ:
        with engine.connect() as connection:
            begin = time.process_time()
            report_kpis.kpis(connection, [kpi], ("day",), Period(None, None))
            own = time.process_time() - begin
        print(f"report   {count / own:8,.0f} rows/s for a {kpi.kind} of {kpi.settings.value or 'rows'}, by day")
    with engine.connect() as connection:
        begin = time.process_time()
        found = look(connection, AnomalySettings(), now - timedelta(days=8), now)
        own = time.process_time() - begin
    engine.dispose()
    print(f"look     {own:.2f} s of CPU for {found.judged} series from {count:,} rows: {own / 600:.2%} of a core")


def main() -> None:
    given = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    given.add_argument("--requests", type=int, default=2_000)
    given.add_argument("--rounds", type=int, default=5)
    given.add_argument("--rows", type=int, default=100_000)
    asked = given.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        written(Path(folder), asked.requests, asked.rounds)
        off(Path(folder), asked.requests)
        read(Path(folder), asked.rows)


if __name__ == "__main__":
    main()
