"""Dead letters stay within their bound: what goes is the oldest, is counted, and is logged once."""

import logging
import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families
from typer.testing import CliRunner

from otel_telemetry import cli
from otel_telemetry.base.destinations import Receipt, Signal
from otel_telemetry.base.errors import DeliveryRefused, Overloaded
from otel_telemetry.gateway.config import GatewaySettings
from otel_telemetry.gateway.deliver.delivery import Delivery
from otel_telemetry.gateway.serve.prometheus import Exposition
from otel_telemetry.gateway.spool import spool_file
from otel_telemetry.gateway.spool.operator import Operator
from otel_telemetry.gateway.spool.writer import Spool
from tests.waiting import eventually

MIB = 1 << 20
BOUND = 200_000
BODY = 10_000


@pytest.fixture
def open_spool(tmp_path: Path) -> Iterator[Callable[..., Spool]]:
    """Return `open_spool(max_dead_bytes)`, a spool of 8 MiB with the sinks a and b."""
    made: list[Spool] = []

    def open_it(max_dead_bytes: int, **more: Any) -> Spool:
        for each in made:
            each.close()
        made.append(Spool(tmp_path / "spool", 8 * MIB, 24, max_dead_bytes=max_dead_bytes, **more))
        made[-1].attach(["a", "b"])
        return made[-1]

    yield open_it
    for each in made:
        each.close()


def body(number: int, size: int = BODY) -> bytes:
    return f"{number:06}".encode().ljust(size, b".")


def append(spool: Spool, number: int) -> Future[int]:
    """Append as senders do: where the spool is full, until what everybody had is deleted."""

    def tried() -> Future[int] | None:
        with suppress(Overloaded):
            return spool.append("traces", body(number), 1)
        return None

    future: Future[int] = eventually(tried, "there is room in the spool")
    return future


def add_dead_letters(spool: Spool, sink: str, numbers: range, items: int = 3, size: int = BODY) -> None:
    """Append batches, and have the sink refuse each of them."""
    for future in [spool.append("traces", body(number, size), items) for number in numbers]:
        future.result(10)
    batches = spool.reader.read(spool.reader.position(sink), 64 * MIB, 10_000)
    spool.advance(sink, batches, [(batch, "invalid: no") for batch in batches])


def dead_letters(spool: Spool, sink: str) -> list[int]:
    with closing(spool_file.open_reader(spool._folder)) as connection:
        found = connection.execute("SELECT body FROM dead_letter WHERE sink = ? ORDER BY id", (sink,)).fetchall()
    return [int(each[:6]) for (each,) in found]


def missed(spool: Spool, sink: str) -> dict[str, int]:
    return dict(spool.reader.status().missed.get(sink, {}))


def within(spool: Spool, sink: str, bound: int = BOUND) -> Callable[[], bool]:
    return lambda: spool.reader.status().dead_bytes.get(sink, 0) <= bound


def test_of_more_than_the_bound_the_oldest_go_and_are_counted(open_spool: Any, caplog: Any) -> None:
    spool = open_spool(BOUND)
    add_dead_letters(spool, "a", range(50))
    eventually(within(spool, "a"), "they are within the bound")
    assert dead_letters(spool, "a") == list(range(30, 50))
    assert missed(spool, "a") == {"dead_letters_full": 90}
    status = spool.reader.status()
    assert (status.dead_letters, status.dead_items["a"], status.dead_bytes["a"]) == (20, 60, BOUND)
    assert status.appended == 150 == status.dead_items["a"] + missed(spool, "a")["dead_letters_full"]


def test_it_is_told_once(open_spool: Any, caplog: pytest.LogCaptureFixture) -> None:
    spool = open_spool(BOUND)
    with caplog.at_level(logging.ERROR, "otel_telemetry.gateway.spool.writer"):
        for first in (0, 30, 60):
            add_dead_letters(spool, "a", range(first, first + 30))
            eventually(within(spool, "a"), "they are within the bound")
    (logged,) = [record.getMessage() for record in caplog.records if "dead letters" in record.getMessage()]
    assert logged.startswith("a has more than 200000 bytes of dead letters: the oldest are dropped")


def test_the_letters_of_one_sink_push_out_none_of_another(open_spool: Any) -> None:
    spool = open_spool(BOUND)
    add_dead_letters(spool, "b", range(5))
    add_dead_letters(spool, "a", range(5, 60))
    eventually(within(spool, "a"), "they are within the bound")
    assert dead_letters(spool, "b") == [0, 1, 2, 3, 4]
    assert missed(spool, "b") == {}


