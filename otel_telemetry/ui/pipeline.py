"""The pipeline of a gateway: what came in, what was refused or dropped and why, where the rest is; replay and drop.

Figures are those of /health and /metrics, over all processes of the gateway, since it was started; what was never
delivered comes from the spool, and from `dead_letter`.
"""

import dataclasses
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any, Final

import sqlalchemy as sa
from prometheus_client.parser import text_string_to_metric_families
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from otel_telemetry.base.errors import ConfigurationError, StoreUnavailable
from otel_telemetry.exporters.request_log.db import schema
from otel_telemetry.gateway.serve.page import Insight
from otel_telemetry.gateway.spool.operator import Count
from otel_telemetry.gateway.spool.reader import DeadLetters
from otel_telemetry.gateway.spool.transport import Operator
from otel_telemetry.ui import forms
from otel_telemetry.ui.problems import Problem

_MOST_LETTERS: Final = 50
_CUT: Final = 500
_EVER: Final = 1 << 62
_PREFIX: Final = "otel_telemetry_"
#: Counters that tell what became of what came in, and the labels by which they are told apart.
_LABELS: Final = {
    "accepted": ("signal",),
    "refused": ("signal", "reason"),
    "dropped": ("signal", "reason"),
    "repeated": ("signal",),
    "delivered": ("exporter", "signal"),
    "rejected": ("exporter", "signal", "reason"),
    "dead_lettered": ("exporter", "reason"),
    "write_failures": ("exporter",),
    "rows_written": ("table",),
}
ACTIONS: Final = {
    "replay": "deliver them once more",
    "drop": "delete them for good",
}
_DONE: Final[dict[str, Callable[[Operator, str], Count]]] = {
    "replay": lambda operator, exporter: operator.replay_dead(exporter, _EVER),
    "drop": lambda operator, exporter: operator.drop_dead(exporter, _EVER),
}

Counts = dict[tuple[str, ...], float]


def counters(text: bytes) -> dict[str, Counts]:
    """Return the counters, summed over processes, by their labels; what was never counted has no entry."""
    found: dict[str, Counts] = {name: {} for name in _LABELS}
    for family in text_string_to_metric_families(text.decode()):
        name = family.name.removeprefix(_PREFIX).removesuffix("_total")
        if name in found:
            for sample in family.samples:
                if not sample.name.endswith("_created"):
                    key = tuple(sample.labels.get(label, "") for label in _LABELS[name])
                    found[name][key] = found[name].get(key, 0.0) + sample.value
    used = {name: [pair for pair in counts.items() if pair[1]] for name, counts in found.items()}
    return {name: dict(sorted(counts, key=lambda pair: -pair[1])) for name, counts in used.items()}


def seen(insight: Insight) -> dict[str, Any]:
    """Return all that the page shows of a gateway."""
    health = insight.health()
    parts = health.get("parts", {})
    return {
        "status": health.get("status", ""),
        "spool": parts.get("spool", {}),
        "exporters": parts.get("exporters", {}),
        "processes": parts.get("processes", {}),
        "redaction": parts.get("redaction", {}),
        "counts": counters(insight.counters()),
        "dead": [dataclasses.asdict(one) | {"since": _moment(one)} for one in dead_letters(insight)],
    }


def _moment(one: DeadLetters) -> datetime:
    return datetime.fromtimestamp(one.since_ns / 1e9, UTC)


def dead_letters(insight: Insight) -> list[DeadLetters]:
    """Return what exporters could not take, by reason."""
    try:
        with insight.reader() as spool:
            return list(spool.dead_letters())
    except (ConfigurationError, StoreUnavailable):
        return []


def stored_letters(connection: sa.Connection) -> list[dict[str, Any]]:
    """Return the newest spans and records that no table would take."""
    letter = schema.dead_letter.c
    columns = [letter[name] for name in ("id", "ts", "signal", "trace_id", "service", "name")]
    reason = sa.func.substr(letter.reason, 1, _CUT).label("reason")
    query = sa.select(*columns, reason).order_by(letter.ts.desc(), letter.id).limit(_MOST_LETTERS)
    return [dict(row) for row in connection.execute(query).mappings()]


async def act(request: Request, insight: Insight, root: str) -> Response:
    """Replay or drop the dead letters of one exporter, if the form confirms it."""
    given = await forms.read(request)
    action, exporter = given.get("action", ""), given.get("exporter", "")
    if action not in _DONE:
        raise Problem(HTTPStatus.BAD_REQUEST, f"there is no action {action[:80]!r}", "choose replay or drop")
    if given.get("sure") != exporter:
        hint = "tick the box beside the button: nothing was changed"
        raise Problem(HTTPStatus.BAD_REQUEST, f"to {action} was not confirmed", hint)
    try:
        with insight.operator() as operator:
            count = _DONE[action](operator, exporter)
    except ConfigurationError as error:
        raise Problem(HTTPStatus.CONFLICT, error.problem, error.hint) from None
    except StoreUnavailable as error:
        raise Problem(HTTPStatus.SERVICE_UNAVAILABLE, str(error), "try again in a moment") from None
    return RedirectResponse(f"{root}/pipeline?done={action}-{count.batches}", HTTPStatus.SEE_OTHER)


def done(request: Request) -> tuple[str, int] | None:
    """Return what was done just now, from the address."""
    action, _, number = request.query_params.get("done", "").partition("-")
    return (action, int(number)) if action in ACTIONS and number.isdecimal() and len(number) < _DIGITS else None


_DIGITS: Final = 10


def series(counts: Counts, index: int) -> Iterator[tuple[str, float]]:
    """Yield sums by one of the labels, the largest first."""
    found: dict[str, float] = {}
    for key, value in counts.items():
        found[key[index]] = found.get(key[index], 0.0) + value
    yield from sorted(found.items(), key=lambda pair: -pair[1])
