"""The state of each part, for /health. Healthy means that a request sent now would be accepted.

An exporter whose store is down does not make the gateway unhealthy, because the spool stores what arrives; the exporter
is "waiting" and the whole is "degraded". It is also degraded while nobody has acknowledged data that the disk lost.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from otel_telemetry.base.errors import StoreUnavailable
from otel_telemetry.gateway.deliver.delivery import Delivery, nowhere
from otel_telemetry.gateway.receive.receiver import Receiver
from otel_telemetry.gateway.serve.group import WorkerContext
from otel_telemetry.gateway.spool.reader import SpoolStatus
from otel_telemetry.gateway.spool.transport import Transport

_OK: Final = "ok"
_ELSEWHERE: Final = "elsewhere"
_FINE: Final = {_OK, _ELSEWHERE}
_NOWHERE: Final = "signals_without_destination"
_USED_UP: Final = "cpu_time_used_up"
_ACKNOWLEDGE: Final = "otel-telemetry spool acknowledge"


@dataclass(slots=True, frozen=True)
class HealthReport:
    """One look at the gateway."""

    status: str
    healthy: bool
    details: dict[str, Any]

    def shown(self, details: bool) -> dict[str, Any]:
        """Return the JSON answer, with the parts or without."""
        return {"status": self.status} | (self.details if details else {})


class Health:
    """Checks the parts when asked: those of this process, and, in a group, those of the others through them.

    `receiver` is None in a process that only delivers, `deliveries` are empty in one that only receives. `cache`
    reports the state of the cache, if there is one; requests are accepted without it too.
    """

    def __init__(
        self,
        spool: Transport,
        receiver: Receiver | None,
        deliveries: Sequence[Delivery],
        about: dict[str, str],
        worker: WorkerContext | None = None,
        *,
        cache: Callable[[], dict[str, str]] | None = None,
    ) -> None:
        self._cache = cache
        self._spool = spool
        self._receiver = receiver
        self._deliveries = deliveries
        self._about = about
        self._worker = worker
        self._nowhere = nowhere(deliveries) if deliveries else []
        self._stopping = False

    def stop(self) -> None:
        """Show from now on that the gateway is stopping."""
        self._stopping = True

    def report(self) -> HealthReport:
        """Ask every part. Reads the spool's file: not for the event loop."""
        own = self._own()
        exporters = own["exporters"]
        more: dict[str, Any] = {}
        if self._worker:
            more["processes"] = self._processes(own)
        healthy = not self._stopping and all(
            own[part]["status"] == _OK for part in ("spool", "redaction") if part in own
        )
        others = [*exporters.values(), *more.get("processes", {}).values(), own.get("cache", {"status": _OK})]
        waiting = "lost" in own["spool"] or any(part["status"] not in _FINE for part in others)
        status = "stopping" if self._stopping else "unhealthy" if not healthy else "degraded" if waiting else _OK
        return HealthReport(status, healthy, {**self._about, "parts": own | more})

    def own_json(self) -> bytes:
        """Return the parts of this process, for the others of its group."""
        return json.dumps(self._own()).encode()

    def _own(self) -> dict[str, Any]:
        now: SpoolStatus | None = None
        try:
            now = self._spool.status()
            spool = _spool_part(self._spool, now)
        except StoreUnavailable as error:
            spool = {"status": "failing", "problem": str(error)}
        parts: dict[str, Any] = {"spool": spool}
        if self._receiver:
            parts["redaction"] = _redaction_part(self._receiver)
        if self._cache:
            parts["cache"] = self._cache()
        exporters = {name: _foreign_part(name, now) for name in (now.lag if now else ())}
        exporters |= {delivery.name: _exporter_part(delivery, now) for delivery in self._deliveries}
        lost: dict[str, Any] = {_NOWHERE: self._nowhere} if self._nowhere else {}
        return parts | lost | {"exporters": exporters}

    def _processes(self, own: dict[str, Any]) -> dict[str, Any]:
        """Return how each process of the group is, and put in what the others know of delivery."""
        if self._worker is None:
            return {}
        found, answers = members(self._worker)
        for parts in answers:
            exporters = parts["exporters"].items()
            own["exporters"].update({sink: part for sink, part in exporters if part["status"] != _ELSEWHERE})
            own.update({key: parts[key] for key in (_NOWHERE,) if key in parts})
        return found


def members(worker: WorkerContext) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return the status of each process of a group, and the other processes' answers."""
    restarts = worker.group.restarts()
    found = {worker.name: {"status": _OK, "restarts": restarts[worker.name]}}
    answers = []
    for name, answer in worker.group.ask_others(worker.name, "health").items():
        found[name] = {"status": _OK if answer else "away", "restarts": restarts[name]}
        if answer:
            answers.append(json.loads(answer))
    return dict(sorted(found.items())), answers


def _redaction_part(receiver: Receiver) -> dict[str, Any]:
    """Return whether redaction works, and whose requests are refused because they took their CPU time."""
    waiting = receiver.allowances.used_up()
    return {"status": _OK if receiver.works() else "failing"} | ({_USED_UP: waiting} if waiting else {})


def _spool_part(spool: Transport, now: SpoolStatus) -> dict[str, Any]:
    lost = {"lost": asdict(now.loss) | {"next": _ACKNOWLEDGE}} if now.loss else {}
    return {**spool.health(now), **lost}


def _foreign_part(name: str, now: SpoolStatus | None) -> dict[str, Any]:
    """Return what the spool knows of an exporter to which another process delivers, or none any more."""
    lag = {"lag": asdict(now.lag[name])} if now else {}
    if now and name in now.detached:
        return {"status": "detached", "problem": "nobody delivers to it any more; what it has not got is kept", **lag}
    return {"status": _ELSEWHERE, **lag}


def _exporter_part(delivery: Delivery, now: SpoolStatus | None) -> dict[str, Any]:
    lag = now.lag.get(delivery.name) if now else None
    part: dict[str, Any] = {"status": _OK}
    if delivery.problem:
        part = {"status": "waiting", "problem": delivery.problem}
    elif delivery.refusing:
        part = {"status": "refusing", "problem": delivery.refusing}
    return part | delivery.state() | ({"lag": asdict(lag)} if lag else {})