def test_below_the_bound_and_without_one_all_are_kept(open_spool: Any) -> None:
    spool = open_spool(0)
    add_dead_letters(spool, "a", range(300))
    assert not spool._housekeeper._thin_out()
    assert dead_letters(spool, "a") == list(range(300))
    assert missed(spool, "a") == {}


def test_one_letter_is_kept_however_large_so_that_somebody_can_look_at_it(open_spool: Any) -> None:
    spool = open_spool(BOUND)
    add_dead_letters(spool, "a", range(3), size=300_000)
    eventually(lambda: len(dead_letters(spool, "a")) == 1, "the others are gone")
    assert dead_letters(spool, "a") == [2]


def test_what_is_to_be_delivered_again_does_not_go(open_spool: Any, tmp_path: Path) -> None:
    spool = open_spool(BOUND)
    add_dead_letters(spool, "a", range(10))
    with Operator(tmp_path / "spool") as operator:
        operator.replay_dead("a", 1 << 62)
    add_dead_letters(spool, "a", range(10, 60))
    eventually(lambda: len(dead_letters(spool, "a")) == 20, "the rest is within the bound")
    assert dead_letters(spool, "a") == [*range(10), *range(50, 60)]


def test_a_bound_above_a_quarter_of_the_spool_is_that_quarter(open_spool: Any) -> None:
    assert open_spool(1 << 40).max_dead_bytes == 2 * MIB
    assert GatewaySettings().dead_letter_max_bytes == 128 * MIB


def test_a_sink_that_refuses_everything_does_not_stop_the_senders(open_spool: Any) -> None:
    spool = open_spool(BOUND)

    class Refusing:
        name = "a"

        def deliver(self, signal: Signal, bodies: Any) -> Receipt:
            raise DeliveryRefused("invalid", "HTTP 400")

        def close(self) -> None:
            """There is nothing to close."""

    delivery = Delivery(spool, Refusing())
    delivery.start()
    sent = 0
    for first in range(0, 1500, 20):  # twice what the spool holds
        for future in [append(spool, number) for number in range(first, first + 20)]:
            future.result(10)
            sent += 1
        eventually(lambda: spool.reader.position("a") == spool.reader.last_seq(), "all is refused")
        spool.advance("b", spool.reader.read(spool.reader.position("b"), MIB))
    eventually(within(spool, "a"), "they are within the bound")
    delivery.abandon()
    status = spool.reader.status()
    assert status.appended == sent == status.dead_items["a"] + missed(spool, "a")["dead_letters_full"]


def test_the_sums_are_right_whoever_takes_letters_away_and_in_a_spool_of_before(
    open_spool: Any, tmp_path: Path
) -> None:
    spool = open_spool(0)
    add_dead_letters(spool, "a", range(6))
    with Operator(tmp_path / "spool") as operator:
        operator.drop_dead("a", 1 << 62)
    assert spool.reader.status().dead_bytes == {}
    add_dead_letters(spool, "a", range(6, 10))
    spool.close()
    with closing(sqlite3.connect(tmp_path / "spool" / spool_file.FILE_NAME)) as connection:
        for name in ("comes", "goes", "changes"):
            connection.execute(f"DROP TRIGGER dead_letter_{name}")
        connection.execute("DROP TABLE dead_total")
    spool = open_spool(0)
    assert spool.reader.status().dead_bytes == {"a": 4 * BODY}
    add_dead_letters(spool, "a", range(10, 11))
    assert (spool.reader.status().dead_bytes, spool.reader.status().dead_items) == ({"a": 5 * BODY}, {"a": 15})


def test_metrics_and_the_command_show_the_bytes_and_what_went(open_spool: Any, tmp_path: Path) -> None:
    spool = open_spool(BOUND)
    add_dead_letters(spool, "a", range(50))
    eventually(within(spool, "a"), "they are within the bound")
    exposition = Exposition()
    exposition.watch(spool)
    text = generate_latest(exposition._shared).decode()
    found = {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    assert found["otel_telemetry_spool_dead_letter_bytes", "a"] == BOUND
    assert found["otel_telemetry_spool_dead_letter_bytes", "b"] == 0
    assert found["otel_telemetry_spool_dead_letter_max_bytes",] == BOUND
    assert found["otel_telemetry_spool_missed_items_total", "a", "dead_letters_full"] == 90
    printed = CliRunner().invoke(cli.app, ["spool", "status", "--spool-dir", str(tmp_path / "spool")]).output
    assert "200,000" in printed
    assert "90 dead_letters_full" in printed
