"""All strings of a record are scanned once, as one block: nothing is found otherwise than one by one."""

import random
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from otel_telemetry.processors.config import PseudonymSettings, RedactionSettings
from otel_telemetry.processors.detect.detector import Detector, encoded
from otel_telemetry.processors.detect.engines.locator import ReLocator
from otel_telemetry.processors.detect.engines.patterns import widths
from otel_telemetry.processors.detect.ruleset import builtin_rules, expand
from otel_telemetry.processors.otlp.redactor import OtlpRedactor
from otel_telemetry.processors.redact.insight import detector_of
from otel_telemetry.processors.redact.redactor import Finding, Findings, Redactor
from otel_telemetry.processors.sdk.parts import clean_attributes

REDACTOR = Redactor(RedactionSettings(pseudonyms=PseudonymSettings(secret="0123456789abcdef")))
OTLP = OtlpRedactor(REDACTOR)
FRAGMENTS = [expand(text, rule.id) for rule in builtin_rules() for text in (*rule.match, *rule.no_match)]
KEYS = ["password", "user.id", "client.address", "note", "http.route", "token", "jane@example.com", "mail"]
texts = st.lists(
    st.one_of(
        st.sampled_from(FRAGMENTS),
        st.sampled_from(KEYS),
        st.text(max_size=12),
        st.sampled_from(["", "\x00", "a\x00b", "\ud800", "4", "+49 30", "%4", "é", "x" * 20_000]),
    ),
    min_size=1,
    max_size=6,
)


@settings(max_examples=400, deadline=None)
@given(texts)
@example(["user", "id"])
@example(["write to jane@example.com\x00", "jane@example.com"])
@example(["é jane@example.com", "jane@example.com", "é jane@example.com"])
def test_what_one_scan_of_many_strings_saw_leads_to_the_same_findings_as_a_scan_of_each(given_texts: list[str]) -> None:
    seen = REDACTOR.seen(given_texts)
    for text in given_texts:
        alone: list[Finding] = []
        expected = REDACTOR.string(text, findings=alone)
        if seen is None:
            assert (expected, alone) == (text, [])
            continue
        together = Findings(seen)
        assert REDACTOR.string(text, findings=together) == expected
        assert list(together) == alone
        assert text == expected or text in seen.hits


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(st.sampled_from(KEYS), st.one_of(st.sampled_from(FRAGMENTS), st.lists(st.sampled_from(KEYS)))))
def test_attributes_after_one_scan_are_those_cleaned_one_by_one(attributes: dict[str, Any]) -> None:
    strings = [*attributes, *(v for v in attributes.values() if isinstance(v, str))]
    strings += [item for value in attributes.values() if isinstance(value, list) for item in value]
    seen = REDACTOR.seen(strings)
    expected = clean_attributes(REDACTOR, attributes, [])
    assert expected == (attributes if seen is None else clean_attributes(REDACTOR, attributes, Findings(seen)))


@pytest.mark.parametrize("engine", ["hyperscan", "re2", "re"])
def test_places_cut_from_those_of_many_bytes_are_those_that_a_scan_of_them_finds(engine: str) -> None:
    detector: Detector = detector_of(Redactor(RedactionSettings(engine=engine)))  # type: ignore[arg-type]  # one of them
    chance = random.Random(5)  # noqa: S311  # the same each time
    parts = [encoded(text) for text in chance.sample(FRAGMENTS, 150)]
    places: list[tuple[int, int]] = []
    at = 0
    for part in parts:
        places.append((at, at + len(part)))
        at += len(part)  # nothing between them, so that triggers lie across
    ends, hits = detector.located(b"".join(parts))
    assert hits
    assert ends
    for part, (start, end) in zip(parts, places, strict=True):
        assert detector.cut(hits, start, end) == (detector.located(part)[1] or []), part


def test_triggers_have_a_fixed_length() -> None:
    detector: Detector = detector_of(Redactor(RedactionSettings(engine="re", content="drop")))
    assert isinstance(detector._locator, ReLocator)
    assert [one for one in detector._locator._triggers if len(set(widths(one))) > 1] == []


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(KEYS), st.sampled_from(FRAGMENTS), st.sampled_from(["", *FRAGMENTS]))
def test_an_attribute_in_otlp_is_redacted_as_it_is_elsewhere(key: str, text: str, before: str) -> None:
    request = ExportTraceServiceRequest()
    span = request.resource_spans.add().scope_spans.add().spans.add(trace_id=b"t" * 16, span_id=b"s" * 8)
    for name, value in (("before", before), (key, text)):
        span.attributes.add(key=name).value.string_value = value
    clean = ExportTraceServiceRequest.FromString(OTLP.redact("traces", request.SerializeToString()).body)
    found = [(one.key, one.value.string_value) for one in clean.resource_spans[0].scope_spans[0].spans[0].attributes]
    assert found[1] == REDACTOR.item(key, text)


def test_a_string_that_was_not_scanned_is_never_taken_for_clean() -> None:
    seen = REDACTOR.seen(["jane@example.com", "GET"])
    assert seen is not None
    assert REDACTOR.string("card 4111 1111 1111 1111", findings=Findings(seen)) == "card [REDACTED_CREDIT_CARD]"


def test_more_places_than_can_be_told_apart_leave_each_string_to_be_scanned_by_itself() -> None:
    strings = ["x@y.zz " * 30_000, "jane@example.com", "GET"]
    seen = REDACTOR.seen(strings)
    assert seen is not None
    assert list(seen.hits.values()) == [None] * len(strings)
    assert [REDACTOR.string(text, findings=Findings(seen)) for text in strings[1:]] == ["[REDACTED_EMAIL]", "GET"]


@pytest.mark.parametrize(
    ("first", "clean"), [("GET /", True), ("to jane@example.com", False), ("password", False), ("", True), ("é", True)]
)
def test_the_first_string_is_told_to_be_clean_only_where_it_is(first: str, clean: bool) -> None:
    seen = REDACTOR.seen([first, "jane@example.com"])
    assert seen is not None
    assert seen.first_is_clean() is clean


def test_a_name_that_something_was_taken_from_may_tell_what_its_value_is() -> None:
    once = REDACTOR.item("note", {"4111111111111111.authorization": 7, "jane@example.com": 7})
    assert once == ("note", {"[REDACTED_CREDIT_CARD].authorization": "[REDACTED_AUTHORIZATION]", "[REDACTED_EMAIL]": 7})
    assert REDACTOR.item(*once) == once


FAR = "all is well here and nobody has a name. " * 60


@pytest.mark.parametrize("hidden", ["jane%2Eroe@example.com", "4111%201111%201111%201111", "4111+1111+1111+1111"])
def test_what_stands_far_from_something_folded_is_found_once_and_what_is_folded_too(hidden: str) -> None:
    plain = ["jane@example.com", "card 5500005555555559", "password=Gx7hunter2"]
    parts = [*plain, hidden, *plain]
    random.Random(3).shuffle(parts)  # noqa: S311  # any order, the same each time
    found: list[Finding] = []
    clean = REDACTOR.string(FAR.join(parts), findings=found)
    assert len(found) == len(parts)
    assert not any(part.removeprefix("password=").removeprefix("card ") in clean for part in parts)


@pytest.mark.parametrize("text", ["at 2026-11-21T10:00:00+01:00 done", "2026-11-21T10:00:00.123456+00:00"])
def test_the_offset_of_a_time_is_nothing_to_unfold(text: str) -> None:
    detector: Detector = detector_of(REDACTOR)
    assert detector.located(text.encode())[0] == ()
    assert REDACTOR.string(text) is text
