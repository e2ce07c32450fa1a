"""Hostile input: linear work, no crash, a second pass that changes nothing, and nothing passed on unscanned."""

import itertools
import json
import time
import tracemalloc
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span

from otel_telemetry.processors.config import PseudonymSettings, RedactionSettings
from otel_telemetry.processors.detect import cpu_time
from otel_telemetry.processors.detect import detector as detector_module
from otel_telemetry.processors.detect.names import looks, tables
from otel_telemetry.processors.detect.ruleset import builtin_rules, expand
from otel_telemetry.processors.otlp.redactor import OtlpRedactor
from otel_telemetry.processors.redact.redactor import Finding, Redactor

REDACTOR = Redactor(RedactionSettings(pseudonyms=PseudonymSettings(secret="0123456789abcdef")))
PLAIN = Redactor(RedactionSettings())
DETECTOR = detector_module.Detector(builtin_rules(), "auto")
FRAGMENTS = [expand(text, rule.id) for rule in builtin_rules() for text in (*rule.match, *rule.no_match)]
KEYS = [
    *("password", "db.password", "X-Api-Key", "authorization", "user_id", "user.id", "session.id", "client.address"),
    *("http.request.header.cookie", "token", "pass", "note", "http.route", "gen_ai.usage.input_tokens", "auth", "pw"),
    *("apiKey", "masterKey", "secret-value", "ssn", "enduser.id", "creds", "network.peer.address", "jane@example.com"),
]
GLUE = [" ", "\n", '"', "'", "\\", "=", ":", "@", ".", ",", "{", "}", "[", "]", "\u200b", "\x00", "\ud800", "%40", "x"]
GLUE += ["\u0430", "\u0415", "\u03bf"]  # letters that look Latin
text = st.lists(
    st.one_of(st.sampled_from(FRAGMENTS), st.sampled_from(GLUE), st.sampled_from(KEYS), st.text(max_size=10)),
    max_size=7,
).map("".join)
plain_text = text.filter(lambda s: "\ud800" not in s)
leaf = st.one_of(text, st.integers(), st.booleans(), st.none(), st.binary(max_size=20), st.floats(allow_nan=False))
tree = st.recursive(
    leaf,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.one_of(st.sampled_from(KEYS), text), inner, max_size=3)
    ),
    max_leaves=8,
)


@settings(max_examples=400, deadline=None)
@given(text)
@example("[REDACTED_API_KEY]: hunter2 password=[REDACTED_PASSWORD]")
def test_a_second_pass_over_a_string_changes_nothing(given_text):
    for redactor in (REDACTOR, PLAIN):
        once = redactor.string(given_text)
        assert redactor.string(once) == once


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(KEYS), tree)
def test_a_second_pass_over_an_attribute_changes_nothing(key, value):
    once = REDACTOR.item(key, value)
    assert once is not None
    assert REDACTOR.item(*once) == once


json_tree = st.recursive(
    st.one_of(plain_text, st.integers(), st.booleans(), st.none()),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.one_of(st.sampled_from(KEYS), plain_text), inner, max_size=3)
    ),
    max_leaves=8,
).filter(lambda value: isinstance(value, dict | list))


@settings(max_examples=300, deadline=None)
@given(json_tree, st.booleans(), st.integers(0, 2))
@example({"db:\n  password: |\n    Tr0ub4dor&3": None}, False, 1)
def test_json_in_a_string_stays_json_however_often_it_is_wrapped(value, ascii_only, wraps):
    encoded = json.dumps(value, ensure_ascii=ascii_only)
    for _ in range(wraps):
        encoded = json.dumps({"inner": encoded}, ensure_ascii=ascii_only)
    clean = json.loads(REDACTOR.string(encoded))
    for _ in range(wraps):
        if clean == "[REDACTED_JSON]":  # what cannot be taken out of the text takes all of it along
            break
        clean = json.loads(clean["inner"])
    assert isinstance(clean, type(value)) or clean == "[REDACTED_JSON]"


