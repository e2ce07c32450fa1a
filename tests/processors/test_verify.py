"""The coverage proof is complete, finds leaks and names their places; docs/privacy.md holds its newest result."""

import inspect
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.descriptor import FieldDescriptor
from opentelemetry._logs import LogRecord
from opentelemetry.sdk.trace import ReadableSpan

from otel_telemetry.commands import coverage_table
from otel_telemetry.commands.verify import prove
from otel_telemetry.processors.config import PseudonymSettings, RedactionSettings
from otel_telemetry.processors.detect.detector import Detector
from otel_telemetry.processors.detect.names import keys
from otel_telemetry.processors.detect.ruleset import Rule, load_rules
from otel_telemetry.processors.redact import finding_counts
from otel_telemetry.processors.redact.insight import active_rules
from otel_telemetry.processors.redact.redactor import Redactor
from otel_telemetry.processors.verify.canaries import NAMES, Canaries, type_of_name
from otel_telemetry.processors.verify.coverage import COVERED, KEPT, LEAKED, UNPROVED, CoverageReport, Outcome, verify
from otel_telemetry.processors.verify.hard_canaries import FORMS, GLUED, SCRIPTS
from otel_telemetry.processors.verify.planting_otlp import (
    KEY,
    NUMBER_SHAPES,
    REQUESTS,
    TEXT_SHAPES,
    UNKNOWN,
    Slot,
    fields_of,
)
from otel_telemetry.processors.verify.planting_sdk import LOGS, METRICS, SPANS, metrics_take_lists, slots_of

DOCS = Path(__file__).parents[2] / "docs" / "privacy.md"
BEGIN, END = "<!-- made by: otel-telemetry verify --markdown -->\n", "<!-- end of what verify made -->"
RULES = active_rules(RedactionSettings())
NEWEST = pytest.mark.skipif(not metrics_take_lists(), reason="opentelemetry-sdk 1.44 takes fewer shapes of attributes")
#: What is planted where any rule would do: one rule of each of these.
FEW = tuple(
    next(rule for rule in RULES if rule.type == type_ and len(rule.match) > 1)
    for type_ in ("EMAIL", "IBAN", "CREDIT_CARD", "PHONE")
)


def run(
    settings: RedactionSettings,
    redactor: Redactor | None = None,
    service: str = "shop",
    rules: Sequence[Rule] = FEW,
) -> CoverageReport:
    return verify(redactor or Redactor(settings), rules, service)


@pytest.fixture(scope="module")
def report() -> CoverageReport:
    return prove(RedactionSettings(), finding_counts.SELF_TEST)


def slots(outcomes: Sequence[Any]) -> Counter[tuple[str, str]]:
    return Counter((outcome.slot.path, outcome.slot.shape) for outcome in outcomes)


def test_the_built_in_policy_lets_no_canary_out_of_any_field(report: CoverageReport) -> None:
    assert coverage_table.problems(report) == []
    assert report.proved


@NEWEST
def test_the_table_in_the_docs_is_what_verify_prints_today(report: CoverageReport) -> None:
    made = DOCS.read_text(encoding="utf-8").partition(BEGIN)[2].partition(END)[0].strip()
    newest = coverage_table.to_markdown(report).strip()
    assert made == newest, "put the output of `otel-telemetry verify --markdown` between the markers"


def test_every_type_that_a_rule_or_a_name_gives_is_planted(report: CoverageReport) -> None:
    planted = {outcome.type for outcome in report.outcomes}
    assert {rule.type for rule in RULES} | keys.TYPES <= planted
    assert {type_of_name(name) for name in NAMES} | set(Canaries(RULES).types) >= keys.TYPES


@NEWEST
def test_every_rule_lends_a_canary_to_some_field_unless_its_examples_never_vary(report: CoverageReport) -> None:
    planted = {outcome.rule for outcome in report.outcomes}
    varying = {example.rule.id for own in Canaries(RULES)._by_type.values() for example in own}
    assert varying <= planted
    assert len({rule.id for rule in RULES} - planted) <= 3


def by_field(report: CoverageReport) -> dict[tuple[str, str], list[Outcome]]:
    """Return the outcomes by surface and field path."""
    groups: dict[tuple[str, str], list[Outcome]] = {}
    for outcome in report.outcomes:
        groups.setdefault((outcome.slot.surface, outcome.slot.path), []).append(outcome)
    return groups


def test_every_type_is_planted_in_every_field(report: CoverageReport) -> None:
    types = set(Canaries(RULES).types)
    for (surface, path), outcomes in by_field(report).items():
        if surface in REQUESTS or not path.endswith(("trace_state", "name", "unit")):
            assert types <= {outcome.type for outcome in outcomes}, (surface, path)


