"""What has to hold after every fault: nothing acknowledged is lost, none of it is twice, the metrics say so."""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any

from tests.faults.gateway_process import GatewayProcess
from tests.faults.load import CALLS, SPANS, TOKENS, Load

_MIB = 1024 * 1024
MEMORY_LIMIT = 400 * _MIB  # of all processes together, as the README promises
PROCESS_LIMIT = 300 * _MIB

Query = Callable[[str], list[tuple[Any, ...]]]


@contextmanager
def rows(url: str) -> Iterator[Query]:
    """Yield `query(sql)` on the database of the rows."""
    if url.startswith("sqlite"):
        with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as connection:
            yield lambda sql: connection.execute(sql).fetchall()
        return
    import psycopg

    with psycopg.connect(url) as postgres:
        yield lambda sql: postgres.execute(sql).fetchall()


def check_rows(gateway: GatewayProcess, acknowledged: set[bytes]) -> int:
    """Hold the rows against what was acknowledged: all of it is there, none twice. Return the items in rows."""
    with rows(gateway.url) as query:
        requests = query("SELECT trace_id, llm_calls, prompt_tokens FROM request_log")
        calls = query("SELECT trace_id, span_id FROM llm_call")
        aside = query("SELECT reason FROM dead_letter")
    assert acknowledged, "nothing was acknowledged: the test shows nothing"
    assert not aside, f"{len(aside)} spans were set aside: {aside[0]}"
    missing = {trace_id.hex() for trace_id in acknowledged} - {row[0] for row in requests}
    assert not missing, f"{len(missing)} of {len(acknowledged)} acknowledged requests have no row"
    assert len(requests) == len({row[0] for row in requests}), "a request has two rows"
    assert len(calls) == len(set(calls)), "a model call has two rows"
    wrong = [row for row in requests if (row[1], row[2]) != (CALLS, CALLS * TOKENS)]
    assert not wrong, f"calls or tokens were lost or counted twice: {wrong[:3]}"
    return len(requests) + len(calls)


def check_truth(gateway: GatewayProcess, stored: int, exporter: str = "request_log") -> None:
    """Hold the metrics against the rows: acknowledged = stored + dead letters + waiting + dropped, nothing else."""
    appended = gateway.total("otel_telemetry_spool_items_total")
    undelivered = gateway.lag(exporter)
    dead = gateway.total("otel_telemetry_spool_dead_letter_items", exporter=exporter)
    missed = gateway.total("otel_telemetry_spool_missed_items_total", exporter=exporter)
    assert appended == stored + dead + undelivered + missed, (appended, stored, dead, undelivered, missed)


def check_counted(gateway: GatewayProcess, loads: tuple[Load, ...]) -> None:
    """Hold what the processes counted against what the senders saw.

    The counts of a process that is killed are lost, and a request without an answer may be stored or not. Where neither
    happened the numbers are the same, else one bounds the other.
    """
    accepted = gateway.total("otel_telemetry_accepted_total")
    refused = gateway.total("otel_telemetry_refused_total")
    delivered = gateway.total("otel_telemetry_delivered_total", exporter="request_log")
    appended = gateway.total("otel_telemetry_spool_items_total")
    acknowledged = SPANS * len({trace_id for load in loads for trace_id in load.acknowledged})
    retries = sum(load.retries.total() for load in loads)
    whole = gateway.whole and not gateway.total("otel_telemetry_process_restarts_total")
    all_answered = not any(load.unanswered for load in loads)
    assert accepted <= appended
    assert acknowledged <= appended
    assert gateway.total("otel_telemetry_dropped_total") == 0
    assert gateway.total("otel_telemetry_spool_dead_letter_items", exporter="request_log") == 0
    if whole:
        assert delivered == accepted == appended, (delivered, accepted, appended)
        assert refused >= retries, (refused, retries)
    if whole and all_answered:
        assert (accepted, refused) == (acknowledged, retries)


def check_memory(gateway: GatewayProcess) -> None:
    """Hold the most memory that was seen against its bound."""
    gateway.sample()
    peak = {what: size // _MIB for what, size in gateway.peak.items()}
    assert 0 < gateway.peak["all"] < MEMORY_LIMIT, f"MiB: {peak}"
    assert 0 < gateway.peak["largest"] < PROCESS_LIMIT, f"MiB: {peak}"


def check_spool(gateway: GatewayProcess) -> None:
    """Hold the spool's own bytes, those of deleted batches among them, against what was to be redacted."""
    redacted = False
    for piece in gateway.spool_bytes():
        assert b"anna@example.com" not in piece
        redacted = redacted or b"[REDACTED_EMAIL]" in piece
    keeps_delivered = not gateway.within  # on a small disk nothing is kept that was delivered
    assert redacted or not keeps_delivered, "no batch is in the spool: the test shows nothing"


def check(gateway: GatewayProcess, *loads: Load) -> None:
    """Wait until all is delivered, then hold everything against what was acknowledged."""
    with gateway.watched():
        gateway.delivered()
    stored = check_rows(gateway, {trace_id for load in loads for trace_id in load.acknowledged})
    check_truth(gateway, stored)
    check_counted(gateway, loads)
    check_memory(gateway)
    for load in loads:
        assert not load.failed, f"answers that no sender would retry: {set(load.failed)}"
    check_spool(gateway)
