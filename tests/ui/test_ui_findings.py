"""Findings over time on the page of privacy: what the counters of a gateway gained, quarter by quarter."""

from datetime import UTC, datetime, timedelta

from pydantic import SecretStr
from starlette.testclient import TestClient

from otel_telemetry.gateway.receive.auth import Keys
from otel_telemetry.gateway.serve.page import Insight
from otel_telemetry.processors.config import RedactionSettings
from otel_telemetry.ui.access import Access
from otel_telemetry.ui.app import make_page
from otel_telemetry.ui.config import UiSettings
from otel_telemetry.ui.history import History, Key
from otel_telemetry.ui.reading import Reading

START = datetime(2026, 11, 30, 10, 7, tzinfo=UTC)
EMAIL: Key = ("EMAIL", "email", "shop")
PHONE: Key = ("PHONE", "phone", "chat")


class Counters:
    """Counters of a gateway, and a clock."""

    def __init__(self) -> None:
        self.counts: dict[Key, float] = {}
        self.now = START

    def history(self) -> History:
        return History(lambda: self.counts, self.time)

    def time(self) -> float:
        return self.now.timestamp()

    def text(self) -> bytes:
        lines = ["# TYPE otel_telemetry_redactions_total counter"]
        for (type_, rule, service), value in self.counts.items():
            labels = f'type="{type_}",rule="{rule}",service="{service}"'
            lines.append(f"otel_telemetry_redactions_total{{{labels}}} {value}")
        return ("\n".join(lines) + "\n").encode()


def test_what_was_gained_counts_for_its_quarter_and_what_was_there_before_for_none():
    gateway = Counters()
    gateway.counts = {EMAIL: 100.0}
    history = gateway.history()
    history.note()
    assert history.since == START
    for minutes, counts in ((1, {EMAIL: 103.0}), (2, {EMAIL: 103.0, PHONE: 1.0}), (20, {EMAIL: 104.0, PHONE: 1.0})):
        gateway.now, gateway.counts = START + timedelta(minutes=minutes), counts
        history.note()
    found = dict(history.within(START - timedelta(hours=1), START + timedelta(hours=1)))
    quarter = START.replace(minute=0)
    assert found == {quarter: {EMAIL: 3, PHONE: 1}, quarter + timedelta(minutes=15): {EMAIL: 1}}
    assert list(history.within(quarter + timedelta(minutes=15), START + timedelta(hours=1))) == [
        (quarter + timedelta(minutes=15), {EMAIL: 1})
    ]


def test_counters_that_begin_anew_take_nothing_away():
    gateway = Counters()
    history = gateway.history()
    for minutes, count in enumerate((5.0, 9.0, 2.0, 6.0)):
        gateway.now, gateway.counts = START + timedelta(minutes=minutes), {EMAIL: count}
        history.note()
    assert [found for _, found in history.within(START - timedelta(hours=1), gateway.now)] == [{EMAIL: 4 + 4}]


def test_no_more_than_a_week_is_kept():
    gateway = Counters()
    history = gateway.history()
    for quarter in range(7 * 96 + 5):
        gateway.now, gateway.counts = START + quarter * timedelta(minutes=15), {EMAIL: float(quarter)}
        history.note()
    assert len(list(history.within(START - timedelta(days=1), gateway.now + timedelta(days=1)))) == 7 * 96


def nothing(*_: object) -> None:
    """Stand for what this page does not ask."""


def test_the_page_shows_them_along_time_by_type_rule_and_service(url: str):
    gateway = Counters()
    insight = Insight(dict, gateway.text, nothing, nothing)  # type: ignore[arg-type]
    keys = Keys([SecretStr("read:k")])
    page = make_page(Reading(url), RedactionSettings(), UiSettings(), Access(keys, b"s" * 32), insight)
    client = TestClient(page, base_url="http://127.0.0.1", headers={"x-api-key": "k"})
    assert "Nothing was found in this time." in client.get("/ui/privacy").text
    gateway.counts = {EMAIL: 12.0, ("PHONE", "<b>", "chat"): 2.0}
    shown = client.get("/ui/privacy?range=6h").text
    assert "14 findings" in shown
    for cell in (">EMAIL<", ">email<", ">shop<", ">12<", "&lt;b&gt;"):
        assert cell in shown
