"""Values in forms that no corpus was looked at for: from standards, other countries, shells, databases and YAML."""

from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from otel_telemetry.processors.config import RedactionSettings
from otel_telemetry.processors.otlp.redactor import OtlpRedactor
from otel_telemetry.processors.redact.redactor import Redactor

REDACTOR: Any = Redactor(RedactionSettings())
WORD = "Tr0ub4dor&3x"
TOKEN = "9f8Xk2LmQ7vRt3ZpW6yB1nD4"

PHONES = [
    *("call me on +33 6 12 34 56 78", "Tel. 030 12345678 (Berlin)", "tel: (030) 1234 5678", "Telefon: 0043 1 5331234"),
    *("Mobil 0176/12345678", "phone 020 7946 0958", "+44 (0)20 7946 0958", "ring 07700 900123 tonight"),
    *("móvil: 612 34 56 78", "teléfono 91 123 45 67", "téléphone : 06.12.34.56.78", "celular (11) 91234-5678"),
    *(
        "電話: 03-1234-5678",
        "手机号 13812345678",
        "手机\uff1a138 1234 5678",
        "тел. 8 (495) 123-45-67",
        "휴대폰 010-1234-5678",
    ),
    *("tel:+1-201-555-0123", "+7 (495) 123-45-67", "+91 98765 43210", "phone=00491712345678", "Ph: 04 1234 5678"),
    *(
        "fax 212.736.5000",
        "caller_id=+4915112345678 s=3",
        "sip:+4915112345678@voip.example.net",
        "to=%2B4915112345678&x=1",
    ),
]
EMAILS = [
    *(
        "<jane+tag@sub.example.co.uk>",
        "user@münchen.de",
        "jane@xn--mnchen-3ya.de",
        "用户@例子.广告",
        "jane%40example.com",
    ),
    *("jane@[192.0.2.1]", "jane@[IPv6:2001:db8::1]", "mailto:jane@example.com?subject=x", "to:j@e.co,k@e.co"),
    *('"jane roe"@example.com', "j.o'neil@example.ie", "jané@example.com", "john_doe-99@mail-server.example.org."),
]
CARDS = [
    *(
        "4111-1111-1111-1111",
        "4111.1111.1111.1111",
        "4111/1111/1111/1111",
        "4111_1111_1111_1111",
        "4111  1111  1111  1111",
    ),
    *(
        "3782 822463 10005",
        "5555 5555 5555 4444",
        "2223003122003222",
        "%B4111111111111111^ROE/JANE^3012",
        "4111 1111 11111111",
    ),
]
IBANS = [
    *("GB82 WEST 1234 5698 7654 32", "gb82west12345698765432", "DE89-3704-0044-0532-0130-00", "NO9386011117947"),
    *("MT84MALT011000012345MTLCAST001S", "LC55HEMM000100010012001200023015", "RU0304452522540817810538091310419"),
    *(
        "LY83002048000020100120361",
        "SD2129010501234001",
        "FK88SC123456789012",
        "YE15CBYE0001018861234567891234",
        "iban=BI4210000100010000332045181&x",
    ),
]
ADDRESSES = [
    *(
        "2001:db8:0:0:0:0:2:1",
        "[2001:db8::1]:443",
        "http://[2001:db8::1]/x",
        "::ffff:203.0.113.9",
        "64:ff9b::203.0.113.9",
    ),
    *(
        "fe80::1%25eth0",
        "::ffff:cb00:7109",
        "203.0.113.9/24",
        "X-Forwarded-For: 203.0.113.9, 198.51.100.7",
        "a=1:2:3:4:5:6:7:8",
    ),
]
NUMBERS = [
    "SSN#536-90-4399",
    "Social Security Number: 536.90.4399",
    "ssn:536904399",
    "3C-22-FB-12-34-56",
    "mac=3c22.fb12.3456",
]


@pytest.mark.parametrize("text", [*PHONES, *EMAILS, *CARDS, *IBANS, *ADDRESSES, *NUMBERS])
def test_a_personal_value_is_found_in_every_form(text):
    once = REDACTOR.string(text)
    assert "[REDACTED_" in once
    assert sum(map(str.isdigit, once)) <= 5, "no more than ports, lengths and the like are left"
    assert REDACTOR.string(once) == once


SECRETS = [
    *("password: {}", "DB_PASSWORD='{}'", "$env:DB_PASSWORD = '{}'", "--password {}", "mysql -u root -p{} db"),
    *("PGPASSWORD={} psql -h db", "sshpass -p {} ssh x", "curl -u jane:{} https://x", "redis-cli -a {} ping"),
    *("docker login -u j -p {} reg.io", "ALTER USER app WITH PASSWORD '{}'", "CREATE USER app IDENTIFIED BY '{}'"),
    *(
        "SET PASSWORD FOR 'a'@'b' = PASSWORD('{}')",
        "CREATE LOGIN x WITH PASSWORD = N'{}'",
        "db:\n  password: |\n    {}",
    ),
    *('<add key="password" value="{}"/>', ':password => "{}"', '{{password: "{}"}}', "level=info password={} user=x"),
    *("https://x/?password={}&y=1", "Server=db;User Id=sa;Password={};Encrypt=yes", "mongodb://a:{}@db/x"),
    *("args=['--password', '{}']", 'login("jane", password="{}")', "ENV DB_PASSWORD {}", "requirepass {}"),
    *("machine api.x.com login jane password {}", "kubectl create secret generic x --from-literal=password={}"),
    *("openssl enc -aes-256-cbc -pass pass:{}", "my password is {}", "the password is: {}", "Passwort: {}"),
    *(
        "contraseña: {}",
        "mot de passe : {}",
        "senha: {}",
        "wachtwoord={}",
        "hasło: {}",
        "пароль: {}",
        "密码\uff1a{}",
        "パスワード: {}",
    ),
    *(
        "password%3D{}",
        'password\\":\\"{}\\"',
        "rootpw {}",
        "SMTP_PASS={}",
        "user=jane pass={}",
        "//registry.npmjs.org/:_authToken={}",
    ),
]


