"""Values under safe names are left alone, but for what is unmistakably somebody's."""

from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from otel_telemetry.processors.config import PseudonymSettings, RedactionSettings
from otel_telemetry.processors.otlp.redactor import OtlpRedactor
from otel_telemetry.processors.redact.policy import SAFE_KEYS
from otel_telemetry.processors.redact.redactor import Redactor

PLAIN: Any = Redactor(RedactionSettings())
SECRET = PseudonymSettings(secret="0123456789abcdef0123")
HASHING: Any = Redactor(RedactionSettings(pseudonyms=SECRET))


def test_an_e_mail_address_as_conversation_id_becomes_a_pseudonym():
    _, first = HASHING.item("gen_ai.conversation.id", "jane@example.com")
    _, again = HASHING.item("gen_ai.conversation.id", "jane@example.com")
    _, other = HASHING.item("gen_ai.conversation.id", "john@example.com")
    assert first == again != other
    assert first.startswith("k1_")
    assert HASHING.item("gen_ai.conversation.id", first) == ("gen_ai.conversation.id", first)
    assert PLAIN.item("gen_ai.conversation.id", "jane@example.com")[1] == "[REDACTED_EMAIL]"


@pytest.mark.parametrize(
    ("key", "value", "clean"),
    [
        ("gen_ai.conversation.id", "whatsapp:+14155550132", "[REDACTED_PHONE]"),
        ("gen_ai.conversation.id", "+49 171 2345678", "[REDACTED_PHONE]"),
        ("http.route", "/users/jane@example.com/orders", "/users/[REDACTED_EMAIL]/orders"),
        ("service.name", "postgres://app:hunter2@db/x", "postgres://app:[REDACTED_URL_CREDENTIALS]@db/x"),
        ("code.function", "Mailer<jane@example.com>", "Mailer<[REDACTED_EMAIL]>"),
        (
            "code.stacktrace",
            "at 203.0.113.9, password=hunter22",
            "at [REDACTED_IP_ADDRESS], password=[REDACTED_PASSWORD]",
        ),
        ("gen_ai.response.finish_reasons", ("stop", "jane@example.com"), ("stop", "[REDACTED_EMAIL]")),
    ],
)
def test_what_cannot_be_an_id_is_redacted_under_any_safe_name(key, value, clean):
    assert PLAIN.item(key, value) == (key, clean)


@pytest.mark.parametrize("key", sorted(SAFE_KEYS))
@pytest.mark.parametrize(
    "value",
    [
        "chatcmpl-9J3uOqkY3oqDrG7cZ1zT2vQb8nXwP",
        "4111111111111111",
        "123-45-6789",
        "10.0.0.7",
        "thread+1",
        "user@",
        "https://api.example.com/v1",
        "anthropic.claude-sonnet-4-5-20250929-v1:0",
        ("stop", "length"),
        17,
    ],
)
def test_ids_models_and_counts_stay_the_very_objects_they_were(key, value):
    item = PLAIN.item(key, value)
    assert item[0] is key
    assert item[1] is value


def test_a_policy_can_leave_a_safe_name_alone_altogether_or_keep_the_type(tmp_path):
    path = tmp_path / "policy.yaml"
    path.write_text("keys: {gen_ai.conversation.id: keep}\ntypes: {EMAIL: mask}\n", encoding="utf-8")
    redactor: Any = Redactor(RedactionSettings(policy=path))
    assert redactor.item("gen_ai.conversation.id", "jane@example.com")[1] == "jane@example.com"
    assert redactor.item("gen_ai.response.id", "jane@example.com")[1] == "****ecom"
    path.write_text("types: {EMAIL: keep}\n", encoding="utf-8")
    keeping: Any = Redactor(RedactionSettings(policy=path))
    assert keeping.item("gen_ai.response.id", "jane@example.com")[1] == "jane@example.com"


def test_a_type_that_is_dropped_takes_the_attribute_with_it(tmp_path):
    path = tmp_path / "policy.yaml"
    path.write_text("types: {EMAIL: drop}\n", encoding="utf-8")
    assert Redactor(RedactionSettings(policy=path)).item("http.route", "/u/jane@example.com") is None


def test_in_otlp_too():
    attributes = [{"key": "gen_ai.conversation.id", "value": {"string_value": "jane@example.com"}}]
    span: Any = {"trace_id": b"t" * 16, "span_id": b"s" * 8, "name": "chat", "attributes": attributes}
    groups: Any = [{"scope_spans": [{"spans": [span]}]}]
    request = ExportTraceServiceRequest(resource_spans=groups)
    clean = OtlpRedactor(HASHING).redact("traces", request.SerializeToString())
    assert b"jane" not in clean.body
    assert b"k1_" in clean.body
