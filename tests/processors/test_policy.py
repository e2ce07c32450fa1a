import json

import pytest

from otel_telemetry.base.errors import RuleError
from otel_telemetry.processors.config import PseudonymSettings, RedactionSettings
from otel_telemetry.processors.redact.redactor import Redactor

EMAIL = "jane@example.com"
CARD = "4111111111111111"


@pytest.fixture
def redactor(tmp_path):
    def build(text, **settings):
        file = tmp_path / "policy.yaml"
        file.write_text(text, encoding="utf-8")
        settings.setdefault("pseudonyms", PseudonymSettings(secret="0123456789abcdef"))
        return Redactor(RedactionSettings(policy=file, **settings))

    return build


def test_each_type_has_its_own_action(redactor):
    clean = redactor("types: {EMAIL: hash, CREDIT_CARD: mask, IP_ADDRESS: keep, SSN: replace}")
    text = clean.string(f"{EMAIL} paid with {CARD} from 198.51.100.7, ssn 123-45-6789")
    name, rest = text.split(" ", 1)
    assert name.startswith("k1_")
    assert len(name) == 15
    assert rest == "paid with ****1111 from 198.51.100.7, ssn [REDACTED_SSN]"
    assert clean.string(text) == text


def test_a_hashed_email_keeps_its_domain_where_asked(redactor):
    clean = redactor("types: {EMAIL: hash}\nemail_domain: true")
    once = clean.string(f"to {EMAIL}")
    assert once.endswith("@example.com")
    assert "jane" not in once
    assert clean.string(once) == once


def test_without_a_secret_a_hash_becomes_a_marker(redactor):
    clean = redactor("types: {EMAIL: hash}", pseudonyms=PseudonymSettings())
    assert clean.string(EMAIL) == "[REDACTED_EMAIL]"


def test_an_attribute_with_a_dropped_type_goes_and_a_plain_string_is_replaced(redactor):
    clean = redactor("types: {EMAIL: drop}")
    assert clean.item("note", f"ask {EMAIL}") is None
    assert clean.item("note", "nothing") == ("note", "nothing")
    assert clean.string(f"ask {EMAIL}") == "[REDACTED_EMAIL]"


def test_keys_have_actions_and_patterns(redactor):
    clean = redactor('keys: {app.note: keep, "app.secret.*": drop, app.who: hash, app.size: replace}')
    assert clean.item("app.note", EMAIL) == ("app.note", EMAIL)
    assert clean.item("app.secret.x", 1) is None
    assert clean.item("app.who", "u1")[1].startswith("k1_")
    assert clean.item("app.size", 1234) == ("app.size", "[REDACTED_VALUE]")


def test_the_locator_knows_the_policys_keys(redactor):
    clean = redactor('keys: {"app.hidden.*": drop}\npaths: {app.body: {"$.a": replace}}')
    assert list(clean.dirty(["app.hidden.x", "app.body", "app.other"])) == [0, 1]
    assert clean.located(b"\x0a\x0capp.hidden.x\x12")[0]


def test_paths_reach_into_maps_and_into_json_text(redactor):
    clean = redactor('paths: {gen_ai.input.messages: {"$[*].name": hash, "$..note": drop, "$[*].raw": keep}}')
    value = [{"name": "Jane", "parts": [{"note": "x", "text": EMAIL}], "raw": EMAIL}]
    for given in (value, json.dumps(value)):
        _, out = clean.item("gen_ai.input.messages", given)
        out = json.loads(out) if isinstance(out, str) else out
        assert out[0]["name"].startswith("k1_")
        assert out[0]["parts"] == [{"text": "[REDACTED_EMAIL]"}]
        assert out[0]["raw"] == EMAIL


def test_an_allow_list_keeps_nothing_else(redactor):
    clean = redactor("allow: [http.*]")
    assert clean.item("http.request.method", "GET") == ("http.request.method", "GET")
    assert clean.item("url.full", "https://x") is None
    assert list(clean.dirty(["a", "b"])) == [0, 1]
    assert list(clean.located(b"abc")[0]) == [1, 2, 3]
    assert redactor("allow: []").item("http.request.method", "GET") is None


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("drop", None),
        ("redact", ("gen_ai.input.messages", "[REDACTED_EMAIL]")),
        ("keep", ("gen_ai.input.messages", EMAIL)),
    ],
)
def test_content_is_dropped_redacted_or_kept(redactor, content, expected):
    clean = redactor(f"content: {content}")
    assert clean.item("gen_ai.input.messages", EMAIL) == expected
    assert list(clean.dirty(["gen_ai.input.messages"])) == ([0] if content == "drop" else [])


def test_the_setting_wins_over_the_files_content(redactor):
    assert redactor("content: keep", content="drop").item("gen_ai.prompt.0.content", "x") is None


