"""Whose word about the client's address is believed."""

from typing import Any

import pytest
from pydantic import ValidationError

from otel_telemetry.instrument.client_address import client_address, networks
from otel_telemetry.instrument.config import InstrumentSettings

PROXIES = networks(["10.0.0.0/8", "2001:db8:ffff::/48"])


def address(peer: str | None, *forwarded_for: str, forwarded: tuple[str, ...] = ()) -> str | None:
    headers = {"x-forwarded-for": forwarded_for} if forwarded_for else {}
    return client_address(peer, headers | ({"forwarded": forwarded} if forwarded else {}), PROXIES)


@pytest.mark.parametrize(
    ("peer", "header", "expected"),
    [
        ("203.0.113.9", (), "203.0.113.9"),
        ("203.0.113.9", ("1.1.1.1",), "203.0.113.9"),  # the peer is nobody we trust
        ("10.0.0.1", ("198.51.100.7",), "198.51.100.7"),
        ("10.0.0.1", ("6.6.6.6, 198.51.100.7, 10.2.3.4",), "198.51.100.7"),  # 6.6.6.6 is hearsay
        ("10.0.0.1", ("6.6.6.6", "198.51.100.7", "10.2.3.4"), "198.51.100.7"),  # one header a proxy
        ("10.0.0.1", ("10.9.9.9, 10.2.3.4",), "10.9.9.9"),  # everyone trusted: the farthest known
        ("10.0.0.1", ("198.51.100.7, nonsense",), "10.0.0.1"),
        ("10.0.0.1", ("198.51.100.7, ",), "10.0.0.1"),
        ("10.0.0.1", ("unknown, 10.2.3.4",), "10.2.3.4"),
        ("10.0.0.1", ("198.51.100.7:4711",), "198.51.100.7"),
        ("10.0.0.1", ("[2001:db8::7]:4711",), "2001:db8::7"),
        ("10.0.0.1", ("2001:db8::7",), "2001:db8::7"),
        ("10.0.0.1", ("::ffff:198.51.100.7",), "198.51.100.7"),
        ("::ffff:10.0.0.1", ("198.51.100.7",), "198.51.100.7"),
        ("2001:db8:ffff::1", ("198.51.100.7",), "198.51.100.7"),
        ("fe80::1%eth0", (), "fe80::1"),
        ("10.0.0.1", ("1.2.3.4," * 5000,), "10.0.0.1"),
        ("10.0.0.1", ("198.51.100.7, " + "10.1.1.1," * 5000 + "10.1.1.1",), "10.1.1.1"),
        ("testclient", ("198.51.100.7",), "testclient"),
        (None, ("198.51.100.7",), None),
    ],
)
def test_the_client_is_the_first_untrusted_address_from_the_right(peer: Any, header: Any, expected: Any) -> None:
    assert address(peer, *header) == expected


@pytest.mark.parametrize(
    ("forwarded", "expected"),
    [
        (("for=198.51.100.7;proto=https;by=10.0.0.1",), "198.51.100.7"),
        (('for=6.6.6.6, For="[2001:db8::7]:4711";proto=http',), "2001:db8::7"),
        (("proto=https; for=198.51.100.7", "for=10.2.3.4"), "198.51.100.7"),
        (("for=_hidden",), "10.0.0.1"),
        (("xfor=198.51.100.7",), "10.0.0.1"),
        (("proto=https",), "10.0.0.1"),
    ],
)
def test_the_standard_header_is_read_the_same_way(forwarded: Any, expected: Any) -> None:
    assert address("10.0.0.1", forwarded=forwarded) == expected


def test_x_forwarded_for_comes_before_the_standard_header() -> None:
    assert address("10.0.0.1", "198.51.100.7", forwarded=("for=6.6.6.6",)) == "198.51.100.7"


def test_a_trusted_proxy_that_is_no_network_is_refused_with_a_hint() -> None:
    with pytest.raises(ValidationError, match=r"write networks like 10\.0\.0\.0/8"):
        InstrumentSettings(trusted_proxies=("10.0.0.1/8",))
