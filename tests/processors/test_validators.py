"""The checks that decide, against the plain definitions that they are a faster form of."""

import ipaddress
import math
import re
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otel_telemetry.processors.detect.kinds import ip_addresses, payments, phones, validators


def plain_entropy(text: str) -> float:
    return -sum(n / len(text) * math.log2(n / len(text)) for n in Counter(text).values()) if text else 0.0


def plain_luhn(digits: str) -> bool:
    doubled = [int(d) * 2 if position % 2 else int(d) for position, d in enumerate(reversed(digits))]
    return sum(d - 9 if d > 9 else d for d in doubled) % 10 == 0


@settings(max_examples=400, deadline=None)
@given(st.text("abcdefgh0123", max_size=400) | st.text(max_size=300) | st.text("ab", max_size=1500))
def test_entropy_is_shannons_and_varied_compares_it(text: str) -> None:
    expected = plain_entropy(text)
    assert validators.entropy(text) == pytest.approx(expected, abs=1e-9)
    for bits in (0.5, 1.0, 2.8, 3.0, 3.5):
        if abs(expected - bits) > 1e-6:
            assert validators.varied(text, bits) is (expected >= bits)


@given(st.text("0123456789", min_size=12, max_size=19))
def test_luhn_is_the_sum_of_the_standard(digits: str) -> None:
    assert payments.luhn(digits) is plain_luhn(digits)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("GB82 WEST 1234 5698 7654 32", "GB82 WEST 1234 5698 7654 32"),
        ("gb82west12345698765432", "gb82west12345698765432"),
        ("DE89370400440532013000 12", "DE89370400440532013000"),
        ("DE89 3704 0044 0532 0130 00 ABCD", "DE89 3704 0044 0532 0130 00"),
        ("NO93-8601-1117-947", "NO93-8601-1117-947"),
        ("DE8937040044053201300012", ""),
        ("XX89370400440532013000", ""),
        ("DE89370400440532013001", ""),
    ],
)
def test_an_iban_ends_where_its_country_says(text: str, found: str) -> None:
    match = re.match(r"[A-Za-z]{2}\d{2}(?:[ -]?[0-9A-Za-z]){11,30}", text)
    assert match is not None
    span = payments.iban(text, match)
    assert (text[span.start : span.end] if span else "") == found


@settings(max_examples=300, deadline=None)
@given(st.text("0123456789abcdef:.", min_size=2, max_size=40) | st.ip_addresses(v=6).map(str))
def test_an_ipv6_address_is_what_the_standard_library_takes_for_one(text: str) -> None:
    try:
        ipaddress.IPv6Address(text)
        valid = True
    except ValueError:
        valid = False
    assert ip_addresses.is_v6(text) is valid


@pytest.mark.parametrize(
    ("before", "other"),
    [
        ("call about order number: ", True),
        ("phone invoice_id=", True),
        ("tel ticket #", True),
        ("call ticket no. ", True),
        ("phone: ", False),
        ("call me at ", False),
        ("order the phone ", False),
        ("call order        ", False),
    ],
)
def test_a_word_right_before_a_number_says_whose_it_is(before: str, other: bool) -> None:
    assert phones._is_other(before) is other


@pytest.mark.parametrize(
    ("text", "version"),
    [
        *(("v1.2.3.4", True), ("Version: 1.2.3.4", True), ("Chrome/1.2.3.4", True), ("from 1.2.3.4", False)),
        *(("openssl 3.0.2.1", True), ("tool-1.2.3.4.jar", True), ("1.2.3.4-rc2", True), ("pkg==1.2.3.4", True)),
        *(("upgraded to 2.0.0.1", True), ("firmware 7.1.0.5", True), ("PHP (8.1.2.3", True)),
        *(("ip.addr==1.2.3.4", False), ("redis 1.2.3.4:6379", False), ("nginx 198.51.100.7", False)),
        *(("nginx 10.0.0.5", False), ("client 1.2.3.4", False), ("//1.2.3.4", False), ("node 1.2.3.4", False)),
    ],
)
def test_an_address_is_told_from_a_version_by_what_stands_around(text: str, version: bool) -> None:
    found = re.search(r"(?:\d+\.){3}\d+", text)
    assert found is not None
    assert ip_addresses.is_version(text, *found.span()) is version
