"""The rules that redact as the older service's pattern table did."""

import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otel_telemetry.processors.config import RedactionSettings
from otel_telemetry.processors.detect.ruleset import load_rules
from otel_telemetry.processors.redact.redactor import Redactor

FILE = Path(__file__).parents[2] / "deploy" / "redaction" / "older_service.toml"
RULES = load_rules([FILE])


@pytest.fixture(scope="module", name="redactor", params=["re", "hyperscan"])
def redactor_fixture(request):
    if request.param == "hyperscan":
        pytest.importorskip("hyperscan")
    return Redactor(RedactionSettings(rules=(FILE,), policy=FILE.with_suffix(".yaml"), engine=request.param))


def test_the_types_are_those_of_the_older_table():
    types = ["EMAIL", "PHONE", "SSN", "CREDIT_CARD", "API_KEY", "IP_ADDRESS", "USER_ID", "SESSION_ID"]
    assert [rule.type for rule in RULES] == types


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.id)
def test_whatever_its_pattern_finds_is_redacted(redactor, rule):
    short = re.compile(
        re.sub(r"\{(\d+),\d+\}\+?", lambda found: f"{{{found[1]},{int(found[1]) + 9}}}", rule.pattern), re.ASCII
    )

    @given(
        value=st.from_regex(short, fullmatch=True), around=st.sampled_from(["{}", "value is {} here", '{{"a":"{}"}}'])
    )
    @settings(max_examples=60, deadline=None)
    def check(value: str, around: str) -> None:
        text = around.format(value)
        found = rule.regex.search(text)
        clean = redactor.value({"note": text})["note"]
        assert found is None or (found[0] not in clean and "[REDACTED_" in clean)

    check()


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("call 555-123-4567 now", "call [REDACTED_PHONE] now"),
        ("no 123456789", "no [REDACTED_SSN]"),
        ("card 1234-5678-9012-3456", "card [REDACTED_CREDIT_CARD]"),
        ("user_abc in session-12", "[REDACTED_USER_ID] in [REDACTED_SESSION_ID]"),
        ("from 999.1.1.1", "from [REDACTED_IP_ADDRESS]"),
        ("a superuser1 of sess456 and 12345678", "a superuser1 of sess456 and 12345678"),
    ],
)
def test_it_is_shown_as_it_was_and_what_it_left_stays(redactor, text, clean):
    assert redactor.value({"note": text}) == {"note": clean}
