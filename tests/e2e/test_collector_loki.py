"""What the Collector's Loki receiver reads of what the Loki exporter pushes, record by record.

It hands on labels, line and time. It reads structured metadata too, and refuses a request where it is malformed, but
drops it: tests/exporters/test_loki_stores.py looks at metadata, in VictoriaLogs.
"""

import json
import sqlite3
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.resources import Resource

from otel_telemetry.base.destinations import Rejected
from otel_telemetry.exporters.loki.client import LineClient
from otel_telemetry.exporters.loki.config import LokiSettings
from otel_telemetry.exporters.loki.exporter import LokiLogRecordExporter
from otel_telemetry.exporters.loki.sink import make_sink
from tests.backends.observability import LokiReceiver
from tests.exporters.gateway_program import Gateway
from tests.exporters.otlp_receiver import Receiver, http_receiver
from tests.waiting import eventually

NOW = time.time_ns()
#: Names and texts that a format could stumble over: quotes, braces, escapes, control characters, scripts, directions.
HOSTILE = (
    'odd "name}', "back\\slash", "naïve 店 😀", "new\nline\r\ttab", '{a="b", c="d"}', '"}, level="fatal', "`tick`",
    "%s %n", "\x00\x01\x1b[31m\x7f", "\u202eright to left\u2066", "\ufeffmark\u2028\u2029\ufffe", "<b>&amp;</b>",
    "\\u0041\\n", " ",
)  # fmt: skip
#: (time, line, labels)
Arrived = tuple[int, str, dict[str, str]]


@dataclass
class Given:
    """A record to push."""

    body: str
    service: str = "shop"
    environment: str = "test"
    severity: int = 17
    level: str = "error"
    time_ns: int = NOW
    attributes: dict[str, str] = field(default_factory=lambda: {"http.route": "/a"})

    def arrived(self) -> Arrived:
        """Return what has to arrive of it."""
        labels = {"service_name": self.service, "environment": self.environment, "level": self.level}
        return self.time_ns, self.body, labels


def request_of(*given: Given) -> bytes:
    """Return an OTLP request with the records, each with a resource of its own."""
    request = ExportLogsServiceRequest()
    for each in given:
        group = request.resource_logs.add()
        for key, text in (("service.name", each.service), ("deployment.environment.name", each.environment)):
            group.resource.attributes.add(key=key).value.string_value = text
        record: Any = group.scope_logs.add(scope={"name": "scope"}).log_records.add(
            time_unix_nano=each.time_ns, trace_id=b"\x01" * 16, span_id=b"\x02" * 8, severity_number=each.severity
        )
        record.body.string_value = each.body
        for key, text in each.attributes.items():
            record.attributes.add(key=key).value.string_value = text
    return request.SerializeToString()


@pytest.fixture(scope="module", name="behind")
def behind_fixture() -> Iterator[Receiver]:
    """Runs the OTLP receiver that the Collector sends on to."""
    with http_receiver(Receiver()) as receiver:
        yield receiver


@pytest.fixture(scope="module", name="collector")
def collector_fixture(behind: Receiver, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LokiReceiver]:
    with LokiReceiver(tmp_path_factory.mktemp("loki-receiver"), f"http://127.0.0.1:{behind.port}") as running:
        yield running


@pytest.fixture(name="loki")
def loki_fixture(collector: LokiReceiver, behind: Receiver) -> str:
    """Names the Collector's URL; what arrives behind it counts from here on."""
    behind.got.clear()
    return collector.url


def arrived(behind: Receiver) -> list[Arrived]:
    """Return all records that came out of the Collector, which answers a push once it has sent it on."""
    requests = [ExportLogsServiceRequest.FromString(body) for body in behind.bodies]
    return [
        (record.time_unix_nano, record.body.string_value, {a.key: a.value.string_value for a in record.attributes})
        for request in requests
        for group in request.resource_logs
        for scope in group.scope_logs
        for record in scope.log_records
    ]


def same(found: list[Arrived], expected: list[Arrived]) -> None:
    """Check that the records are the same, whatever their order."""
    assert sorted(found, key=_in_order) == sorted(expected, key=_in_order)


def _in_order(record: Arrived) -> str:
    return json.dumps(record, sort_keys=True)


def push(loki: str, *bodies: bytes, **settings: Any) -> list[Rejected]:
    sink = make_sink(LokiSettings(endpoint=loki, **settings))
    receipt = sink.deliver("logs", bodies)
    sink.close()
    return list(receipt.rejected) if receipt else []


@pytest.mark.parametrize("compression", ["gzip", "none"])
def test_hostile_services_environments_and_lines_arrive_letter_by_letter(
    loki: str, behind: Receiver, compression: str
) -> None:
    given = [
        *(Given("line", service=text) for text in HOSTILE),
        *(Given("line", environment=text) for text in HOSTILE),
        *(Given(text) for text in (*HOSTILE, "", "long " * 40_000, json.dumps({"of": HOSTILE}))),
    ]
    assert push(loki, request_of(*given), compression=compression) == []
    same(arrived(behind), [each.arrived() for each in given])