@pytest.mark.parametrize("signal", REQUESTS)
def test_every_text_field_of_the_descriptors_has_a_place(signal: Any) -> None:
    found = {field.path for field in fields_of(signal)}
    seen: set[str] = set()

    def walk(descriptor: Any, path: str) -> None:
        for field in descriptor.fields:
            here = f"{path}{field.name}"
            if field.type in (FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BYTES):
                seen.add(here)
            elif field.type == FieldDescriptor.TYPE_MESSAGE:
                if field.message_type.name in ("KeyValue", "AnyValue"):
                    seen.add(here)
                else:
                    walk(field.message_type, f"{here}.")

    walk(REQUESTS[signal].DESCRIPTOR, "")
    assert len(seen) > 15
    assert seen <= found


def test_each_attribute_list_takes_every_shape(report: CoverageReport) -> None:
    attributes = by_field(report)["traces", "resource_spans.scope_spans.spans.attributes"]
    shapes = {outcome.slot.shape for outcome in attributes}
    assert {KEY, *TEXT_SHAPES, *NUMBER_SHAPES, "named string", "named in map", "safe name", "message content"} <= shapes


def test_fields_that_otlp_does_not_have_yet_are_planted_in_every_message(report: CoverageReport) -> None:
    later = {outcome.slot.path for outcome in report.outcomes if outcome.slot.shape == UNKNOWN}
    assert {"", "resource_spans.scope_spans.spans.links", "resource_metrics.scope_metrics.metrics.summary"} <= later


def test_every_argument_of_the_sdks_span_and_log_record_has_a_place_or_holds_no_text() -> None:
    textless = {"self", "parent", "kind", "instrumentation_info", "start_time", "end_time"}
    textless |= {"timestamp", "observed_timestamp", "context", "trace_id", "span_id", "trace_flags", "severity_number"}
    renamed = {"instrumentation_scope": "scope"}
    for surface, record in ((SPANS, ReadableSpan), (LOGS, LogRecord)):
        roots = {slot.path.partition(".")[0].partition(" ")[0] for slot in slots_of(surface)}
        arguments = set(inspect.signature(record.__init__).parameters) - textless
        assert {renamed.get(argument, argument) for argument in arguments} <= roots, surface


def test_every_canary_is_unlike_all_others_and_found_by_its_rule() -> None:
    canaries, detector = Canaries(RULES), Detector(RULES, "re")
    made = [canaries.of(type_) for type_ in canaries.types for _ in range(40)]
    assert len({canary.value for canary in made}) == len(made)
    for canary in made:
        assert canary.unique
        assert canary.rule in {match.rule for match in detector.candidates(str(canary.text))}, canary


class _Careless(Redactor):
    """Overlooks bytes, as a redactor would that takes strings only."""

    def item(self, key: str, value: Any, findings: Any = None) -> Any:
        return (key, value) if isinstance(value, bytes) else super().item(key, value, findings)


def test_a_leak_is_named_by_surface_field_shape_type_and_rule() -> None:
    report = run(RedactionSettings(), _Careless(RedactionSettings()))
    leaked = [outcome for outcome in report.of(LEAKED) if outcome.slot.surface == "traces"]
    assert {outcome.slot.shape for outcome in leaked} == {"bytes"}
    assert {outcome.slot.path.removeprefix("resource_spans.") for outcome in leaked} == {
        "resource.attributes",
        "scope_spans.scope.attributes",
        "scope_spans.spans.attributes",
        "scope_spans.spans.events.attributes",
        "scope_spans.spans.links.attributes",
    }
    assert {outcome.type for outcome in leaked} == set(Canaries(FEW).types)
    assert not report.proved
    ours = next(outcome for outcome in leaked if outcome.slot.path.endswith("events.attributes"))
    assert coverage_table.problems(report)[report.of(LEAKED).index(ours)] == (
        f"leaked: {ours.type} (rule {ours.rule}) in OTLP traces {ours.slot.path}, as bytes of note"
    )


class _Broken(Redactor):
    """Cannot redact some of what is planted."""

    def string(self, text: str, *args: Any, **kwargs: Any) -> str:
        if "Bearer" in text:
            raise RuntimeError
        return super().string(text, *args, **kwargs)


def test_what_is_withheld_proves_nothing_and_is_told() -> None:
    report = run(RedactionSettings(), _Broken(RedactionSettings()))
    assert report.of(UNPROVED)
    assert not report.proved


