"""What header fields can cost the gRPC listener before a call was accepted: so many of a connection, and no more."""

import asyncio
import contextlib
import struct
from collections.abc import AsyncIterator, Mapping
from typing import Any

import h2.events
import pytest
from h2.errors import ErrorCodes
from h2.settings import SettingCodes
from hpack import Decoder, HPACKDecodingError, OversizedHeaderListError
from hyperframe.frame import AltSvcFrame, DataFrame, HeadersFrame, RstStreamFrame, WindowUpdateFrame
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from otel_telemetry.base import metrics
from otel_telemetry.gateway.receive import http2_fields
from otel_telemetry.gateway.receive.http2 import Connection
from otel_telemetry.gateway.receive.http2_fields import UNTRUSTED_BYTES, FieldDecoder
from tests.gateway.raw_http2 import Client, message

UNAUTHENTICATED = "16"
COOKIE = b"\xa0"  # `cookie` without a value, of HPACK's static table
COOKIE_BYTES = len("cookie") + 32
RESIZES = (b"\x20", b"\x3f\xe1\x1f")  # to 0; to 4096


@pytest.fixture(name="running")
async def running_with_a_key(serving: Any) -> AsyncIterator[Any]:
    async with serving(api_keys=("ingest:secret",)) as running:
        running.clients = []
        yield running
        for writer in running.clients:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()


@pytest.fixture
def reader(monkeypatch: pytest.MonkeyPatch) -> InMemoryMetricReader:
    made = InMemoryMetricReader()
    meter = MeterProvider([made], shutdown_on_exit=False).get_meter("test")
    monkeypatch.setattr(metrics, "connections_closed", meter.create_counter("closed"))
    return made


def closed(reader: InMemoryMetricReader) -> list[tuple[int, dict[str, str]]]:
    data: Any = reader.get_metrics_data()
    (metric,) = data.resource_metrics[0].scope_metrics[0].metrics
    return [(point.value, dict(point.attributes)) for point in metric.data.data_points]


async def until_sent_away(client: Client) -> tuple[list[str], int]:
    """Return the statuses of the calls that were answered, in their order, and the code of the end."""
    data = b""
    while more := await client.reader.read(1 << 16):
        data += more
    statuses, code = [], -1
    for event in client.h2.receive_data(data):
        if isinstance(event, h2.events.ResponseReceived):
            fields: Any = event.headers
            statuses.append(dict(fields)["grpc-status"])
        elif isinstance(event, h2.events.ConnectionTerminated):
            assert event.error_code is not None
            code = event.error_code
    return statuses, code


@pytest.mark.parametrize(("calls", "padding", "answered"), [(4, 12_000, 2), (1, 36_000, 0), (60, 1_000, 23)])
async def test_who_has_no_key_gets_so_many_header_fields_decoded_and_is_sent_away(
    running: Any, caplog: Any, calls: int, padding: int, answered: int
) -> None:
    for _ in range(2):
        client = await Client.connect(running)
        for _ in range(calls):
            client.begin(**{"x-padding": "e" * padding})
        await client.flush()
        statuses, code = await until_sent_away(client)
        assert code == ErrorCodes.ENHANCE_YOUR_CALM
        assert len(statuses) == answered
        assert set(statuses) <= {UNAUTHENTICATED}
    assert caplog.text.count("too many header fields before a call was accepted") == 1


async def test_a_refused_call_counts_as_ten_control_frames_until_one_was_accepted(
    running: Any, monkeypatch: Any, reader: Any
) -> None:
    monkeypatch.setattr(http2_fields, "UNTRUSTED_BYTES", 1 << 30)
    strange, known = await Client.connect(running), await Client.connect(running)
    first = known.begin(**{"x-api-key": "secret"})
    await known.send(first, message(b""))
    assert await known.answered(first) == ["0"]
    for _ in range(101):
        known.h2.end_stream(stream := known.begin())
        await known.flush()
        assert await known.answered(stream) == [UNAUTHENTICATED]
    for _ in range(85):  # settings were control frames, too, and so is the end of each request, which comes late
        strange.h2.end_stream(stream := strange.begin())
        await strange.flush()
        assert await strange.answered(stream) == [UNAUTHENTICATED]
    for _ in range(16):
        strange.h2.end_stream(strange.begin())
    await strange.flush()
    assert (await until_sent_away(strange))[1] == ErrorCodes.ENHANCE_YOUR_CALM
    assert closed(reader) == [(1, {"listener": "grpc", "reason": "control_frames"})]


