"""Sends OTLP over gRPC as bytes, without parsing; maps each status to an error."""

import logging
from typing import Final, NoReturn, cast

import grpc
from google.protobuf.message import DecodeError
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status

from otel_telemetry.base.destinations import Signal
from otel_telemetry.base.errors import ConfigurationError, DeliveryRefused, StoreUnavailable
from otel_telemetry.exporters.http.answers import UNCLEAR, one_line
from otel_telemetry.exporters.otlp.config import ForwardSettings
from otel_telemetry.exporters.otlp.packed import can_pack, packing

_SERVICES: Final[dict[Signal, str]] = {
    "traces": "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
    "logs": "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
    "metrics": "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
}
_OPTIONS: Final = [
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", 4 << 20),
    ("grpc.use_local_subchannel_pool", 1),  # a connection of our own, so that a new channel is a new connection
    ("grpc.enable_retries", 0),
    ("grpc.primary_user_agent", "otel-telemetry"),
]
_DEFAULT_PORT: Final = 4317
_Code: Final = grpc.StatusCode
_PASSING: Final = {
    _Code.UNAVAILABLE, _Code.DEADLINE_EXCEEDED, _Code.CANCELLED, _Code.ABORTED, _Code.OUT_OF_RANGE, _Code.DATA_LOSS,
}  # fmt: skip
_SETTINGS: Final = {
    _Code.UNAUTHENTICATED: "check its headers",
    _Code.PERMISSION_DENIED: "check its headers",
    _Code.UNIMPLEMENTED: "check its endpoint and protocol, and leave signals out that it does not take",
}
_DOUBTFUL: Final = {_Code.INTERNAL, _Code.UNKNOWN}
#: What gRPC itself says of an answer: that it is larger than we read, and that the exchange broke off.
_TOO_LONG_AN_ANSWER: Final = "CLIENT: Received message larger than max"
_BROKEN_OFF: Final = ("RST_STREAM", "metadata size exceeds")

_log = logging.getLogger("otel_telemetry.forward")


class RpcClient:
    """One destination. The channel is made with the first request, and anew after the destination was away."""

    def __init__(self, config: ForwardSettings, setting: str) -> None:
        self._config = config
        self._target = target(config.endpoint)
        self._credentials = _credentials(config, setting) if config.endpoint.startswith("https:") else None
        self._metadata = tuple(config.header_values().items())
        self._compression = grpc.Compression.Gzip if config.compression == "gzip" else grpc.Compression.NoCompression
        self._channel: grpc.Channel | None = None
        if self._compression is grpc.Compression.Gzip and not can_pack():
            _log.info("%s: grpcio %s packs what is sent by itself, which costs more", setting, grpc.__version__)

    def export(self, signal: Signal, body: bytes) -> bytes:
        """Send a request and return the response, both serialized. Raises as `Sink.deliver` does."""
        channel = self._channel = self._channel or self._open()
        call = channel.unary_unary(_SERVICES[signal], bytes, bytes)
        if self._compression is grpc.Compression.Gzip:
            call = packing(call)
        try:
            answer: bytes = call(
                body, timeout=self._config.timeout, metadata=self._metadata, compression=self._compression
            )
        except grpc.RpcError as error:
            refusal = cast("grpc.Call", error)  # what a call raises is the call
            if _TOO_LONG_AN_ANSWER in (refusal.details() or ""):
                return UNCLEAR
            self._judge(refusal)
        return answer

    def close(self) -> None:
        """Close the channel; a later export opens a new one."""
        if self._channel is not None:
            self._channel.close()
            self._channel = None

    def _open(self) -> grpc.Channel:
        if self._credentials is None:
            return grpc.insecure_channel(self._target, _OPTIONS)
        return grpc.secure_channel(self._target, self._credentials, _OPTIONS)

    def _judge(self, error: grpc.Call) -> NoReturn:
        code, wait = error.code(), retry_delay(error)
        summary = f"{code.name} {one_line(error.details() or '')}".rstrip()
        if code in _PASSING or (code is _Code.RESOURCE_EXHAUSTED and wait is not None):
            if code in {_Code.UNAVAILABLE, _Code.DEADLINE_EXCEEDED} and wait is None:
                self.close()  # the connection may be dead, and a channel is slow to try again
            raise StoreUnavailable(summary, wait or 0.0, timed_out=code is _Code.DEADLINE_EXCEEDED) from None
        if code in _SETTINGS:
            raise StoreUnavailable(f"{summary}; {_SETTINGS[code]}") from None
        if code is _Code.RESOURCE_EXHAUSTED and any(sign in summary for sign in _BROKEN_OFF):
            self.close()  # which also ends what is still coming in
            raise DeliveryRefused("destination_error", summary, doubtful=True) from None
        if code is _Code.RESOURCE_EXHAUSTED:
            raise DeliveryRefused("too_large", summary) from None
        if code in _DOUBTFUL:
            raise DeliveryRefused("destination_error", summary, doubtful=True) from None
        raise DeliveryRefused("invalid", summary) from None


def retry_delay(error: grpc.Call) -> float | None:
    """Return the seconds of the RetryInfo in either of its places; None where there is none."""
    for key, value in error.trailing_metadata() or ():
        try:
            if key == "google.rpc.retryinfo-bin":
                return _seconds(RetryInfo.FromString(value))
            if key == "grpc-status-details-bin":
                for detail in Status.FromString(value).details:
                    info = RetryInfo()
                    if detail.Unpack(info):
                        return _seconds(info)
        except DecodeError:
            continue
    return None


def _seconds(info: RetryInfo) -> float:
    return float(max(0.0, info.retry_delay.seconds + info.retry_delay.nanos / 1e9))


def target(endpoint: str) -> str:
    """Return host:port of the endpoint's URL."""
    host = endpoint.partition("://")[2].partition("/")[0]
    has_port = ":" in host.rpartition("]")[2]
    return host if has_port else f"{host}:{_DEFAULT_PORT}"


def _credentials(config: ForwardSettings, setting: str) -> grpc.ChannelCredentials:
    try:
        return grpc.ssl_channel_credentials(
            *(
                path.read_bytes() if path else None
                for path in (config.ca_file, config.key_file, config.certificate_file)
            )
        )
    except OSError as error:
        raise ConfigurationError(setting, f"its certificates cannot be used: {error}", "correct the files") from None
