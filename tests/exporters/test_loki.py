"""Log records become Loki's lines, against an HTTP server that records requests and answers as a test wants."""

import base64
import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, KeyValue, KeyValueList
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from pydantic import ValidationError

from otel_telemetry import assemble_gateway, settings
from otel_telemetry.base.errors import ConfigurationError, StoreUnavailable
from otel_telemetry.exporters.loki import labels, lines
from otel_telemetry.exporters.loki.config import LokiSettings
from otel_telemetry.exporters.loki.sink import make_sink
from tests.exporters.otlp_receiver import Answer, Received, Receiver

NOW = time.time_ns()
SECOND = 1_000_000_000


@pytest.fixture
def make(loki: Receiver) -> Iterator[Callable[..., Any]]:
    """Return `make(**settings)`, a sink that pushes to the server."""
    made: list[Any] = []

    def sink(**given: Any) -> Any:
        made.append(make_sink(LokiSettings(**{"endpoint": f"http://127.0.0.1:{loki.port}", **given})))
        return made[-1]

    yield sink
    for each in made:
        each.close()


def value(given: Any) -> AnyValue:
    match given:
        case bool():
            return AnyValue(bool_value=given)
        case int():
            return AnyValue(int_value=given)
        case float():
            return AnyValue(double_value=given)
        case bytes():
            return AnyValue(bytes_value=given)
        case list():
            return AnyValue(array_value=ArrayValue(values=[value(each) for each in given]))
        case dict():
            return AnyValue(kvlist_value=KeyValueList(values=pairs(given)))
        case None:
            return AnyValue()
    return AnyValue(string_value=given)


def pairs(given: dict[str, Any]) -> list[KeyValue]:
    return [KeyValue(key=key, value=value(each)) for key, each in given.items()]


def record(body: Any = "hello", at: int = NOW, **fields: Any) -> LogRecord:
    attributes = pairs(fields.pop("attributes", {}))
    return LogRecord(time_unix_nano=at, body=value(body), attributes=attributes, **fields)


def logs(*records: LogRecord, resource: dict[str, Any] | None = None, scope: str = "") -> bytes:
    request = ExportLogsServiceRequest()
    group = request.resource_logs.add()
    group.resource.attributes.extend(pairs({"service.name": "chat"} if resource is None else resource))
    inner = group.scope_logs.add()
    inner.scope.name = scope
    inner.log_records.extend(records)
    return bytes(request.SerializeToString())


def streams(got: Received) -> list[tuple[dict[str, str], list[Any]]]:
    return [(each["stream"], each["values"]) for each in json.loads(got.body)["streams"]]


def only_line(body: bytes, received_ns: int = 7) -> lines.Line:
    (line,) = lines.read([body], [received_ns])
    return line


# --- what a line is -------------------------------------------------------------------------------------------------
def test_a_record_arrives_with_few_labels_its_text_and_all_the_rest_as_metadata(loki: Receiver, make: Any) -> None:
    resource = {"service.name": "chat", "deployment.environment.name": "prod", "host.name": "h1"}
    one = record(
        "mail sent",
        severity_number=13,
        severity_text="WARN",
        trace_id=bytes(range(16)),
        span_id=bytes(range(8)),
        event_name="mail",
        attributes={"http.route": "/a", "count": 3, "ok": True, "tags": ["x", 1]},
    )
    make().deliver("logs", [logs(one, resource=resource, scope="lib")])
    (got,) = loki.got
    assert got.path == "/loki/api/v1/push"
    assert got.headers["content-type"] == "application/json"
    assert got.headers["content-encoding"] == "gzip"
    ((stream, values),) = streams(got)
    assert stream == {"service_name": "chat", "environment": "prod", "level": "warn"}
    metadata = {
        "trace_id": "000102030405060708090a0b0c0d0e0f",
        "span_id": "0001020304050607",
        "event_name": "mail",
        "severity_text": "WARN",
        "http_route": "/a",
        "count": "3",
        "ok": "true",
        "tags": '["x",1]',
        "host_name": "h1",
        "scope_name": "lib",
    }
    assert values == [[str(NOW), "mail sent", metadata]]


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ("plain", "plain"),
        ({"event": "x", "n": [1, 2.5, None, True], "raw": b"\xff"}, '{"event":"x","n":[1,2.5,null,true],"raw":"/w=="}'),
        ([1, "two"], '[1,"two"]'),
        (7, "7"),
        (False, "false"),
        ("", ""),
    ],
)
def test_a_body_is_its_text_or_compact_json(body: Any, text: str) -> None:
    assert only_line(logs(record(body))).text == text