async def test_control_frames_are_counted_before_more_of_them_are_answered(running: Any, reader: Any) -> None:
    client = await Client.connect(running)
    for _ in range(2000):
        client.h2.ping(b"12345678")
    await client.flush()
    data = b""
    while more := await client.reader.read(1 << 16):
        data += more
    events = client.h2.receive_data(data)
    assert sum(isinstance(event, h2.events.PingAckReceived) for event in events) <= 100
    assert isinstance(events[-1], h2.events.ConnectionTerminated)
    assert closed(reader) == [(1, {"listener": "grpc", "reason": "control_frames"})]


async def test_frames_that_nobody_reports_are_counted(running: Any, reader: Any) -> None:
    client = await Client.connect(running)
    client.writer.write(AltSvcFrame(0, b"", b"h2").serialize() * 1100)
    with contextlib.suppress(ConnectionError):  # what was not read any more
        while await asyncio.wait_for(client.reader.read(1 << 16), 10):
            pass
    assert closed(reader) == [(1, {"listener": "grpc", "reason": "control_frames"})]


def settings_frame(settings: Mapping[int, int]) -> bytes:
    """Return a SETTINGS frame; hyperframe writes the lower half of an identifier only."""
    entries = b"".join(struct.pack(">HI", *setting) for setting in settings.items())
    return len(entries).to_bytes(3) + b"\x04" + bytes(5) + entries


async def test_settings_in_great_number_end_the_connection(running: Any, reader: Any) -> None:
    client = await Client.connect(running)
    client.writer.write(settings_frame(dict.fromkeys(range(16, 10_000), 1)))
    with contextlib.suppress(ConnectionError):
        while await asyncio.wait_for(client.reader.read(1 << 16), 10):
            pass
    assert closed(reader) == [(1, {"listener": "grpc", "reason": "control_frames"})]


async def test_settings_that_mean_nothing_here_are_not_kept(running: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Connection] = []
    real = Connection.connection_made

    def remembered(connection: Connection, transport: Any) -> None:
        made.append(connection)
        real(connection, transport)

    monkeypatch.setattr(Connection, "connection_made", remembered)
    client = await Client.connect(running)
    for first in range(16, 1600, 16):
        settings = dict.fromkeys(range(first, first + 16), 1) | {SettingCodes.INITIAL_WINDOW_SIZE: 1 << 16 | first}
        client.writer.write(settings_frame(settings))
        client.h2.end_stream(stream := client.begin(**{"x-api-key": "secret"}))
        await client.flush()
        await client.answered(stream)
    (connection,) = made
    kept = connection._h2.remote_settings
    assert set(kept) <= set(SettingCodes)
    assert kept.initial_window_size == 1 << 16 | 1584


@pytest.mark.parametrize("key", ["", "secret"])
@pytest.mark.parametrize(
    "stray",
    [
        DataFrame(1, b"x"),
        RstStreamFrame(1),
        WindowUpdateFrame(1, window_increment=1),
        HeadersFrame(1, b"\x88", flags=["END_HEADERS"]),
    ],
    ids=lambda frame: type(frame).__name__,
)
async def test_frames_of_a_call_that_is_over_are_counted(
    running: Any, monkeypatch: Any, reader: Any, stray: Any, key: str
) -> None:
    monkeypatch.setattr(http2_fields, "UNTRUSTED_BYTES", 1 << 30)
    client = await Client.connect(running)
    for given in ("", key):
        client.h2.end_stream(stream := client.begin(**{"x-api-key": given}))
        await client.flush()
        await client.answered(stream)
    client.writer.write(stray.serialize() * 1100)
    with contextlib.suppress(ConnectionError):  # what was not read any more
        while await asyncio.wait_for(client.reader.read(1 << 16), 10):
            pass
    assert closed(reader) == [(1, {"listener": "grpc", "reason": "control_frames"})]


async def test_what_was_under_way_to_a_refused_call_is_no_attack(running: Any) -> None:
    client = await Client.connect(running)
    client.h2.end_stream(stream := client.begin())
    await client.flush()
    assert await client.answered(stream) == [UNAUTHENTICATED]
    client.writer.write(DataFrame(stream, b"x" * 16_384).serialize() * 1200)
    await client.writer.drain()
    client.h2.end_stream(stream := client.begin(**{"x-api-key": "secret"}))
    await client.flush()
    assert await client.answered(stream) == ["3"]  # it has no message


