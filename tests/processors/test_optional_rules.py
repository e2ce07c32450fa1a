"""Rules that are off until `redaction.optional` names their group, and rules beside a name."""

import subprocess
import sys

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from pydantic import ValidationError

from otel_telemetry.base.errors import RuleError
from otel_telemetry.processors.config import RedactionSettings
from otel_telemetry.processors.detect.kinds import official_ids
from otel_telemetry.processors.detect.kinds.wallets import keccak_256
from otel_telemetry.processors.detect.ruleset import builtin_rules, expand
from otel_telemetry.processors.otlp.redactor import OtlpRedactor
from otel_telemetry.processors.redact.insight import active_rules
from otel_telemetry.processors.redact.redactor import Redactor
from otel_telemetry.processors.verify.coverage import verify
from otel_telemetry.processors.verify.explain import explain

ALL = ("national_id", "passport", "crypto_wallet")
RULES = [rule for rule in builtin_rules(optional=ALL) if rule.optional]
OFF = Redactor(RedactionSettings())
ON = Redactor(RedactionSettings(optional=ALL))


def test_without_the_setting_no_optional_rule_is_there_and_stdnum_is_not_imported():
    assert not any(rule.optional for rule in builtin_rules())
    assert OFF.string("CPF 390.533.447-05, passport C01X00T47") == "CPF 390.533.447-05, passport C01X00T47"
    code = (
        "import sys; from otel_telemetry.processors.redact.redactor import Redactor; "
        "from otel_telemetry.processors.config import RedactionSettings; "
        "Redactor(RedactionSettings(optional=('passport', 'crypto_wallet'))); sys.exit('stdnum' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0


def test_each_group_is_switched_on_alone():
    text = "CPF 390.533.447-05, passport C01X00T47, pay 1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa"
    only = Redactor(RedactionSettings(optional=("passport",)))
    assert only.string(text) == text.replace("C01X00T47", "[REDACTED_PASSPORT]")
    assert ON.string(text) == "CPF [REDACTED_NATIONAL_ID], passport [REDACTED_PASSPORT], pay [REDACTED_CRYPTO_WALLET]"


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.id)
def test_an_optional_value_goes_and_a_second_pass_changes_nothing(rule):
    for example in rule.match:
        text = expand(example, rule.id)
        once = ON.string(text)
        assert f"[REDACTED_{rule.type}]" in once
        assert ON.string(once) == once


def test_the_key_of_an_attribute_counts_as_the_name_beside_a_value():
    assert ON.item("user.bsn", "111222333") == ("user.bsn", "[REDACTED_NATIONAL_ID]")
    assert ON.item("user.bsn", 111222333) == ("user.bsn", "[REDACTED_NATIONAL_ID]")
    assert ON.item("user", {"nhsNumber": ["943 476 5870"], "n": "111222333"}) == (
        "user",
        {"nhsNumber": ["[REDACTED_NATIONAL_ID]"], "n": "111222333"},
    )
    assert ON.item("user.bsn", "111222334") == ("user.bsn", "111222334")
    assert OFF.item("user.bsn", "111222333") == ("user.bsn", "111222333")


@pytest.mark.parametrize("value", ["111222333", 111222333])
def test_the_gateway_sees_the_key_beside_the_value_too(value):
    request = ExportTraceServiceRequest()
    span = request.resource_spans.add().scope_spans.add().spans.add(name="x", trace_id=b"1" * 16, span_id=b"2" * 8)
    attribute = span.attributes.add(key="user.bsn")
    if isinstance(value, int):
        attribute.value.int_value = value
    else:
        attribute.value.string_value = value
    clean = ExportTraceServiceRequest.FromString(OtlpRedactor(ON).redact("traces", request.SerializeToString()).body)
    assert clean.resource_spans[0].scope_spans[0].spans[0].attributes[0].value.string_value == "[REDACTED_NATIONAL_ID]"


def test_verify_proves_the_optional_types_in_every_field():
    one_of_each = {rule.type: rule for rule in RULES}
    report = verify(ON, list(one_of_each.values()))
    assert {"NATIONAL_ID", "PASSPORT", "CRYPTO_WALLET"} <= set(one_of_each) <= set(report.by_type())
    assert report.proved


def test_a_policy_can_name_the_types_that_are_on_and_only_those(tmp_path):
    policy = tmp_path / "policy.yaml"
    policy.write_text("types:\n  NATIONAL_ID: mask\n", encoding="utf-8")
    redactor = Redactor(RedactionSettings(policy=policy, optional=("national_id",)))
    assert redactor.string("PESEL: 44051401359") == "PESEL: ****1359"
    with pytest.raises(RuleError, match=r"policy\.yaml: line 2: nothing that is on finds NATIONAL_ID"):
        Redactor(RedactionSettings(policy=policy))