@settings(max_examples=400, deadline=None)
@given(plain_text, st.binary(max_size=8), st.binary(max_size=8))
def test_what_a_string_loses_the_locator_has_seen_in_raw_bytes(given_text, before, after):
    if REDACTOR.string(given_text) == given_text:
        return
    inside = given_text.encode()
    start = len(before)
    ends = REDACTOR.located(before + inside + after)[0]
    assert any(start < end <= start + len(inside) for end in ends)
    assert list(REDACTOR.dirty(["clean", given_text])) == [1]


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(KEYS), st.one_of(st.sampled_from(["plain", "203.0.113.9"]), st.integers(1, 99999)))
def test_what_a_key_gives_away_the_locator_has_seen_in_the_key(key, value):
    if REDACTOR.item(key, value) == (key, value):
        return
    data = b"\x0a" + bytes([len(key)]) + key.encode() + b"\x12\x05"
    seen = [end for end in REDACTOR.located(data)[0] if 2 < end <= 2 + len(key)]
    assert seen or list(REDACTOR.dirty(["x", str(value)])) == [1]
    assert set(REDACTOR.dirty([key, str(value)])) & {0, 1}


HOSTILE = {
    "assignments": "password=",
    "quoted assignments": 'password="',
    "escaped quotes": 'password=\\\\\\"',
    "PEM headers": "-----BEGIN RSA PRIVATE KEY-----\n",
    "half PEM headers": "PRIVATE KEY-----",
    "quotes": "\"'\"'",
    "at signs": "a@b",
    "dotted at signs": "a@b.c",
    "URLs": "http://a:",
    "URL logins": "http://a:b@",
    "digits": "4",
    "dotted digits": "1.1.",
    "colons": "a:b:",
    "JWT heads": "eyJhbGciOiJub25lIn0.",
    "percent": "%40%2",
    "spaces": "token ",
    "plus digits": "+1 2 3 4 ",
    "braces": '{"a":',
    "bearer": "bearer aaaaaaaa",
    "zero width": "4\u200b1\u200d",
    "full width": "\uff14",
    "surrogates": "\ud800\udc00a@b",
    "nul": "\x00password=\x00",
}


