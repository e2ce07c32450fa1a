"""The proof for prompts and answers covers every field, finds what broken filters let out, and has an exit code."""

import json
from pathlib import Path
from typing import Any

import pytest

from otel_telemetry.base import content, conventions
from otel_telemetry.commands import content_table, coverage_table, text_proof
from otel_telemetry.commands.verify import CONTENT_LEAKED, VALUES_LEAKED, exit_code
from otel_telemetry.exporters.request_log.store.store import Written
from otel_telemetry.exporters.request_log.store.writer import Writer
from otel_telemetry.processors.config import RedactionSettings
from otel_telemetry.processors.redact import content_rules
from otel_telemetry.processors.redact.redactor import Redactor
from otel_telemetry.processors.verify import content_coverage
from otel_telemetry.processors.verify.content_canaries import FORMS, MESSAGE, NAMED, NAMES
from otel_telemetry.processors.verify.coverage import COVERED, KEPT, LEAKED, UNPROVED, CoverageReport, Outcome
from otel_telemetry.processors.verify.planting_otlp import KEY, REQUESTS, Slot, fields_of
from otel_telemetry.processors.verify.planting_sdk import LOGS, METRICS, SPANS

HOMES = {*REQUESTS, SPANS, LOGS, METRICS}


@pytest.fixture(name="dropping", scope="module")
def dropping_fixture() -> Redactor:
    return content_coverage.dropping(RedactionSettings())


def report_of(outcomes: list[Outcome]) -> CoverageReport:
    return CoverageReport(0, "re", content=outcomes)


def leaked(outcomes: list[Outcome]) -> list[Outcome]:
    return [outcome for outcome in outcomes if outcome.verdict == LEAKED]


def test_with_content_dropped_none_leaves_any_home(dropping: Redactor) -> None:
    outcomes = content_coverage.verify(dropping, "shop")
    assert content_table.problems(report_of(outcomes)) == []
    assert {outcome.slot.surface for outcome in outcomes} == HOMES
    planted = {(outcome.slot.surface, outcome.slot.path) for outcome in outcomes}
    for signal in REQUESTS:
        lists = {field.path for field in fields_of(signal) if any(slot.shape == KEY for slot in field.slots())}
        assert {(signal, path) for path in lists} <= planted
    assert {outcome.slot.shape for outcome in outcomes} == {NAMED, MESSAGE, *FORMS}


def test_every_name_that_conventions_have_for_content_is_planted() -> None:
    assert set(NAMES) >= conventions.CONTENT_KEYS | conventions.CONTENT_OF_REQUESTS
    assert all(any(name.startswith(prefix) for name in NAMES) for prefix in conventions.CONTENT_PREFIXES)


def test_without_content_drop_the_same_places_leak() -> None:
    outcomes = content_coverage.verify(Redactor(RedactionSettings(content="redact")), "shop")
    assert {outcome.verdict for outcome in outcomes} == {LEAKED}


def test_a_filter_that_overlooks_names_of_attributes_is_found_out(
    dropping: Redactor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(content_rules, "attribute", lambda key, value, event="": value)
    found = leaked(content_coverage.verify(dropping, "shop"))
    assert {outcome.slot.surface for outcome in found} == HOMES
    assert {outcome.slot.key for outcome in found} >= set(NAMES)
    assert exit_code(report_of(found)) == CONTENT_LEAKED


def test_a_filter_that_does_not_look_into_values_is_found_out(
    dropping: Redactor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(content, "without", lambda value, name="", **_: value)
    found = leaked(content_coverage.verify(dropping, "shop"))
    assert {outcome.slot.shape for outcome in found} >= set(FORMS)


def test_a_filter_that_overlooks_bodies_is_found_out(dropping: Redactor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(content_rules, "body", lambda value, event, **_: value)
    found = leaked(content_coverage.verify(dropping, "shop"))
    assert {outcome.slot.surface for outcome in found} == {"logs", LOGS}
    assert {outcome.slot.path.rpartition(".")[2] for outcome in found} == {"body"}


def test_what_the_policy_keeps_by_name_is_no_leak(tmp_path: Path) -> None:
    policy = tmp_path / "policy.yaml"
    policy.write_text("keys: {app.prompt: keep}\n")
    outcomes = content_coverage.verify(content_coverage.dropping(RedactionSettings(policy=policy)), "shop")
    assert {outcome.verdict for outcome in outcomes if outcome.slot.key == "app.prompt"} == {KEPT}
    assert {outcome.verdict for outcome in outcomes if outcome.slot.key != "app.prompt"} == {COVERED}


def test_with_texts_not_stored_none_reaches_a_table() -> None:
    outcomes = text_proof.verify()
    assert content_table.problems(report_of(outcomes)) == []
    assert {outcome.slot.path for outcome in outcomes} == set(text_proof.WAYS)


def test_with_texts_not_stored_none_reaches_a_table_of_postgres(postgres: Any) -> None:
    outcomes = text_proof.verify(url=postgres.database())
    assert content_table.problems(report_of(outcomes)) == []
    assert {outcome.slot.path for outcome in outcomes} == set(text_proof.WAYS)


def test_with_texts_stored_every_way_brings_some_into_tables_of_postgres(postgres: Any) -> None:
    found = leaked(text_proof.verify(store_text=True, url=postgres.database()))
    assert {outcome.slot.path for outcome in found} == set(text_proof.WAYS)


def test_with_texts_stored_every_way_brings_some_into_tables() -> None:
    found = leaked(text_proof.verify(store_text=True))
    assert {outcome.slot.path for outcome in found} == set(text_proof.WAYS)
    tables = {outcome.found_in.partition(".")[0] for outcome in found}
    assert {"trace_facts", "workflow_event", "workflow_run", "feedback", "browser_event", "dead_letter"} <= tables


def test_a_filter_of_free_columns_that_is_broken_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("otel_telemetry.base.content.without", lambda value, name="", **_: value)
    report = report_of(text_proof.verify())
    columns = {outcome.found_in for outcome in leaked(report.content)}
    assert {"workflow_event.data", "workflow_event.meta", "browser_event.data", "dead_letter.item"} <= columns
    assert exit_code(report) == CONTENT_LEAKED
    assert any(", into workflow_event.data" in line for line in content_table.problems(report))


def test_a_writer_that_writes_nothing_proves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Writer, "write", lambda *_: Written())
    outcomes = text_proof.verify()
    assert {outcome.verdict for outcome in outcomes} == {UNPROVED}
    assert not report_of(outcomes).content_proved


@pytest.mark.parametrize(
    ("value", "outcome", "code"),
    [
        (COVERED, KEPT, 0),
        (LEAKED, COVERED, VALUES_LEAKED),
        (COVERED, UNPROVED, CONTENT_LEAKED),
        (UNPROVED, LEAKED, VALUES_LEAKED + CONTENT_LEAKED),
    ],
)
def test_the_exit_code_tells_values_and_content_apart(value: str, outcome: str, code: int) -> None:
    slot = Slot("traces", "resource_spans.resource.attributes", NAMED, "prompt")
    report = CoverageReport(1, "re", [Outcome(slot, "EMAIL", "email", value)], [Outcome(slot, "CONTENT", "", outcome)])
    assert exit_code(report) == code
    printed: dict[str, Any] = json.loads(coverage_table.to_json(report))
    assert (printed["proved"], printed["content"]["proved"]) == (report.proved, report.content_proved)
    if outcome not in (COVERED, KEPT):
        assert f"{outcome}: content in OTLP traces: resource.attributes" in coverage_table.to_markdown(report)