async def test_a_client_does_not_choose_how_large_the_table_of_our_fields_is(running: Any) -> None:
    client = await Client.connect(running)
    client.h2.update_settings({SettingCodes.HEADER_TABLE_SIZE: 1 << 30})
    await client.flush()
    for _ in range(2):
        client.h2.end_stream(stream := client.begin(**{"x-api-key": "secret"}))
        await client.flush()
        assert await client.answered(stream) == ["3"]
    assert client.h2.decoder.header_table_size == 4096


def test_a_smaller_table_is_announced_as_the_client_asked() -> None:
    encoder, decoder = http2_fields.FieldEncoder(), Decoder()
    for size, expected in ((1 << 30, 4096), (100, 100), (1 << 20, 4096)):
        encoder.header_table_size = size
        decoder.max_allowed_table_size = size
        assert encoder.header_table_size == expected
        fields = [(b"grpc-message", b"%d" % size)] * 3
        assert [tuple(one) for one in decoder.decode(encoder.encode(fields), raw=True)] == fields
        assert decoder.header_table_size == expected


async def test_of_many_who_have_no_key_a_few_are_heard_at_a_time(running: Any, monkeypatch: Any) -> None:
    decoded = []
    decode = FieldDecoder.decode

    def counted(self: Any, data: bytes, raw: bool = False) -> Any:
        decoded.append(len(data))
        return decode(self, data, raw)

    monkeypatch.setattr(FieldDecoder, "decode", counted)
    clients = [await Client.connect(running) for _ in range(30)]
    for client in clients:
        stream = client.begin(**{"x-padding": "e" * 12_000})
        client.writer.write(client.h2.data_to_send())
    rounds: list[int] = []
    async with asyncio.timeout(10):
        while sum(rounds) < len(clients):
            before = len(decoded)
            await asyncio.sleep(0)
            rounds.append(len(decoded) - before)
    assert max(rounds) <= 3
    assert [await client.answered(stream) for client in clients] == [[UNAUTHENTICATED]] * len(clients)


async def test_who_is_sent_away_is_counted(running: Any, reader: Any) -> None:
    client = await Client.connect(running)
    client.begin(**{"x-padding": "e" * 36_000})
    await client.flush()
    await until_sent_away(client)
    assert closed(reader) == [(1, {"listener": "grpc", "reason": "header_fields"})]


@pytest.mark.parametrize("key", ["Bearer ", " Bearer\t", ""])
async def test_blanks_around_a_value_do_not_end_the_connection(running: Any, key: str) -> None:
    """A variable that is not set leaves one; other calls on the connection have a key."""
    client = await Client.connect(running)
    client.h2.config.normalize_outbound_headers = client.h2.config.validate_outbound_headers = False
    streams = [client.begin(authorization=key), client.begin(**{"x-api-key": " secret "})]
    for stream in streams:
        client.h2.send_data(stream, message(b""), end_stream=True)
    await client.flush()
    assert await client.answered(*streams) == [UNAUTHENTICATED, "0"]


async def test_who_has_a_key_may_send_more_also_all_at_once(running: Any) -> None:
    client = await Client.connect(running)
    streams = [client.begin(**{"x-api-key": "secret", "x-padding": "e" * 12_000}) for _ in range(12)]
    for stream in streams:
        client.h2.send_data(stream, message(b""), end_stream=True)
    await client.flush()
    assert await client.answered(*streams) == ["0"] * 12


def test_a_field_of_one_byte_counts_as_what_it_stands_for() -> None:
    most = UNTRUSTED_BYTES // COOKIE_BYTES
    fields = FieldDecoder()
    assert len(list(fields.decode(COOKIE * (most - 1), raw=True))) == most - 1
    fields.decode(COOKIE, raw=True)
    with pytest.raises(OversizedHeaderListError):
        fields.decode(COOKIE, raw=True)


def test_trust_bounds_single_calls_only() -> None:
    fields = FieldDecoder()
    fields.trust()
    for _ in range(4):
        fields.decode(COOKIE * 1000, raw=True)
    with pytest.raises(OversizedHeaderListError):
        fields.decode(COOKIE * 2000, raw=True)


@pytest.mark.parametrize("resize", RESIZES)
def test_a_block_changes_the_size_of_its_table_twice_at_most(resize: bytes) -> None:
    assert len(list(FieldDecoder().decode(resize * 2 + COOKIE, raw=True))) == 1
    with pytest.raises(HPACKDecodingError):
        FieldDecoder().decode(resize * 3 + COOKIE, raw=True)