def test_levels_and_times_arrive_exactly(loki: str, behind: Receiver) -> None:
    levels = ((1, "trace"), (8, "debug"), (9, "info"), (16, "warn"), (17, "error"), (24, "fatal"), (0, "unknown"))
    given = [Given(level, severity=number, level=level, time_ns=NOW - number) for number, level in levels]
    assert push(loki, request_of(*given)) == []
    same(arrived(behind), [each.arrived() for each in given])


def test_without_service_and_environment_there_is_one_label_less(loki: str, behind: Receiver) -> None:
    assert push(loki, request_of(Given("plain", service="", environment=""), Given("long", service="s" * 300))) == []
    plain = (NOW, "plain", {"service_name": "unknown_service", "level": "error"})
    same(arrived(behind), [plain, Given("long", service="s" * 200).arrived()])


def test_hostile_names_and_values_of_metadata_are_read_and_become_no_labels(loki: str, behind: Receiver) -> None:
    attributes = {name: name for name in ("", "1st", "a.b", "a_b", "level", "service_name", *HOSTILE)}
    given = [Given("one", attributes=attributes), Given("two", attributes={})]
    assert push(loki, request_of(*given)) == []
    same(arrived(behind), [each.arrived() for each in given])


@pytest.mark.parametrize("metadata", [{"number": 1}, {"map": {}}, {"nothing": None}, "text"])
def test_the_receiver_does_look_at_metadata(loki: str, behind: Receiver, metadata: object) -> None:
    body = {"streams": [{"stream": {"service_name": "shop"}, "values": [[str(NOW), "line", metadata]]}]}
    assert httpx.post(f"{loki}/loki/api/v1/push", json=body).status_code == 400
    assert arrived(behind) == []


def test_metadata_beyond_what_a_line_may_have_arrives_in_the_line(loki: str, behind: Receiver) -> None:
    attributes = {f"key.{number}": "v" * 300 for number in range(300)}
    assert push(loki, request_of(Given("text", attributes=attributes))) == []
    ((_, line, labels),) = arrived(behind)
    fields = json.loads(line)
    assert fields["body"] == "text"
    assert fields["attributes"].items() <= (attributes | {"scope_name": "scope"}).items()
    assert len(fields["attributes"]) >= len(attributes) - 128
    assert labels == Given("").arrived()[2]


def test_what_takes_several_requests_arrives_once_each(loki: str, behind: Receiver) -> None:
    given = [Given(f"{number} {'x' * 200}", service=f"s{number % 7}") for number in range(500)]
    bodies = [request_of(*given[:250]), request_of(*given[250:])]
    assert push(loki, *bodies, max_request_bytes=10_000) == []
    assert len(behind.got) > 10
    same(arrived(behind), [each.arrived() for each in given])


def test_services_beyond_the_limit_of_streams_arrive_as_other(loki: str, behind: Receiver) -> None:
    given = [Given(f"of {service}", service=service) for service in ("a", "b", "c")]
    assert push(loki, request_of(*given), max_streams=2) == []
    other = (NOW, "of c", {"service_name": "other", "level": "error"})
    same(arrived(behind), [given[0].arrived(), given[1].arrived(), other])


def test_a_probe_is_taken_and_brings_no_record(loki: str, behind: Receiver) -> None:
    client = LineClient(LokiSettings(endpoint=loki), "loki")
    client.probe()
    client.close()
    assert arrived(behind) == []


def test_the_exporter_of_an_app_pushes_what_its_logger_was_given(loki: str, behind: Receiver) -> None:
    provider = LoggerProvider(Resource({"service.name": HOSTILE[0]}), shutdown_on_exit=False)
    provider.add_log_record_processor(BatchLogRecordProcessor(LokiLogRecordExporter(endpoint=loki)))
    for text in HOSTILE:
        provider.get_logger("app").emit(LogRecord(timestamp=NOW, body=text, severity_number=SeverityNumber.WARN))
    provider.shutdown()
    labels = {"service_name": HOSTILE[0], "level": "warn"}
    same(arrived(behind), [(NOW, text, labels) for text in HOSTILE])


def test_a_gateway_pushes_redacted_lines_and_sets_old_ones_aside(loki: str, behind: Receiver, tmp_path: Path) -> None:
    gateway = Gateway(tmp_path, loki={"endpoint": loki})
    try:
        fine, mail = Given("fine"), Given("mail of jane@example.com", time_ns=NOW + 1)
        ancient = Given("ancient", time_ns=NOW - 30 * 24 * 3600 * 10**9)
        gateway.send(request_of(fine, mail, ancient), "logs")
        eventually(lambda: gateway.metric("dead_lettered_total", exporter="loki", reason="too_old") == 1)
        redacted = Given("mail of [REDACTED_EMAIL]", time_ns=NOW + 1)
        same(arrived(behind), [fine.arrived(), redacted.arrived()])
        with sqlite3.connect(tmp_path / "otel-spool" / "spool.db") as spool:
            ((items, body),) = spool.execute("SELECT items, body FROM dead_letter").fetchall()
        assert items == 1
        assert b"ancient" in body
    finally:
        gateway.stop()
