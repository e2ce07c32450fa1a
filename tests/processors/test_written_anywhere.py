"""A secret goes in whatever syntax its name and value are written: file formats, languages, consoles, in every home."""

import json
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from otel_telemetry.base.otlp_values import to_message, to_python
from otel_telemetry.processors.config import RedactionSettings
from otel_telemetry.processors.otlp.redactor import OtlpRedactor
from otel_telemetry.processors.redact.redactor import Redactor

REDACTOR = Redactor(RedactionSettings())
WORD, MIXED = "goldfinchpond", "v8Xk2mQ7Ls"

SYNTAXES = [
    "define('DB_PASSWORD', '{}');",
    'array(1) {{\n  ["password"]=>\n  string(13) "{}"\n}}',
    'a:1:{{s:8:"password";s:13:"{}";}}',
    "Array\n(\n    [password] => {}\n)",
    "Account(id=7, password={}, active=true)",
    "Account(password={}, mail=jane@example.org)",
    "Settings(user='jane', password='{}', port=1)",
    '[{{user,"jane"}},{{password,"{}"}}]',
    "Map(user -> jane, password -> {})",
    "DRIVER=x;UID=sa;PWD={{{}#1}};DATABASE=shop",
    "login password=[{}] done",
    'mutation {{ login(user: "jane", password: "{}") {{ id }} }}',
    "withCredentials(password: '{}')",
    "&lt;password&gt;{}&lt;/password&gt;",
    'first {{"passwords": ["nightingale", "{}"]}}',
    'Config {{ password: Some("{}") }}',
    "userPassword:: {}\n",
    "AUTH default {}",
    "HELLO 3 AUTH default {}",
    "curl -b 'session={}' https://shop.example.org",
    "snmp_community={}",
    "wifi_psk: {}",
    "პაროლი: {}",
    "ពាក្យសម្ងាត់: {}",
    "ລະຫັດຜ່ານ: {}",
    "စကားဝှက်: {}",
    "գաղտնաբառ: {}",
    "የይለፍ ቃል: {}",
    "གསང་ཚིག: {}",
    "கடவுச்சொல்: {}",
    "পাসওয়ার্ড: {}",
    "пароль: {}",
    "лозинка: {}",
    "geslo: {}",
    "contrasenya: {}",
    '{{"t":"name\\tpassword\\njane\\t{}"}}',
    "parol: {}",
    "Parol={}",
    '{{"parol": "{}"}}',
]
KEYS = [
    *("appSecretProof", "shared_access_signature", "id_token_hint", "totp_seed", "totpSeed", "wifi_psk"),
    *("snmp_community", "contrasenya", "pasahitza", "parol", "პაროლი", "စကားဝှက်", "лозинка"),
]
NUMBERS = ["cvv2_code", "cvcCode", "pin_code", "pinCode", "primary_account_number", "primaryAccountNumber"]
#: Neighbours of the above that name or describe no secret.
HARMLESS = [
    "password: {{ type: String, required: true }}",
    "connect(user=user, password=password, port=port)",
    "Client(password=value, timeout=5)",
    "PWD={{db_pwd}};",
    "password=[args]",
    "password=[x for x in y]",
    "name\tpassword\tcreated_at",
    "password\tcreated_at",
    "std::password:: Type",
    "AUTH LOGIN",
    "250-AUTH PLAIN LOGIN",
    "the AUTH header",
    "f password -> case",
    "40412 is your order number",
    "git checkout -b 'feature/login'",
    "define('PASSWORD_MIN_LENGTH', '12');",
    "&lt;password&gt;{{password}}&lt;/password&gt;",
    "postal code 560001",
    "snmp community strings are shared",
    "modulation=psk31",
    "Parole: Mogol",
    "parole: granted",
    "le parole: sempre le stesse",
    "the parol: a lantern",
]


def span(key: str, value: Any) -> Any:
    item = REDACTOR.item(key, value)
    return item and item[1]


def log(key: str, value: Any) -> Any:
    body = REDACTOR.body({key: value})
    return body[key] if isinstance(body, dict) else body


def otlp(key: str, value: Any) -> Any:
    request = ExportTraceServiceRequest()
    one = request.resource_spans.add().scope_spans.add().spans.add(trace_id=b"1" * 16, span_id=b"2" * 8)
    one.attributes.add(key=key, value=to_message(value))
    clean = OtlpRedactor(REDACTOR, leak_check_ratio=1).redact("traces", request.SerializeToString())
    (left,) = ExportTraceServiceRequest.FromString(clean.body).resource_spans[0].scope_spans[0].spans
    return to_python(left.attributes[0].value)


def json_text(key: str, value: Any) -> Any:
    return REDACTOR.string(json.dumps({key: value}, ensure_ascii=False))


homes = pytest.mark.parametrize("home", [span, log, otlp, json_text])


@homes
@pytest.mark.parametrize("value", [WORD, MIXED])
@pytest.mark.parametrize("syntax", SYNTAXES)
def test_a_secret_goes_in_every_syntax(home: Any, syntax: str, value: str) -> None:
    clean = str(home("note", syntax.format(value)))
    assert value not in clean
    assert "[REDACTED_" in clean


@homes
@pytest.mark.parametrize("key", KEYS)
def test_a_secret_goes_under_every_name(home: Any, key: str) -> None:
    assert WORD not in str(home(key, WORD))


@homes
@pytest.mark.parametrize("key", NUMBERS)
def test_a_number_goes_under_the_name_of_a_secret_number(home: Any, key: str) -> None:
    assert "7391" not in str(home(key, 7391))


@homes
@pytest.mark.parametrize(
    "text", ["739154 is your one-time passcode", "G-739154 is your Example code", "use 7391 as your pin"]
)
def test_a_code_of_one_time_goes_before_its_name(home: Any, text: str) -> None:
    assert "7391" not in str(home("note", text))


@homes
@pytest.mark.parametrize("text", HARMLESS)
def test_what_names_no_secret_stays(home: Any, text: str) -> None:
    plain = text.replace("{{", "{").replace("}}", "}")
    clean = home("note", plain)
    assert clean in (plain, json.dumps({"note": plain}, ensure_ascii=False))


def test_lines_of_two_columns_are_names_and_values() -> None:
    assert REDACTOR.string(f"user\tjane\npassword\t{MIXED}\n") == "user\tjane\npassword\t[REDACTED_PASSWORD]\n"