def test_an_event_without_body_is_shown_by_its_name() -> None:
    assert only_line(logs(LogRecord(time_unix_nano=NOW, event_name="user.login"))).text == "user.login"


@pytest.mark.parametrize(
    ("number", "text", "level"),
    [
        (1, "", "trace"), (4, "", "trace"), (5, "", "debug"), (9, "", "info"), (12, "", "info"), (13, "", "warn"),
        (17, "", "error"), (20, "", "error"), (21, "", "fatal"), (24, "", "fatal"), (9, "ERROR", "info"),
        (0, "Warning", "warn"), (0, " CRITICAL ", "critical"), (0, "Information", "info"), (0, "emerg", "fatal"),
        (0, "", "unknown"), (0, "loud", "unknown"), (99, "", "unknown"), (99, "err", "error"),
    ],
)  # fmt: skip
def test_the_level_is_in_lokis_words(number: int, text: str, level: str) -> None:
    one = LogRecord(severity_text=text)
    one.severity_number = number  # type: ignore[assignment] # enums are open
    assert lines.level(one) == level


def test_the_time_is_that_of_the_record_or_when_it_was_seen_or_now() -> None:
    assert only_line(logs(LogRecord(time_unix_nano=5, observed_time_unix_nano=6))).time_ns == 5
    assert only_line(logs(LogRecord(observed_time_unix_nano=6))).time_ns == 6
    assert only_line(logs(LogRecord()), received_ns=NOW).time_ns == NOW


def test_a_service_without_a_name_is_unknown_and_an_environment_is_only_there_if_somebody_said() -> None:
    assert only_line(logs(record(), resource={})).labels.mapping() == {
        "service_name": "unknown_service",
        "level": "unknown",
    }
    old = only_line(logs(record(), resource={"service.name": "a", "deployment.environment": "test"}))
    assert old.labels == ("a", "test", "unknown")


def test_names_of_metadata_are_what_loki_takes_and_none_gets_lost() -> None:
    given = {"a.b": "1", "a_b": "2", "a-b": "3", "9x": "4", "": "5", "ü": "6"}
    assert only_line(logs(record(attributes=given))).metadata == {
        "a_b": "1", "a_b_": "2", "a_b__": "3", "_9x": "4", "_": "5", "__": "6",
    }  # fmt: skip


def test_what_is_more_metadata_than_loki_takes_is_in_the_line() -> None:
    many = {f"key.{number}": "v" for number in range(200)}
    line = only_line(logs(record("text", attributes=many)))
    fields = json.loads(line.text)
    assert len(line.metadata) == 128
    assert fields["body"] == "text"
    assert {**line.metadata, **{key.replace(".", "_"): "v" for key in fields["attributes"]}}.keys() == {
        key.replace(".", "_") for key in many
    }
    big = only_line(logs(record("text", attributes={"a": "x" * 70_000, "b": "y"})))
    assert big.metadata == {"b": "y"}
    assert json.loads(big.text) == {"body": "text", "attributes": {"a": "x" * 70_000}}


def test_lines_of_a_stream_go_in_the_order_of_their_times(loki: Receiver, make: Any) -> None:
    at = [NOW + 3, NOW + 1, NOW + 2, NOW + 1]
    make().deliver("logs", [logs(*(record(str(n), at=when) for n, when in enumerate(at)))])
    ((_, values),) = streams(loki.got[0])
    assert [text for _, text, _ in values] == ["1", "3", "2", "0"]


def test_batches_go_together_up_to_the_size_of_a_request(loki: Receiver, make: Any) -> None:
    sink = make(max_request_bytes=4096)
    sink.deliver("logs", [logs(record(f"{n:03}" + "x" * 97)) for n in range(100)])
    assert 3 <= len(loki.got) <= 6
    assert all(len(got.body) <= 4600 for got in loki.got)
    texts = [text[:3] for got in loki.got for _, values in streams(got) for _, text, _ in values]
    assert sorted(texts) == [f"{n:03}" for n in range(100)]