def test_a_group_that_does_not_exist_is_refused():
    with pytest.raises(ValidationError, match="national_id"):
        RedactionSettings(optional=["national_ids"])


def test_without_the_package_start_up_stops_and_says_what_to_install(monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == "stdnum"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "stdnum", None)
    official_ids._check_of.cache_clear()
    with pytest.raises(RuleError, match=r"pip install 'otel-telemetry\[ids\]'"):
        Redactor(RedactionSettings(optional=("national_id",)))


def test_a_number_over_which_the_library_stumbles_goes():
    assert ON.string("360420199101116011") == "[REDACTED_NATIONAL_ID]"


def own_rule(tmp_path, **changes):
    entry = {
        "id": '"acme-badge"',
        "type": '"BADGE"',
        "near": '["staff badge"]',
        "regex": "'[0-9]{6}'",
        "docs": '"https://example.com/badges"',
        "match": '["staff badge no. 123456", "staffBadge=123456"]',
        "no_match": '["badge 123456", "123456"]',
        **changes,
    }
    file = tmp_path / "rules.toml"
    lines = [f"{name} = {value}" for name, value in entry.items() if value is not None]
    file.write_text("\n".join(["[[rule]]", *lines]), encoding="utf-8")
    return RedactionSettings(rules=(file,))


def test_a_rule_of_ones_own_can_stand_beside_a_name(tmp_path):
    redactor = Redactor(own_rule(tmp_path))
    assert redactor.string("his staff_badge: 123456") == "his staff_badge: [REDACTED_BADGE]"
    assert redactor.item("staff.badge", "123456") == ("staff.badge", "123456")
    assert redactor.item("staff_badge", "123456") == ("staff_badge", "[REDACTED_BADGE]")


def test_a_rule_of_ones_own_can_ask_python_stdnum(tmp_path):
    changes = {
        "validator": '"stdnum.lv.pvn"',
        "regex": "'[0-9]{11}'",
        "match": '["staff badge 40003521600"]',
        "no_match": '["staff badge 40003521601"]',
    }
    assert Redactor(own_rule(tmp_path, **changes)).string("staff badge 40003521600").endswith("[REDACTED_BADGE]")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"validator": '"stdnum.xx.none"'}, "python-stdnum has no 'stdnum.xx.none'"),
        ({"validator": '"stdnum.gb"'}, "python-stdnum has no 'stdnum.gb'"),
        ({"validator": '"stdnum...os"'}, "python-stdnum has no"),
        ({"optional": '"passport"'}, "your own rules are on"),
        ({"near": None}, "neither trigger nor near"),
        ({"near": '"badge"'}, "neither trigger nor near"),
        ({"near": '["b"]'}, "neither trigger nor near"),
    ],
)
def test_a_rule_of_ones_own_that_cannot_be_used_is_refused(tmp_path, changes, message):
    with pytest.raises(RuleError, match=message):
        Redactor(own_rule(tmp_path, **changes))


def test_keccak_is_the_hash_before_nist_changed_it():
    assert keccak_256(b"").hex() == "c5d2460186f7233c927e7db2dcc703c0e500b653ca82273b7bfad8045d85a470"
    assert keccak_256(b"abc").hex() == "4e03657aea45a94fc7d47ba826c8d667c0d1e6e33a64a036ec44f58fa12d6c45"


def test_the_policy_file_switches_groups_on_too(tmp_path):
    policy = tmp_path / "policy.yaml"
    policy.write_text("optional: [passport]\ntypes: {PASSPORT: mask, NATIONAL_ID: hash}\n", encoding="utf-8")
    settings = RedactionSettings(policy=policy, optional=("national_id",))
    redactor = Redactor(settings)
    assert redactor.string("passport C01X00T47, PESEL: 44051401359") == (
        "passport ****0T47, PESEL: [REDACTED_NATIONAL_ID]"
    )
    switched_on = {rule.type: rule for rule in active_rules(settings) if rule.optional}
    assert set(switched_on) == {"PASSPORT", "NATIONAL_ID"}
    assert verify(redactor, list(switched_on.values())).proved
    assert explain(settings, "passport C01X00T47").steps[0].type == "PASSPORT"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("default: replace\noptional: [pasport]\n", "line 2: unknown 'pasport'"),
        ("\noptional: passport\n", "line 2: this is no list"),
        ("services:\n  billing:\n    optional: [passport]\n", "line 3: unknown name 'optional'"),
    ],
)
def test_a_group_that_does_not_exist_stops_start_up_with_its_line(tmp_path, text, problem):
    policy = tmp_path / "policy.yaml"
    policy.write_text(text, encoding="utf-8")
    with pytest.raises(RuleError, match=problem):
        Redactor(RedactionSettings(policy=policy))
