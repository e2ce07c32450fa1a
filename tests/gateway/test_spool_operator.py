"""What operators do to the spool, with the commands that they use, beside a delivery that runs."""

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans
from typer.testing import CliRunner

from otel_telemetry.base.errors import ConfigurationError
from otel_telemetry.commands.spool import spool_app
from otel_telemetry.gateway.deliver.delivery import Delivery
from otel_telemetry.gateway.spool.operator import Operator
from otel_telemetry.gateway.spool.writer import Spool
from tests.waiting import eventually

HOUR_NS = 3600 * 10**9


@pytest.fixture
def command(tmp_path: Path) -> Callable[..., Any]:
    def run(*arguments: str, answer: str = "") -> Any:
        return CliRunner().invoke(spool_app, [*arguments, "--spool-dir", str(tmp_path / "spool")], input=answer)

    return run


@pytest.fixture
def delivering(spool: Spool) -> Iterator[Callable[[Any], Delivery]]:
    started: list[Delivery] = []

    def start(sink: Any) -> Delivery:
        spool.attach([sink.name])
        started.append(Delivery(spool, sink))
        started[-1].start()
        return started[-1]

    yield start
    for delivery in started:
        delivery.abandon()


def append(spool: Spool, *bodies: bytes) -> None:
    for future in [spool.append("traces", body, 2) for body in bodies]:
        future.result(10)


def make_older(spool: Spool, hours: float, *bodies: bytes) -> None:
    """Let batches have come in earlier than they did."""

    def run(connection: Any) -> None:
        for body in bodies:
            connection.execute(
                "UPDATE batch SET received_ns = received_ns - ? WHERE body = ?", (int(hours * HOUR_NS), body)
            )

    spool._change(run)


def test_dead_letters_that_are_replayed_are_delivered_and_leave(
    spool: Spool, command: Any, delivering: Any, make_sink: Any
) -> None:
    sink = make_sink(poison=b"bad")
    delivering(sink)
    append(spool, b"good", b"bad one", b"bad two")
    eventually(lambda: spool.reader.status().dead_letters == 2)
    sink.poison = b"two"
    result = command("replay", "--exporter", "kept", "--dead-letters", "--yes")
    assert "2 batches with 4 items will be delivered to kept again" in result.output
    assert sink.wait_for(2)
    eventually(lambda: spool.reader.status().dead_letters == 1)
    assert sink.bodies == [b"good", b"bad one"]
    status = spool.reader.status()
    assert (status.dead_items, status.lag["kept"].batches) == ({"kept": 2}, 0)
    assert spool.reader.replays("kept", 1 << 20) == [], "what is dead again is not tried for ever"


def test_what_was_delivered_since_a_time_is_delivered_again_in_order(
    spool: Spool, command: Any, delivering: Any, make_sink: Any
) -> None:
    sink = make_sink()
    delivering(sink)
    append(spool, b"old", b"one", b"two")
    make_older(spool, 3, b"old")
    assert sink.wait_for(3)
    eventually(lambda: spool.reader.status().lag["kept"].batches == 0)
    result = command("replay", "--exporter", "kept", "--since", "2h", "--yes")
    assert "2 batches with 4 items" in result.output
    assert sink.wait_for(5)
    eventually(lambda: spool.reader.status().lag["kept"].batches == 0)
    append(spool, b"three")
    assert sink.wait_for(6)
    assert sink.bodies == [b"old", b"one", b"two", b"one", b"two", b"three"]


def test_a_replay_that_is_asked_for_during_a_delivery_is_not_lost(
    spool: Spool, command: Any, delivering: Any, make_sink: Any
) -> None:
    entered, release = threading.Event(), threading.Event()

    def hold(sink: Any, signal: str) -> None:
        if len(sink.bodies) == 1:
            entered.set()
            release.wait(10)

    sink = make_sink(first=hold)
    delivering(sink)
    append(spool, b"one")
    assert sink.wait_for(1)
    eventually(lambda: spool.reader.position("kept") == 1)
    append(spool, b"two")
    assert entered.wait(10)
    assert command("replay", "--exporter", "kept", "--since", "2h", "--yes").exit_code == 0
    release.set()
    assert sink.wait_for(4)
    assert sink.bodies == [b"one", b"two", b"one", b"two"]
    eventually(lambda: spool.reader.status().lag["kept"].items == 0)


def test_what_is_too_old_is_dropped_and_counted_and_the_rest_is_delivered(
    spool: Spool, command: Any, delivering: Any, make_sink: Any
) -> None:
    spool.attach(["kept"])
    append(spool, b"old", b"older", b"new")
    make_older(spool, 30, b"old", b"older")
    result = command("drop", "--exporter", "kept", "--undelivered", "--older-than", "24h", "--yes")
    assert "2 batches with 4 items are dropped for kept" in result.output
    sink = make_sink()
    delivering(sink)
    assert sink.wait_for(1)
    assert sink.bodies == [b"new"]
    assert spool.reader.status().missed == {"kept": {"dropped": 4}}


def test_what_is_dropped_during_a_delivery_is_counted_once(
    spool: Spool, command: Any, delivering: Any, make_sink: Any
) -> None:
    entered, release = threading.Event(), threading.Event()

    def hold(sink: Any, signal: str) -> None:
        entered.set()
        release.wait(10)

    sink = make_sink(first=hold)
    append(spool, b"one", b"two")
    delivering(sink)
    assert entered.wait(10)
    assert command("drop", "--exporter", "kept", "--undelivered", "--yes").exit_code == 0
    release.set()
    assert sink.wait_for(2)
    append(spool, b"three")
    assert sink.wait_for(3)
    eventually(lambda: spool.reader.status().lag["kept"].batches == 0)
    status = spool.reader.status()
    assert (status.appended, status.lag["kept"].items, status.missed) == (6, 0, {"kept": {"dropped": 4}})


