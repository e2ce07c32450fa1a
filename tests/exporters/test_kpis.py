"""Users' own figures: definitions that are right, definitions that are wrong, and values of every kind."""

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from otel_telemetry import settings
from otel_telemetry.base.errors import ConfigurationError
from otel_telemetry.exporters.request_log.kpis.config import KpiSettings
from otel_telemetry.exporters.request_log.kpis.definitions import compiled, of_map, path

COUNTER = {"source": "requests", "kind": "counter"}


@pytest.fixture(autouse=True)
def _own_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("given", "key", "says"),
    [
        ({"a_b": {**COUNTER, "source": "rows"}}, "kpi.a_b.source", "requests"),
        ({"a_b": {**COUNTER, "kinds": "x"}}, "kpi.a_b.kinds", "no such setting"),
        ({"a_b": {**COUNTER, "value": "promt_tokens"}}, "kpi.a_b.value", "did you mean prompt_tokens?"),
        ({"a_b": {**COUNTER, "where": {"rout": "x"}}}, "kpi.a_b.where", "did you mean route?"),
        ({"a_b": {**COUNTER, "value": "a..b"}}, "kpi.a_b.value", "no path"),
        ({"a_b": {**COUNTER, "labels": {"r": {"path": "route"}}}}, "kpi.a_b.labels.r", "no bound"),
        ({"a_b": {**COUNTER, "labels": {"r": {"path": "route", "most": 0}}}}, "kpi.a_b.labels.r.most", ""),
        ({"a_b": {**COUNTER, "labels": {"r": {"path": "route", "most": 9_999}}}}, "kpi.a_b.labels.r.most", ""),
        ({"a_b": {**COUNTER, "labels": {"r": {"path": "query_text", "most": 5}}}}, "kpi.a_b.labels.r.path", "texts"),
        ({"a_b": {**COUNTER, "labels": {"le": {"path": "route", "most": 5}}}}, "kpi.a_b.labels.le", "Prometheus"),
        ({"otel_telemetry_requests": COUNTER}, "kpi.otel_telemetry_requests", "taken"),
        ({"gen_ai_x": COUNTER}, "kpi.gen_ai_x", "taken"),
        ({"words_total": COUNTER}, "kpi.words_total", "call it words"),
        ({"took": COUNTER, "took_seconds": COUNTER}, "kpi.took_seconds", "taken"),
        ({"a_b": {"source": "requests", "kind": "gauge"}}, "kpi.a_b.value", "needs a number"),
        ({"a_b": {**COUNTER, "kind": "histogram", "value": "latency_ms"}}, "kpi.a_b.buckets", "is missing"),
        ({"a_b": {**COUNTER, "buckets": [2, 1]}}, "kpi.a_b.buckets", "rise"),
        ({"a_b": {**COUNTER, "buckets": [1, 2]}}, "kpi.a_b.buckets", "has none"),
        ({"Bad-Name": COUNTER}, "kpi.Bad-Name.[key]", "pattern"),
    ],
)
def test_a_wrong_definition_stops_the_start_and_names_its_key(given: dict[str, Any], key: str, says: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        settings.load(kpi=given)
    assert caught.value.key == key
    assert says in str(caught.value)


def test_a_wrong_definition_in_the_file_is_told_with_its_line() -> None:
    text = '[kpi.fine]\nsource = "calls"\nkind = "counter"\n\n[kpi.words]\nsource = "requests"\nkind = "counter"\n'
    Path("otel-telemetry.toml").write_text(f'{text}[kpi.words.labels]\nroute = {{ path = "route" }}\n')
    with pytest.raises(ConfigurationError, match=r"kpi\.words\.labels\.route: has no bound") as caught:
        settings.load()
    assert "(line 9 of otel-telemetry.toml)" in caught.value.hint
    Path("otel-telemetry.toml").write_text(text.replace("requests", "rows"))
    with pytest.raises(ConfigurationError) as caught:
        settings.load()
    assert "(line 6 of otel-telemetry.toml)" in caught.value.hint


@pytest.mark.parametrize(
    ("text", "item", "found"),
    [
        ("a", {"a": 1}, 1),
        ("a.b", {"a.b": 1, "a": {"b": 2}}, 1),
        ("a.b", {"a": {"b": 2}}, 2),
        ("a.b.c", {"a.b": {"c": 3}}, 3),
        ("a[1].b", {"a": [0, {"b": 4}]}, 4),
        ("a.b", {"a": '{"b": 5}'}, 5),
        ("a.b", {"a": "{no json"}, None),
        ("a[7]", {"a": [1]}, None),
        ("a.b", {"a": None}, None),
        ("a", {}, None),
    ],
)
def test_a_path_leads_to_a_key_or_into_json(text: str, item: dict[str, Any], found: Any) -> None:
    assert path(text).of(of_map(item)) == found


@pytest.mark.parametrize(
    ("given", "number", "problem"),
    [
        (3, 3.0, ""),
        (True, 1.0, ""),
        (Decimal("0.25"), 0.25, ""),
        ("12.5", 12.5, ""),
        ("twelve", 0.0, "no_number"),
        (float("nan"), 0.0, "not_finite"),
        (float("inf"), 0.0, "not_finite"),
        (-1, 0.0, "negative"),
        ([1], 0.0, "no_number"),
        (10**400, 0.0, "no_number"),
    ],
)
def test_what_is_no_number_is_left_out_with_its_reason(given: Any, number: float, problem: str) -> None:
    (kpi,) = compiled({"a_b": KpiSettings(source="spans", kind="counter", value="a")})
    value = kpi.of(of_map({"a": given}))
    assert value is not None
    assert (value.number, value.problem) == (number, problem)


def test_conditions_tell_true_from_one() -> None:
    (kpi,) = compiled({"a_b": KpiSettings(source="spans", kind="counter", where={"ok": True, "n": 1})})
    assert kpi.of(of_map({"ok": True, "n": 1})) is not None
    assert kpi.of(of_map({"ok": 1, "n": 1})) is None
    assert kpi.of(of_map({"ok": True, "n": True})) is None
