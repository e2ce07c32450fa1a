"""The pages about the gateway itself: its pipeline, and what it redacts; with the box that tries a text."""

import asyncio
from dataclasses import replace
from http import HTTPStatus
from typing import Any

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from otel_telemetry.exporters.request_log.operate import redactions
from otel_telemetry.gateway.serve.page import Insight
from otel_telemetry.processors.config import RedactionSettings
from otel_telemetry.ui import asked, forms, pipeline, trial, words
from otel_telemetry.ui.asked import View
from otel_telemetry.ui.charts import bars
from otel_telemetry.ui.guard import roles_of
from otel_telemetry.ui.pages import Pages
from otel_telemetry.ui.problems import Problem
from otel_telemetry.ui.proof import Proofs


class Plant:
    """The pages of pipeline and privacy. `insight` is None where the page is over a database alone."""

    def __init__(self, pages: Pages, redaction: RedactionSettings, insight: Insight | None) -> None:
        self._pages = pages
        self._redaction = redaction
        self._insight = insight
        self._proofs = Proofs(redaction)

    def routes(self, root: str) -> list[Route]:
        """Return the routes."""
        return [
            Route(f"{root}/pipeline", self.pipeline, methods=["GET"]),
            Route(f"{root}/pipeline", self.act, methods=["POST"]),
            Route(f"{root}/privacy", self.privacy, methods=["GET", "POST"]),
            Route(f"{root}/privacy/verify", self.verify, methods=["POST"]),
        ]

    def pipeline(self, request: Request) -> Response:
        """Show what came in, and what became of it."""
        done = pipeline.done(request)
        view = asked.view(asked.without(request.query_params, "done"))
        seen = pipeline.seen(self._insight) if self._insight else None
        with self._pages.written.connection() as connection:
            letters = pipeline.stored_letters(connection)
        values: dict[str, Any] = {"seen": seen, "letters": letters, "zone": view.zone, "actions": pipeline.ACTIONS}
        may_act = self._insight is not None and "admin" in roles_of(request)
        return self._pages.show("pipeline.html", view=view, here="pipeline", may_act=may_act, done=done, **values)

    async def act(self, request: Request) -> Response:
        """Replay or drop dead letters, for the role admin."""
        if self._insight is None:
            raise Problem(HTTPStatus.CONFLICT, "there is no gateway behind this page", "open /ui of the gateway")
        if "admin" not in roles_of(request):
            raise Problem(HTTPStatus.FORBIDDEN, "replay and drop are for the role admin", "sign in with its key")
        return await pipeline.act(request, self._insight, self._pages.links)

    async def privacy(self, request: Request) -> Response:
        """Show what was redacted, and try a text."""
        view = asked.view(request.query_params)
        found, key = await trial.tried(request, self._redaction) if request.method == "POST" else (None, "")
        values: dict[str, Any] = {"found": found, "key": key, "problem": None, "counts": None}
        try:
            values |= await asyncio.to_thread(self._counted, view)
        except Problem as problem:  # texts are tried without a database too
            values["problem"] = problem
        values["proof"] = self._proofs.state()
        return self._pages.show("privacy.html", view=view, here="privacy", **values)

    async def verify(self, request: Request) -> Response:
        """Begin to prove what is covered; the page of privacy shows what comes of it."""
        await forms.read(request)
        self._proofs.start()
        return RedirectResponse(f"{self._pages.links}/privacy#proof", HTTPStatus.SEE_OTHER)

    def _counted(self, view: View) -> dict[str, Any]:
        """Return what redaction counted in a period: sums, and a chart along time."""
        step = max(view.step, redactions.QUARTER)
        with self._pages.written.connection() as connection:
            counts = redactions.counted(connection, view.period)
            along = redactions.along(connection, view.period, step)
            first = redactions.first(connection)
        steps = {number: {"findings": count} for number, count in along.items()}
        chart = bars(
            replace(view, step=step), steps, lambda row: [("one", float(row["findings"]))], words.short, "findings"
        )
        return {"counts": counts, "chart": chart, "first": first}
