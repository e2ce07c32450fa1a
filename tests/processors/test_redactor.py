import json

import pytest

from otel_telemetry.processors.config import PseudonymSettings, RedactionSettings
from otel_telemetry.processors.redact.redactor import Finding, Redactor

SECRET = "0123456789abcdef0123"


@pytest.fixture(scope="module", params=["hyperscan", "re2", "re"])
def redactor(request):
    if request.param != "re":
        pytest.importorskip(request.param)
    return Redactor(RedactionSettings(engine=request.param))


@pytest.fixture(scope="module")
def hashing():
    return Redactor(RedactionSettings(pseudonyms=PseudonymSettings(secret=SECRET)))


def test_the_contracts_example_comes_back_as_promised(redactor):
    given = {
        "user_id": "user123",
        "email": "test@example.com",
        "api_key": "sk-1234567890abcdef",
        "message": "Hello world",
    }
    assert redactor.value(given) == {
        "user_id": "[REDACTED_USER_ID]",
        "email": "[REDACTED_EMAIL]",
        "api_key": "[REDACTED_API_KEY]",
        "message": "Hello world",
    }


def test_json_in_a_string_stays_json(redactor):
    text = '{"email": "a@example.com", "ssn": 123456789, "inner": "{\\"password\\": \\"p w\\", \\"n\\": 1}"}'
    clean = json.loads(redactor.string(text))
    assert clean["email"] == "[REDACTED_EMAIL]"
    assert clean["ssn"] == "[REDACTED_SSN]"
    assert json.loads(clean["inner"]) == {"password": "[REDACTED_PASSWORD]", "n": 1}


def test_what_is_clean_comes_back_as_the_very_object(redactor):
    value = {"a": ["x", 1, {"b": b"raw"}], "model": "gpt-4o-mini"}
    assert redactor.value(value) is value


def test_a_client_address_becomes_the_contracts_ip_hash_however_it_is_spelt(hashing):
    spellings = ["203.0.113.7", "::ffff:203.0.113.7", "203.0.113.7:4711", "[::ffff:203.0.113.7]:80"]
    hashes = {hashing.item("client.address", spelling)[1] for spelling in spellings}
    assert len(hashes) == 1
    assert len(hashes.pop()) == 12


def test_redaction_is_idempotent_on_pseudonyms(hashing):
    for key, value in (("client.address", "203.0.113.7"), ("user.id", "u1"), ("session.id", "s1")):
        once = hashing.item(key, value)
        assert once != (key, value)
        assert hashing.item(*once) == once


def test_a_dirty_string_is_located_among_clean_ones(redactor):
    texts = ["GET", "/items/{id}", "mail a@example.com", "gen_ai.usage.input_tokens", "user.id"]
    assert list(redactor.dirty(texts)) == [2, 4]


def test_findings_tell_type_and_length_only(redactor):
    findings: list[Finding] = []
    redactor.string("mail a@example.com", findings=findings)
    assert [(f.type, f.rule, f.length) for f in findings] == [("EMAIL", "email", 13)]


@pytest.mark.parametrize("template", ["[{0}]", '{{"a": [1, {0}, 2]}}', '["x", {0}]', "[[{0}]]", '{{"n":{0},"m":1}}'])
def test_a_bare_number_in_json_becomes_a_string_at_any_depth(redactor, template):
    text = template.format("4111111111111111")
    for depth in range(3):
        wrapped = text
        for _ in range(depth):
            wrapped = json.dumps({"inner": wrapped})
        clean = redactor.string(wrapped)
        for _ in range(depth):
            clean = json.loads(clean)["inner"]
        assert json.loads(clean) == json.loads(template.format('"[REDACTED_CREDIT_CARD]"'))


def test_what_a_name_in_json_gives_away_goes_even_where_markers_would_break_the_json(redactor):
    text = '{"phone": "13812345678", "password": {"a": "x y"}, "n": 4111111111111111}'
    clean = json.loads(redactor.string(text))
    assert clean == {"phone": "[REDACTED_PHONE]", "password": "[REDACTED_PASSWORD]", "n": "[REDACTED_CREDIT_CARD]"}


def test_a_card_number_is_found_as_a_number_too_and_a_timestamp_stays(redactor):
    value = {"pan": 4111111111111111, "at": 1763683200000000000, "n": 7, "ms": 1763683200123}
    assert redactor.value(value) == {**value, "pan": "[REDACTED_CREDIT_CARD]"}


@pytest.mark.parametrize(
    "content",
    [
        "to jane@example.com, thanks",
        "card 4111 1111 1111 1111, or 5500005555555559, please",
        "call +1 415 555 2671",
        "from 203.0.113.9, 2001:db8::8a2e:370:7334",
        '"jane@example.com"',
        "C:\\jane@example.com",
        "[1, 4111111111111111, 2]",
        '{"n": 4111111111111111}',
        "password=true, 123456789 ssn 123456789",
    ],
)
def test_text_within_json_loses_its_values_and_the_json_keeps_its_shape(redactor, content):
    for wrap in (lambda inner: inner, json.dumps, lambda inner: json.dumps({"deep": inner})):
        text = json.dumps([{"role": "user", "content": wrap(content)}, {"n": 1, "done": True}])
        clean = json.loads(redactor.string(text))
        assert clean[1] == {"n": 1, "done": True}
        assert "[REDACTED_" in clean[0]["content"]
        assert not any(value in clean[0]["content"] for value in ("jane@", "4111", "5559", "2671", "203.0", "8a2e"))


@pytest.mark.parametrize("kind", ["number", "name"])
def test_a_key_spelt_with_escapes_in_json_still_tells_what_its_list_is(redactor, kind):
    key = {"number": '"p\\u0061ssword"', "name": '"\\u0070\\u0061ssword"'}[kind]
    assert json.loads(redactor.string(f'{{"to": "jane@example.com", {key}: ["x y", "z w"]}}')) == {
        "to": "[REDACTED_EMAIL]",
        "password": ["[REDACTED_PASSWORD]", "[REDACTED_PASSWORD]"],
    }
