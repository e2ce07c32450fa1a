import json

import pytest

from otel_telemetry.processors.detect.detector import Detector
from otel_telemetry.processors.detect.ruleset import Rule, builtin_rules, expand

OPTIONAL = ("national_id", "passport", "crypto_wallet")
RULES = builtin_rules(optional=OPTIONAL)


@pytest.fixture(scope="module", params=["hyperscan", "re"])
def detector(request):
    if request.param == "hyperscan":
        pytest.importorskip("hyperscan")
    return Detector(RULES, request.param)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.id)
def test_every_rule_finds_its_examples_and_leaves_its_counterexamples(rule: Rule, detector: Detector):
    for example in rule.match:
        text = expand(example, rule.id)
        assert rule.id in {match.rule for match in detector.candidates(text)}, text
    for example in rule.no_match:
        text = expand(example, rule.id)
        assert rule.id not in {match.rule for match in detector.candidates(text)}, text


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.id)
def test_every_example_is_found_in_json_within_json(rule: Rule, detector: Detector):
    for example in rule.match:
        text = expand(example, rule.id)
        found = next(match for match in detector.candidates(text) if match.rule == rule.id)
        value = text[found.start : found.end]
        assert value
        for _ in range(3):
            text, value = json.dumps({"note": text}), json.dumps(value)[1:-1]
            start = text.index(value)
            end = start + len(value)
            assert any(match.start <= start and end <= match.end for match in detector.find(text)), text


def test_no_rule_of_ours_would_be_refused_as_a_users():
    assert builtin_rules(check=True, optional=OPTIONAL) == RULES


def test_every_rule_links_its_documentation():
    assert [rule.id for rule in RULES if not rule.docs.startswith("https://")] == []
