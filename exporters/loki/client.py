"""Pushes log lines to Loki and returns the lines that it rejected."""

import time
from collections import defaultdict, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

import orjson

from otel_telemetry.base.destinations import runs
from otel_telemetry.base.errors import ConfigurationError, DeliveryRefused, StoreUnavailable
from otel_telemetry.exporters.http import answers
from otel_telemetry.exporters.http.client import Poster
from otel_telemetry.exporters.loki import complaints
from otel_telemetry.exporters.loki.config import LokiSettings
from otel_telemetry.exporters.loki.labels import Streams
from otel_telemetry.exporters.loki.lines import Labels, Line, request_of

_PUSH: Final = "/loki/api/v1/push"
_OTLP: Final = "/otlp/v1/logs"
_READY: Final = "/ready"
_NOTHING: Final = {
    "push": (_PUSH, b'{"streams":[]}', "application/json"),
    "otlp": (_OTLP, b"", "application/x-protobuf"),
}
_TRIES: Final = 100  # requests spent on finding the lines of one push that Loki does not keep


@dataclass(slots=True, frozen=True)
class RejectedLine:
    """A line that Loki rejects however often it is sent. `reason` is one of a few fixed words, for metrics."""

    line: Line
    reason: str
    detail: str


class LineClient:
    """Sends lines to one Loki, by its push API or as OTLP, and finds out which it rejects. Not thread-safe.

    Raises ConfigurationError if `loki.endpoint` is not set.
    """

    def __init__(self, config: LokiSettings, exporter: str) -> None:
        if config.endpoint is None:
            raise ConfigurationError("loki.endpoint", "is not set", "set it to the URL of Loki, http://127.0.0.1:3100")
        self._config = config
        self._streams = Streams(config.max_streams, exporter)
        self._poster = Poster(config.endpoint, config, "loki")

    def push(self, lines: Iterable[Line]) -> list[RejectedLine]:
        """Send lines; return those that Loki rejected for good.

        Raises StoreUnavailable if the same lines must be sent again; Loki ignores those that it has stored already.
        """
        fit: list[Line] = []
        rejected: list[RejectedLine] = []
        for line in lines:
            reason, detail = self._misfit(line)
            if reason:
                rejected.append(RejectedLine(line, reason, detail))
            else:
                if self._config.protocol == "push":  # else the labels are Loki's own
                    self._streams.assign(line)
                fit.append(line)
        fit.sort(key=lambda line: line.time_ns)
        for part in runs(fit, Line.size, self._config.max_request_bytes):
            rejected += self._push(part)
        return rejected

    def probe(self) -> None:
        """Check that Loki accepts pushes, by an empty one. Raises as `push` does, or DeliveryRefused."""
        ready = self._poster.get(_READY)
        if ready.status != HTTPStatus.NOT_FOUND:  # a Loki behind a gateway may not show it
            answers.judge(ready)
        try:
            answers.judge(self._poster.post(*_NOTHING[self._config.protocol]))
        except DeliveryRefused as refused:
            if complaints.NO_STREAM not in refused.detail:
                raise

    def close(self) -> None:
        """Close the connection."""
        self._poster.close()

    def _misfit(self, line: Line) -> tuple[str, str]:
        """Return why Loki would not keep the line, "" if it would."""
        config, now = self._config, time.time_ns()
        if config.max_age_hours and line.time_ns < now - config.max_age_hours * 3600e9:
            return "too_old", f"older than loki.max_age_hours ({config.max_age_hours:g})"
        if config.max_ahead_seconds and line.time_ns > now + config.max_ahead_seconds * 1e9:
            return "too_new", f"further ahead than loki.max_ahead_seconds ({config.max_ahead_seconds:g})"
        if config.max_line_bytes and len(line.text) * 4 > config.max_line_bytes:
            size = len(line.text.encode())
            if size > config.max_line_bytes:
                return "too_long", f"{size} bytes, more than loki.max_line_bytes ({config.max_line_bytes})"
        return "", ""

    def _push(self, lines: Sequence[Line]) -> list[RejectedLine]:
        rejected: list[RejectedLine] = []
        todo = deque([lines])
        for _ in range(_TRIES):
            if not todo:
                return rejected
            part = todo.popleft()
            response_text = self._post(part)
            if response_text is None:
                continue
            blamed = [RejectedLine(*each) for each in complaints.blame(response_text, part)]
            if not blamed and len(part) == 1:
                blamed = [RejectedLine(part[0], complaints.reason(response_text), response_text)]
            rejected += blamed
            todo += _again(part, {id(each.line) for each in blamed})
        return rejected + [
            RejectedLine(line, "invalid", "among lines that Loki refused") for part in todo for line in part
        ]

    def _post(self, lines: Sequence[Line]) -> str | None:
        """Send one request; return what Loki has against some of it, or None. Raises StoreUnavailable to come again."""
        if self._config.protocol == "push":
            answer = self._poster.post(_PUSH, encode(lines), "application/json")
        else:
            answer = self._poster.post(_OTLP, request_of(line.origin for line in lines), "application/x-protobuf")
        try:
            answers.judge(answer)
        except DeliveryRefused as refused:
            if refused.doubtful:
                raise passing(refused) from None
            text = answer.body.decode(errors="replace")
            if complaints.NO_METADATA in text:
                hint = "allow_structured_metadata is off in Loki's limits_config"
                raise StoreUnavailable(f"HTTP {answer.status}: {hint}") from None
            return text
        return None


def passing(refused: DeliveryRefused) -> StoreUnavailable:
    """Return a doubtful refusal as what it is in Loki: all faults of its own pass."""
    return StoreUnavailable(refused.detail, refused.retry_after)


def _again(part: Sequence[Line], blamed: set[int]) -> list[Sequence[Line]]:
    """Return what is left to send of a refused part: all but the lines to blame; its halves where nobody knows."""
    if not blamed:
        return [part[: len(part) // 2], part[len(part) // 2 :]]
    rest = [line for line in part if id(line) not in blamed]
    return [rest] if rest else []


def encode(lines: Iterable[Line]) -> bytes:
    """Return the body of a push request, as JSON."""
    streams: defaultdict[Labels, list[object]] = defaultdict(list)
    for line in lines:
        streams[line.labels].append((str(line.time_ns), line.text, line.metadata))
    return orjson.dumps({"streams": [{"stream": labels.mapping(), "values": v} for labels, v in streams.items()]})
