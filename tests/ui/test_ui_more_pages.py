"""Sessions, users, workflows, pipeline: what they show, to whom, and when dead letters go."""

import re
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from functools import partial
from pathlib import Path

import pytest
import sqlalchemy as sa
from pydantic import SecretStr
from starlette.testclient import TestClient

from otel_telemetry.exporters.request_log.db import database, schema
from otel_telemetry.exporters.request_log.operate import browse
from otel_telemetry.gateway.receive.auth import Keys
from otel_telemetry.gateway.serve.page import Insight
from otel_telemetry.gateway.spool.operator import Operator
from otel_telemetry.gateway.spool.reader import SpoolReader
from otel_telemetry.gateway.spool.writer import Spool
from otel_telemetry.processors.config import RedactionSettings
from otel_telemetry.ui.access import Access
from otel_telemetry.ui.app import make_page
from otel_telemetry.ui.config import UiSettings
from otel_telemetry.ui.reading import Reading
from tests.ui.conftest import NOW, fill, request, serve

READ, ADMIN = "a-key-that-reads", "a-key-that-may-all"
OWN = {"sec-fetch-site": "same-origin"}
COUNTERS = b"""# TYPE otel_telemetry_accepted_total counter
otel_telemetry_accepted_total{process="a",signal="traces"} 40.0
otel_telemetry_accepted_total{process="b",signal="traces"} 2.0
# TYPE otel_telemetry_dropped_total counter
otel_telemetry_dropped_total{process="a",signal="logs",reason="redaction_failed"} 3.0
"""


@pytest.fixture
def sessions(tmp_path: Path) -> str:
    url = f"sqlite:///{tmp_path / 'sessions.db'}"
    rows = [
        request(n, session_id=f"s{n % 70}", user_id=f"u{n % 3}", cost_usd=Decimal(n) / 10, query_text=f"question {n}")
        for n in range(140)
    ]
    fill(url, rows, [])
    return url


def test_sessions_stand_in_order_of_their_newest_request_each_once(sessions):
    client = serve(sessions)
    first = client.get("/ui/sessions?range=1h")
    assert first.text.count("<tr data-row>") == 50
    following = first.text.split('rel="next" href="')[1].split('"')[0].replace("&amp;", "&")
    second = client.get(f"/ui/sessions{following}").text
    assert second.count("<tr data-row>") == 20
    shown = [f"s{n}" for n in range(70) if f">s{n}<" in first.text]
    assert len(shown) == 50
    assert not [name for name in shown if f">{name}<" in second]
    assert client.get("/ui/sessions?sort=cost").status_code == 400
    assert client.get("/ui/workflows?sort=cost&after=cost~1~x").status_code == 400


def test_a_session_is_told_first_to_last_with_its_sums(sessions):
    page = serve(sessions).get("/ui/sessions/s5").text
    assert page.index("question 75") < page.index("question 5<")
    assert "$8.00" in page
    gone = serve(sessions).get("/ui/sessions/nobody")
    assert gone.status_code == 404
    assert "erasure" in gone.text


def test_users_stand_by_cost_and_an_erasure_is_shown_beforehand(sessions, monkeypatch):
    client = serve(sessions)
    page = client.get("/ui/users?range=1h").text
    assert page.index(">u1<") < page.index(">u0<") or page.index(">u2<") < page.index(">u0<")
    preview = client.get("/ui/users/u1")
    assert preview.status_code == 200
    assert "request_log" in preview.text
    assert "At least" not in preview.text
    rows = re.findall(r'<th scope="row">([a-z_]+)</th><td class="n">([0-9,]+)', preview.text)
    monkeypatch.setattr(browse, "COUNTED", 100)
    quick = client.get("/ui/users/u1").text
    assert "At least these" in quick
    assert re.findall(r'<th scope="row">([a-z_]+)</th><td class="n">([0-9,]+)', quick) == rows
    engine = database.reader(sessions)
    with engine.connect() as connection:
        assert connection.execute(sa.select(sa.func.count()).select_from(schema.request_log)).scalar_one() == 140
    engine.dispose()


