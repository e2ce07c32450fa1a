"""Short ways to a verdict come to the same one as the long way: nothing is found more, less or otherwise."""

import itertools
import random
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_telemetry.processors.detect import detector as detector_module
from otel_telemetry.processors.detect.detector import Detector
from otel_telemetry.processors.detect.engines import patterns
from otel_telemetry.processors.detect.kinds import other_numbers, phones
from otel_telemetry.processors.detect.names import assignments, described, looks, no_values, places, quotes
from otel_telemetry.processors.detect.names.plain_values import plain_value
from otel_telemetry.processors.detect.ruleset import builtin_rules
from otel_telemetry.processors.detect.text.offsets import Offsets

NAMES = (
    *("password", "API_KEY", "x-api-key", "client_secret", "private_key", "Authorization"),
    *("email", "card_number", "ssn"),
)
SEPARATORS = ("=", ":", ": ", " = ", '":"', '": "', '" : "', " == ", "=>", ": str = ", '="', ': "', " = '", "='")
VALUES = (
    *("hunter22a", "sunflower", "password1", "api_key_v2", "new_password1", "test-key1", "lambda1x2y3z", "filtered12"),
    *("your-api-key", "feceb1e7c1c56dbd", "glsa_S79humvgNECF0c", "us_east_1", "1234567890", "xxxxxxxx1", "fel1234567"),
    *("Bearer abcDEF123456ghiJKL", "Basic d2hpdG5leTg1OmR1LXA=", "Bearer src/app/v2.py", "token a1b2c3d4e5f6g7h8"),
    *(
        "Digest abcDEF123456ghiJKL",
        "bearer aws4-hmac-sha256",
        "jane@example.com",
        "jane%40example.com",
        "filtered@x.io",
    ),
    *(
        "4111111111111111",
        "4111 1111 1111 1111",
        "4111-1111-1111-1111",
        "123-45-6789",
        "1970-02-03",
        "12",
        "string1==",
        "getenv1(x)",
    ),
    *("a1b*Uj1N%.2zO8", "tTsdZqU1r.2x1", "settings.db.pass2", "conf1.password.new", "word.two_3", "x9${HOST}yz"),
    *("*Exw4Fa^V#x", "~oauth2~~", "realt\u00e0-33-giusto", "\u00e91\u00e92\u00e93\u00e94", "ab1#cd2e;f", "306650784"),
    *("p4ss%sword", "n3w!pass^word~", "self.pass1word", "os.env.pass_1", "my-pass@word1", "1.2.3.4567"),
)
BEFORE = ("", "{", '{"', "connect(", "?", "&", "const ", "[section]\n", "Host=h;", "-H ", "(a) ", "my ")
BEHIND = (
    *(
        "",
        '"',
        "'",
        "')",
        '";',
        "}",
        '"}',
        ")",
        ";",
        " ",
        "\n",
        " and more words",
        "&b=2",
        "#x",
        "|x",
        "\\n",
        ", b",
        "(x)",
    ),
    '" -> "new1value2"',
)


@pytest.fixture(scope="module")
def detector():
    return Detector([rule for rule in builtin_rules() if rule.id == "assignment"], "auto")


@pytest.mark.parametrize("name", NAMES)
def test_a_plain_value_is_judged_as_every_other_is(detector, monkeypatch, name):
    rng = random.Random(name)  # noqa: S311  # the same texts each time
    texts = [
        rng.choice(BEFORE) + name + separator + value + rng.choice(BEHIND)
        for separator, value, _ in itertools.product(SEPARATORS, VALUES, range(6))
    ]
    seen = []

    def counted(*arguments):
        seen.append(plain_value(*arguments))
        return seen[-1]

    monkeypatch.setattr(assignments, "plain_value", counted)
    short = [detector.find(text) for text in texts]
    assert any(seen)
    monkeypatch.setattr(assignments, "plain_value", lambda *_: None)
    for text, found in zip(texts, short, strict=True):
        assert found == detector.find(text), text


WEAK = ("key", "token", "auth", "pass", "style.key", "acme_key", "signature", "password", "api_key")
MEMBERS = ('":', '": ', '" : ', '\\":', '\\\\\\": ', '"],', '"]],', '","', '"')
SHORT = (
    '{"a":1}',
    '"',
    '"a"',
    '"a1b2c"',
    '"a1b2c3"',
    '"Zk8Qw3Lm9Xc2Vb7N"',
    '"Zk8Qw3Lm9Xc2Vb7"',
    '\\"a1b2c3\\"',
    '\\"x1\\"',
    "[1]",
)


