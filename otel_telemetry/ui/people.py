"""Sessions in order, users with their requests and cost, and what an erasure of one person would delete."""

from http import HTTPStatus
from typing import Any, Final

import sqlalchemy as sa
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from otel_telemetry.exporters.request_log.operate import browse, conversations, figures
from otel_telemetry.exporters.request_log.operate.erase_search import Person, Search
from otel_telemetry.exporters.request_log.operate.report_groups import Period, Row
from otel_telemetry.ui import asked
from otel_telemetry.ui.asked import View
from otel_telemetry.ui.pages import SIZE, Pages
from otel_telemetry.ui.problems import Problem

_MOST_USERS: Final = 200
_SUMMED: Final = ("prompt_tokens", "completion_tokens", "llm_calls")


class People:
    """The pages of sessions and users."""

    def __init__(self, pages: Pages) -> None:
        self._pages = pages

    def routes(self, root: str) -> list[Route]:
        """Return the routes."""
        found = {
            "/sessions": self.sessions,
            "/sessions/{id:path}": self.session,
            "/users": self.users,
            "/users/{id:path}": self.erasure,
        }
        return [Route(root + path, page, methods=["GET"]) for path, page in found.items()]

    def sessions(self, request: Request) -> Response:
        """Show sessions, by their newest request."""
        view = self._pages.view(request)
        if view.order != "time":
            raise Problem(HTTPStatus.BAD_REQUEST, "sessions stand in order of time", "leave `sort` out")
        with self._pages.reading.connection() as connection:
            rows, after = conversations.sessions(connection, view.filters, view.period, after=view.after, size=SIZE)
            choices = browse.offered(connection, view.period)
            newest = None if rows else browse.newest(connection)
        more = view.query(after=asked.mark_text(after, "time")) if after else None
        return self._pages.show(
            "sessions.html", view=view, here="sessions", rows=rows, more=more, choices=choices, newest=newest
        )

    def session(self, request: Request) -> Response:
        """Show one session, first request to last."""
        view, wanted = asked.view(request.query_params), request.path_params["id"]
        texts = self._pages.may_see_texts(request)
        with self._pages.reading.connection() as connection:
            rows = conversations.conversation(connection, wanted, texts=texts) if "\x00" not in wanted else []
        if not rows:
            hint = "it may have been deleted by retention or erasure; look for it in the list of sessions"
            raise Problem(HTTPStatus.NOT_FOUND, f"no session is {wanted[:80]}", hint)
        cut = len(rows) > conversations.MOST
        rows = rows[: conversations.MOST]
        return self._pages.show(
            "session.html",
            view=view, here="sessions", session=wanted, rows=rows, cut=cut, texts=texts, sums=_sums(rows),
            shown=conversations.CUT,
        )  # fmt: skip

    def users(self, request: Request) -> Response:
        """Show who asked, by pseudonym, the most expensive first."""
        view = self._pages.view(request)
        with self._pages.reading.connection() as connection:
            found = figures.of(connection, view.filters, view.period)
            rows = found.by("user")
            choices = browse.offered(connection, view.period)
            newest = None if rows else browse.newest(connection)
        rows = sorted(rows, key=lambda row: (-(row["cost_usd"] or 0), -row["requests"]))
        values: dict[str, Any] = {
            "number": len(rows),
            "rows": rows[:_MOST_USERS],
            "untold": found.approximate and bool(view.filters),
        }
        return self._pages.show("users.html", view=view, here="users", choices=choices, newest=newest, **values)

    def erasure(self, request: Request) -> Response:
        """Show what an erasure of one pseudonym would delete; deletes nothing."""
        view, wanted = asked.view(request.query_params), request.path_params["id"]
        if not self._pages.may_see_texts(request):
            raise Problem(
                HTTPStatus.FORBIDDEN, "the preview of an erasure is for the role admin", "sign in with its key"
            )
        if "\x00" in wanted or not wanted:
            raise Problem(HTTPStatus.NOT_FOUND, "nobody is called that", "look in the list of users")
        with self._pages.written.connection() as connection:
            quick = browse.count(connection, browse.Filters(), Period()) > browse.COUNTED
            counts = Search(connection, Person("user", (wanted,), wanted), quick=quick).run().counts()
            spent = self._spent(connection, view, wanted)
        values: dict[str, Any] = {"user": wanted, "counts": counts, "spent": spent, "quick": quick}
        return self._pages.show("user.html", view=view, here="users", **values)

    @staticmethod
    def _spent(connection: sa.Connection, view: View, user: str) -> Row:
        return figures.FromRows(connection, browse.Filters(user=user), view.period).total()


def _sums(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the sums of what is known of some requests."""
    cost = [row["cost_usd"] for row in rows if row["cost_usd"] is not None]
    found: dict[str, Any] = {name: sum(row[name] or 0 for row in rows) for name in _SUMMED}
    found["cost_usd"] = sum(cost) if cost else None
    found["unpriced"] = sum(row["cost_source"] == "unpriced" for row in rows)
    return found | {"failed": sum(not row["ok"] for row in rows)}