# --- labels stay few ------------------------------------------------------------------------------------------------
def test_beyond_the_limit_of_streams_services_become_other_and_keep_their_name_aside(loki: Receiver, make: Any) -> None:
    sink = make(max_streams=3)
    bodies = [logs(record(f"{n}"), resource={"service.name": f"s{n}", "deployment.environment": "e"}) for n in range(5)]
    sink.deliver("logs", bodies)
    sink.deliver("logs", bodies[:1])
    found = [
        (stream["service_name"], stream.get("environment"), values[0][2]) for stream, values in streams(loki.got[0])
    ]
    assert [each[:2] for each in found[:3]] == [("s0", "e"), ("s1", "e"), ("s2", "e")]
    assert found[3] == ("other", None, {"service": "s3", "environment": "e"})
    assert [text for _, text, _ in streams(loki.got[0])[3][1]] == ["3", "4"]
    assert streams(loki.got[1])[0][0]["service_name"] == "s0"


def test_a_stream_that_went_quiet_makes_room_for_another(monkeypatch: pytest.MonkeyPatch) -> None:
    known = labels.Streams(1, "loki")
    first, second = (only_line(logs(record(), resource={"service.name": name})) for name in ("a", "b"))
    known.assign(first)
    monkeypatch.setattr(labels, "_IDLE_SECONDS", 0.0)
    known.assign(second)
    assert second.labels.service_name == "b"


# --- what Loki would not keep ---------------------------------------------------------------------------------------
def records_of(body: bytes) -> list[Any]:
    request = ExportLogsServiceRequest.FromString(body)
    return [r.body.string_value for g in request.resource_logs for s in g.scope_logs for r in s.log_records]


def test_lines_beyond_the_limits_are_handed_back_one_by_one_and_the_others_stored(loki: Receiver, make: Any) -> None:
    week = 168 * 3600 * SECOND
    body = logs(
        record("good"),
        record("ancient", at=NOW - week - 60 * SECOND),
        record("future", at=NOW + 24 * 3600 * SECOND),
        record("long" * 100_000),
        record("also good"),
        record("older", at=1),
        resource={"service.name": "chat", "host.name": "h"},
        scope="lib",
    )
    receipt = make().deliver("logs", [logs(record("first")), body])
    found = {each.reason: each for each in receipt.rejected}
    assert {reason: records_of(each.body) for reason, each in found.items()} == {
        "too_old": ["ancient", "older"],
        "too_new": ["future"],
        "too_long": ["long" * 100_000],
    }
    assert {each.index for each in receipt.rejected} == {1}
    assert found["too_old"].items == 2
    (group,) = ExportLogsServiceRequest.FromString(found["too_old"].body).resource_logs
    assert [each.value.string_value for each in group.resource.attributes] == ["chat", "h"]
    assert group.scope_logs[0].scope.name == "lib"
    texts = [text for _, values in streams(loki.got[0]) for _, text, _ in values]
    assert sorted(texts) == ["also good", "first", "good"]


def test_limits_can_be_switched_off(loki: Receiver, make: Any) -> None:
    sink = make(max_age_hours=0, max_ahead_seconds=0, max_line_bytes=0)
    body = logs(record(at=1), record(at=NOW + 10**15), record("x" * 300_000))
    assert sink.deliver("logs", [body]).rejected == []


def test_nothing_is_sent_where_nothing_is_left(loki: Receiver, make: Any) -> None:
    make().deliver("logs", [logs(record(at=1)), b""])
    assert loki.got == []


def refusing(loki: Receiver, *bad: str) -> None:
    """Let it refuse requests with one of these lines, and not say which."""

    def answer(got: Received) -> Answer:
        found = any(text in bad for _, values in streams(got) for _, text, _ in values)
        return Answer(400, b"something is odd") if found else Answer(204)

    loki.answer = answer


def test_a_line_that_loki_does_not_name_is_found_by_halving(loki: Receiver, make: Any) -> None:
    refusing(loki, "13")
    receipt = make().deliver("logs", [logs(*(record(str(n)) for n in range(64)))])
    (rejected,) = receipt.rejected
    assert (rejected.reason, records_of(rejected.body)) == ("invalid", ["13"])
    taken = {text for got in loki.got for _, values in streams(got) for _, text, _ in values}
    assert taken == {str(n) for n in range(64)}
    assert len(loki.got) <= 13


def test_a_request_that_is_refused_whatever_is_in_it_costs_a_bounded_number_of_tries(loki: Receiver, make: Any) -> None:
    loki.answer = lambda got: Answer(400, b"no")
    receipt = make().deliver("logs", [logs(*(record(str(n)) for n in range(500)))])
    assert sum(each.items for each in receipt.rejected) == 500
    assert len(loki.got) <= 100


