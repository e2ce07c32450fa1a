"""What is at each address: pages, and the same as JSON."""

import dataclasses
import json
from collections.abc import Callable, Collection
from contextlib import AbstractContextManager, nullcontext
from datetime import datetime
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import quote

import sqlalchemy as sa
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from otel_telemetry.base.foreign_text import plain
from otel_telemetry.exporters.request_log.db import schema
from otel_telemetry.exporters.request_log.operate import browse, figures, limits, listing, parquet, report_one
from otel_telemetry.ui import asked, assets, charts, export, overview, redacted
from otel_telemetry.ui.asked import View
from otel_telemetry.ui.config import UiSettings
from otel_telemetry.ui.problems import Problem
from otel_telemetry.ui.reading import Reading

SIZE: Final = 50
_TEXT_SHOWN: Final = 20_000
#: Before all ids.
_FIRST: Final = "-"
_FEEDBACK_TEXTS: Final = ("query", "answer", "note")
_HTML: Final = "text/html; charset=utf-8"

Page = Callable[[Request], Response]


class Pages:
    """The pages over one database. `root` is the beginning of all URLs; `texts` decides who may see texts.

    What is no request and no model call is read from `written`, where another database has these alone. `links` is what
    URLs begin with in a browser: `root`, behind what a proxy in front takes away.
    """

    def __init__(
        self,
        reading: Reading,
        settings: UiSettings,
        *,
        root: str,
        texts: Callable[[Request], bool],
        signs_in: Callable[[], bool] = lambda: False,
        written: Reading | None = None,
    ) -> None:
        self.reading = reading
        self.written = reading if written is None or written.url == reading.url else written
        self._settings = settings
        self._root = root
        self.links = settings.prefix + root
        self.may_see_texts = texts
        self._signs_in = signs_in
        self._exports = export.Turns()

    def routes(self) -> list[Route]:
        """Return the routes below `root`."""
        pages: dict[str, Page] = {
            "/": self.overview,
            "/requests": self.requests,
            "/requests.csv": self.export_csv,
            "/requests.jsonl": self.export_lines,
            "/requests.parquet": self.export_parquet,
            "/requests/{id:path}": self.request,
            "/assets/{name}": self.asset,
        }
        return [Route(self._root + path, page, methods=["GET"]) for path, page in pages.items()]

    def api(self, root: str) -> list[Route]:
        """Return the routes of the JSON below another root."""
        pages: dict[str, Page] = {
            "/summary": self.api_summary,
            "/requests": self.api_requests,
            "/requests/{id:path}": self.api_request,
        }
        return [Route(root + path, page, methods=["GET"]) for path, page in pages.items()]

    def show(self, template: str, status: int = HTTPStatus.OK, **values: Any) -> Response:
        """Return a page."""
        common = {
            "root": self.links,
            "ranges": tuple(asked.RANGES),
            "signs_in": self._signs_in(),
        }
        body = assets.page(template, **common, **values)
        return Response(body, status, media_type=_HTML)

    def asset(self, request: Request) -> Response:
        """Return a static file."""
        found = assets.served(request.path_params["name"])
        return found or Response(
            "there is no such file; next: load the page again\n", HTTPStatus.NOT_FOUND, media_type="text/plain"
        )

    def view(self, request: Request) -> View:
        """Return what is asked for; texts are looked through only for those who may see them."""
        found = asked.view(request.query_params)
        if found.filters.text is not None and not self.may_see_texts(request):
            hint = "sign in with a key of the role admin, or leave `text` out"
            raise Problem(HTTPStatus.FORBIDDEN, "your key does not show texts", hint)
        return found

    def overview(self, request: Request) -> Response:
        """Show figures and charts of a period."""
        view = self.view(request)
        with self.reading.connection() as connection, self._beside(connection) as own:
            asked_for = figures.of(connection, view.filters, view.period, times=("latency",))
            found = overview.summary(self.reading, connection, view, asked_for, own)
            drawn = overview.charts(view, asked_for) if found["total"]["requests"] else {}
            choices = _choices(connection, view)
            newest = None if found["total"]["requests"] else browse.newest(connection)
        values: dict[str, Any] = {"found": found, "tiles": overview.tiles(found, view), "charts": drawn}
        return self.show("overview.html", view=view, choices=choices, newest=newest, here="overview", **values)

    def requests(self, request: Request) -> Response:
        """Show a page of the requests that the filters let through."""
        view = self.view(request)
        with self.reading.connection() as connection:
            rows, more, back = _page(connection, view)
            alone = view.filters.text is not None or not (more or view.after)
            number = len(rows) if alone else listing.count(connection, view.filters, view.period)
            choices = _choices(connection, view)
            newest = None if rows else browse.newest(connection)
        values: dict[str, Any] = {"rows": rows, "more": more, "number": number, "counted": browse.COUNTED}
        values |= {"back": back, "searches": self.may_see_texts(request)}
        values |= {"parquet": parquet.is_there(), "columns": view.columns(), "all_columns": asked.COLUMNS}
        return self.show("requests.html", view=view, choices=choices, newest=newest, here="requests", **values)

    def request(self, request: Request) -> Response:
        """Show one request; its address does not depend on a time."""
        zone = asked.view(request.query_params)
        found = self._one(request.path_params["id"])
        if len(found) > 1:
            raise Problem(
                HTTPStatus.MULTIPLE_CHOICES,
                f"{len(found)} requests begin like this",
                f"give more of the id: {', '.join(row.id for row, _, _ in found[:5])}",
            )
        row, calls, feedback = found[0]
        texts = self.may_see_texts(request)
        return self.show(
            "request.html",
            view=zone,
            here="requests",
            row=row,
            calls=calls,
            feedback=feedback,
            texts=texts,
            lanes=charts.timeline(row, calls),
            redacted=redacted.by_type([*map(dataclasses.asdict, (row, *calls)), *(feedback or ())]),
            stages=_stages(row.stage_ms),
            trace_url=_address(self._settings.trace_url, row.trace_id),
            logs_url=_address(self._settings.logs_url, row.trace_id),
            shown=_TEXT_SHOWN,
        )

    def _beside(self, connection: sa.Connection) -> AbstractContextManager[sa.Connection]:
        """Lend a connection to what is written to, beside one to what is read: the same where that is one database."""
        return nullcontext(connection) if self.written is self.reading else self.written.connection()

    def _one(self, wanted: str) -> list[Any]:
        with self.reading.connection() as connection:
            rows = report_one.find(connection, wanted) if "\x00" not in wanted else []
            with self._beside(connection) as own:
                found = [(row, report_one.calls_of(connection, row.id), _feedback(own, row)) for row in rows]
        if not found:
            hint = "it may have been deleted by retention or erasure; look for it in the list of requests"
            raise Problem(HTTPStatus.NOT_FOUND, f"no request is {wanted[:80]}", hint)
        return found

    def export_csv(self, request: Request) -> Response:
        """Return what is filtered as CSV."""
        return self._exported(request, export.csv_lines, "text/csv; charset=utf-8", "csv")

    def export_lines(self, request: Request) -> Response:
        """Return what is filtered as lines of JSON."""
        return self._exported(request, export.json_lines, "application/x-ndjson", "jsonl")

    def export_parquet(self, request: Request) -> Response:
        """Return what is filtered as Parquet."""
        if not parquet.is_there():
            hint = 'pip install "otel-telemetry[parquet]" where this page runs, or take CSV'
            raise Problem(HTTPStatus.NOT_IMPLEMENTED, "Parquet needs the extra parquet", hint)
        return self._exported(request, export.parquet_file, "application/vnd.apache.parquet", "parquet")

    def _exported(self, request: Request, lines: export.Lines, kind: str, ending: str) -> Response:
        view = self.view(request)
        pages = self._exports.held(export.pages(self.reading, view))
        first = next(pages)  # what is wrong shows before the status is sent
        headers = {"content-disposition": f'attachment; filename="requests.{ending}"'}
        if request.method == "HEAD":
            pages.close()
            return Response(headers=headers, media_type=kind)
        return StreamingResponse(lines(first, pages), media_type=kind, headers=headers)

    def api_summary(self, request: Request) -> Response:
        """Return the figures of the overview."""
        view = self.view(request)
        with self.reading.connection() as connection, self._beside(connection) as own:
            found = figures.of(connection, view.filters, view.period)
            return _json(overview.summary(self.reading, connection, view, found, own))

    def api_requests(self, request: Request) -> Response:
        """Return a page of requests; `next` is the query string of the one after it."""
        view = self.view(request)
        with self.reading.connection() as connection:
            rows, more, _ = _page(connection, view)
        return _json({"requests": rows, "next": more})

    def api_request(self, request: Request) -> Response:
        """Return the requests that an id names, with their calls and feedback."""
        texts = self.may_see_texts(request)
        return _json(
            [
                {
                    **_shown_fields(dataclasses.asdict(row), texts=texts),
                    "calls": [_shown_fields(dataclasses.asdict(call), texts=texts) for call in calls],
                    "feedback": None
                    if feedback is None
                    else [_shown_fields(each, texts=texts, names=_FEEDBACK_TEXTS) for each in feedback],
                }
                for row, calls, feedback in self._one(request.path_params["id"])
            ]
        )


