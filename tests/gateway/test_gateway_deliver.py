import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from otel_telemetry.base.destinations import Receipt, Rejected, Signal
from otel_telemetry.base.errors import DeliveryRefused, SchemaTooNew, StoreUnavailable
from otel_telemetry.gateway.deliver import circuit
from otel_telemetry.gateway.deliver.delivery import Delivery
from otel_telemetry.gateway.spool.writer import Spool
from tests.waiting import eventually


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


class Destination:
    """A sink that takes `signals`, `max_bytes` at a time; `answers` are its outcomes, one a call, then success."""

    def __init__(self, *answers: Any, signals: Any = ("traces", "logs", "metrics"), max_bytes: int = 1 << 20) -> None:
        self.name = "there"
        self.signals = frozenset(signals)
        self.max_bytes = max_bytes
        self.answers = list(answers)
        self.calls: list[list[bytes]] = []
        self.times: list[float] = []

    def deliver(self, signal: Signal, bodies: Any) -> Any:
        self.times.append(time.monotonic())
        self.calls.append(list(bodies))
        answer = self.answers.pop(0) if self.answers else None
        if callable(answer):
            answer = answer(bodies)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def close(self) -> None:
        pass


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


@pytest.mark.usefixtures("impatient")
def test_what_was_delivered_before_the_sink_went_away_is_not_sent_again_after_a_crash(
    spool: Spool, delivering: Any
) -> None:
    append(spool, b"aaaa", b"bbbb", b"cccc", b"dddd")
    sink = Destination(None, DeliveryRefused("invalid", "odd"), *[StoreUnavailable("away")] * 1000, max_bytes=4)
    (first,) = delivering(sink)
    eventually(lambda: spool.reader.position("there") == 2)
    assert dead_letters(spool) == [("there", b"bbbb", "invalid: odd")]
    first.abandon()
    eventually(first.finished)
    again = Destination(max_bytes=4)
    delivering(again)
    eventually(lambda: spool.reader.position("there") == 4)
    assert again.calls == [[b"cccc"], [b"dddd"]]
    assert len(dead_letters(spool)) == 1


