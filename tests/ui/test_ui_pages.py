"""The pages: figures that agree with the rows, filters that combine, paging that neither repeats nor hides."""

import csv
import html
import io
import json
import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from otel_telemetry.base.records import Request
from otel_telemetry.exporters.request_log.operate import listing
from tests.ui.conftest import NOW, call, fill, request, serve, several

_ROWS = several()[0]


def ids(client, query: str) -> list[str]:
    """Return the ids of all pages."""
    found, query = [], f"?{query}"
    while query:
        answer = client.get(f"/ui/api/requests{query}")
        assert answer.status_code == 200, answer.text
        found += [row["id"] for row in answer.json()["requests"]]
        query = answer.json()["next"]
    return found


def test_the_overview_sums_up_what_the_rows_say(either):
    total = either.get("/ui/api/summary").json()["total"]
    assert (total["requests"], total["ok"], total["unpriced"]) == (120, 108, 30)
    assert total["cost_usd"] == f"{sum(row.cost_usd for row in _ROWS if row.cost_usd is not None):.12f}"
    page = either.get("/ui/").text
    for shown in ("120", "12", "10.0% of requests", "30 without a price", "$0.5000 and 1.50 s saved", "no_sources"):
        assert f">{shown}<" in page


@pytest.mark.parametrize(
    ("query", "holds"),
    [
        ("", lambda row: True),
        ("route=search", lambda row: row.route == "search"),
        ("route=search&outcome=failed", lambda row: row.route == "search" and not row.ok),
        ("outcome=unpriced", lambda row: row.cost_source == "unpriced"),
        ("outcome=cached", lambda row: row.cache_hit),
        ("degraded=no_sources", lambda row: row.degraded is not None),
        ("user=u1", lambda row: row.user_id == "u1"),
        ("min_ms=150&max_ms=160", lambda row: 150 <= row.latency_ms <= 160),
        ("min_usd=0.1", lambda row: row.cost_usd is not None and row.cost_usd >= 0.1),
        ("absent=cost_usd", lambda row: row.cost_usd is None),
        ("model=large", lambda row: row.latency_ms == 105),  # by the model of one of its calls
        ("service=other", lambda row: False),
        ("text=IS+A+%3Cb%3Erope", lambda row: row.query_text is not None),
        ("text=long+as&route=chat", lambda row: row.answer_text is not None),
        ("text=%25", lambda row: False),
    ],
)
def test_filters_let_through_what_they_say(either, query: str, holds: Callable[[Request], Any]):
    assert sorted(ids(either, query)) == sorted(row.id for row in _ROWS if holds(row))
    number = either.get(f"/ui/api/summary?{query}").json()["total"]["requests"]
    assert number == sum(bool(holds(row)) for row in _ROWS)


@pytest.mark.parametrize("order", ["time", "latency", "cost"])
def test_pages_have_each_row_once_and_in_order(either, order: str):
    found = ids(either, f"sort={order}")
    key = {"time": lambda row: row.ts, "latency": lambda row: row.latency_ms, "cost": lambda row: row.cost_usd}[order]
    known = [row for row in _ROWS if key(row) is not None]
    assert found == [row.id for row in sorted(known, key=lambda row: (key(row), row.id), reverse=True)]


def test_a_search_that_takes_long_says_how_far_back_it_came(client, monkeypatch):
    monkeypatch.setattr(listing, "_SEARCH_SECONDS", -1.0)
    monkeypatch.setattr(listing, "_STEP", timedelta(hours=5))
    since, until = (f"{NOW + timedelta(hours=hours):%Y-%m-%dT%H:%M}" for hours in (-1, 10))
    page = client.get(f"/ui/requests?text=rope&since={since}&until={until}").text
    assert "Not found yet" in page
    assert 'value="rope"' in page
    further = re.search(r'href="([^"]+)">look further back', page)
    assert further
    monkeypatch.setattr(listing, "_SEARCH_SECONDS", 60.0)
    answer = client.get(f"/ui/requests{html.unescape(further[1])}")
    assert f"/ui/requests/{_ROWS[2].id}" in answer.text
    assert "look further back" not in answer.text


def test_links_of_the_list_keep_the_filters(client):
    page = client.get("/ui/requests?route=chat&tz=Europe/Oslo").text
    following = re.search(r'rel="next" href="([^"]+)"', page)
    assert following
    assert "route=chat" in following[1]
    assert "tz=Europe%2FOslo" in following[1]
    assert 'href="/ui/requests?tz=Europe%2FOslo"' in page  # to another page goes the time alone


def test_one_request_shows_its_texts_as_text(client):
    page = client.get(f"/ui/requests/{_ROWS[2].id}").text
    assert "how long is a &lt;b&gt;rope&lt;/b&gt;?" in page
    assert "as long as it is" in page
    assert client.get(f"/ui/requests/{_ROWS[2].trace_id}").status_code == 200


def test_one_request_shows_its_tries_and_what_was_redacted(tmp_path):
    url = f"sqlite:///{tmp_path / 'redacted.db'}"
    asked = request(1, error="no answer for [REDACTED_EMAIL]", meta={"note": ["[REDACTED_CARD]", "[REDACTED_EMAIL]"]})
    sent = [{"content": "mail [REDACTED_EMAIL] <[REDACTED_<b>]>"}]
    fill(url, [asked, request(2)], [call(1, retries=2, chat_request=sent)])
    with serve(url) as client:
        page = client.get(f"/ui/requests/{asked.id}").text
        assert "<li>EMAIL <b>3</b> <small>in chat_request, error, meta</small></li>" in page
        assert "<li>CARD <b>1</b> <small>in meta</small></li>" in page
        assert "50 ms, 3 tries" in page
        assert "No placeholder of redaction" in client.get(f"/ui/requests/{request(2).id}").text


def test_each_id_has_an_address(tmp_path):
    names = ["a/b?c#d", "100%", "\u202ec", "&lt;x"]
    url = f"sqlite:///{tmp_path / 'ids.db'}"
    fill(url, [request(n, id=name) for n, name in enumerate(names)], [])
    with serve(url) as client:
        page = client.get("/ui/requests").text
        links = re.findall(r'<th scope="row"><a href="([^"]+)"', page)
        assert len(links) == len(names)
        assert [client.get(html.unescape(link)).status_code for link in links] == [200] * len(names)
        assert client.get("/ui/requests/a%00b").status_code == 404


def test_users_lead_to_their_requests(client):
    page = client.get("/ui/").text
    assert 'href="/ui/requests?user=u1"' in page
    assert "By user pseudonym" in page


def test_exports_have_all_that_is_filtered(client):
    lines = client.get("/ui/requests.jsonl?route=search").text.splitlines()
    assert len([json.loads(line) for line in lines]) == 40
    rows = list(csv.DictReader(io.StringIO(client.get("/ui/requests.csv?route=search").text)))
    assert len(rows) == 40
    assert {row["route"] for row in rows} == {"search"}


def test_a_text_is_tried_and_not_kept(client):
    own = {"sec-fetch-site": "same-origin"}
    answer = client.post("/ui/privacy", data={"text": "write to ann@firm.example"}, headers=own)
    assert answer.status_code == 200
    assert "<mark>ann@firm.example</mark>" in answer.text
    assert "ann@firm.example" not in client.get("/ui/privacy").text
    assert client.post("/ui/privacy", data={"text": "x" * 30_000}, headers=own).status_code == 413
