"""What `otel-telemetry audit verify` takes for a log and for one four times as long: CPU time and memory.

    python benchmarks/audit_verify.py [--rows 20000]

Each database has that many rows in SQLite, written 500 at a time with the trail on, and a checkpoint after each write;
half of the rows were changed once, so that there are one and a half leaves for each row. Each is verified in a process
of its own, from which its memory is taken; the memory of a process that verifies an empty trail is shown apart.
"""

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa

from otel_telemetry.exporters.request_log.audit import check, keys, trail
from otel_telemetry.exporters.request_log.audit.config import AuditSettings
from otel_telemetry.exporters.request_log.db import database, schema

START: Final = datetime(2026, 9, 1, tzinfo=UTC)
FLAGS: Final = ("escalated", "fallback_fired", "cache_hit", "ceiling_hit", "per_user_cap_hit", "rate_limited")
WRITE: Final = 500


def row(number: int) -> dict[str, Any]:
    return {
        **dict.fromkeys(FLAGS, False), "id": f"r-{number}", "ts": START + timedelta(seconds=number), "ok": True,
        "trace_id": f"{number:032x}", "span_id": f"{1:016x}", "service": "shop", "route": "web", "llm_calls": 1,
        "retries": 0, "latency_ms": 812.5, "prompt_tokens": 700, "completion_tokens": 90,
        "meta": {"plan": "free", "note": "x" * 200},
    }  # fmt: skip


def made(url: str, count: int, folder: Path) -> None:
    """Write a database with a trail."""
    signer = keys.make(AuditSettings(key_file=folder / "key"))
    engine = database.connect(url)
    with engine.begin() as connection:
        trail.start(connection, signer)
        trail.sign(connection, signer)
    table = schema.request_log
    for first in range(0, count, WRITE):
        rows = [row(number) for number in range(first, min(count, first + WRITE))]
        spans = [(each["trace_id"], each["span_id"]) for each in rows]
        with engine.begin() as connection:
            connection.execute(sa.insert(table), rows)
            trail.follow(connection, spans)
        with engine.begin() as connection:
            changed = [trace for trace, _ in spans[::2]]
            connection.execute(sa.update(table).where(table.c.trace_id.in_(changed)).values(retries=1))
            trail.follow(connection, spans[::2])
            trail.sign(connection, signer)
    engine.dispose()


def verify(url: str) -> None:
    """Verify, and print leaves, CPU seconds and the most memory that this process had, in MB."""
    begin = time.process_time()
    engine = database.reader(url)
    with database.snapshot(engine) as connection:
        found = check.of_database(connection, None)
    engine.dispose()
    if found.wrong:
        raise SystemExit(f"the trail does not hold: {found.problems[0]}")
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(found.leaves, time.process_time() - begin, used)


def measured(sizes: list[int], folder: Path) -> Iterator[tuple[int, int, float, float]]:
    for size in sizes:
        url = f"sqlite:///{folder}/{size}.db"
        made(url, size, folder)
        done = subprocess.run([sys.executable, __file__, "--verify", url], capture_output=True, text=True, check=True)  # noqa: S603
        leaves, seconds, memory = done.stdout.split()
        yield size, int(leaves), float(seconds), float(memory)


def main() -> None:
    given = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    given.add_argument("--rows", type=int, default=20_000)
    given.add_argument("--verify", help=argparse.SUPPRESS)
    asked = given.parse_args()
    if asked.verify:
        verify(asked.verify)
        return
    with tempfile.TemporaryDirectory() as folder:
        for size, leaves, seconds, memory in measured([0, asked.rows, 4 * asked.rows], Path(folder)):
            each = f", {seconds / leaves * 1e6:.0f} us of CPU a leaf" if leaves else ""
            print(f"{size:9,} rows, {leaves:9,} leaves: {seconds:6.2f} s of CPU{each}, {memory:.0f} MB", flush=True)


if __name__ == "__main__":
    main()
