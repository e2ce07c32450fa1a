"""Lines that Loki names in its answer 400 are handed back one by one; the others of the request it has kept.

The server here answers in the words of Loki 3 (validate.go, stream.go, and the errors of several of its parts in one
text), which is not among what tests build because of its licence.
"""

import datetime as dt
import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord, ResourceLogs, ScopeLogs

from otel_telemetry.base.destinations import Receipt
from otel_telemetry.exporters.loki import complaints
from otel_telemetry.exporters.loki.config import LokiSettings
from otel_telemetry.exporters.loki.lines import Labels, Line, Origin
from otel_telemetry.exporters.loki.sink import make_sink
from tests.exporters.otlp_receiver import Answer, Received, Receiver

HOUR = 3600.0
LIMIT = 256 << 10
NOW = time.time()

#: An entry: labels, seconds, text.
Entry = tuple[dict[str, str], float, str]


def when(seconds: float) -> str:
    return dt.datetime.fromtimestamp(seconds, dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def named(labels: dict[str, str]) -> str:
    """Return a stream as Loki writes it: names in order, values as Go quotes them."""
    pairs = (f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in sorted(labels.items()))
    return "{" + ", ".join(pairs) + "}"


def checked(entry: Entry) -> str:
    """Return what Loki's distributor has against an entry, or ""."""
    labels, at, text = entry
    if at < NOW - 168 * HOUR:
        oldest = when(NOW - 168 * HOUR)
        return (
            f"entry for stream '{named(labels)}' has timestamp too old: {when(at)},"
            f" oldest acceptable timestamp is: {oldest}"
        )
    if at > NOW + 600:
        return f"entry for stream '{named(labels)}' has timestamp too new: {when(at)}"
    if len(text) > LIMIT:
        return (
            f"max entry size '{LIMIT}' bytes exceeded for stream '{named(labels)}'"
            f" while adding an entry with length '{len(text)}' bytes"
        )
    return ""


def behind(entries: list[Entry], oldest: float) -> str:
    """Return what Loki's ingester has against the entries of one stream that are older than `oldest`."""
    late = [entry for entry in entries if entry[1] < oldest]
    ignored = "".join(
        f"entry with timestamp {when(at)} ignored, reason: 'entry too far behind,"
        f" entry timestamp is: {when(at)}, oldest acceptable timestamp is: {when(oldest)}',\n"
        for _, at, _ in late
    )
    return f"{ignored}user 'fake', total ignored: {len(late)} out of {len(entries)} for stream: {named(entries[0][0])}"


def pushed(got: Received) -> list[Entry]:
    streams = json.loads(got.body)["streams"]
    return [(each["stream"], int(value[0]) / 1e9, value[1]) for each in streams for value in each["values"]]


def sent(got: Received) -> list[Entry]:
    """Return the entries of a request of either protocol."""
    if got.path.endswith("/push"):
        return pushed(got)
    request = ExportLogsServiceRequest.FromString(got.body)
    return [
        ({"service_name": group.resource.attributes[0].value.string_value}, r.time_unix_nano / 1e9, r.body.string_value)
        for group in request.resource_logs
        for scope in group.scope_logs
        for r in scope.log_records
    ]


def logs(service: str, *records: tuple[float, str]) -> bytes:
    request = ExportLogsServiceRequest()
    group = request.resource_logs.add()
    group.resource.attributes.add(key="service.name").value.string_value = service
    scope = group.scope_logs.add()
    for at, text in records:
        scope.log_records.add(time_unix_nano=int((NOW + at) * 1e9)).body.string_value = text
    return bytes(request.SerializeToString())


def deliver(loki: Receiver, complaint: Callable[[list[Entry]], str], *bodies: bytes, protocol: str = "push") -> Receipt:
    """Deliver to a Loki that answers what `complaint` has against a request's entries; limits are left to it."""

    def answer(got: Received) -> Answer:
        text = complaint(sent(got))
        return Answer(400, text.encode()) if text else Answer(204)

    loki.answer = answer
    no_limits = {"max_age_hours": 0, "max_ahead_seconds": 0, "max_line_bytes": 0}
    sink = make_sink(LokiSettings(endpoint=f"http://127.0.0.1:{loki.port}", protocol=protocol, **no_limits))
    receipt = sink.deliver("logs", bodies)
    sink.close()
    return receipt or Receipt()


def texts(body: bytes) -> list[str]:
    request = ExportLogsServiceRequest.FromString(body)
    return [r.body.string_value for g in request.resource_logs for s in g.scope_logs for r in s.log_records]


@pytest.mark.parametrize("protocol", ["push", "otlp"])
@pytest.mark.parametrize("service", ["shop", 'odd "name}', "back\\slash"])
def test_lines_that_are_too_old_too_new_or_too_long_are_found_in_one_answer(
    loki: Receiver, protocol: str, service: str
) -> None:
    def answer(entries: list[Entry]) -> str:
        problems = list(filter(None, map(checked, entries)))
        return (
            problems[0] if len(problems) == 1 else f"{len(problems)} errors: {'; '.join(problems)}" if problems else ""
        )

    body = logs(service, (0, "good"), (-720 * HOUR, "ancient"), (2 * HOUR, "future"), (0, "x" * 300_000), (-9, "fine"))
    receipt = deliver(loki, answer, logs(service, (0, "first")), body, protocol=protocol)
    found = {each.reason: (each.items, each.index, texts(each.body)) for each in receipt.rejected}
    assert found == {
        "too_old": (1, 1, ["ancient"]),
        "too_new": (1, 1, ["future"]),
        "too_long": (1, 1, ["x" * 300_000]),
    }
    stored = [text for got in loki.got for _, _, text in sent(got)]
    assert {"good", "fine", "first"} <= set(stored)
    assert len(loki.got) <= 3, "all are named in the first answer"


@pytest.mark.parametrize("service", ["shop", 'odd "name}', "back\\slash", 'a="b", c'])
def test_lines_too_far_behind_their_stream_are_found_and_no_other_stream_is_blamed(
    loki: Receiver, service: str
) -> None:
    def answer(entries: list[Entry]) -> str:
        of_stream = [entry for entry in entries if entry[0]["service_name"] == service]
        return behind(of_stream, NOW - HOUR) if any(at < NOW - HOUR for _, at, _ in of_stream) else ""

    both = [logs("other", (-3 * HOUR, "also late")), logs(service, (-3 * HOUR, "behind"), (-60, "fine"))]
    receipt = deliver(loki, answer, *both)
    (rejected,) = receipt.rejected
    assert (rejected.reason, rejected.items, texts(rejected.body)) == ("too_far_behind", 1, ["behind"])
    assert {"also late", "fine"} <= {text for got in loki.got for _, _, text in sent(got)}


def test_an_answer_in_other_words_still_costs_only_the_line_that_is_refused(loki: Receiver) -> None:
    def answer(entries: list[Entry]) -> str:
        return "stream limit of this tenant" if any("odd" in text for _, _, text in entries) else ""

    lines: list[Any] = [(-each, f"line {each}") for each in range(30)]
    receipt = deliver(loki, answer, logs("shop", *lines, (0, "odd one")))
    assert [(each.reason, texts(each.body)) for each in receipt.rejected] == [("invalid", ["odd one"])]


def test_an_answer_is_read_once_whatever_it_repeats() -> None:
    late = "entry too far behind, entry timestamp is: x oldest acceptable timestamp is: 2024-01-01T00:00:00Z'\n"
    assert list(complaints.blame(late * 400 + "total ignored: 1 out of 1 for stream: {" * 900, [])) == []
    assert complaints.reason(late) == "invalid"


@pytest.mark.parametrize(
    "text",
    [
        "has timestamp too old: x oldest acceptable timestamp is: 9999-99-99T99:99:99Z",
        "has timestamp too new: 0000-00-00T00:00:00Z",
        f"max entry size '{'9' * 5000}' bytes exceeded",
    ],
)
def test_limits_that_are_none_name_no_line(text: str) -> None:
    origin = Origin(0, ResourceLogs(), ScopeLogs(), LogRecord())
    line = Line(Labels("x", "", ""), 1, "z", {}, origin)
    assert list(complaints.blame(text, [line])) == []
