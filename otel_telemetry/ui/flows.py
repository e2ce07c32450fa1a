"""Workflows: runs, newest first, and the steps of one as a tree with states and durations."""

from http import HTTPStatus
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from otel_telemetry.exporters.request_log.operate import workflows
from otel_telemetry.exporters.request_log.operate.browse import PageMark
from otel_telemetry.exporters.request_log.operate.report_groups import Row
from otel_telemetry.ui import asked
from otel_telemetry.ui.pages import SIZE, Pages
from otel_telemetry.ui.problems import Problem

_SCALE: Final = 1_000


class Flows:
    """The pages of workflows."""

    def __init__(self, pages: Pages) -> None:
        self._pages = pages

    def routes(self, root: str) -> list[Route]:
        """Return the routes."""
        found = {"/workflows": self.runs, "/workflows/{id:path}": self.run}
        return [Route(root + path, page, methods=["GET"]) for path, page in found.items()]

    def runs(self, request: Request) -> Response:
        """Show runs; `status` and `name` are asked for beside the time."""
        params = request.query_params
        view = asked.view(asked.without(params, "status", "name"))
        if view.order != "time":
            raise Problem(HTTPStatus.BAD_REQUEST, "workflows stand in order of time", "leave `sort` out")
        own = {name: params.get(name, "").strip() or None for name in ("status", "name")}
        if any("\x00" in (value or "") for value in own.values()):
            raise Problem(HTTPStatus.BAD_REQUEST, "no stored value is like that", "take the filter away")
        with self._pages.written.connection() as connection:
            rows = workflows.runs(connection, view.period, **own, after=view.after, size=SIZE + 1)
        more = None
        if len(rows) > SIZE:
            rows = rows[:SIZE]
            more = view.query(**own, after=asked.mark_text(PageMark(rows[-1]["created_at"], rows[-1]["id"]), "time"))
        return self._pages.show("workflows.html", view=view, here="workflows", rows=rows, more=more, own=own)

    def run(self, request: Request) -> Response:
        """Show one run."""
        view, wanted = asked.view(request.query_params), request.path_params["id"]
        texts = self._pages.may_see_texts(request)
        with self._pages.written.connection() as connection:
            row = workflows.run(connection, wanted, texts=texts) if "\x00" not in wanted else None
            if row is None:
                hint = "it may have been deleted by retention or erasure; look for it in the list of workflows"
                raise Problem(HTTPStatus.NOT_FOUND, f"no run is {wanted[:80]}", hint)
            steps = workflows.steps(connection, wanted, texts=texts)
            calls = workflows.calls_of(connection, row)
            events = workflows.events_of(connection, wanted)
        values: dict[str, Any] = {"row": row, "steps": _drawn(steps), "calls": calls, "events": events, "texts": texts}
        return self._pages.show("workflow.html", view=view, here="workflows", most=workflows.MOST, **values)


def _drawn(steps: list[tuple[int, Row]]) -> list[dict[str, Any]]:
    """Return steps with their bars, in thousandths of the time from the first beginning to the last end."""
    begins = [row["start_time"] for _, row in steps if row["start_time"]]
    ends = [row["end_time"] for _, row in steps if row["end_time"]]
    first = min(begins, default=None)
    whole = workflows.took(first, max([*ends, *begins], default=None)) or 1.0
    found = []
    for depth, row in steps:
        at, length = workflows.took(first, row["start_time"]), workflows.took(row["start_time"], row["end_time"])
        bar = None if at is None else (round(at / whole * _SCALE, 2), round(max((length or 0) / whole * _SCALE, 2), 2))
        found.append({**row, "depth": depth, "took": length, "bar": bar})
    return found