@pytest.mark.parametrize("form", SECRETS)
def test_a_password_is_found_in_any_syntax(form):
    text = form.format(WORD)
    once = REDACTOR.string(text)
    assert WORD not in once
    assert "[REDACTED_" in once
    assert REDACTOR.string(once) == once


@pytest.mark.parametrize("word", ["monkey", "turkey", "moonlight"])
@pytest.mark.parametrize(
    "form",
    [
        *('["password", "{}"]', '[["x-api-key", "{}"]]', '{{"headers": [["authorization", "Bearer {}"], ["a", "b"]]}}'),
        *("passwords:\n  - {}\n  - b\nx: y", "api_keys:\r\n- {}\r\n", "passwords: [a, {}]", "passwords:\n  - '{}'"),
        *(
            "git config --global user.password {}",
            "conda config --set proxy_password {}",
            "yarn config set npmAuthToken {}",
        ),
        *("aws configure set aws_secret_access_key {}", "npm config set //registry.example.com/:_authToken {}"),
    ],
)
def test_a_word_is_found_in_lists_and_settings(form, word):
    once = REDACTOR.string(form.format(word))
    assert word not in once
    assert "[REDACTED_" in once
    assert REDACTOR.string(once) == once


@pytest.mark.parametrize(
    "text",
    [
        *("secrets:\n  - db_password", "tokens:\n  - monkey", "passwords: [str]", "passwords:\n  - name: db"),
        *("git config --get user.password", "gcloud config set project blue", "kubectl config set-context monkey"),
        *(
            "2024-11-21T10:00:00.123Z",
            "version 10.12.13.14-rc1",
            "Chrome/120.0.6099.109",
            "1.2.3.4.5",
            "order 1234-5678-9012",
        ),
        *(
            "tokens: 123456789",
            "id=550e8400-e29b-41d4-a716-446655440000",
            "ts=1700000000",
            "1700000000000",
            "x@y",
            "foo@1.2.3",
        ),
        *(
            "git@github.com:org/repo.git",
            "a::b::c",
            "12:34:56:78",
            "lat 59.913868, lon 10.752245",
            "isbn 978-3-16-148410-0",
        ),
        *(
            "1,234,567,890",
            "DE123456789",
            "call to function 12345678",
            "number of items: 12345678",
            "error code 4155550132",
        ),
        *(
            "part no. 123-45-6789-0",
            "order #536904399",
            "phone_model=SM-G991B",
            "mobile app version 1234567",
            "build 20241121.1",
        ),
        *(
            "в 2024 году",
            "共 12345678 元",
            "第 1234567 行",
            "пароль: введите",
            "mot de passe : oublié",
            "senha: obrigatória",
        ),
        *(
            "description: |\n  some text",
            "docker login -u jane --password-stdin",
            "hash_password('name')",
            "requirepass off",
        ),
        *(
            'he said "hi" @ noon',
            "2024/1121/1000/1234",
            "similar (2019) 1234",
            "Mobil 2024",
            "the password is: required",
        ),
    ],
)
def test_what_only_looks_alike_is_left_alone(text):
    assert REDACTOR.string(text) is text


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(("user.phone", "4155550132"), ("customer.phoneNumber", 4155550132), ("msisdn", "447911123456")),
        *(("customer.mobile", "0171 2345678"), ("contact.tel", "5550132"), ("user.phone_number", ["4155550132"])),
    ],
)
def test_the_name_of_an_attribute_tells_that_bare_digits_are_a_telephone_number(key, value):
    _, clean = REDACTOR.item(key, value)
    assert clean in ("[REDACTED_PHONE]", ["[REDACTED_PHONE]"])
    assert REDACTOR.dirty([key])
    value = value[0] if isinstance(value, list) else value
    number = {"int_value": value} if isinstance(value, int) else {"string_value": value}
    attributes = [{"key": key, "value": number}]
    span: Any = {"trace_id": b"t" * 16, "span_id": b"s" * 8, "attributes": attributes}
    groups: Any = [{"scope_spans": [{"spans": [span]}]}]
    request = ExportTraceServiceRequest(resource_spans=groups)
    clean_bytes = OtlpRedactor(REDACTOR).redact("traces", request.SerializeToString()).body
    assert b"[REDACTED_PHONE]" in clean_bytes


@pytest.mark.parametrize(
    ("key", "value"),
    [("phone.model", "4155550132"), ("hotel", "4155550132"), ("tel.count", 41555501), ("telemetry", "4155550132")],
)
def test_names_that_only_hold_such_a_word_tell_nothing(key, value):
    assert REDACTOR.item(key, value) == (key, value)
