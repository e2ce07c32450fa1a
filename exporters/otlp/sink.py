"""`ForwardSink`: hands what the spool holds to another OTLP receiver, as the bytes that they are.

Export requests that are concatenated are one merged request, so batches are merged without being parsed.
"""

import json
import logging
from collections.abc import Sequence
from typing import Final, Protocol

from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from otel_telemetry.base.destinations import Receipt, Rejected, Signal
from otel_telemetry.base.errors import DeliveryRefused
from otel_telemetry.exporters.http import answers
from otel_telemetry.exporters.http.client import Poster
from otel_telemetry.exporters.otlp.config import ForwardSettings
from otel_telemetry.exporters.otlp.split import split

_PROTOBUF: Final = "application/x-protobuf"
_REJECTED_KEYS: Final = ("rejectedSpans", "rejectedLogRecords", "rejectedDataPoints")

#: Of answers that come from something else than an OTLP receiver: a login page, a proxy.
_NOT_OTLP: Final = frozenset({"text/html", "text/plain", "application/xml", "text/xml", "application/xhtml+xml"})

_log = logging.getLogger("otel_telemetry.forward")


class ForwardSink:
    """One destination. Nothing is sent before the first delivery; wrong certificates raise ConfigurationError now."""

    def __init__(self, name: str, config: ForwardSettings, setting: str) -> None:
        self.name = name
        self.signals = frozenset(config.signals)
        self.max_bytes = config.max_request_bytes
        self._client: _Client
        self._client = _rpc_client(config, setting) if config.protocol == "grpc" else _HttpClient(config, setting)
        if config.headers and config.endpoint.startswith("http:"):
            _log.info("%s gets its headers without TLS", name)

    def deliver(self, signal: Signal, bodies: Sequence[bytes]) -> Receipt:
        """Send them as one request; one that is too large by itself goes in pieces."""
        if len(bodies) == 1 and len(bodies[0]) > self.max_bytes:
            return self._in_pieces(signal, bodies[0])
        return self._send(signal, bodies[0] if len(bodies) == 1 else b"".join(bodies))

    def _send(self, signal: Signal, body: bytes) -> Receipt:
        return read_receipt(self._client.export(signal, body))

    def _in_pieces(self, signal: Signal, body: bytes) -> Receipt:
        rejected: list[Rejected] = []
        warnings: list[str] = []
        unclear = False
        for piece in split(signal, body, self.max_bytes):
            try:
                receipt = self._send(signal, piece.body)
            except DeliveryRefused as error:
                if error.doubtful:
                    raise
                rejected.append(Rejected(piece.items, error.reason, error.detail, body=piece.body))
            else:
                rejected += receipt.rejected
                warnings.append(receipt.warning)
                unclear |= receipt.unclear
        return Receipt(rejected, next(filter(None, warnings), ""), unclear)

    def close(self) -> None:
        """Close the connection."""
        self._client.close()


class _Client(Protocol):
    """Sends one request and returns the response, both serialized; raises as `Sink.deliver` does."""

    def export(self, signal: Signal, body: bytes) -> bytes: ...

    def close(self) -> None: ...


def _rpc_client(config: ForwardSettings, setting: str) -> _Client:
    from otel_telemetry.exporters.otlp.rpc import RpcClient  # noqa: PLC0415 - apps that send over HTTP need no grpc

    return RpcClient(config, setting)


class _HttpClient:
    """OTLP/HTTP with protobuf bodies."""

    def __init__(self, config: ForwardSettings, setting: str) -> None:
        self._poster = Poster(config.endpoint, config, setting)

    def export(self, signal: Signal, body: bytes) -> bytes:
        answer = self._poster.post(f"/v1/{signal}", body, _PROTOBUF)
        answers.judge(answer)
        if answer.content_type in _NOT_OTLP and answer.body:
            return answers.UNCLEAR
        return answer.body if answer.content_type != "application/json" else _from_json(answer.body)

    def close(self) -> None:
        self._poster.close()


def read_receipt(answer: bytes) -> Receipt:
    """Read an Export*ServiceResponse, of whichever signal: all have their numbers and texts in the same fields."""
    try:
        partial = ExportTraceServiceResponse.FromString(answer).partial_success
    except DecodeError:  # it took the request, or says so
        return Receipt(warning="answers success, but with no OTLP response: is it an OTLP receiver?", unclear=True)
    message = answers.one_line(partial.error_message)
    rejected = (Rejected(partial.rejected_spans, "partial_success", message),) if partial.rejected_spans > 0 else ()
    return Receipt(rejected, message)


def _from_json(body: bytes) -> bytes:
    """Return the same response as protobuf, for the destination that answers JSON to protobuf."""
    response = ExportTraceServiceResponse()
    try:
        partial = json.loads(body or b"{}").get("partialSuccess") or {}
        count = next((int(partial[key]) for key in _REJECTED_KEYS if key in partial), 0)
        response.partial_success.rejected_spans = count
        response.partial_success.error_message = str(partial.get("errorMessage", ""))
    except (ValueError, AttributeError, TypeError, ArithmeticError, RecursionError):
        return answers.UNCLEAR
    return response.SerializeToString()
