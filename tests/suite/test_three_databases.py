"""SQLite, PostgreSQL and ClickHouse answer alike: what commands print over the same rows is the same text."""

import json
import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

from otel_telemetry.base import records
from otel_telemetry.base.errors import ConfigurationError, StoreUnavailable
from otel_telemetry.cli import app
from otel_telemetry.exporters.request_log.clickhouse import reader
from otel_telemetry.exporters.request_log.operate import limits
from tests import long
from tests.ui.conftest import fill, request, several

NAMES = ("sqlite", "postgres", "clickhouse")
#: What a query language, a shell or a file format would take for its own.
HOSTILE = ("it's", 'a "quote"', "back\\slash", "tab\tline\nend\r.", "100% {x:String}", "%(name)s", "ø 漢 🎿", "$1 ? :a")
KPIS = """
[kpi.words]
source = "requests"
kind = "histogram"
value = "meta.words"
buckets = [10, 100]

[kpi.words.labels]
route = { path = "route", most = 20 }

[kpi.calls]
source = "calls"
kind = "counter"

[kpi.judged]
source = "feedback"
kind = "counter"
"""
QUESTIONS = (
    *("route", "endpoint", "day", "hour", "model", "provider", "service", "region", "user", "degraded", "day,model"),
    *("hour,route,user", "cache", "cache,day", "request"),
)


def rows() -> tuple[list[records.Request], list[records.LlmCall]]:
    """Return the page's rows, and requests with hostile values, endpoints, and costs of every digit."""
    requests, calls = several()
    for number, text in enumerate(HOSTILE):
        requests.append(
            request(200 + number, route=text, user_id=text, error=text, meta={"http_route": text}, ok=False)
        )
        requests[number].meta = {"http_route": f"/ask/{number}", "words": number + 0.1, "cache_saved_usd": 1e-7}
        requests[number].cache_hit = True
        requests[number].cost_usd = Decimal("0.123456789012") + number if number % 2 else None
    calls[3].ok, calls[3].model, calls[3].model_requested = False, "m", "m"
    calls[2].model, calls[2].model_requested = "m-2026", "m"
    calls[2].chat_request = [{"content": HOSTILE[3]}]
    return requests, calls


@pytest.fixture(name="urls")
def urls_fixture(with_tables: Callable[[str], str], as_read: Callable[..., str]) -> dict[str, str]:
    """Return the same rows in each database: by its name the URL."""
    urls = {}
    for name in NAMES:
        url = with_tables(name)
        fill(url, *rows())
        urls[name] = as_read(name, url, once="three_databases")
    return urls


