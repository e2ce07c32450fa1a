"""The answer to a refused request: google.rpc.Status, for gRPC and for both encodings of HTTP.

Codes follow "OTLP Specification 1.11, Failures": permanent faults are INVALID_ARGUMENT (400) and similar, temporary
ones UNAVAILABLE (429 or 503) with the time to wait. The Python SDK reads that time from the trailer
`google.rpc.retryinfo-bin`, all others from `grpc-status-details-bin`, so both are sent. No text here ever contains any
of the payload.
"""

import json
import math
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.rpc import code_pb2
from google.rpc.error_details_pb2 import BadRequest, RetryInfo
from google.rpc.status_pb2 import Status

from otel_telemetry.base.errors import (
    BrokersAway,
    DiskFull,
    MalformedTelemetry,
    Overloaded,
    StoreUnavailable,
    TelemetryError,
    TooDense,
)

JSON: Final = "application/json"
PROTOBUF: Final = "application/x-protobuf"
_STORE_RETRY_SECONDS: Final = 2.0
_SLOW_RETRY_SECONDS: Final = 2.0
_CHALLENGE: Final = 'Bearer realm="otel-telemetry"'


@dataclass(slots=True, frozen=True)
class Refusal:
    """An answer that is not a success. `reason` is a stable word for counters; `retry_after` in seconds, 0: never.

    `closes`: the connection is of no more use, as it is not known where the next request on it begins.
    """

    reason: str
    code: int
    http_status: int
    message: str
    field: str = ""
    retry_after: float = 0.0
    closes: bool = False

    def status(self) -> Status:
        """Return the google.rpc.Status with its details."""
        status = Status(code=self.code, message=self.message)
        if self.field:
            violation = BadRequest.FieldViolation(field=self.field, description=self.message)
            status.details.append(_packed(BadRequest(field_violations=[violation])))
        if self.retry_after:
            status.details.append(_packed(self.retry_info()))
        return status

    def retry_info(self) -> RetryInfo:
        """Return the time to wait as protobuf."""
        seconds = int(self.retry_after)
        return RetryInfo(retry_delay=Duration(seconds=seconds, nanos=int((self.retry_after - seconds) * 1e9)))

    def trailers(self) -> tuple[tuple[str, bytes], ...]:
        """Return the gRPC trailing metadata."""
        details = (("grpc-status-details-bin", self.status().SerializeToString()),)
        if not self.retry_after:
            return details
        return (*details, ("google.rpc.retryinfo-bin", self.retry_info().SerializeToString()))

    def body(self, content_type: str) -> bytes:
        """Return the HTTP body in the request's encoding."""
        return self.status().SerializeToString() if content_type == PROTOBUF else json.dumps(self._json()).encode()

    def body_of_events(self) -> bytes:
        """Return the HTTP body for senders of workflow events, who read `error` (see `as_chronicle`)."""
        return json.dumps({**self._json(), "error": as_chronicle(self.reason, self.message)}).encode()

    def _json(self) -> dict[str, Any]:
        details: list[dict[str, Any]] = []
        if self.field:
            violation = {"field": self.field, "description": self.message}
            details.append({"@type": _type_url(BadRequest), "fieldViolations": [violation]})
        if self.retry_after:
            details.append({"@type": _type_url(RetryInfo), "retryDelay": f"{self.retry_after:.3f}s"})
        return {"code": self.code, "message": self.message} | ({"details": details} if details else {})

    def headers(self) -> dict[str, str]:
        """Return the HTTP headers that go with it; Retry-After has whole seconds only."""
        found = {"retry-after": str(math.ceil(self.retry_after))} if self.retry_after else {}
        if self.closes:
            found["connection"] = "close"
        if self.http_status == HTTPStatus.UNAUTHORIZED:
            found["www-authenticate"] = _CHALLENGE
        return found


def as_chronicle(kind: str, message: str) -> dict[str, Any]:
    """Return what chronicle's clients read of an error: they show `details.body`."""
    return {"kind": kind, "details": {"body": message}}


def _packed(message: BadRequest | RetryInfo) -> AnyMessage:
    packed = AnyMessage()
    packed.Pack(message)
    return packed


def _type_url(message: type[BadRequest | RetryInfo]) -> str:
    return f"type.googleapis.com/{message.DESCRIPTOR.full_name}"


UNAUTHENTICATED: Final = Refusal(
    "unauthenticated",
    code_pb2.UNAUTHENTICATED,
    HTTPStatus.UNAUTHORIZED,
    "a valid key is needed, as `authorization: Bearer KEY` or `x-api-key: KEY`",
)
REDACTION_FAILED: Final = Refusal(
    "redaction_failed",
    code_pb2.INTERNAL,
    HTTPStatus.INTERNAL_SERVER_ERROR,
    "redaction failed, so nothing of this request was kept; sending it again will not help",
)


TOOK_DOWN: Final = Refusal(
    "took_receiver_down",
    code_pb2.INVALID_ARGUMENT,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    "this request took a receiver down, by the memory that it took or a crash; it is refused: send smaller batches",
)
LENGTH_REQUIRED: Final = Refusal(
    "no_length",
    code_pb2.INVALID_ARGUMENT,
    HTTPStatus.LENGTH_REQUIRED,
    "the request says nothing of its body: send Content-Length, or Transfer-Encoding: chunked",
    closes=True,
)
AMBIGUOUS_LENGTH: Final = Refusal(
    "ambiguous_length",
    code_pb2.INVALID_ARGUMENT,
    HTTPStatus.BAD_REQUEST,
    "it is not clear where the body of the request ends",
    closes=True,
)


