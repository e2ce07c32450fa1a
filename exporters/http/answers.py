"""What a destination's answer means: accepted, try again later, or refused for good.

After "OTLP Specification 1.11, Failures": 429, 502, 503 and 504 are worth a retry, as are UNAVAILABLE and its like.
Two answers are read more kindly than there, because nothing may be lost: where the destination does not know us or the
path (401, 403, 404, a redirect) the fault is in a setting, so the data wait for it to be put right; and 500 may be a
passing fault, so it is tried some more times before the data are set aside.
"""

import email.utils
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

from google.protobuf.message import DecodeError
from google.rpc.status_pb2 import Status

from otel_telemetry.base.errors import DeliveryRefused, StoreUnavailable

_PASSING: Final = {
    HTTPStatus.REQUEST_TIMEOUT,
    HTTPStatus.TOO_MANY_REQUESTS,
    HTTPStatus.BAD_GATEWAY,
    HTTPStatus.SERVICE_UNAVAILABLE,
    HTTPStatus.GATEWAY_TIMEOUT,
}
_SETTINGS: Final = {
    HTTPStatus.UNAUTHORIZED: "check its headers",
    HTTPStatus.FORBIDDEN: "check its headers",
    HTTPStatus.PROXY_AUTHENTICATION_REQUIRED: "check the proxy",
    HTTPStatus.NOT_FOUND: "check its endpoint and protocol, and leave signals out that it does not take",
    HTTPStatus.METHOD_NOT_ALLOWED: "check its endpoint and protocol",
}
_TEXT_CHARACTERS: Final = 300
#: In the place of a success that could not be read: no message of protobuf.
UNCLEAR: Final = b"\xff"


@dataclass(slots=True, frozen=True)
class Answer:
    """An HTTP answer; header names are in lower case, `body` is cut at a limit."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def content_type(self) -> str:
        """The media type without parameters."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()

    def text(self) -> str:
        """Return the answer's text, as one line that can be shown."""
        if self.content_type in {"application/x-protobuf", "application/octet-stream"}:  # Loki says the latter
            try:
                return one_line(Status.FromString(self.body).message)
            except DecodeError:
                return ""
        return one_line(self.body.decode(errors="replace"))


def one_line(text: str) -> str:
    """Return a text of somebody else's as one short printable line."""
    shown = "".join(c if c.isprintable() else " " for c in text[: 2 * _TEXT_CHARACTERS])
    return " ".join(shown.split())[:_TEXT_CHARACTERS]


def judge(answer: Answer) -> None:
    """Return for a success (2xx); raise StoreUnavailable if a retry may help, DeliveryRefused if none can."""
    status = answer.status
    if HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
        return
    summary = f"HTTP {status} {answer.text()}".rstrip()
    wait = retry_after(answer.headers.get("retry-after", ""))
    if status in _PASSING:
        raise StoreUnavailable(summary, wait)
    if status < HTTPStatus.BAD_REQUEST:
        raise StoreUnavailable(f"HTTP {status} is a redirect; set its endpoint to where it really is")
    if status in _SETTINGS:
        raise StoreUnavailable(f"{summary}; {_SETTINGS[HTTPStatus(status)]}")
    if status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        raise DeliveryRefused("too_large", summary)
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        raise DeliveryRefused("destination_error", summary, doubtful=True, retry_after=wait)
    raise DeliveryRefused("invalid", summary)


def retry_after(value: str) -> float:
    """Return the seconds that a Retry-After header asks for (a number, or a date); 0 where it cannot be read."""
    try:
        seconds = float(value)
    except ValueError:
        seconds = _until(value)
    return seconds if math.isfinite(seconds) and seconds > 0 else 0.0


def _until(date: str) -> float:
    try:
        return email.utils.parsedate_to_datetime(date).timestamp() - time.time()
    except (ValueError, TypeError, OverflowError):
        return 0.0
