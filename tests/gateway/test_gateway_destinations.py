"""What a destination's odd answers do to /health, the log and the counters."""

import logging
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from otel_telemetry.exporters.otlp.config import ForwardSettings
from otel_telemetry.exporters.otlp.sink import ForwardSink
from otel_telemetry.gateway.deliver import refusals
from otel_telemetry.gateway.deliver.delivery import Delivery
from otel_telemetry.gateway.serve.health import Health
from otel_telemetry.gateway.spool.writer import Spool
from tests.exporters.otlp_receiver import Answer, Received, Receiver, http_receiver
from tests.waiting import eventually

MIB = 1 << 20


class Running:
    """A spool that is delivered to one destination."""

    def __init__(self, folder: Path, there: Receiver) -> None:
        self.there = there
        self.spool = Spool(folder, 64 * MIB, 24)
        self.spool.attach(["forward.there"])
        config = ForwardSettings(endpoint=f"http://127.0.0.1:{there.port}", protocol="http")
        self.delivery = Delivery(self.spool, ForwardSink("forward.there", config, "forward.there"))
        self.health = Health(self.spool, None, [self.delivery], {})
        self.delivery.start()

    def send(self, count: int = 1) -> None:
        for _ in range(count):
            self.spool.append("traces", b"", 1).result(10)

    def part(self) -> dict[str, Any]:
        found: dict[str, Any] = self.health.report().details["parts"]["exporters"]["forward.there"]
        return found

    def close(self) -> None:
        self.delivery.abandon()
        eventually(self.delivery.finished)
        self.spool.close()


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    with http_receiver(Receiver()) as there:
        made = Running(tmp_path / "spool", there)
        yield made
        made.close()


@pytest.mark.parametrize(
    "answer",
    [Answer(400, b"no such thing"), Answer(413), Answer(422), Answer(200, bytes.fromhex("0a06080112026e6f"))],
    ids=["400", "413", "422", "partial success of nothing"],
)
def test_a_destination_that_refuses_everything_is_degraded_with_one_line_until_it_takes_something(
    running: Running, caplog: pytest.LogCaptureFixture, answer: Answer
) -> None:
    running.there.answer = lambda got: answer
    for _ in range(5):
        running.send()
        eventually(lambda: running.part()["lag"]["batches"] == 0)
    found = eventually(lambda: (part := running.part())["status"] == "refusing" and part)
    assert "refuses everything" in found["problem"]
    assert running.health.report().status == "degraded"
    assert running.health.report().healthy
    logged = [one for one in caplog.records if "can never take" in one.getMessage()]
    assert len(logged) <= 1
    running.there.answer = lambda got: Answer()
    running.send()
    eventually(lambda: running.health.report().status == "ok")


def test_one_batch_that_is_refused_is_its_own_fault(running: Running) -> None:
    running.there.answer = lambda got: Answer(400)
    running.send()
    eventually(lambda: running.spool.reader.status().dead_letters == 1)
    assert running.health.report().status == "ok"


def test_the_log_says_once_a_minute_how_many_were_set_aside(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    refused = refusals.Refusals("there")
    for number in range(1, 500):
        now[0] += 1
        refused.set_aside(number, "invalid: HTTP 400")
        refused.log_refusals()
    logged = [one.getMessage() for one in caplog.records if one.levelno == logging.ERROR]
    assert len(logged) == 9
    assert "can never take 60 batches, the first is 2 (60 invalid)" in logged[1]


@pytest.mark.parametrize("asked", ["86400", "Wed, 21 Oct 2099 07:28:00 GMT", "1e300", "301"])
@pytest.mark.parametrize("status", [429, 503])
def test_who_asks_for_a_day_is_tried_again_after_minutes_and_health_says_when(
    running: Running, caplog: pytest.LogCaptureFixture, asked: str, status: int
) -> None:
    running.there.answer = lambda got: Answer(status, headers={"retry-after": asked})
    running.send()
    found = eventually(lambda: (part := running.part()).get("next_try") and part)
    until = time.mktime(time.strptime(found["next_try"], "%Y-%m-%dT%H:%M:%SZ")) - time.timezone
    assert 250 < until - time.time() < 340
    assert found["status"] == "waiting"
    eventually(lambda: any(found["next_try"] in one.getMessage() for one in caplog.records), "the time is logged")


ODD: dict[str, Answer] = {
    "html": Answer(200, b"<html>log in</html>", {"content-type": "text/html; charset=utf-8"}),
    "text": Answer(200, b"OK", {"content-type": "text/plain"}),
    "garbage": Answer(200, b"\xff\xfegarbage", {"content-type": "application/x-protobuf"}),
    "not JSON": Answer(200, b"{oops", {"content-type": "application/json"}),
    "JSON of somebody else": Answer(201, b'["created"]', {"content-type": "application/json"}),
}


@pytest.mark.parametrize("answer", ODD.values(), ids=ODD)
def test_a_success_that_is_no_otlp_response_is_a_warning(
    running: Running, caplog: pytest.LogCaptureFixture, answer: Answer
) -> None:
    running.there.answer = lambda got: answer
    running.send()
    found = eventually(lambda: (part := running.part()).get("warning") and part)
    assert "no OTLP response" in found["warning"]
    eventually(lambda: running.part()["lag"]["batches"] == 0)
    assert any("no OTLP response" in one.getMessage() for one in caplog.records)


GOOD: dict[str, Callable[[Received], Answer]] = {
    "empty": lambda got: Answer(),
    "protobuf": lambda got: Answer(200, b"", {"content-type": "application/x-protobuf"}),
    "JSON": lambda got: Answer(200, b"{}", {"content-type": "application/json"}),
    "no content": lambda got: Answer(204, b"", {"content-type": "text/html"}),
}


@pytest.mark.parametrize("answer", GOOD.values(), ids=GOOD)
def test_a_proper_answer_is_no_warning(running: Running, answer: Callable[[Received], Answer]) -> None:
    running.there.answer = answer
    running.send()
    eventually(lambda: running.there.got and running.part()["lag"]["batches"] == 0)
    assert "warning" not in running.part()
