"""What the benchmark against the Collector rests on: patterns for Go that find no less, and leaks that are counted."""

import pytest
import re2

from benchmarks import collector
from benchmarks import collector_leaks as leaks
from benchmarks import gateway as shapes
from benchmarks.collector_rules import Untranslatable, translate, translated
from otel_telemetry.processors.config import RedactionSettings
from otel_telemetry.processors.detect.ruleset import builtin_rules, expand
from otel_telemetry.processors.otlp.redactor import OtlpRedactor
from otel_telemetry.processors.redact.redactor import Redactor
from tests.backends import builds


@pytest.mark.parametrize(
    ("pattern", "for_go"),
    [
        (r"(?<![A-Za-z0-9])gsk_[A-Za-z0-9]{40,64}+", r"gsk_[A-Za-z0-9]{40,64}"),
        (r"a(?!\w|[)\]]|(?:x(y)))b(?=c)", "ab"),
        (r"(?>ab|a)c++d*+e?+", "(?:ab|a)c+d*e?"),
        (r"[(?<!)+]{2}+\)\(", r"[(?<!)+]{2}\)\("),
        (r"x{12,1200}={0,2}y{3,65}?", "x{12,}={0,2}y{3,}?"),
        (r"[ .\-]{0,5}(?P<v>\d{7})", r"(?P<v>\d{7})"),
        (r"(?i)[a-z ]{0,24}?(?:ssn)\Z", r"(?i)(?:ssn)\z"),
        (r"\\u0040|\u00fa[a\u00fa]", r"\\u0040|\x{00fa}[a\x{00fa}]"),
    ],
)
def test_a_pattern_for_go_is_ours_without_what_go_does_not_know(pattern, for_go):
    assert translate(pattern) == for_go


@pytest.mark.parametrize("pattern", [r"(['\"])\w{3}\1", r"(?P<q>')x(?P=q)"])
def test_a_pattern_that_refers_back_has_no_form_in_go(pattern):
    with pytest.raises(Untranslatable, match="refer back"):
        translate(pattern)


def test_every_pattern_for_go_finds_the_examples_of_its_rule():
    rules = builtin_rules()
    found = translated(rules, ())
    missed = [
        (rule.id, example)
        for rule in rules
        for example in rule.match
        if rule.id in found.patterns and not re2.search(found.patterns[rule.id], expand(example, rule.id))
    ]
    assert missed == []
    assert set(found.dropped) == {"refer back to what they matched before"}
    assert len(found.patterns) > len(rules) * 0.95


def test_a_rule_that_would_mask_clean_text_is_left_out_and_told():
    rules = [rule for rule in builtin_rules() if rule.id in ("email", "ip-address")]
    found = translated(rules, {"value 1234 of item 5"})
    assert list(found.patterns) == ["email"]
    assert found.dropped == {"mask clean text without their validators": ["ip-address"]}
    assert "1 of 2 rules" in found.summary()


def test_every_planted_value_counts_as_left_where_nothing_is_redacted_and_none_where_all_is():
    requests = list(leaks.planted([rule for rule in builtin_rules() if rule.type in ("EMAIL", "IBAN")]))
    assert len(requests) == 2
    total, found = leaks.left(requests, [one.body for one in requests])
    assert found == total
    assert total["span attributes: string"] == 6
    redactor = OtlpRedactor(Redactor(RedactionSettings()))
    clean = [redactor.redact("traces", one.body).body for one in requests]
    assert leaks.left(requests, clean)[1].total() == 0
    value = next(canary.value for _, canary in requests[0].canaries)
    assert leaks.left(requests, clean, beside=str(value).encode())[1].total() == 1


def test_what_never_came_out_is_an_error_and_not_a_success():
    requests = list(leaks.planted([rule for rule in builtin_rules() if rule.id == "email"]))
    with pytest.raises(LookupError, match="planted-email never came out"):
        leaks.left(requests, [])


def test_the_collector_takes_every_pattern_and_masks_in_attributes_what_they_find(tmp_path, monkeypatch):
    program = builds.built(builds.BENCH_COLLECTOR, "python benchmarks/collector.py")
    monkeypatch.chdir(tmp_path)
    planted = list(leaks.planted([rule for rule in builtin_rules() if rule.id == "email"]))
    load = shapes.make_request(0)
    with (
        collector.keeping() as (to, bodies),
        collector.started(collector.collector(program, collector.patterns(), to)) as server,
    ):
        came = collector.passed(server, [*(one.body for one in planted), load], bodies)
    total, found = leaks.left(planted, came)
    assert found["span attributes: string"] == 0
    assert found["attribute keys"] == total["attribute keys"] > 0, "the processor does not look at them"
    assert leaks.changed(leaks.strings([load]), leaks.strings(came, "shop.internal")) == 32


def test_the_gateway_that_is_measured_lets_none_of_it_through(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    planted = list(leaks.planted([rule for rule in builtin_rules() if rule.id == "email"]))
    with collector.started(collector.Gateway) as server:
        came = collector.passed(server, [one.body for one in planted], [])
    assert leaks.left(planted, came)[1].total() == 0