@pytest.mark.parametrize("name", WEAK)
def test_what_is_too_short_for_a_weak_name_is_judged_as_everything_else_is(detector, monkeypatch, name):
    before = ('{"', '["', 'x["', '{"a":1,"', '{\\"')
    texts = [
        first + name + sign + value + behind
        for first, sign, value, behind in itertools.product(
            before, MEMBERS, SHORT, ("", "}", ',"value":"Zk8Qw3Lm9Xc2"')
        )
    ]
    short = [detector.find(text) for text in texts]
    monkeypatch.setattr(no_values, "TOO_LITTLE", {})
    for text, found in zip(texts, short, strict=True):
        assert found == detector.find(text), text


BESIDE = ("=", "=ab", "=\u00e9", "=ab1", "=x%40y.de", "=x(at)y.de", "=12 34 5", "=a=b9c3d", '",', '", ', '"], ', '"),')
THEN = ("", " ", "&b=2", ";c", ", d", '"Zk8Qw3Lm9Xc2Vb7N"', "x", '"jane@example.com")]')
OPENED = ("", '"', '("', '[["', ', "', ':"', "?", "&x=1&", '[b"', "{", "Host=h;", "<", '{"name":"')


@pytest.mark.parametrize("name", [*WEAK, *NAMES, "--password", "Set-Cookie", "User Id"])
def test_what_cannot_follow_a_name_is_judged_as_everything_else_is(detector, monkeypatch, name):
    texts = ["".join((before, name, *rest)) for before, *rest in itertools.product(OPENED, BESIDE, THEN)]
    short = [detector.find(text) for text in texts]
    monkeypatch.setattr(no_values, "follow", lambda *_: False)
    for text, found in zip(texts, short, strict=True):
        assert found == detector.find(text), text


def test_what_lies_within_a_finding_of_a_higher_priority_adds_nothing(monkeypatch):
    rules = [rule for rule in builtin_rules() if rule.type in ("PHONE", "SSN", "CREDIT_CARD", "API_KEY", "SECRET")]
    whole = Detector(rules, "auto")
    parts = (
        *("tel +1 404 983 7240", "mobile: +46 70 124 25 74", "call 0044 20 7946 0018 x12", "SSN 452 74 8624"),
        *("phone (212) 555-0187", "card 4589 9422 7428 2718", "api_key=AKIAQ3EGRIK7ZLPWN5XY", "fax", "12 34", "and my"),
    )
    texts = [sign.join(some) for some in itertools.permutations(parts, 2) for sign in ("", " ", ", ", "-", " (", "\n")]
    short = [whole.find(text) for text in texts]
    monkeypatch.setattr(detector_module, "_is_within", lambda *_: False)
    for text, found in zip(texts, short, strict=True):
        assert [match[:3] for match in found] == [match[:3] for match in whole.find(text)], text


@pytest.mark.parametrize("gap", ["", " ", ", ", " (", "|-/:", "     ", "\x0b", "\u3000", ", is ", " is "])
def test_a_word_of_telephony_behind_a_number_begins_as_one(monkeypatch, gap):
    words = (
        "office",
        "Fax",
        "MOBILE",
        "my cell",
        "the work",
        "direct desk",
        "our mobile line",
        "手机",
        "тел",
        "and",
        "x",
        "",
    )
    short = [phones._named_behind("1" + gap + word, 1) for word in words]
    monkeypatch.setattr(phones, "_FIRST", frozenset(map(chr, range(128))) | {""})
    assert short == [phones._named_behind("1" + gap + word, 1) for word in words]


def test_a_byte_before_a_trigger_rules_out_only_what_the_rule_would(monkeypatch):
    rules = [rule for rule in builtin_rules() if rule.never_behind]
    short, long = Detector(rules, "auto"), Detector(rules, "auto")
    assert sum(map(bool, short._closed)) > 200
    monkeypatch.setattr(long, "_closed", (b"",) * len(long._closed))
    monkeypatch.setattr(long, "_open", long._closed)
    number, key = "4111111111111111", "AKIA" + "Q3EGRIK7ZLPWN5XY"
    for value, before, behind in itertools.product(
        (number, key),
        ("", "n", "\\n", "\\\\n", "\\t", "\\u0041", "\\u00e9", "\\u002", "é", "手", "0.", "f", "x\\"),
        ("", "\\n", "é"),
    ):
        text = before + value + behind
        assert short.find(text) == long.find(text), text
        assert short.find("a " + text) == long.find("a " + text), text


