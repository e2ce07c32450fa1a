"""Findings over time on the page of privacy: what the database has, with a gateway or without."""

from datetime import UTC, datetime

from starlette.testclient import TestClient

from otel_telemetry.base.redaction_counts import Counts, Key
from otel_telemetry.exporters.request_log.db import database
from otel_telemetry.exporters.request_log.db.redactions import redaction_count
from otel_telemetry.exporters.request_log.store.redactions import Redactions
from tests.ui.conftest import serve


def count(url: str, *given: tuple[Key, int]) -> None:
    counts = Counts()
    for key, number in given:
        counts.add(key, number)
    writer = Redactions(url, counts)
    writer.write()
    writer.close()


def test_the_page_over_a_database_alone_shows_them_by_type_rule_and_service(url: str) -> None:
    client = serve(url)
    assert "Nothing was counted in this database yet." in client.get("/ui/privacy").text
    findings = Key("finding", "EMAIL", "email", "shop"), Key("finding", "PHONE", "<b>", "chat")
    count(url, (findings[0], 12), (findings[1], 2), (Key("leak_check"), 41))
    shown = client.get("/ui/privacy?range=6h").text
    assert "14 findings" in shown
    for cell in (
        ">EMAIL<",
        ">email<",
        ">shop<",
        ">12<",
        "&lt;b&gt;",
        ">41<",
        "none: what was looked at again was clean",
    ):
        assert cell in shown
    early = client.get("/ui/privacy?since=2026-01-01&until=2026-01-02").text
    assert "Nothing was found in this time. The first count is of" in early
    assert datetime.now(UTC).strftime("%Y-%m-%d") in early


def test_leaks_are_told(url: str) -> None:
    count(url, (Key("leak_check"), 5), (Key("leak", "IBAN"), 2))
    assert "IBAN 2, see docs/privacy.md" in serve(url).get("/ui/privacy").text


def test_a_text_can_be_tried_where_the_counts_cannot_be_read(url: str, tmp_path) -> None:  # type: ignore[no-untyped-def]
    own = {"sec-fetch-site": "same-origin"}

    def tried(client: TestClient) -> str:
        answer = client.post("/ui/privacy", data={"text": "write to ann@firm.example"}, headers=own)
        assert answer.status_code == 200
        assert "[REDACTED_EMAIL]" in answer.text
        return answer.text

    assert "there is no database" in tried(serve(f"sqlite:///{tmp_path / 'none.db'}"))
    engine = database.connect(url)
    with engine.begin() as connection:
        redaction_count.drop(connection)
    engine.dispose()
    assert "the database was written by another version" in tried(serve(url))
