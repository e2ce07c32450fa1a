"""Erasure from the spool: what is the person's goes from batches and dead letters, the rest stays and is delivered."""

from concurrent.futures import wait

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from otel_telemetry.base.errors import StoreUnavailable
from otel_telemetry.gateway.spool import erase, spool_file
from otel_telemetry.gateway.spool.erase import ErasureTarget, SpoolEraser
from otel_telemetry.gateway.spool.reader import SpoolReader
from otel_telemetry.gateway.spool.writer import Spool

JANE, OLE = "k1_aaaaaaaaaaaa", "k1_bbbbbbbbbbbb"
WANTED = ErasureTarget((JANE.encode(),), frozenset({"user.id"}), JANE)


def traces(*spans: tuple[int, str | None], resource: str = "") -> bytes:
    """Return a request with a span for each (trace, user)."""
    message = ExportTraceServiceRequest()
    group = message.resource_spans.add()
    group.resource.attributes.add(key="host.owner").value.string_value = resource
    scope = group.scope_spans.add()
    for number, (trace, user) in enumerate(spans):
        span = scope.spans.add(trace_id=trace.to_bytes(16, "big"), span_id=number.to_bytes(8, "big"), name="s")
        if user:
            span.attributes.add(key="user.id").value.string_value = user
    return message.SerializeToString()


def logs(*records: tuple[int, str]) -> bytes:
    message = ExportLogsServiceRequest()
    scope = message.resource_logs.add().scope_logs.add()
    for trace, text in records:
        scope.log_records.add(trace_id=trace.to_bytes(16, "big")).body.string_value = text
    return message.SerializeToString()


def metrics(*users: str) -> bytes:
    message = ExportMetricsServiceRequest()
    metric = message.resource_metrics.add().scope_metrics.add().metrics.add(name="requests")
    for user in users:
        point = metric.sum.data_points.add(as_int=1)
        point.attributes.add(key="user.id").value.string_value = user
        point.exemplars.add(trace_id=(1).to_bytes(16, "big"), as_int=1)
    return message.SerializeToString()


@pytest.fixture(name="spool")
def spool_fixture(tmp_path):
    spool = Spool(tmp_path / "spool", 1 << 30, 24)
    yield spool
    spool.close()


def append(spool, *batches) -> None:
    wait([spool.append(signal, body, items) for signal, body, items in batches])


def erased(folder, wanted=WANTED):
    with SpoolEraser(folder, wanted) as eraser:
        found = eraser.find()
        done = eraser.erase()
        eraser.rebuild()
    assert found == done
    return done


def bodies(folder) -> list[bytes]:
    with SpoolReader(folder) as reader:
        return [batch.body for batch in reader.batches()]


def no_bytes_of(folder, *names: str) -> bool:
    return not any(name.encode() in path.read_bytes() for path in folder.iterdir() for name in names)


def test_spans_of_traces_that_name_the_person_go_and_the_others_stay_byte_for_byte(spool, tmp_path):
    folder = tmp_path / "spool"
    clean = traces((7, OLE), (8, None))
    append(spool, ("traces", traces((1, JANE), (1, None), (2, OLE)), 3), ("traces", traces((1, None)), 1))
    append(spool, ("traces", clean, 2))
    done = erased(folder)
    assert (done.items, done.batches) == (3, 2)
    first, second, third = bodies(folder)
    assert [span.trace_id[-1] for span in spans(first)] == [2]
    assert spans(second) == []
    assert third == clean
    assert no_bytes_of(folder, JANE)
    assert not no_bytes_of(folder, OLE)


def spans(body: bytes):
    request = ExportTraceServiceRequest.FromString(body)
    return [span for group in request.resource_spans for scope in group.scope_spans for span in scope.spans]


def test_logs_of_the_same_traces_metrics_and_exemplars_go_too(spool, tmp_path):
    folder = tmp_path / "spool"
    append(spool, ("traces", traces((1, JANE)), 1), ("logs", logs((1, "hers"), (2, "his"), (3, f"of {JANE}")), 3))
    append(spool, ("metrics", metrics(JANE, OLE), 2))
    done = erased(folder)
    assert (done.items, done.batches) == (4, 3)
    _, log, metric = bodies(folder)
    assert b"his" in log
    assert b"hers" not in log
    (point,) = (
        ExportMetricsServiceRequest.FromString(metric).resource_metrics[0].scope_metrics[0].metrics[0].sum.data_points
    )
    assert list(point.exemplars) == []
    assert no_bytes_of(folder, JANE, "hers")


def test_what_a_resource_or_an_unknown_field_says_takes_all_of_it_along(spool, tmp_path):
    unknown = b"\xfa\x3e\x0f" + JANE.encode()  # field 1007, bytes
    append(spool, ("traces", traces((1, None), resource=JANE), 1), ("traces", traces((2, None)) + unknown, 1))
    assert erased(tmp_path / "spool").batches == 2
    assert [spans(body) for body in bodies(tmp_path / "spool")] == [[], []]
    assert no_bytes_of(tmp_path / "spool", JANE)