def _page(connection: sa.Connection, view: View) -> tuple[list[dict[str, Any]], str | None, datetime | None]:
    """Return a page, the query string of the next one, if there is one, and how far back a search has come."""
    back = None
    if view.filters.text is not None and view.order == "time":
        rows, back = listing.search(connection, view.filters, view.period, after=view.after, size=SIZE + 1)
    else:
        rows = listing.page(connection, view.filters, view.period, order=view.order, after=view.after, size=SIZE + 1)
    if len(rows) > SIZE:
        rows = rows[:SIZE]
        return rows, view.query(after=asked.mark_text(browse.mark(rows[-1], view.order), view.order)), None
    mark = None if back is None else asked.mark_text(browse.PageMark(back, _FIRST), "time")
    return rows, view.query(after=mark) if mark else None, back


def _choices(connection: sa.Connection, view: View) -> dict[str, list[str]]:
    """Return what filters offer: values that can be seen as they are."""
    offered = browse.offered(connection, view.period)
    return {name: [value for value in values if plain(value) == value] for name, values in offered.items()}


def _address(template: str, trace_id: str) -> str:
    return template.replace("{trace_id}", quote(trace_id, safe=""))


def _feedback(connection: sa.Connection, row: Any) -> list[dict[str, Any]] | None:
    """Return what people said of a request; None where the database does not have it."""
    if not limits.has(connection, schema.feedback):
        return None
    feedback = schema.feedback.c
    columns = [feedback[name] for name in ("id", "ts", "verdict", *_FEEDBACK_TEXTS, "scope")]
    query = sa.select(*columns).where(feedback.request_id == row.id).order_by(feedback.ts).limit(report_one.MOST)
    return [dict(each) for each in connection.execute(query).mappings()]


def _stages(stages: Any) -> list[tuple[str, float]]:
    """Return the stages with how long each took, in thousandths of the longest beside it."""
    known = stages if isinstance(stages, dict) else {}
    return [(name, float(ms)) for name, ms in known.items() if isinstance(ms, int | float)]


def _shown_fields(row: dict[str, Any], *, texts: bool, names: Collection[str] = schema.TEXTS) -> dict[str, Any]:
    return row if texts else {key: value for key, value in row.items() if key not in names}


class _Json(JSONResponse):
    def render(self, content: Any) -> bytes:
        return json.dumps(content, default=export.plain_value, ensure_ascii=False).encode()


def _json(content: Any) -> Response:
    return _Json(content)