@pytest.mark.usefixtures("impatient")
def test_where_nothing_is_left_to_deliver_nothing_is_waited_for(
    spool: Spool, delivering: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    due, calls = spool.due, []

    def away_at_first(*args: Any) -> Any:
        calls.append(args)
        if len(calls) < 3:
            raise StoreUnavailable("the spool cannot be read")
        return due(*args)

    monkeypatch.setattr(spool, "due", away_at_first)
    (delivery,) = delivering(Destination())
    eventually(lambda: len(calls) > 3)
    assert delivery.problem == ""


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


# --- what a destination may say ---------------------------------------------------------------------------------------
def test_a_sink_is_only_brought_the_signals_that_it_takes(spool: Spool, delivering: Any) -> None:
    sink = Destination(signals=["logs"])
    delivering(sink)
    append(spool, b"trace")
    append(spool, b"log", signal="logs")
    append(spool, b"point", signal="metrics")
    eventually(lambda: spool.reader.position("there") == 3)
    assert sink.calls == [[b"log"]]
    lag = spool.reader.status().lag["there"]
    assert (lag.batches, lag.items, lag.bytes) == (0, 0, 0)


def test_bodies_of_signals_that_a_sink_does_not_take_are_not_read(spool: Spool) -> None:
    spool.attach(["there"])
    append(spool, b"trace")
    append(spool, b"log", signal="logs")
    found = spool.due("there", 1 << 20, 9, {"logs"})
    assert [(batch.signal, batch.body, batch.left_out) for batch in found] == [("traces", b"", 5), ("logs", b"log", 0)]


def test_a_sink_is_brought_no_more_at_once_than_it_takes_but_a_large_batch_alone(spool: Spool, delivering: Any) -> None:
    bodies = [
        letter * size for letter, size in ((b"a", 4000), (b"b", 4000), (b"c", 20_000), (b"d", 3000), (b"e", 3000))
    ]
    append(spool, *bodies)
    sink = Destination(max_bytes=10_000)
    delivering(sink)
    eventually(lambda: spool.reader.position("there") == 5)
    assert sink.calls == [bodies[:2], bodies[2:3], bodies[3:]]


def test_a_destination_is_left_alone_for_as_long_as_it_asks(spool: Spool, delivering: Any) -> None:
    sink = Destination(StoreUnavailable("busy", 1.0))
    append(spool, b"one")
    delivering(sink)
    eventually(lambda: spool.reader.position("there") == 1)
    first, second = sink.times
    assert second - first >= 1.0


@pytest.mark.usefixtures("impatient")
def test_after_failures_in_a_row_one_batch_alone_finds_out_whether_it_is_back(spool: Spool, delivering: Any) -> None:
    away = [StoreUnavailable("HTTP 503")] * 6
    sink = Destination(*away)
    append(spool, b"one", b"two", b"three")
    (delivery,) = delivering(sink)
    eventually(lambda: spool.reader.position("there") == 3)
    assert sink.calls == [[b"one", b"two", b"three"]] * 5 + [[b"one"], [b"one"], [b"two", b"three"]]
    assert delivery.state() == {"circuit": "closed"}


@pytest.mark.usefixtures("impatient")
def test_the_state_of_the_circuit_and_its_reason_are_shown(spool: Spool, delivering: Any) -> None:
    sink = Destination(*[StoreUnavailable("HTTP 503 try later")] * 1000)
    append(spool, b"one")
    (delivery,) = delivering(sink)
    eventually(lambda: delivery.state()["circuit"] == "open")
    assert delivery.problem == "HTTP 503 try later"


@pytest.mark.usefixtures("impatient")
def test_a_destination_that_does_not_finish_in_time_gets_less_at_once(spool: Spool, delivering: Any) -> None:
    def slow(got: Any) -> Any:
        return StoreUnavailable("no answer in time", timed_out=True) if len(got) > 2 else None

    append(spool, *(f"{n}".encode() for n in range(8)))
    sink = Destination(*[slow] * 100)
    delivering(sink)
    eventually(lambda: spool.reader.position("there") == 8)
    taken = [call for call in sink.calls if len(call) <= 2]
    assert taken == [[b"0", b"1"], [b"2", b"3"], [b"4", b"5"], [b"6", b"7"]]


def test_one_bad_batch_of_a_request_is_found_and_set_aside_with_the_reason(spool: Spool, delivering: Any) -> None:
    bodies = [f"b{n:02}".encode() for n in range(32)]
    append(spool, *bodies)
    sink = Destination(*[lambda got: DeliveryRefused("invalid", "HTTP 400 odd") if b"b13" in got else None] * 100)
    delivering(sink)
    eventually(lambda: spool.reader.position("there") == 32)
    assert dead_letters(spool) == [("there", b"b13", "invalid: HTTP 400 odd")]
    taken = [body for call in sink.calls if b"b13" not in call for body in call]
    assert taken == bodies[:13] + bodies[14:]
    assert len(sink.calls) <= 12


@pytest.mark.usefixtures("impatient")
def test_a_doubtful_refusal_that_passes_costs_nothing(spool: Spool, delivering: Any) -> None:
    sink = Destination(*[DeliveryRefused("destination_error", "HTTP 500", doubtful=True)] * 3)
    append(spool, b"one", b"two")
    delivering(sink)
    eventually(lambda: spool.reader.position("there") == 2)
    assert dead_letters(spool) == []


@pytest.mark.usefixtures("impatient")
def test_a_doubtful_refusal_that_stays_is_believed_in_the_end(spool: Spool, delivering: Any) -> None:
    def answer(got: Any) -> Any:
        return DeliveryRefused("destination_error", "HTTP 500", doubtful=True) if b"bad" in got else None

    sink = Destination(*[answer] * 100)
    append(spool, b"one", b"bad", b"two")
    delivering(sink)
    eventually(lambda: spool.reader.position("there") == 3)
    assert dead_letters(spool) == [("there", b"bad", "destination_error: HTTP 500")]


@pytest.mark.usefixtures("impatient")
def test_after_a_refusal_nothing_is_said_to_be_waited_for(spool: Spool, delivering: Any) -> None:
    sink = Destination(*[DeliveryRefused("destination_error", "HTTP 500", doubtful=True)] * 100)
    append(spool, b"bad")
    (delivery,) = delivering(sink)
    eventually(lambda: spool.reader.position("there") == 1)
    assert (delivery.problem, delivery.state()["circuit"]) == ("", "closed")


def test_partial_success_is_counted_and_shown_and_never_sent_again(spool: Spool, delivering: Any) -> None:
    sink = Destination(Receipt([Rejected(1, "partial_success", "too old")], "too old"))
    append(spool, b"one", b"two")
    (delivery,) = delivering(sink)
    eventually(lambda: spool.reader.position("there") == 2)
    assert sink.calls == [[b"one", b"two"]]
    assert delivery.state() == {"circuit": "closed", "rejected": {"partial_success": 1}, "warning": "too old"}
    assert dead_letters(spool) == []


def test_no_more_is_rejected_than_was_sent_whatever_the_destination_says(spool: Spool, delivering: Any) -> None:
    sink = Destination(Receipt([Rejected(2**63 - 1, "partial_success", "")]))
    append(spool, b"one", b"two")
    (delivery,) = delivering(sink)
    eventually(lambda: spool.reader.position("there") == 2)
    assert delivery.state()["rejected"] == {"partial_success": 2}


def test_items_that_a_sink_hands_back_become_a_dead_letter_of_their_own(spool: Spool, delivering: Any) -> None:
    sink = Destination(Receipt([Rejected(2, "too_old", "older than a week", index=1, body=b"just these")]))
    append(spool, b"one", b"two")
    delivering(sink)
    eventually(lambda: spool.reader.position("there") == 2)
    assert dead_letters(spool) == [("there", b"just these", "too_old: older than a week")]
    with spool.reader._reading() as connection:
        assert connection.execute("SELECT seq, items FROM dead_letter").fetchall() == [(2, 2)]


def test_a_pause_grows_is_spread_and_ends() -> None:
    made = circuit.Circuit()
    pauses = [made.failed("away") for _ in range(12)]
    assert all(2.0 ** (n - 3) <= pause <= 2.0 ** (n - 2) for n, pause in enumerate(pauses[:7]))
    assert all(15 <= pause <= 30 for pause in pauses[7:])
    assert len(set(pauses[7:])) > 1
    assert 120 <= made.failed("busy", 120) <= 132
    assert made.failed("busy", 1e9) <= 3960