@pytest.mark.parametrize("protocol", ["push", "otlp"])
@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_a_fault_of_loki_is_for_later_and_its_wish_is_passed_on(
    loki: Receiver, make: Any, status: int, protocol: str
) -> None:
    loki.answer = lambda got: Answer(status, b"ingestion rate limit exceeded", {"retry-after": "4"})
    with pytest.raises(StoreUnavailable, match="rate limit") as caught:
        make(protocol=protocol).deliver("logs", [logs(record())])
    assert caught.value.retry_after == 4


def test_over_otlp_too_a_line_that_loki_refuses_is_found_and_the_others_stored(loki: Receiver, make: Any) -> None:
    loki.answer = lambda got: Answer(400, b"odd") if "line 13" in records_of(got.body) else Answer(204)
    receipt = make(protocol="otlp").deliver("logs", [logs(*(record(f"line {n}") for n in range(20))), logs(record())])
    (rejected,) = receipt.rejected
    assert (rejected.reason, rejected.index, records_of(rejected.body)) == ("invalid", 0, ["line 13"])
    taken = {text for got in loki.got if "line 13" not in (texts := records_of(got.body)) for text in texts}
    assert taken == {"hello", *(f"line {n}" for n in range(20))} - {"line 13"}


def test_over_otlp_too_a_large_request_goes_in_parts(loki: Receiver, make: Any) -> None:
    body = logs(*(record(f"{n:03}" + "x" * 97) for n in range(100)))
    assert make(protocol="otlp", max_request_bytes=2048).deliver("logs", [body]).rejected == []
    assert len(loki.got) > 4
    assert sorted(text for got in loki.got for text in records_of(got.body)) == records_of(body)


def test_a_loki_that_takes_no_metadata_is_waited_for_and_the_setting_named(loki: Receiver, make: Any) -> None:
    text = b"stream '{}' includes structured metadata, but this feature is disallowed. Please see"
    loki.answer = lambda got: Answer(400, text)
    with pytest.raises(StoreUnavailable, match="allow_structured_metadata"):
        make().deliver("logs", [logs(record())])


# --- who we are -----------------------------------------------------------------------------------------------------
def test_the_tenant_and_the_credentials_go_along_and_are_never_shown(loki: Receiver, make: Any) -> None:
    make(tenant="team-a", username="12345", password="hunter2").deliver("logs", [logs(record())])
    make(bearer_token="hunter2").deliver("logs", [logs(record())])
    first, second = (got.headers for got in loki.got)
    assert first["x-scope-orgid"] == "team-a"
    assert first["authorization"] == "Basic " + base64.b64encode(b"12345:hunter2").decode()
    assert second["authorization"] == "Bearer hunter2"
    shown = LokiSettings(endpoint="http://x", username="12345", password="hunter2")
    assert "hunter2" not in repr(shown) + shown.model_dump_json()


@pytest.mark.parametrize(
    "given",
    [
        {"username": "me"},
        {"username": "me", "password": "a", "bearer_token": "b"},
        {"tenant": "a\nb"},
        {"endpoint": "loki:3100"},
        {"endpoint": "http://loki:3100/loki/api/v1/push"},
        {"endpoint": "http://loki:3100/otlp", "protocol": "otlp"},
    ],
)
def test_settings_that_contradict_each_other_are_refused(given: Any) -> None:
    with pytest.raises(ValidationError):
        LokiSettings(**given)


def test_lokis_otlp_endpoint_gets_the_records_as_they_are(loki: Receiver, make: Any) -> None:
    sink = make(protocol="otlp", tenant="team-a")
    assert sink.name == "loki"
    assert list(sink.signals) == ["logs"]
    sink.deliver("logs", [logs(record())])
    (got,) = loki.got
    assert got.path == "/otlp/v1/logs"
    assert got.body == logs(record())
    assert got.headers["x-scope-orgid"] == "team-a"


def test_the_gateway_has_a_loki_where_one_is_set(tmp_path: Any) -> None:
    database = {"url": f"sqlite:///{tmp_path / 'rows.db'}"}
    without = assemble_gateway.sinks_of(settings.load(request_log=database))
    with_it = assemble_gateway.sinks_of(settings.load(request_log=database, loki={"endpoint": "http://127.0.0.1:3100"}))
    names = []
    for sinks in (without, with_it):
        made = list(sinks)
        names.append([sink.name for sink in made])
        for sink in made:
            sink.close()
    assert names == [["request_log"], ["request_log", "loki"]]


@pytest.mark.parametrize("protocol", ["push", "otlp"])
def test_without_an_endpoint_there_is_no_sink(protocol: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"loki\.endpoint"):
        make_sink(LokiSettings(protocol=protocol))