def run(url: str, *words: str) -> str:
    result = CliRunner().invoke(app, [*words, "--db", url], env={"COLUMNS": "400"}, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


SOME = (
    *(["report", "--by", by] for by in ("route", "day", "model", "endpoint")),
    *(["report", "--by", by, "--json"] for by in ("cache", "request")),
    *(["report", "--kpi", "words"], ["show", request(3).trace_id, "--json"], ["export", "-f", f"user={HOSTILE[2]}"]),
)
ALL = (
    *(["report", "--by", by, *how] for by in QUESTIONS for how in ([], ["--json"])),
    *(["report", "--by", by, "--csv", "--exact", "--since", "2h"] for by in QUESTIONS[:5]),
    *(["report", "--kpi", "words,calls", "--by", by, "--json"] for by in ("day", "hour")),
    *(["show", request(number).id] for number in range(5)),
    *(["export", "-f", each] for each in ("sort=cost", "outcome=failed", f"route={HOSTILE[3]}", "text=ROPE")),
    *(["export", "-f", f"user={text}"] for text in HOSTILE),
)


@pytest.mark.parametrize("asked", [SOME, pytest.param(ALL, marks=long.only_in("e2e"))], ids=["some", "all"])
def test_commands_print_the_same(
    urls: dict[str, str], asked: Sequence[list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("otel-telemetry.toml").write_text(KPIS)
    for words in asked:
        found = [run(url, *words) for url in urls.values()]
        if "--json" in words:
            found = [json.dumps(plain(json.loads(text)), sort_keys=True) for text in found]
        if words[0] == "export":  # PostgreSQL keeps zeros at the end of money
            found = [re.sub(r"(\.\d*[1-9])0+(?=,)", r"\1", text) for text in found]
        assert found[0] == found[1] == found[2], words
        assert len(found[0].splitlines()) > 1 or "--json" in words, words


def plain(value: Any) -> Any:
    """Return what JSON says, money without the zeros at its end that PostgreSQL keeps."""
    if isinstance(value, dict):
        return {name: plain(each) for name, each in value.items()}
    if isinstance(value, list):
        return [plain(each) for each in value]
    if isinstance(value, str) and "." in value and value.replace(".", "").isdecimal():
        return value.rstrip("0").rstrip(".")
    return value


def test_what_clickhouse_does_not_have_is_told_with_the_next_step(
    urls: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("otel-telemetry.toml").write_text(KPIS)
    for words in (["report", "--by", "feedback"], ["report", "--kpi", "judged"]):
        with pytest.raises(ConfigurationError, match=r"requests and model calls, but no feedback(?s:.)*--db"):
            run(urls["clickhouse"], *words)
    for words in (["tail"], ["rollups"], ["trim", "--older-than", "9d"], ["anomalies"], ["copy", urls["sqlite"]]):
        with pytest.raises(ConfigurationError, match=r"ClickHouse is only read, by report, show, export and ui"):
            run(urls["clickhouse"], *words)


def test_a_query_ends_with_its_time_its_rows_and_its_rights(urls: dict[str, str]) -> None:
    for text, seconds, most, ends in (
        ("SELECT count() FROM numbers(1000000000000) WHERE NOT ignore(number)", 0.2, 0, limits.is_stopped),
        ("SELECT number FROM numbers(1000)", 5, 100, limits.is_too_much),
        ("ALTER TABLE request_log DELETE WHERE 1", 5, 0, lambda error: "readonly" in str(error)),
    ):
        engine = reader.reader(urls["clickhouse"], seconds, most)
        with engine.connect() as connection, pytest.raises(sa.exc.DBAPIError) as raised:
            connection.exec_driver_sql(text).all()
        assert ends(raised.value), raised.value


def test_values_come_back_as_they_went(urls: dict[str, str]) -> None:
    texts = [*HOSTILE, *map(chr, range(1, 160)), "\0", ""]
    with limits.unlimited(urls["clickhouse"]).connect() as connection:
        assert list(connection.execute(sa.select(*map(sa.literal, texts))).one()) == texts
        given = (True, 2**62, 0.1, 5e-324, Decimal("0.000000000001"), None)
        assert tuple(connection.execute(sa.select(*map(sa.literal, given))).one()) == given
        now = datetime(2026, 11, 30, 12, 0, 0, 123_456, tzinfo=UTC)
        assert connection.execute(sa.select(sa.literal(now, sa.DateTime(timezone=True)))).scalar() == now


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("clickhouse://u:secret@127.0.0.1:9/a-b", "not the URL of a ClickHouse server"),
        ("clickhouse://u:secret@127.0.0.1:9", "not the URL of a ClickHouse server"),
        ("clickhouse", "is not set"),
    ],
)
def test_a_wrong_url_is_told_without_its_password(url: str, says: str) -> None:
    with pytest.raises(ConfigurationError, match=says) as raised:
        run(url, "report")
    assert "secret" not in str(raised.value)


def test_a_server_that_is_away_and_one_without_tables(urls: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(StoreUnavailable, match="does not answer") as raised:
        run("clickhouse+https://u:secret@127.0.0.1:9/telemetry", "report")
    assert "secret" not in str(raised.value)
    with pytest.raises(ConfigurationError, match="otel-telemetry clickhouse init"):
        run(urls["clickhouse"].rpartition("/")[0] + "/nothing", "report")
    sent_to = urls["clickhouse"].replace("clickhouse://", "http://")
    monkeypatch.setenv("OTEL_TELEMETRY_REQUEST_LOG__CLICKHOUSE__URL", sent_to)
    assert run("clickhouse", "report") == run(urls["sqlite"], "report")