def test_dead_letters_are_dropped_only_when_asked_and_counted(spool: Spool, command: Any) -> None:
    spool.attach(["kept"])
    append(spool, b"bad")
    batches = spool.due("kept", 1 << 20, 9)
    spool.advance("kept", batches, [(batches[0], "ValueError: no")])
    assert (
        "1 batches with 2 items would be dropped"
        in command("drop", "--exporter", "kept", "--dead-letters", "--dry-run").output
    )
    assert spool.reader.status().dead_letters == 1
    command("drop", "--exporter", "kept", "--dead-letters", "--yes")
    assert spool.reader.status().dead_letters == 0
    assert spool.reader.status().missed == {"kept": {"dropped": 2}}


@pytest.mark.parametrize(("answer", "left"), [("n\n", 2), ("", 2), ("y\n", 0)])
def test_nothing_is_dropped_without_a_yes(spool: Spool, command: Any, answer: str, left: int) -> None:
    spool.attach(["kept"])
    append(spool, b"one", b"two")
    result = command("drop", "--exporter", "kept", "--undelivered", answer=answer)
    assert "2 batches with 4 items would be dropped for kept" in result.output
    assert spool.reader.status().lag["kept"].batches == left
    assert result.exit_code == (1 if left else 0)


def test_an_exporter_is_forgotten_only_when_nobody_delivers_to_it(spool: Spool, command: Any, tmp_path: Path) -> None:
    spool.attach(["kept", "gone"])
    append(spool, b"one")
    refused = command("drop", "--exporter", "gone", "--forget", "--yes")
    assert isinstance(refused.exception, ConfigurationError)
    assert "gone is delivered to" in str(refused.exception)
    spool.attach(["kept"])
    assert command("drop", "--exporter", "gone", "--forget", "--yes").exit_code == 0
    assert set(spool.reader.status().lag) == {"kept"}
    assert spool.reader.status().detached == []


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("replay", "--exporter", "nobody", "--dead-letters", "--yes"), "the spool has nothing for 'nobody'"),
        (("replay", "--exporter", "kept"), "nothing says what is meant"),
        (("replay", "--exporter", "kept", "--dead-letters", "--since", "2h"), "do not go together"),
        (("drop", "--exporter", "kept", "--undelivered", "--forget"), "--undelivered and --forget do not go together"),
        (("drop", "--exporter", "kept", "--undelivered", "--older-than", "soon"), "'soon' is no age"),
        (("replay", "--exporter", "kept", "--since", "yesterday"), "'yesterday' is no time"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_the_next_step(
    spool: Spool, command: Any, arguments: tuple[str, ...], problem: str
) -> None:
    spool.attach(["kept"])
    error = command(*arguments).exception
    assert isinstance(error, ConfigurationError)
    assert problem in error.problem
    assert error.hint


def test_a_spool_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot be read"):
        Operator(tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_status_shows_what_each_exporter_has_not_got_and_never_will(spool: Spool, command: Any) -> None:
    spool.attach(["kept", "gone"])
    append(spool, b"one", b"two")
    command("drop", "--exporter", "kept", "--undelivered", "--yes")
    spool.attach(["kept"])
    shown = command("status").output
    assert "2 batches" not in shown
    assert "4 dropped" in shown
    assert "gone is not in the settings" in shown
    assert "otel-telemetry spool drop --exporter gone --forget" in shown


def test_undelivered_batches_past_the_age_limit_are_dropped_counted_and_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    spool = Spool(tmp_path / "limited", 64 << 20, 24, max_age_hours=24)
    spool.attach(["away"])
    append(spool, b"old", b"new")
    make_older(spool, 30, b"old")
    eventually(lambda: spool.reader.status().missed == {"away": {"expired": 2}})
    assert [batch.body for batch in spool.due("away", 1 << 20, 9)] == [b"new"]
    assert "1 batches that away had not got were too old" in caplog.text
    spool.close()


def test_without_an_age_limit_undelivered_batches_are_kept_however_old(spool: Spool) -> None:
    spool.attach(["away"])
    append(spool, b"old")
    make_older(spool, 24 * 365, b"old")
    time.sleep(1.2)  # the keeper looks once a second
    assert [batch.body for batch in spool.due("away", 1 << 20, 9)] == [b"old"]


def test_status_names_exporters_whole_and_says_why_letters_are_dead_however_narrow_the_window(
    spool: Spool, command: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    name = "forward.a-collector-far-away"
    spool.attach([name, "kept"])
    append(spool, b"bad", b"worse")
    batches = spool.due(name, 1 << 20, 9)
    spool.advance(name, batches, [(batches[0], "too_old: of 1970"), (batches[1], "too_old: of 1971")])
    spool.attach(["kept"])
    result = command("status").output
    assert f"{name}  " in result
    lines = [line.strip() for line in result.splitlines()]
    dead = lines[lines.index("dead letters") + 4].split()
    assert dead[:4] == [name, "traces", "2", "4"]
    assert "too_old: of 1971" in result


def test_dead_letters_can_be_read_before_anything_is_done_with_them(spool: Spool, command: Any) -> None:
    spool.attach(["kept"])
    good, bad = (ExportTraceServiceRequest(resource_spans=[ResourceSpans(schema_url=url)]) for url in ("good", "bad"))
    append(spool, good.SerializeToString(), bad.SerializeToString())
    batches = spool.due("kept", 1 << 20, 9)
    spool.advance("kept", batches, [(batches[1], "ValueError: no")])
    result = command("cat", "--dead-letters").output
    assert result.count("\n") == 1
    assert '"schemaUrl":"bad"' in result