def test_a_service_has_its_overrides_on_top_of_the_rest(redactor):
    clean = redactor("types: {EMAIL: mask}\nservices: {billing: {types: {CREDIT_CARD: keep}}}")
    billing = clean.for_service("billing")
    assert billing.string(f"{EMAIL} {CARD}") == f"****ecom {CARD}"
    assert clean.string(CARD) == "[REDACTED_CREDIT_CARD]"
    assert clean.for_service("other") is clean


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("types: {EMIAL: hash}", 1, "EMAIL"),
        ("types:\n  EMAIL: hahs", 2, "replace, mask, hash"),
        ("typs: {}", 1, "types"),
        ("content: maybe", 1, "drop, redact, keep"),
        ("keys: {'*': drop}", 1, "spell out"),
        ("paths: {app.body: {messages: drop}}", 1, "$.messages"),
        ("allow: http.*", 1, "[a, b]"),
        ("keys: {a.b: drop}\nkeys: {}", 2, "keep one"),
        ("services: {x: {services: {}}}", 1, "unknown name"),
    ],
)
def test_typos_stop_the_start_and_say_which_line(redactor, text, line, words):
    with pytest.raises(RuleError) as error:
        redactor(text)
    assert f"policy.yaml: line {line}" in str(error.value)
    assert words in str(error.value)


def test_a_missing_or_broken_file_stops_the_start(redactor, tmp_path):
    with pytest.raises(RuleError):
        Redactor(RedactionSettings(policy=tmp_path / "none.yaml"))
    with pytest.raises(RuleError):
        redactor("types: {")


def test_an_empty_policy_is_the_built_in_one(redactor):
    assert redactor("").string(EMAIL) == "[REDACTED_EMAIL]"


RULE = """
[[rule]]
id = "acme-badge"
type = "BADGE"
trigger = ['ACME-[0-9]{{4}}']
regex = '{regex}'
docs = "https://example.com/badges"
match = ['badge {match}']
no_match = ['ACME-12']
"""


def user_rules(tmp_path, regex="ACME-[0-9]{4,8}", match="ACME-12345"):
    file = tmp_path / "rules.toml"
    file.write_text(RULE.format(regex=regex, match=match), encoding="utf-8")
    return RedactionSettings(rules=(file,))


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('id = "email"', "email: is also in 10_personal.toml"),
        ("match = 'ACME-12345'", "write a list of texts"),
        ("no_match = [5]", "write a list of texts"),
        ("words = 'abc'", "write a list of texts"),
        ("trigger = [5]", "write a list of texts"),
        ("trigger = ['..']", "found nearly everywhere"),
        ("trigger = ['ACME-[0-9]{4}+']", "cannot do"),
        ("trigger = ['(?>ACME)-[0-9]{4}']", "cannot do"),
        ("trigger = ['^ACME-']", "looks around"),
        ("priority = 'high'", "write a number"),
        ("docs = 5", "write a text"),
        ("left = '[z-a]'", "one character class"),
        ("left = '[A-Z](a+)+'", "one character class"),
    ],
)
def test_a_users_rule_with_a_field_that_cannot_be_used_is_refused_by_name(tmp_path, line, words):
    field = line.partition(" = ")[0]
    lines = [
        old for old in RULE.format(regex="ACME-[0-9]{4,8}", match="ACME-12345").splitlines() if field not in old[:9]
    ]
    file = tmp_path / "rules.toml"
    file.write_text("\n".join([*lines, line]), encoding="utf-8")
    with pytest.raises(RuleError, match=words) as caught:
        Redactor(RedactionSettings(rules=(file,)))
    assert str(file) in caught.value.key


def test_a_pattern_that_is_let_through_ends_soon_on_the_worst_text_for_it(tmp_path):
    settings = user_rules(tmp_path, regex="ACME-[0-9]{4,8}(?:x{0,300}x{0,300}y)?")
    text = "ACME-1234" + "x" * 10_000
    assert Redactor(settings).string(text * 10).count("[REDACTED_BADGE]") == 10


def test_a_users_rule_is_used_like_ours(tmp_path):
    redactor = Redactor(user_rules(tmp_path))
    assert redactor.string("see ACME-12345") == "see [REDACTED_BADGE]"
    assert list(redactor.dirty(["see ACME-12345", "x"])) == [0]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"match": "ACME-XXXX"}, "does not find its example"),
        ({"regex": "ACME-[0-9]{2,8}"}, ""),
        ({"regex": "ACME-([0-9]+)+x"}, "without limit"),
        ({"regex": "ACME-(?:[0-9]{1,9}){1,9}x"}, "repeat"),
        ({"regex": "ACME-("}, "no regular expression"),
        ({"regex": "ACME-(?:a|a){0,40}b"}, "over 100,000 ways"),
        ({"regex": "ACME-(?:a?a){0,40}b"}, "over 100,000 ways"),
        ({"regex": "ACME-.{0,500}.{0,500}.{0,500}b"}, "over 100,000 ways"),
        ({"regex": "(?<=a{1,3})ACME-[0-9]{4,8}"}, "none that Python"),
        ({"regex": "ACME-[0-9]{4,99999999}"}, "without limit"),
    ],
)
def test_a_users_rule_that_is_wrong_or_could_blow_up_is_refused(tmp_path, change, words):
    settings = user_rules(tmp_path, **change)
    if not words:
        assert Redactor(settings).string("ACME-12345") == "[REDACTED_BADGE]"
        return
    with pytest.raises(RuleError, match=words):
        Redactor(settings)
