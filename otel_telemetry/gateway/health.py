"""The state of each part, for /health.

Healthy means: a request sent now would be taken. An exporter whose store is away does not make the gateway unhealthy,
as the spool holds what comes in; it shows as "waiting", and the whole as "degraded".
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from otel_telemetry.errors import StoreUnavailable
from otel_telemetry.gateway.deliver import Delivery
from otel_telemetry.gateway.group import Seat
from otel_telemetry.gateway.receive import Receiver
from otel_telemetry.gateway.spool import Spool
from otel_telemetry.gateway.spool_reader import SpoolStatus

_OK: Final = "ok"
_ELSEWHERE: Final = "elsewhere"
_FINE: Final = {_OK, _ELSEWHERE}


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
    """Looks at the parts when asked: those of this process, and, in a group, those of the others through them.

    `receiver` is None in a process that only delivers, `deliveries` are empty in one that only receives. `cache` tells
    how the cache is, where there is one; without it, requests are taken all the same.
    """

    def __init__(
        self,
        spool: Spool,
        receiver: Receiver | None,
        deliveries: Sequence[Delivery],
        about: dict[str, str],
        seat: Seat | None = None,
        *,
        cache: Callable[[], dict[str, str]] | None = None,
    ) -> None:
        self._cache = cache
        self._spool = spool
        self._receiver = receiver
        self._deliveries = deliveries
        self._about = about
        self._seat = seat
        self._stopping = False

    def stop(self) -> None:
        """Say from now on that the gateway is going away."""
        self._stopping = True

    def report(self) -> Report:
        """Ask every part. Reads the spool's file: not for the event loop."""
        own = self._own()
        exporters = own["exporters"]
        more: dict[str, Any] = {}
        if self._seat:
            more["processes"] = self._processes(exporters)
        healthy = not self._stopping and all(
            own[part]["status"] == _OK for part in ("spool", "redaction") if part in own
        )
        others = [*exporters.values(), *more.get("processes", {}).values(), own.get("cache", {"status": _OK})]
        waiting = any(part["status"] not in _FINE for part in others)
        status = "stopping" if self._stopping else "unhealthy" if not healthy else "degraded" if waiting else _OK
        return Report(status, healthy, {**self._about, "parts": own | more})

    def own_json(self) -> bytes:
        """Return the parts of this process, for the others of its group."""
        return json.dumps(self._own()).encode()

    def _own(self) -> dict[str, Any]:
        now: SpoolStatus | None = None
        try:
            now = self._spool.reader.status()
            spool = _spool_part(self._spool, now)
        except StoreUnavailable as error:
            spool = {"status": "failing", "problem": str(error)}
        parts: dict[str, Any] = {"spool": spool}
        if self._receiver:
            parts["redaction"] = {"status": _OK if self._receiver.works() else "failing"}
        if self._cache:
            parts["cache"] = self._cache()
        exporters = {name: _foreign_part(name, now) for name in (now.lag if now else ())}
        exporters |= {delivery.name: _exporter_part(delivery, now) for delivery in self._deliveries}
        return parts | {"exporters": exporters}

    def _processes(self, exporters: dict[str, Any]) -> dict[str, Any]:
        """Return how each process of the group is, and put in what the others know of the exporters."""
        if self._seat is None:
            return {}
        restarts = self._seat.group.restarts()
        found = {self._seat.name: {"status": _OK, "restarts": restarts[self._seat.name]}}
        for name, answer in self._seat.group.ask_others(self._seat.name, "health").items():
            found[name] = {"status": _OK if answer else "away", "restarts": restarts[name]}
            told = json.loads(answer)["exporters"] if answer else {}
            exporters.update({sink: part for sink, part in told.items() if part["status"] != _ELSEWHERE})
        return dict(sorted(found.items()))


def _spool_part(spool: Spool, now: SpoolStatus) -> dict[str, Any]:
    problem = spool.problem or ("a write does not end" if spool.stuck else "")
    state = "failing" if problem else "full" if spool.full else _OK
    numbers = {
        "bytes": now.bytes,
        "max_bytes": spool.max_bytes,
        "batches": now.batches,
        "oldest_seconds": round(now.oldest_seconds, 3),
        "dead_letters": now.dead_letters,
    }
    return {"status": state, **numbers} | ({"problem": problem} if problem else {})


def _foreign_part(name: str, now: SpoolStatus | None) -> dict[str, Any]:
    """Return what the spool alone tells of an exporter: another process delivers to it, or nobody any more."""
    lag = {"lag": asdict(now.lag[name])} if now else {}
    if now and name in now.detached:
        return {"status": "detached", "problem": "nobody delivers to it any more; what it has not got is kept", **lag}
    return {"status": _ELSEWHERE, **lag}


def _exporter_part(delivery: Delivery, now: SpoolStatus | None) -> dict[str, Any]:
    lag = now.lag.get(delivery.name) if now else None
    part: dict[str, Any] = {"status": "waiting", "problem": delivery.problem} if delivery.problem else {"status": _OK}
    return part | delivery.state() | ({"lag": asdict(lag)} if lag else {})