def test_steps_stand_as_a_tree_whatever_their_senders_say_of_it(tmp_path):
    url = f"sqlite:///{tmp_path / 'runs.db'}"
    fill(url, [], [])
    engine = database.connect(url)
    steps = [("plan", None), ("search", "plan"), ("read", "search"), ("a", "b"), ("b", "a"), ("lone", "unknown")]
    with engine.begin() as connection:
        run = {"id": "run 1", "name": "research", "status": "completed", "created_at": NOW, "updated_at": NOW}
        connection.execute(sa.insert(schema.workflow_run).values(**run, input={"topic": "<b>ropes</b>"}))
        for n, (name, parent) in enumerate(steps):
            at = NOW + timedelta(seconds=n)
            row = {"id": name, "run_id": "run 1", "parent_step": parent, "name": f"step {name}", "status": "ok"}
            connection.execute(sa.insert(schema.workflow_step).values(**row, start_time=at, end_time=at))
    engine.dispose()
    client = serve(url)
    assert "research" in client.get("/ui/workflows?range=1h").text
    assert "No runs" in client.get("/ui/workflows?range=1h&status=failed").text
    page = client.get("/ui/workflows/run%201").text
    for depth, name in ((0, "plan"), (1, "search"), (2, "read"), (0, "lone")):
        assert f'class="d{depth}">step {name}<' in page
    assert "step a<" in page
    assert "step b<" in page
    assert "&lt;b&gt;ropes" in page
    assert client.get("/ui/workflows/none").status_code == 404


@pytest.fixture
def insight(tmp_path: Path) -> Insight:
    """Return a spool with dead letters, and what a gateway says of itself."""
    folder = tmp_path / "spool"
    spool = Spool(folder, 1 << 24, 24.0)
    spool.attach(["forward.jaeger"])
    spool.append("traces", b"\x0a\x00", 3).result(10)
    with SpoolReader(folder) as reader:
        batch = next(iter(reader.batches()))
    spool.advance("forward.jaeger", [batch], [(batch, "400: <b>no</b>")])
    spool.close()
    health = {
        "status": "degraded",
        "parts": {"exporters": {"forward.jaeger": {"status": "waiting", "circuit": "open"}}},
    }
    return Insight(lambda: health, lambda: COUNTERS, partial(SpoolReader, folder), partial(Operator, folder))


def gateway(url, insight):
    keys = Keys([SecretStr(f"read:{READ}"), SecretStr(f"admin:{ADMIN}")])
    page = make_page(Reading(url), RedactionSettings(), UiSettings(), Access(keys, b"s" * 32), insight)
    return TestClient(page, base_url="http://127.0.0.1", follow_redirects=False)


def test_the_pipeline_shows_what_became_of_what_came_in(url, insight):
    client = gateway(url, insight)
    page = client.get("/ui/pipeline", headers={"x-api-key": READ}).text
    for text in (
        ">42<",
        "redaction_failed",
        "forward.jaeger",
        "open",
        "400: &lt;b&gt;no&lt;/b&gt;",
        "role <code>admin",
    ):
        assert text in page
    assert "Replay" not in page


def test_the_pipeline_names_kafka_where_topics_are_in_the_spools_place(url, insight):
    spool = {"status": "ok", "transport": "kafka", "brokers": "kafka-1:9092", "batches": 1234}
    lag = {"batches": 7, "items": None, "bytes": None, "seconds": 2.0}
    parts = {"spool": spool, "exporters": {"request_log": {"status": "ok", "circuit": "closed", "lag": lag}}}
    with_kafka = replace(insight, health=lambda: {"status": "ok", "parts": parts})
    page = gateway(url, with_kafka).get("/ui/pipeline", headers={"x-api-key": READ}).text
    for text in ("kafka-1:9092", "1,234", ">7<"):
        assert text in page
    assert "of 0 MB" not in page
    assert ">None<" not in page


def test_dead_letters_go_only_where_an_admin_is_sure(url, insight):
    client = gateway(url, insight)
    form = {"action": "drop", "exporter": "forward.jaeger"}
    sure = form | {"sure": "forward.jaeger"}

    def post(data, key=ADMIN):
        return client.post("/ui/pipeline", data=data, headers={**OWN, "x-api-key": key})

    def left():
        with insight.reader() as spool:
            return sum(one.items for one in spool.dead_letters())

    assert post(sure, READ).status_code == 403
    assert post(form).status_code == 400
    assert post(sure | {"action": "burn"}).status_code == 400
    assert post({"action": "drop", "exporter": "other", "sure": "other"}).status_code == 409
    assert client.post("/ui/pipeline", data=sure, headers={"x-api-key": ADMIN}).status_code == 403
    assert left() == 3
    assert post(sure | {"action": "replay"}).headers["location"] == "/ui/pipeline?done=replay-1"
    assert left() == 3
    assert post(sure).headers["location"] == "/ui/pipeline?done=drop-1"
    assert left() == 0
    assert "1 dead letters" in client.get("/ui/pipeline?done=drop-1", headers={"x-api-key": ADMIN}).text


def test_a_page_over_a_database_alone_says_where_the_pipeline_is(url):
    client = serve(url)
    assert "otel-telemetry serve" in client.get("/ui/pipeline").text
    answer = client.post("/ui/pipeline", data={"action": "drop", "exporter": "x", "sure": "x"}, headers=OWN)
    assert answer.status_code == 409
