"""The state of each part, for /health.

Healthy means: a request sent now would be taken. An exporter whose store is away does not make the gateway unhealthy,
as the spool holds what comes in; it shows as "waiting", and the whole as "degraded".
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from otel_telemetry.errors import StoreUnavailable
from otel_telemetry.gateway.deliver import Delivery
from otel_telemetry.gateway.receive import Receiver
from otel_telemetry.gateway.spool import Spool
from otel_telemetry.gateway.spool_reader import SpoolStatus

_OK: Final = "ok"


@dataclass(slots=True, frozen=True)
class Report:
    """One look at the gateway."""

    status: str
    healthy: bool
    details: dict[str, Any]

    def shown(self, details: bool) -> dict[str, Any]:
        """Return the JSON answer, with the parts or without."""
        return {"status": self.status} | (self.details if details else {})


class Health:
    """Looks at the parts when asked."""

    def __init__(self, spool: Spool, receiver: Receiver, deliveries: Sequence[Delivery], about: dict[str, str]) -> None:
        self._spool = spool
        self._receiver = receiver
        self._deliveries = deliveries
        self._about = about
        self._stopping = False

    def stop(self) -> None:
        """Say from now on that the gateway is going away."""
        self._stopping = True

    def report(self) -> Report:
        """Ask every part. Reads the spool's file: not for the event loop."""
        now: SpoolStatus | None = None
        try:
            now = self._spool.reader.status()
            spool = _spool_part(self._spool, now)
        except StoreUnavailable as error:
            spool = {"status": "failing", "problem": str(error)}
        redaction = {"status": _OK if self._receiver.works() else "failing"}
        exporters = {delivery.name: _exporter_part(delivery, now) for delivery in self._deliveries}
        healthy = not self._stopping and spool["status"] == redaction["status"] == _OK
        waiting = any(part["status"] != _OK for part in exporters.values())
        status = "stopping" if self._stopping else "unhealthy" if not healthy else "degraded" if waiting else _OK
        parts = {"spool": spool, "redaction": redaction, "exporters": exporters}
        return Report(status, healthy, {**self._about, "parts": parts})


def _spool_part(spool: Spool, now: SpoolStatus) -> dict[str, Any]:
    state = "failing" if spool.problem else "full" if spool.full else _OK
    numbers = {
        "bytes": now.bytes,
        "max_bytes": spool.max_bytes,
        "batches": now.batches,
        "oldest_seconds": round(now.oldest_seconds, 3),
        "dead_letters": now.dead_letters,
    }
    return {"status": state, **numbers} | ({"problem": spool.problem} if spool.problem else {})


def _exporter_part(delivery: Delivery, now: SpoolStatus | None) -> dict[str, Any]:
    lag = now.lag.get(delivery.name) if now else None
    part: dict[str, Any] = {"status": "waiting", "problem": delivery.problem} if delivery.problem else {"status": _OK}
    return part | delivery.state() | ({"lag": asdict(lag)} if lag else {})