@pytest.mark.parametrize("unit", HOSTILE.values(), ids=HOSTILE)
def test_work_grows_with_the_length_of_hostile_text_and_no_faster(unit, monkeypatch):
    work = []
    real = detector_module.apply

    def counting(rule, given_text, start, end):
        work.append(rule.back + 1)
        return real(rule, given_text, start, end)

    monkeypatch.setattr(detector_module, "apply", counting)

    def cost(size):
        work.clear()
        DETECTOR.candidates((unit * (size // len(unit) + 1))[:size])
        return sum(work)

    small, large = cost(20_000), cost(100_000)
    assert large <= 5.5 * small + 2_000


#: Names without an end of their values: each value is all that follows.
ENDLESS = ["token:A", "**Password:", "secret_key_base:", "api_key=x"]


@pytest.mark.parametrize("unit", ENDLESS)
def test_what_a_value_looks_like_is_decided_by_its_beginning(unit, monkeypatch):
    seen: list[int] = []

    def recording(real):
        def record(kind, value, *form):
            seen.append(len(value))
            return real(kind, value, *form)

        return record

    monkeypatch.setattr(looks, "strong", recording(looks.strong))
    monkeypatch.setattr(looks, "weak", recording(looks.weak))
    DETECTOR.candidates((unit * 10_000)[:10_000])
    assert seen
    assert max(seen) <= 600


#: Heads of tables in reach of each other, with nothing to find below them.
HEADS = [
    "|a|password|\n|---|---|\n",
    ": a,password\n",
    "x: a,password\nx: 1,2\n",
    '="a,password\\n1,x\\n',
    "a,password\nx,password\n---\n",
    '{"t":"a,password\n1,',
]


@pytest.mark.parametrize("unit", HEADS)
def test_each_row_below_many_heads_is_read_once(unit, monkeypatch):
    read: list[int] = []
    real = tables._cells

    def counting(given_text, start, end, delimiter):
        read.append(end - start)
        return real(given_text, start, end, delimiter)

    monkeypatch.setattr(tables, "_cells", counting)

    size = 40_000
    DETECTOR.candidates((unit * (size // len(unit) + 1))[:size])
    assert read
    assert sum(read) < 4 * size


def test_tables_one_below_the_other_are_all_read():
    first = "| id | password |\n|---|---|\n| 1 | sunflower |\n|---|---|\n"
    second = "| passphrase | id |\n|---|---|\n| moonlit-sunflower | 2 |\n|---|---|\n"
    clean = PLAIN.string((first + second) * 3)
    assert clean.startswith("| id | password |")
    assert "sunflower" not in clean


def test_a_value_of_insert_ends_where_its_literal_does():
    insert = "REPLACE INTO t (password) SELECT 'sunflower' "
    assert PLAIN.string(insert * 40) == "REPLACE INTO t (password) SELECT '[REDACTED_PASSWORD]' " * 40


def test_what_would_take_too_long_is_cut_and_never_passed_on(monkeypatch):
    """The insertions below take time that grows with the square of their number."""
    ticks = itertools.count()
    monkeypatch.setattr(time, "thread_time", lambda: float(next(ticks)))  # a second for each look
    hostile = "REPLACE INTO t (password) SELECT null " * 2_000
    clean = PLAIN.string(hostile + "jane.doe@example.com")
    assert "jane.doe" not in clean
    assert clean.endswith("[REDACTED_UNSCANNED]")
    assert next(ticks) < 100


def test_passes_that_would_take_too_long_take_all_of_the_text_along(monkeypatch):
    ticks = itertools.count()
    monkeypatch.setattr(time, "thread_time", lambda: float(next(ticks)))
    found: list[Finding] = []
    chained = "all is well " * 100 + "8-800-555-35-35 8-800-555-35-35"
    assert PLAIN.string(chained, findings=found) == "[REDACTED_UNSETTLED]"
    assert "UNSETTLED" in {finding.type for finding in found}
    assert next(ticks) <= 4


@pytest.mark.parametrize("value", ["8-800-555-35-35", "0044 20 7946 0958", "5555/5555/5555/4444"])
def test_values_in_a_row_that_show_one_after_the_other_are_all_found_and_the_text_stays(value):
    clean = PLAIN.string(f"all of them: {' '.join([value] * 300)} and so on")
    assert clean.count("[REDACTED_") == 300
    assert clean.startswith("all of them: [REDACTED_")
    assert clean.endswith("] and so on")


def test_a_request_that_took_its_time_passes_on_nothing_that_was_not_looked_at(monkeypatch):
    dirty = [f"mail to jane{n}@example.com" for n in range(40)]
    spans = [Span(trace_id=b"t" * 16, span_id=b"s" * 8, name=name) for name in [*dirty, "all is well"]]
    request = ExportTraceServiceRequest(resource_spans=[ResourceSpans(scope_spans=[ScopeSpans(spans=spans)])])
    ticks = itertools.count(0.0, 0.4)
    monkeypatch.setattr(time, "thread_time", lambda: next(ticks))
    clean = OtlpRedactor(PLAIN, leak_check_ratio=0).redact("traces", request.SerializeToString())
    scope = ExportTraceServiceRequest.FromString(clean.body).resource_spans[0].scope_spans[0]
    names = [span.name for span in scope.spans]
    assert clean.items == 41
    assert names[0] == "mail to [REDACTED_EMAIL]"
    assert names[-2:] == ["[REDACTED_UNSCANNED]", "all is well"]
    monkeypatch.undo()
    assert not cpu_time.is_used_up()
    assert PLAIN.string(dirty[0]) == "mail to [REDACTED_EMAIL]"


def test_time_that_texts_full_of_personal_data_take_is_not_cut():
    dense = "jane.doe@example.com " * 5_000
    assert PLAIN.string(dense) == "[REDACTED_EMAIL] " * 5_000


def test_beyond_the_limit_of_places_the_rest_is_cut_and_never_passed_on():
    hostile = "x@y.zz " * 200_000
    clean = PLAIN.string(hostile + "jane.doe@example.com")
    assert "jane.doe" not in clean
    assert clean.endswith("[REDACTED_UNSCANNED]")
    assert isinstance(PLAIN.located(hostile.encode())[0], range)


def test_no_more_places_are_kept_than_memory_allows():
    hostile = "x@y.zz " * 1_200_000
    assert PLAIN.string(hostile + "jane.doe@example.com").endswith("[REDACTED_UNSCANNED]")
    assert detector_module._limit(hostile.encode()) == 100_000


def test_a_string_of_ten_megabytes_is_scanned_to_its_end():
    clean = PLAIN.string("all is well here. " * 580_000 + "jane@example.com")
    assert clean.endswith("[REDACTED_EMAIL]")


def test_json_of_very_many_values_is_replaced_where_it_would_have_to_be_parsed():
    dirty = '{"a": "jane@example.com", "b": [' + "0," * 100_001 + '0], "password": {"x": "y"}}'
    assert PLAIN.string(dirty) == '"[REDACTED_JSON]"'
    clean = '{"b": [' + "0," * 100_001 + "0]}"
    assert PLAIN.string(clean) is clean


def test_maps_nested_ten_thousand_deep_end_at_a_marker():
    value: Any = "jane@example.com"
    for _ in range(10_000):
        value = {"a": value}
    clean = PLAIN.value(value)
    depth = 0
    while isinstance(clean, dict):
        clean, depth = clean["a"], depth + 1
    assert clean == "[REDACTED_DEPTH]"
    assert depth <= 64


def test_json_text_nested_ten_thousand_deep_is_redacted_as_text():
    deep = '{"a":' * 10_000 + '"jane@example.com"' + "}" * 10_000
    assert "jane" not in PLAIN.string(deep)


@pytest.mark.parametrize(
    "hidden",
    [
        "4111\u200b1111\u200b1111\u200b1111",
        "\uff14" + "\uff11" * 15,
        "٤١١١١١١١١١١١١١١١",
        "4111\u20111111\u20111111\u20111111",
        "4111\u00a01111\u00a01111\u00a01111",
        "jane\u200d@example.com",
        "jane\uff20example\uff0ecom",
        "jane%40example.com",
        "jane\\u0040example.com",
        "123\u201345\u20136789",
    ],
)
def test_unicode_and_encodings_hide_nothing(hidden):
    clean = PLAIN.string(f"see {hidden} there")
    assert clean in {f"see [REDACTED_{kind}] there" for kind in ("CREDIT_CARD", "EMAIL", "SSN")}


@pytest.mark.parametrize(
    "value", ["4111111111111111", "jane@example.com", "123-45-6789", "203.0.113.9", "+14155550132"]
)
@pytest.mark.parametrize("before", ["\n", "\t", "<", '"', "é ", "\\"])
def test_a_value_behind_an_escape_in_json_is_found_and_the_json_stays(value, before):
    given_text = json.dumps({"a": json.dumps({"b": f"x{before}{value}"})})
    inner = json.loads(json.loads(PLAIN.string(given_text))["a"])["b"]
    assert inner.startswith(f"x{before}[REDACTED_")


def test_bytes_that_are_no_utf8_are_redacted_too():
    assert PLAIN.value(b"\xff\xfe jane@example.com") == b"\xff\xfe [REDACTED_EMAIL]"
    assert PLAIN.value(b"\xff\xfe nothing") == b"\xff\xfe nothing"


def test_names_that_become_one_are_numbered():
    names = [f"u{n}@example.com" for n in range(2_000)]
    clean: Any = PLAIN.value(dict.fromkeys(names, 1))
    assert list(clean)[:4] == ["[REDACTED_EMAIL]", "[REDACTED_EMAIL]_", "[REDACTED_EMAIL]_3", "[REDACTED_EMAIL]_4"]
    assert len(clean) == len(names)
    assert len(json.dumps(clean)) < 40 * len(names)


def test_no_cache_holds_long_names():
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for n in range(40):
            name = f"{n}" + "x" * 300_000
            PLAIN.value({name: "jane@example.com", f"{name}_password": "sunflower", f"{name}_order": 4111111111111111})
        assert tracemalloc.get_traced_memory()[0] - before < 3_000_000
    finally:
        tracemalloc.stop()