def forbidden(role: str) -> Refusal:
    """Refuse a key that is known but lacks a role."""
    message = f"this key has not got the role {role!r}"
    return Refusal("forbidden", code_pb2.PERMISSION_DENIED, HTTPStatus.FORBIDDEN, message)


def too_large(limit: int) -> Refusal:
    """Refuse a body above `limit` bytes. Not worth a retry."""
    message = f"the request is larger than {limit} bytes; send smaller batches"
    return Refusal("too_large", code_pb2.RESOURCE_EXHAUSTED, HTTPStatus.REQUEST_ENTITY_TOO_LARGE, message)


def too_large_with_headers(limit: int) -> Refusal:
    """Refuse a body that would be above `limit` bytes with what `x-chronicle-...` headers add to all of it."""
    message = (
        f"with its x-chronicle headers, which are copied to each resource or event, the request takes more than {limit}"
        " bytes (a body counts twice); send smaller batches, or say in the body what the headers say"
    )
    return Refusal("too_large", code_pb2.RESOURCE_EXHAUSTED, HTTPStatus.REQUEST_ENTITY_TOO_LARGE, message)


def too_costly(seconds: float) -> Refusal:
    """Refuse a request that takes more CPU time than its sender has in a minute. Not worth a retry."""
    message = f"redacting this request takes more than {seconds:g} s of CPU time; send smaller batches"
    return Refusal("too_costly", code_pb2.RESOURCE_EXHAUSTED, HTTPStatus.REQUEST_ENTITY_TOO_LARGE, message)


def unsupported(message: str) -> Refusal:
    """Refuse a content type or an encoding that is not spoken here."""
    return Refusal("unsupported", code_pb2.INVALID_ARGUMENT, HTTPStatus.UNSUPPORTED_MEDIA_TYPE, message)


def too_slow(seconds: float) -> Refusal:
    """Refuse a body that did not arrive in time. Not with 408, after which no sender of OTLP tries again."""
    message = f"the request did not arrive within {seconds:g} s"
    away = HTTPStatus.SERVICE_UNAVAILABLE
    return Refusal("too_slow", code_pb2.UNAVAILABLE, away, message, retry_after=_SLOW_RETRY_SECONDS)


def too_late(seconds: float) -> Refusal:
    """Answer a gRPC client whose deadline for the call is over."""
    message = f"the {seconds:g} s that grpc-timeout gave are over"
    return Refusal("deadline", code_pb2.DEADLINE_EXCEEDED, HTTPStatus.GATEWAY_TIMEOUT, message)


def incomplete(size: int, announced: int) -> Refusal:
    """Refuse a body of which the server below has read another number of bytes than its sender announced."""
    message = f"{size} bytes of the body came, and {announced} were announced"
    return Refusal("incomplete", code_pb2.INVALID_ARGUMENT, HTTPStatus.BAD_REQUEST, message, closes=True)


def not_found(message: str) -> Refusal:
    """Refuse a path that does not exist."""
    return Refusal("not_found", code_pb2.UNIMPLEMENTED, HTTPStatus.NOT_FOUND, message)


def wrong_method(message: str) -> Refusal:
    """Refuse a method that the path does not take."""
    return Refusal("wrong_method", code_pb2.UNIMPLEMENTED, HTTPStatus.METHOD_NOT_ALLOWED, message)


def refusal(error: TelemetryError) -> Refusal:
    """Return the answer to a sender for one of our errors."""
    match error:
        case RefusedError(refusal=given):
            return given
        case MalformedTelemetry():
            bad = HTTPStatus.BAD_REQUEST
            return Refusal("malformed", code_pb2.INVALID_ARGUMENT, bad, str(error), field=error.field)
        case TooDense():
            large = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
            return Refusal("too_many_parts", code_pb2.RESOURCE_EXHAUSTED, large, str(error))
        case Overloaded():
            busy = HTTPStatus.TOO_MANY_REQUESTS
            return Refusal("overloaded", code_pb2.UNAVAILABLE, busy, error.reason, retry_after=error.retry_after)
        case DiskFull():
            away = HTTPStatus.SERVICE_UNAVAILABLE
            message = "the disk of the gateway is nearly full: nothing can be stored until it has room"
            return Refusal("disk_full", code_pb2.UNAVAILABLE, away, message, retry_after=_STORE_RETRY_SECONDS)
        case BrokersAway():
            away = HTTPStatus.SERVICE_UNAVAILABLE
            message = "Kafka takes no messages right now: nothing can be stored until it does; send it again"
            return Refusal("kafka_away", code_pb2.UNAVAILABLE, away, message, retry_after=_STORE_RETRY_SECONDS)
        case StoreUnavailable():
            away = HTTPStatus.SERVICE_UNAVAILABLE
            message = "nothing can be stored right now"
            return Refusal("unavailable", code_pb2.UNAVAILABLE, away, message, retry_after=_STORE_RETRY_SECONDS)
    return Refusal("internal", code_pb2.INTERNAL, HTTPStatus.INTERNAL_SERVER_ERROR, "an internal error")


class RefusedError(TelemetryError):
    """Carries a refusal that was decided where the request was read."""

    def __init__(self, refusal: Refusal) -> None:
        self.refusal = refusal
        super().__init__(refusal.message)