def test_a_value_counts_under_the_keys_of_such_ids_only(spool, tmp_path):
    append(spool, ("traces", traces((1, "42"), (2, "421")), 2), ("logs", logs((3, "42")), 1))
    done = erased(tmp_path / "spool", ErasureTarget((), frozenset({"user.id"}), "42"))
    assert (done.items, done.batches) == (1, 1)


def test_traces_that_the_database_knows_go_and_mixed_ones_stay(spool, tmp_path):
    append(spool, ("traces", traces((1, None), (2, JANE), (2, None)), 3))
    known, mixed = (frozenset({number.to_bytes(16, "big")}) for number in (1, 2))
    done = erased(tmp_path / "spool", ErasureTarget((JANE.encode(),), frozenset(), JANE, known, mixed))
    assert done.items == 2
    (left,) = bodies(tmp_path / "spool")
    assert [span.trace_id[-1] for span in spans(left)] == [2]


def test_what_sinks_have_still_before_them_is_counted_on_and_comes_to_nothing(spool, tmp_path):
    spool.attach(["one", "two"])
    append(spool, *[("traces", traces((n, JANE if n % 2 else OLE), (n + 100, None)), 2) for n in range(1, 11)])
    batches = spool.reader.read(0, 1 << 20, 4)
    spool.advance("one", batches)
    erased(tmp_path / "spool")
    lag = spool.reader.status().lag
    assert (lag["one"].items, lag["two"].items) == (9, 15)
    assert lag["two"].bytes == sum(map(len, bodies(tmp_path / "spool")))
    for name in ("one", "two"):
        spool.advance(name, spool.reader.read(spool.reader.position(name), 1 << 20, 100))
    lag = spool.reader.status().lag
    assert [(each.items, each.bytes, each.batches) for each in lag.values()] == [(0, 0, 0)] * 2
    append(spool, ("traces", traces((1, OLE)), 1))
    assert spool.reader.status().lag["one"].items == 1


def test_dead_letters_lose_what_is_the_persons_and_empty_ones_go(spool, tmp_path):
    spool.attach(["one"])
    append(spool, ("traces", traces((1, JANE)), 1), ("traces", traces((2, JANE), (3, OLE)), 2))
    batches = spool.reader.read(0, 1 << 20)
    spool.advance("one", batches, [(batch, "refused") for batch in batches])
    done = erased(tmp_path / "spool")
    assert (done.dead_letters, done.batches, done.items) == (2, 2, 4)
    assert spool.reader.status().dead_letters == 1
    assert no_bytes_of(tmp_path / "spool", JANE)


def test_batches_that_were_trimmed_before_leave_no_bytes(spool, tmp_path):
    append(spool, *[("traces", traces((n, JANE)), 1) for n in range(1, 20)])
    with SpoolEraser(tmp_path / "spool", WANTED) as eraser:
        eraser._connection.execute("DELETE FROM batch")
        assert not no_bytes_of(tmp_path / "spool", JANE)
        eraser.rebuild()
    assert no_bytes_of(tmp_path / "spool", JANE)


def test_a_spool_that_is_being_read_is_said_to_be_busy(spool, tmp_path, monkeypatch):
    monkeypatch.setattr(erase, "_PATIENCE", 0.1)
    append(spool, ("traces", traces((1, JANE)), 1))
    reader = spool_file.open_reader(tmp_path / "spool")
    reader.execute("BEGIN")
    reader.execute("SELECT * FROM batch").fetchone()
    with SpoolEraser(tmp_path / "spool", WANTED) as eraser:
        eraser.erase()
        with pytest.raises(StoreUnavailable, match="stop the gateway"):
            eraser.rebuild()
        reader.close()
        eraser.rebuild()
    assert no_bytes_of(tmp_path / "spool", JANE)


def test_it_ends_though_a_gateway_writes_faster_than_it_reads(spool, tmp_path):
    append(spool, *[("traces", traces((n, JANE), (1_000 + n, OLE)), 2) for n in range(20)])
    written = iter(range(50_000, 90_000))

    def write_more(_):
        number = next(written)
        append(spool, ("traces", traces((number, JANE), resource="late"), 1))

    with SpoolEraser(tmp_path / "spool", WANTED) as eraser:
        assert eraser.find(write_more).items == 40  # with what came while it looked for traces
        assert eraser.erase().items == 80  # and while it counted


def test_ids_of_traces_are_found_at_any_place(spool, tmp_path):
    many = frozenset(number.to_bytes(16, "big") for number in range(100_000, 102_000))
    beside = b"\x10" * 40
    append(
        spool,
        ("traces", traces((100_500, None), (7, None), resource=beside.decode()), 2),
        ("logs", logs((101_999, "x")), 1),
    )
    assert erased(tmp_path / "spool", ErasureTarget(WANTED.names, WANTED.keys, WANTED.value, many)).items == 2
