import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from otel_telemetry.errors import SchemaTooNew
from otel_telemetry.gateway import circuit
from otel_telemetry.gateway.deliver import Delivery
from otel_telemetry.gateway.otlp_json import Signal
from otel_telemetry.gateway.spool import Spool


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    made = Spool(tmp_path / "spool", 64 << 20, 24)
    yield made
    made.close()


@pytest.fixture
def delivering(spool: Spool) -> Iterator[Any]:
    """Return `delivering(sink, ...)`, which starts delivery to each sink and returns the deliveries."""
    started: list[Delivery] = []

    def start(*sinks: Any) -> Any:
        spool.attach([sink.name for sink in sinks])
        for sink in sinks:
            delivery = Delivery(spool, sink)
            delivery.start()
            started.append(delivery)
        return started

    yield start
    for delivery in started:
        delivery.abandon()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(circuit, "_FIRST_PAUSE", 0.01)
    monkeypatch.setattr(circuit, "_LONGEST_PAUSE", 0.05)


def append(spool: Spool, *bodies: bytes, signal: Signal = "traces") -> Any:
    for future in [spool.append(signal, body, 1) for body in bodies]:
        future.result(10)


def eventually(check: Callable[[], Any], seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < end, "it never became true"
        time.sleep(0.005)


def dead_letters(spool: Spool) -> Any:
    with spool.reader._reading() as connection:
        return connection.execute("SELECT sink, body, reason FROM dead_letter ORDER BY id").fetchall()


def test_every_sink_gets_every_batch_in_order(spool: Spool, delivering: Any, make_sink: Any) -> None:
    one, two = make_sink("one"), make_sink("two")
    delivering(one, two)
    bodies = [f"{n}".encode() for n in range(600)]
    append(spool, *bodies)
    assert one.wait_for(600)
    assert two.wait_for(600)
    assert one.bodies == two.bodies == bodies


def test_a_chunk_goes_out_by_signal(spool: Spool, delivering: Any, make_sink: Any) -> None:
    for signal in ("traces", "logs", "traces", "logs"):
        append(spool, signal.encode(), signal=signal)
    sink = make_sink()
    delivering(sink)
    assert sink.wait_for(4)
    assert sink.calls == [("traces", [b"traces"] * 2), ("logs", [b"logs"] * 2)]


def test_the_cursor_moves_only_after_the_sink_returned(spool: Spool, delivering: Any, make_sink: Any) -> None:
    release, entered = threading.Event(), threading.Event()

    def hold(sink: Any, signal: Signal) -> Any:
        entered.set()
        release.wait(10)

    sink = make_sink(first=hold)
    delivering(sink)
    append(spool, b"one")
    assert entered.wait(10)
    assert spool.reader.position("kept") == 0
    release.set()
    eventually(lambda: spool.reader.position("kept") == 1)


@pytest.mark.usefixtures("impatient")
def test_a_sink_that_is_away_gets_everything_once_it_is_back(spool: Spool, delivering: Any, make_sink: Any) -> None:
    sink = make_sink()
    sink.away = True
    (delivery,) = delivering(sink)
    append(spool, b"one", b"two")
    eventually(lambda: delivery.problem)
    assert spool.reader.status().lag["kept"].batches == 2
    sink.away = False
    assert sink.wait_for(2)
    assert sink.bodies == [b"one", b"two"]
    eventually(lambda: not delivery.problem)
    assert dead_letters(spool) == []


@pytest.mark.usefixtures("impatient")
def test_a_database_of_a_newer_version_is_waited_for_like_one_that_is_away(
    spool: Spool, delivering: Any, make_sink: Any
) -> None:
    tries = []

    def newer_at_first(sink: Any, signal: Signal) -> None:
        tries.append(signal)
        if len(tries) < 3:
            raise SchemaTooNew("version 9")

    append(spool, b"one")
    sink = make_sink(first=newer_at_first)
    delivering(sink)
    assert sink.wait_for(1)
    assert dead_letters(spool) == []


@pytest.mark.usefixtures("impatient")
def test_a_sink_that_is_away_does_not_hold_up_another(spool: Spool, delivering: Any, make_sink: Any) -> None:
    away, there = make_sink("away"), make_sink("there")
    away.away = True
    delivering(away, there)
    append(spool, b"one")
    assert there.wait_for(1)
    assert away.bodies == []


def test_a_poisonous_batch_is_set_aside_and_its_neighbours_are_delivered(
    spool: Spool, delivering: Any, make_sink: Any
) -> None:
    bodies = [f"b{n:02}".encode() for n in range(40)]
    append(spool, *bodies)
    sink = make_sink(poison=b"b17")
    delivering(sink)
    assert sink.wait_for(39)
    eventually(lambda: spool.reader.position("kept") == 40)
    assert sink.bodies == bodies[:17] + bodies[18:]
    assert dead_letters(spool) == [("kept", b"b17", "ValueError: this one never")]


@pytest.mark.usefixtures("impatient")
def test_what_was_delivered_of_a_chunk_is_not_sent_again_when_the_rest_has_to_wait(
    spool: Spool, delivering: Any, make_sink: Any
) -> None:
    tries: list[str] = []

    def logs_away_at_first(sink: Any, signal: Signal) -> Any:
        tries.append(signal)
        sink.away = signal == "logs" and tries.count("logs") < 3

    append(spool, b"trace")
    append(spool, b"log", signal="logs")
    sink = make_sink(first=logs_away_at_first)
    delivering(sink)
    assert sink.wait_for(2)
    assert sink.calls == [("traces", [b"trace"]), ("logs", [b"log"])]


def test_stopping_delivers_what_is_left_first(spool: Spool, delivering: Any, make_sink: Any) -> None:
    sink = make_sink()
    (delivery,) = delivering(sink)
    append(spool, *[f"{n}".encode() for n in range(1000)])
    delivery.stop()
    eventually(delivery.finished)
    assert len(sink.bodies) == 1000
    assert sink.closed


def test_stopping_leaves_to_the_spool_what_a_sink_cannot_take_now(
    spool: Spool, delivering: Any, make_sink: Any
) -> None:
    sink = make_sink()
    sink.away = True
    (delivery,) = delivering(sink)
    append(spool, b"one")
    delivery.stop()
    eventually(delivery.finished)
    assert spool.reader.status().lag["kept"].batches == 1


def test_a_crash_between_storing_and_moving_on_repeats_the_chunk(spool: Spool, delivering: Any, make_sink: Any) -> None:
    append(spool, b"one")
    sink = make_sink()
    spool.attach([sink.name])
    sink.deliver("traces", [b"one"])  # what a process did that was killed before it could move its cursor
    delivering(sink)
    assert sink.wait_for(2)
    assert sink.bodies == [b"one", b"one"]


def test_delivery_goes_on_when_something_unforeseen_happens_on_the_way(
    spool: Spool, delivering: Any, make_sink: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(circuit, "_FIRST_PAUSE", 0.01)
    position = spool.reader.position
    calls: list[str] = []

    def stumbling(sink: str) -> int:
        calls.append(sink)
        if len(calls) == 1:
            raise RuntimeError("a fault of ours")
        return position(sink)

    monkeypatch.setattr(spool.reader, "position", stumbling)
    append(spool, b"one")
    sink = make_sink()
    delivering(sink)
    assert sink.wait_for(1)
    assert "stumbled" in caplog.text
