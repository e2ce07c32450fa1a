"""OTLP/gRPC: the three Export services, on our own HTTP/2, so that nothing is unpacked before it is allowed.

gRPC's own server receives and unpacks a whole message before it calls any of our code, and it has no limit over all
calls. Here the key is checked when the header fields have arrived; each byte of a message is charged to the memory that
all requests share when it arrives, and we unpack compressed data ourselves, within the same limits.

Limits and codes follow "OTLP Specification, OTLP/gRPC": RESOURCE_EXHAUSTED above the size limit, INVALID_ARGUMENT with
BadRequest for malformed requests, UNAVAILABLE with RetryInfo under overload, UNIMPLEMENTED for unknown services and
encodings. The wire format is that of "gRPC over HTTP2".
"""

import asyncio
import base64
import io
import logging
import math
import re
import struct
import time
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote

from google.protobuf.message import Message
from google.rpc import code_pb2
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from otel_telemetry.base.destinations import Signal
from otel_telemetry.base.errors import MalformedTelemetry, TelemetryError
from otel_telemetry.base.otlp_json import Decoded
from otel_telemetry.gateway.receive import status, unpack
from otel_telemetry.gateway.receive.auth import Keys
from otel_telemetry.gateway.receive.callers import Caller
from otel_telemetry.gateway.receive.cleaning import Prepare
from otel_telemetry.gateway.receive.http2 import Stream
from otel_telemetry.gateway.receive.http2_call import Call, Headers
from otel_telemetry.gateway.receive.http2_server import Http2Server
from otel_telemetry.gateway.receive.receiver import Accepted, Receiver
from otel_telemetry.gateway.receive.status import Refusal, RefusedError

