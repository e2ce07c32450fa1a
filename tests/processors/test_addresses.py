"""IP addresses that are nobody's stay; those of private networks go unless the policy keeps them."""

from typing import Any

import pytest

from otel_telemetry.base.errors import RuleError
from otel_telemetry.processors.config import PseudonymSettings, RedactionSettings
from otel_telemetry.processors.detect.kinds.addresses import kind_of
from otel_telemetry.processors.redact.insight import active_rules, detector_of
from otel_telemetry.processors.redact.redactor import Redactor
from otel_telemetry.processors.verify.coverage import verify
from otel_telemetry.processors.verify.explain import explain

BUILT_IN: Any = Redactor(RedactionSettings())
NOBODYS = [
    *("127.0.0.1", "127.0.0.53", "0.0.0.0", "0.0.0.0/0", "127.0.0.0/8", "::1", "::1/128", "::/0", "::ffff:127.0.0.1"),
]
PRIVATE = ["10.1.2.3", "172.16.0.9", "192.168.1.20", "169.254.1.1", "100.64.0.7", "fe80::1%eth0", "fd12:3456:789a::1"]
SOMEBODYS = ["203.0.113.9", "172.32.0.1", "2001:db8::8a2e:370:7334", "128.0.0.1", "192.169.1.1"]


@pytest.fixture
def under(tmp_path):
    def make(policy):
        path = tmp_path / "policy.yaml"
        path.write_text(policy, encoding="utf-8")
        return RedactionSettings(policy=path, pseudonyms=PseudonymSettings(secret="0123456789abcdef0123"))

    return make


@pytest.mark.parametrize("address", NOBODYS)
def test_an_address_of_the_machine_itself_is_found_and_kept(address):
    for text in (f"listening on {address} port 80", f"src={address} dst=x"):
        assert BUILT_IN.string(text) is text
        assert detector_of(BUILT_IN).find(text), "it is the policy that keeps it, so a policy can say otherwise"


@pytest.mark.parametrize("address", [*PRIVATE, *SOMEBODYS])
def test_any_other_address_goes(address):
    assert BUILT_IN.string(f"from {address} port 80") == "from [REDACTED_IP_ADDRESS] port 80"


def test_urls_and_server_addresses_of_ones_own_machine_stay_readable():
    for key, value in (
        ("server.address", "127.0.0.1"),
        ("url.full", "http://127.0.0.1:8080/v1/chat/completions"),
        ("net.sock", "[::1]:4317"),
        ("db.url", '{"host":"127.0.0.1","port":5432}'),
    ):
        assert BUILT_IN.item(key, value) == (key, value)
    assert BUILT_IN.string("127.0.0.1:80 to 203.0.113.9:443") == "127.0.0.1:80 to [REDACTED_IP_ADDRESS]:443"


def test_the_address_of_a_client_is_a_pseudonym_whatever_it_is(under):
    redactor: Any = Redactor(under("default: replace\n"))
    _, hashed = redactor.item("client.address", "127.0.0.1")
    assert len(hashed) == 12
    assert "127" not in hashed


@pytest.mark.parametrize("address", NOBODYS)
def test_a_policy_can_redact_them_all(address, under):
    redactor: Any = Redactor(under("addresses: {loopback: redact}\n"))
    assert redactor.string(f"on {address} now") == "on [REDACTED_IP_ADDRESS] now"


@pytest.mark.parametrize("address", PRIVATE)
def test_a_policy_can_keep_private_addresses(address, under):
    redactor: Any = Redactor(under("types: {IP_ADDRESS: hash}\naddresses: {private: keep}\n"))
    assert redactor.string(f"on {address} now") == f"on {address} now"
    assert "127.0.0.1" in redactor.string("on 127.0.0.1 now")
    assert "203.0.113.9" not in redactor.string("on 203.0.113.9 now")


def test_verify_counts_what_is_kept_as_kept_by_policy(under):
    settings = under("addresses: {private: keep}\n")
    addresses = [rule for rule in active_rules(settings) if rule.type == "IP_ADDRESS"]
    report = verify(Redactor(settings), addresses)
    assert "IP_ADDRESS" in report.by_type()
    assert report.proved


def test_services_have_their_own_switch(under):
    redactor: Any = Redactor(under("addresses: {private: keep}\nservices: {web: {addresses: {loopback: redact}}}\n"))
    web = redactor.for_service("web")
    assert redactor.string("127.0.0.1 10.0.0.1 203.0.113.9") == "127.0.0.1 10.0.0.1 [REDACTED_IP_ADDRESS]"
    assert web.string("127.0.0.1 10.0.0.1 203.0.113.9") == "[REDACTED_IP_ADDRESS] 10.0.0.1 [REDACTED_IP_ADDRESS]"


def test_a_mistyped_switch_stops_start_up_with_its_line(under):
    with pytest.raises(RuleError, match="line 2: unknown name 'lopback'") as caught:
        Redactor(under("default: replace\naddresses: {lopback: keep}\n"))
    assert "did you mean loopback?" in str(caught.value)
    with pytest.raises(RuleError, match="line 1: unknown 'hash'"):
        Redactor(under("addresses: {loopback: hash}\n"))


def test_explain_says_why_an_address_stays(under):
    step = explain(RedactionSettings(), "on 127.0.0.1 now").steps[0]
    assert (step.action, step.entry, step.became) == ("keep", "addresses.loopback", "127.0.0.1")


@pytest.mark.parametrize("text", ["", "127.0.0", "localhost", "x::1", "127.0.0.1.5", "::g"])
def test_what_is_no_address_is_of_no_kind(text):
    assert kind_of(text) == ""