def with_policy(tmp_path: Path, text: str, **settings: Any) -> RedactionSettings:
    path = tmp_path / "policy.yaml"
    path.write_text(text)
    return RedactionSettings(policy=path, **settings)


def test_what_a_policy_keeps_on_purpose_is_shown_as_kept(tmp_path: Path) -> None:
    settings = with_policy(tmp_path, "types: {EMAIL: keep}\nkeys: {user.id: keep}\ncontent: keep\n")
    report = run(settings)
    emails = [outcome for outcome in report.outcomes if outcome.type == "EMAIL"]
    assert report.count(KEPT, emails) > 0.9 * len(emails)
    named = [
        outcome for outcome in report.outcomes if outcome.slot.key == "user.id" and outcome.slot.shape == "named string"
    ]
    assert {outcome.verdict for outcome in named} == {KEPT}
    content = [outcome for outcome in report.outcomes if outcome.slot.shape == "message content"]
    assert {outcome.verdict for outcome in content} == {KEPT}
    assert not [outcome for outcome in report.of(LEAKED) if outcome.type == "EMAIL"]


@pytest.mark.parametrize(
    "policy",
    [
        "default: mask\ncontent: drop\nkeys: {note: hash}\n",
        "default: hash\nemail_domain: true\nkeys: {user.id: mask}\n",
        "default: drop\n",
        "allow: []\n",
    ],
)
def test_no_action_lets_a_canary_out(policy: str, tmp_path: Path) -> None:
    report = run(with_policy(tmp_path, policy, pseudonyms=PseudonymSettings(secret="0123456789abcdef0123")))
    assert coverage_table.problems(report) == []


def test_the_overrides_of_a_service_are_proved_where_it_is_named(report: CoverageReport, tmp_path: Path) -> None:
    settings = with_policy(tmp_path, "services: {billing: {types: {IBAN: keep}}}\n")
    own = Counter(o.verdict for o in run(settings, service="billing").outcomes if o.type == "IBAN")
    others = Counter(o.verdict for o in report.outcomes if o.type == "IBAN")
    assert own[KEPT] > 300
    assert others[KEPT] < 40
    assert own[LEAKED] == others[LEAKED] == 0


CODENAME = """
[[rule]]
id = "codename"
type = "CODENAME"
trigger = ['{trigger}']
regex = '{trigger}'
docs = "https://example.com/codenames"
match = ["Project {trigger} is on"]
"""


def test_a_users_own_rule_is_planted_everywhere_even_if_its_only_value_never_varies(
    report: CoverageReport, tmp_path: Path
) -> None:
    path = tmp_path / "own.toml"
    path.write_text(CODENAME.replace("{trigger}", "Nightingale"))
    settings = RedactionSettings(rules=(path,))
    own = [o for o in run(settings, rules=load_rules([path])).outcomes if o.type == "CODENAME"]
    assert len(slots(own)) >= len(slots([o for o in report.outcomes if o.type == "EMAIL"]))
    assert Counter(outcome.verdict for outcome in own).keys() == {COVERED, KEPT}


def test_places_of_the_sdk_and_of_otlp_have_no_two_alike() -> None:
    slots = [slot for signal in REQUESTS for field in fields_of(signal) for slot in field.slots()]
    slots += [slot for surface in (SPANS, LOGS, METRICS) for slot in slots_of(surface)]
    assert isinstance(slots[0], Slot)
    assert len(set(slots)) == len(slots)


def hard(report: CoverageReport, verdict: str) -> set[str]:
    return {outcome.slot.shape for outcome in report.of(verdict) if outcome.slot.is_hard}


def test_every_hard_form_is_planted_and_covered(report: CoverageReport) -> None:
    assert hard(report, COVERED) == set(FORMS)
    glued = {
        (outcome.type, outcome.slot.shape) for outcome in report.outcomes if outcome.slot.shape.startswith("glued")
    }
    assert len({type_ for type_, _ in glued}) == len(GLUED)
    assert {shape for _, shape in glued} == {f"glued to {script}" for script in SCRIPTS}


class Shy(Redactor):
    """Leaves alone what has no digit, whatever its name, and what stands beside letters of other scripts."""

    def item(self, key: str, value: Any, findings: Any = None) -> Any:
        text = repr(value)
        if not any(map(str.isdigit, text)) or not text.isascii():
            return key, value
        return super().item(key, value, findings)


def test_rules_that_want_a_digit_and_a_border_are_found_out() -> None:
    leaks = hard(run(RedactionSettings(), Shy(RedactionSettings())), LEAKED)
    assert {"letters", "passphrase", "camelCase name", "argument list", "letters in JSON", "glued to Thai"} <= leaks
