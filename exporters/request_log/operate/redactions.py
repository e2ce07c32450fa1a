"""What redaction counted in a period: findings along time and by type, rule and service; leak checks and leaks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

import sqlalchemy as sa

from otel_telemetry.exporters.request_log.db import rollups
from otel_telemetry.exporters.request_log.db.redactions import redaction_count
from otel_telemetry.exporters.request_log.operate.report_groups import Period

#: What counts are stored by: no step of time is shorter.
QUARTER: Final = timedelta(minutes=rollups.QUARTER)
_own: Final = redaction_count.c


@dataclass(frozen=True, slots=True)
class Finding:
    """Findings of one type, rule and service; the last was in the quarter of an hour that begins at `last`."""

    type: str
    rule: str
    service: str
    number: int
    last: datetime


@dataclass(frozen=True, slots=True)
class Counted:
    """The counts of a period; `checked` is when the last leak check was, None where there was none."""

    findings: Sequence[Finding]
    checks: int
    checked: datetime | None
    leaks: Mapping[str, int]

    def by(self, name: str) -> list[tuple[str, int]]:
        """Return findings by type, rule or service, the most first."""
        sums: dict[str, int] = {}
        for one in self.findings:
            word = getattr(one, name)
            sums[word] = sums.get(word, 0) + one.number
        return sorted(sums.items(), key=lambda pair: (-pair[1], pair[0]))


def counted(connection: sa.Connection, period: Period) -> Counted:
    """Return the counts of the quarters of an hour that begin in a period."""
    columns = _own.what, _own.type, _own.rule, _own.service
    sums = sa.select(*columns, sa.func.sum(_own.number), sa.func.max(_own.start)).where(*_within(period))
    findings, leaks, checks, checked = [], {}, 0, None
    for what, type_, rule, service, number, last in connection.execute(sums.group_by(*columns)):
        at = datetime.fromtimestamp(last, UTC)
        if what == "finding":
            findings.append(Finding(type_, rule, service, int(number), at))
        elif what == "leak":
            leaks[type_] = int(number)
        else:
            checks, checked = int(number), at
    findings.sort(key=lambda one: (-one.number, one.type, one.rule, one.service))
    return Counted(findings, checks, checked, leaks)


def along(connection: sa.Connection, period: Period, step: timedelta) -> dict[int, int]:
    """Return findings by steps of time from `period.since` on, numbered from 0; empty ones are left out."""
    if period.since is None:
        raise ValueError("steps of time need a beginning")
    begin, width = period.since.timestamp(), step.total_seconds()
    query = sa.select(_own.start, sa.func.sum(_own.number)).where(_own.what == "finding", *_within(period))
    found: dict[int, int] = {}
    for start, number in connection.execute(query.group_by(_own.start)):
        at = int((start - begin) // width)
        found[at] = found.get(at, 0) + int(number)
    return found


def first(connection: sa.Connection) -> datetime | None:
    """Return the beginning of the first quarter that has any count; None where nothing was ever counted."""
    start = connection.execute(sa.select(sa.func.min(_own.start))).scalar()
    return None if start is None else datetime.fromtimestamp(start, UTC)


def _within(period: Period) -> list[sa.ColumnElement[bool]]:
    found = []
    if period.since is not None:
        found.append(_own.start >= int(period.since.timestamp()))
    if period.until is not None:
        found.append(_own.start < int(period.until.timestamp()))
    return found
