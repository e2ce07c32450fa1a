"""Read-only queries for reports.

Sums are returned as maps; report_groups.py and report_subjects.py define their keys. Rows are returned as records. Rows
without a value (time to first byte or cost unknown) are left out of the percentile or sum, and counted where that
matters. Every query takes a period in UTC.
"""

from collections.abc import Sequence
from typing import Final, Self

import sqlalchemy as sa

from otel_telemetry.base import records
from otel_telemetry.exporters.request_log.config import RequestLogSettings
from otel_telemetry.exporters.request_log.db import schema
from otel_telemetry.exporters.request_log.kpis.definitions import Kpi
from otel_telemetry.exporters.request_log.operate import (
    limits,
    report_kpis,
    report_one,
    report_subjects,
    report_sums,
)
from otel_telemetry.exporters.request_log.operate.narrowed import narrowed
from otel_telemetry.exporters.request_log.operate.report_groups import (
    BUCKETS,
    CALLS,
    REQUESTS,
    Period,
    Row,
    Subject,
)

_log: Final = schema.request_log.c
_ALWAYS: Final = Period()

#: By what each question can be asked.
REQUESTS_BY: Final = (*BUCKETS, *REQUESTS.dimensions)
CALLS_BY: Final = (*BUCKETS, *CALLS.dimensions)
CACHE_BY: Final = (*BUCKETS, *report_subjects.CACHE_BY)
FEEDBACK_BY: Final = report_subjects.FEEDBACK_BY


class ReportQueries:
    """Queries over one database. Use as a context manager, or `close` it."""

    def __init__(self, config: RequestLogSettings) -> None:
        self._engine = limits.unlimited(config.url)
        #: Whether the percentiles of the last answer are from bins.
        self.approximate = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the database."""
        self._engine.dispose()

    def latest(self, limit: int = 20, period: Period = _ALWAYS) -> list[records.Request]:
        """Return the latest requests, newest first."""
        query = sa.select(schema.request_log).where(period.of(_log.ts)).order_by(_log.ts.desc(), _log.id).limit(limit)
        with self._engine.connect() as connection:
            rows = connection.execute(narrowed(connection, schema.request_log, query)).mappings()
            return [records.Request(**row) for row in rows]

    def calls_of(self, request_id: str) -> list[records.LlmCall]:
        """Return the model calls of a request, in order of time."""
        with self._engine.connect() as connection:
            return report_one.calls_of(connection, request_id)

    def find(self, wanted: str) -> list[records.Request]:
        """Return the requests that an id, the beginning of one, a trace or a model call names, oldest first."""
        with self._engine.connect() as connection:
            return report_one.find(connection, wanted)

    def requests(self, by: Sequence[str] = ("route",), period: Period = _ALWAYS, *, exact: bool = True) -> list[Row]:
        """Return cost, latency and outcome of requests by what REQUESTS_BY names; see `report_sums.groups`."""
        return self._groups(REQUESTS, by, period, exact=exact)

    def calls(self, by: Sequence[str] = ("model",), period: Period = _ALWAYS, *, exact: bool = True) -> list[Row]:
        """Return cost and latency of model calls by what CALLS_BY names."""
        return self._groups(CALLS, by, period, exact=exact)

    def cache(self, by: Sequence[str] = ("route",), period: Period = _ALWAYS) -> list[Row]:
        """Return how often requests were answered from the cache, and what that saved, by what CACHE_BY names."""
        with self._engine.connect() as connection:
            return report_subjects.cache(connection, by, period)

    def feedback(self, by: Sequence[str] = ("route", "model"), period: Period = _ALWAYS) -> list[Row]:
        """Return what people thought of the answers, by what FEEDBACK_BY names."""
        with self._engine.connect() as connection:
            return report_subjects.feedback(connection, by, period)

    def kpis(self, asked: Sequence[Kpi], by: Sequence[str], period: Period = _ALWAYS) -> list[Row]:
        """Return users' own figures by what `report_kpis.choices` names."""
        with self._engine.connect() as connection:
            return report_kpis.kpis(connection, asked, by, period)

    def _groups(self, subject: Subject, by: Sequence[str], period: Period, *, exact: bool) -> list[Row]:
        with self._engine.connect() as connection:
            rows, self.approximate = report_sums.groups(connection, subject, by, period, exact=exact)
        return rows