_METHODS: Final[dict[str, Signal]] = {
    "/opentelemetry.proto.collector.trace.v1.TraceService/Export": "traces",
    "/opentelemetry.proto.collector.logs.v1.LogsService/Export": "logs",
    "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export": "metrics",
}
_RESPONSES: Final[dict[Signal, type[Message]]] = {
    "traces": ExportTraceServiceResponse,
    "logs": ExportLogsServiceResponse,
    "metrics": ExportMetricsServiceResponse,
}
REJECTED_FIELD: Final[dict[Signal, str]] = {
    "traces": "rejected_spans",
    "logs": "rejected_log_records",
    "metrics": "rejected_data_points",
}
_PREFIX: Final = struct.Struct(">BI")  # whether the message is packed, and its length
_READ_SECONDS: Final = 30.0
_HEADER_BYTES: Final = 16 << 10
_ENCODINGS: Final = ("identity", "gzip", "deflate")
_TIMEOUT: Final = re.compile("([0-9]{1,8})([HMSmun])")
_UNITS: Final = {"H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}
_MOST_SECONDS: Final = 86_400.0
_LATE: Final = 0.8  # of its time: an answer after that may not reach its client any more
_MESSAGE_CHARACTERS: Final = 1000  # of an error, in a header field
_HEADERS: Final = (
    (b":status", b"200"),
    (b"content-type", b"application/grpc"),
    (b"grpc-accept-encoding", b"identity,deflate,gzip"),
)
_NOT_GRPC: Final = ((b":status", b"415"), (b"content-length", b"0"))
_OK: Final = ((b"grpc-status", b"0"),)

_log = logging.getLogger("otel_telemetry.gateway.receive.grpc")


def response(signal: Signal, accepted: Accepted) -> Message:
    """Return the Export*ServiceResponse: empty for full success, else with its partial success."""
    answer = _RESPONSES[signal]()
    if accepted.rejected or accepted.problem:
        partial: Any = answer.partial_success  # type: ignore[attr-defined] # all three have it
        setattr(partial, REJECTED_FIELD[signal], accepted.rejected)
        partial.error_message = accepted.problem
    return answer


def make_server(
    receiver: Receiver,
    keys: Keys,
    max_body_bytes: int,
    *,
    max_connections: int,
    by_address: int = 0,
    connection_seconds: float = 0.0,
) -> Http2Server:
    """Return a server with the three services and no socket yet."""
    services = _Services(receiver, keys, max_body_bytes)
    return Http2Server(
        services.open,
        max_connections=max_connections,
        by_address=by_address,
        connection_seconds=connection_seconds,
    )


class _Services:
    """What all calls share."""

    def __init__(self, receiver: Receiver, keys: Keys, limit: int) -> None:
        self.receiver = receiver
        self.limit = limit
        self._keys = keys
        self.running: set[asyncio.Task[None]] = set()

    def open(self, stream: Stream, headers: Mapping[str, str]) -> Call:
        """Begin a call, or refuse it because of its header fields."""
        signal = _METHODS.get(headers.get(":path", ""), "traces")
        if headers.get(":method") != "POST" or not _is_grpc(headers.get("content-type", "")):
            stream.answer(_NOT_GRPC)
            return _Refused()
        try:
            self._check(headers)
        except TelemetryError as error:
            refuse(stream, self.receiver.refuse(signal, error))
            return _Refused()
        stream.trusted = True
        return _Export(self, stream, signal, headers)

    def _check(self, headers: Mapping[str, str]) -> None:
        if sum(len(name) + len(value) + 32 for name, value in headers.items()) > _HEADER_BYTES:
            raise RefusedError(status.too_large(_HEADER_BYTES))
        self._keys.require(headers.get, "ingest")
        if headers[":path"] not in _METHODS:
            raise RefusedError(status.not_found("there is no such service or method here"))
        if headers.get("grpc-encoding", "identity") not in _ENCODINGS:
            message = f"the message encoding must be one of {', '.join(_ENCODINGS)}"
            raise RefusedError(Refusal("unsupported", code_pb2.UNIMPLEMENTED, 415, message))
        _timeout(headers)


def _timeout(headers: Mapping[str, str]) -> float:
    """Return how many seconds a client gives to its call."""
    given = headers.get("grpc-timeout")
    if given is None:
        return math.inf
    match = _TIMEOUT.fullmatch(given)
    if match is None:
        raise MalformedTelemetry("must be up to 8 digits and one of H, M, S, m, u, n", "grpc-timeout")
    return min(_MOST_SECONDS, int(match[1]) * _UNITS[match[2]])


def _is_grpc(content_type: str) -> bool:
    kind = content_type.partition(";")[0].strip().lower()
    return kind in {"application/grpc", "application/grpc+proto"}


class _Refused:
    """A call that was answered already: what still comes of it is thrown away."""

    def receive(self, data: memoryview) -> None:
        """Throw it away."""

    def end(self) -> None:
        """Nothing is left to do."""

    def lost(self) -> None:
        """Nothing is left to do."""


class _Export:
    """One call: collects its message within the bounds, has it taken in, and answers."""

    def __init__(self, services: _Services, stream: Stream, signal: Signal, headers: Mapping[str, str]) -> None:
        self._services = services
        self._stream = stream
        self._signal = signal
        self._encoding = headers.get("grpc-encoding", "identity")
        self._room = services.receiver.room()
        self._prefix = b""
        self._message = io.BytesIO()  # hands out its bytes without a copy
        self._left = -1  # bytes of the message that are still to come; -1: its length is not known yet
        self._working = False
        self._loop = asyncio.get_running_loop()
        self._began = self._loop.time()
        self._seconds = _timeout(headers)
        self._caller = Caller(time.monotonic() + self._seconds * _LATE)
        self._timer = self._loop.call_later(min(_READ_SECONDS, self._seconds), self._time_is_over)

    def receive(self, data: memoryview) -> None:
        """Take the next bytes, if there is room for them."""
        if self._stream.answered:
            return
        try:
            self._take(data)
        except TelemetryError as error:
            self._refuse(error)

    def _take(self, data: memoryview) -> None:
        if self._left < 0:
            missing = _PREFIX.size - len(self._prefix)
            self._prefix += data[:missing]
            if len(self._prefix) < _PREFIX.size:
                return
            data = data[missing:]
            self._left = self._length()
        if len(data) > self._left:
            raise MalformedTelemetry("there is more behind the end of the message")
        if data:
            self._room.grow(len(data))
            self._message.write(data)
            self._left -= len(data)

    def _length(self) -> int:
        packed, length = _PREFIX.unpack(self._prefix)
        if length > self._services.limit:
            raise RefusedError(status.too_large(self._services.limit))
        if packed > 1 or (packed and self._encoding == "identity"):
            raise MalformedTelemetry("the message is packed, but no encoding is named")
        return int(length)

    def end(self) -> None:
        """Work on the message, which is complete."""
        if self._stream.answered:
            return
        if self._left:
            self._refuse(MalformedTelemetry("the message is cut off" if self._prefix else "there is no message"))
            return
        self._working = True
        self._timer.cancel()
        if self._seconds < math.inf:
            self._timer = self._loop.call_at(self._began + self._seconds, self._time_is_over)
        task = self._loop.create_task(self._run())
        self._services.running.add(task)
        task.add_done_callback(self._services.running.discard)

    def lost(self) -> None:
        """Forget what came in; work that has begun goes on, and the same that comes again gets its answer."""
        self._stream.answered = True
        self._caller.leave()
        if not self._working:
            self._close()

    def _time_is_over(self) -> None:
        """Answer a client that has stopped to wait by its own word, or does not send what it began."""
        late = self._working or self._seconds <= _READ_SECONDS
        error = RefusedError(status.too_late(self._seconds) if late else status.too_slow(_READ_SECONDS))
        self._caller.leave()
        if self._working:
            self._answer(error)
        else:
            self._refuse(error)

    async def _run(self) -> None:
        try:
            body, self._message = self._message.getvalue(), io.BytesIO()
            prepare = self._prepare()
            accepted = await self._services.receiver.accept(
                self._signal, body, self._room, prepare, caller=self._caller
            )
            message = response(self._signal, accepted).SerializeToString()
            self._stream.answer(_HEADERS, _PREFIX.pack(0, len(message)) + message, _OK)
        except TelemetryError as error:
            self._answer(error)
        except Exception:  # noqa: BLE001 - whatever it is: the sender is told
            _log.exception("a gRPC call failed")
            self._answer(TelemetryError())
        finally:
            self._timer.cancel()
            self._room.close()

    def _prepare(self) -> Prepare | None:
        """Return what unpacks the message, None where it is not packed."""
        if not self._prefix[0]:
            return None
        wbits = unpack.GZIP if self._encoding == "gzip" else unpack.DEFLATE
        limit, charge = self._services.limit, self._room.grow
        return lambda body: Decoded(unpack.unpack(body, limit, wbits, charge), 0, "")

    def _refuse(self, error: TelemetryError) -> None:
        self._close()
        self._answer(error)

    def _answer(self, error: TelemetryError) -> None:
        if self._stream.answered:
            return
        refuse(self._stream, self._services.receiver.refuse(self._signal, error))

    def _close(self) -> None:
        self._timer.cancel()
        self._message = io.BytesIO()
        self._room.close()


def refuse(stream: Stream, refused: Refusal) -> None:
    """Answer with an error: header fields only, and no word of it where the client is gone."""
    fields = [(name.encode(), _binary(value)) for name, value in refused.trailers()]
    message = quote(refused.message[:_MESSAGE_CHARACTERS], safe=" !\"#$&'()*+,-./:;<=>?@[\\]^_`{|}~").encode()
    stream.answer((*_HEADERS, (b"grpc-status", str(refused.code).encode()), (b"grpc-message", message), *fields))


def _binary(value: bytes) -> bytes:
    return base64.b64encode(value).rstrip(b"=")


__all__ = ["REJECTED_FIELD", "Headers", "make_server", "refuse", "response"]