def test_no_rule_matches_behind_what_it_says_it_never_stands_behind():
    refusing = [rule for rule in builtin_rules() if rule.never_behind]
    assert len(refusing) > 200
    for rule in refusing:
        for example, before in itertools.product(rule.match, rule.never_behind):
            assert rule.regex.match(before + example, 1) is None, (rule.id, before)


@pytest.mark.parametrize(
    ("pattern", "refused"),
    [
        (r"(?<![0-9.])x", "0123456789."),
        ("(?<!-)x", ""),
        ("(?i)(?<![b])x", "bB"),
        (r"(?<!\d)(?<!a)x", "0123456789"),
        ("(?<![a])x|y", ""),
        ("(?<![a])x|(?<![a])y", ""),
        ("(?:(?<![a])x)?y", ""),
    ],
)
def test_a_pattern_refuses_what_its_first_look_behind_refuses(pattern, refused):
    assert patterns.never_behind(pattern) == frozenset(refused)


def test_a_walk_to_the_left_ends_behind_what_is_not_in_its_class():
    assert patterns.others("[a-z]") == frozenset(map(chr, range(128))) - frozenset("abcdefghijklmnopqrstuvwxyz")
    assert patterns.others(r"[^\s]") == frozenset(" \t\n\r\f\v\x1c\x1d\x1e\x1f") & patterns.others(r"[^\s]")


@given(st.text("()a ])>", max_size=60))
def test_an_open_parenthesis_is_found_however_many_are_closed(text):
    depth, opened = 0, -1
    for at in range(len(text) - 1, -1, -1):
        depth += (text[at] == ")") - (text[at] == "(")
        if depth < 0:
            opened = at
            break
    expected = opened > 0 and re.match(r"[\w\])>!?]", text[opened - 1]) is not None
    assert places.in_call(text, len(text)) == expected


@given(st.text("\"'`\\ab\n&quot;N", max_size=24))
def test_a_quote_is_read_as_its_pattern_reads_it(text):
    found = quotes._OPENING.match(text)
    quote = quotes.opening(text, 0)
    assert (quote is None) == (found is None)
    if found and quote:
        assert quote == quotes.Quote(found["three"] or found["plain"], len(found["slashes"] or ""), found.end())
        if quote.mark in quotes._PLAIN:
            whole = quotes._PLAIN[quote.mark].match(text, quote.end)
            assert whole is not None
            assert quotes.closing(text, quote) == whole.end()


@given(st.text("%{}$<s(d)+,; a.\n", max_size=8))
def test_a_template_is_one_wherever_it_is(value):
    whole = r"^\s*[%+,;)\]}](?:\s|$)|%[sdr]|%\(\w|\{\}|\{[A-Za-z_][\w.\[\]()'\"]{0,60}\}|\$\{|\{\{|<%"
    assert looks.is_template(value) == (re.search(whole, value) is not None)


@given(st.text("abcé手\U0001f600", max_size=30), st.data())
def test_bytes_belong_to_the_characters_that_they_encode(text, data):
    encoded = text.encode()
    ends = sorted(data.draw(st.lists(st.integers(1, max(1, len(encoded))), max_size=6))) if encoded else []
    offsets = Offsets(encoded)
    for end in ends:
        start = max(0, end - data.draw(st.integers(1, 6)))
        first = len(encoded[: start + 1].decode(errors="ignore")) if encoded[start] < 128 else None
        got = offsets.of(start, end)
        assert got[1] == len([byte for byte in encoded[:end] if not 0x80 <= byte < 0xC0])
        assert first is None or got[0] == first - 1


@pytest.mark.parametrize(
    "name",
    [
        "order no",
        "invoice-number",
        "request_id",
        "trackingNumber",
        "po",
        "id",
        "order is",
        "siparis",
        "\u8ba2\u5355\u53f7 is",
    ],
)
@pytest.mark.parametrize("gap", [" ", ": ", '":"', " #", "=", "-"])
def test_a_name_of_another_number_is_seen_at_once(name, gap):
    before = f"pay {name}{gap}"
    assert other_numbers._BEFORE.search(before) is None or other_numbers._may_end_in_name(before)
    assert other_numbers.stands_for_other(before + "4111111111111111", len(before), len(before) + 16) == (
        other_numbers._BEFORE.search(before) is not None
    )


@given(st.text(alphabet="nameNAMEkeyvalue=:>\"' \\&quot;_", max_size=24))
def test_a_name_that_is_a_value_is_seen_at_once(text):
    assert described._near(text, len(text)) == (described._IS_NAME.search(text) is not None)
