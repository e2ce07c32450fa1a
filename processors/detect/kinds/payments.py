"""Payment cards and IBANs: issuers' ranges, lengths and checksums, however the digits are spaced."""

import re
from typing import Final

from otel_telemetry.processors.detect.kinds.other_numbers import stands_for_other
from otel_telemetry.processors.detect.kinds.validators import Span, span_of

#: Digits doubled, and their digits summed.
_DOUBLED: Final = bytes.maketrans(b"0123456789", bytes(48 + n for n in (0, 2, 4, 6, 8, 1, 3, 5, 7, 9)))
#: Letters as numbers, as ISO 13616 counts them.
_AS_NUMBERS: Final = {ord(letter): str(10 + n) for n, letter in enumerate("ABCDEFGHIJKLMNOPQRSTUVWXYZ")}
_NOT_DIGITS: Final = re.compile("[^0-9]+")
_NOT_CODE: Final = re.compile("[^0-9A-Za-z]+")
#: Lengths that card numbers nearly always have; the rarer ones (Maestro, 13-digit Visa, 19) are those of plain ids too.
_CARD_LENGTHS: Final = (14, 15, 16)
_CARD_WORD: Final = re.compile(
    r"card|visa|maestro|(?<![a-z])(?:pan|cc|debit|credit|amex|carte|carta|karte|kart|tarjeta)(?![a-z])"
    "|\u5361|\u30ab\u30fc\u30c9|\uce74\ub4dc|\u043a\u0430\u0440\u0442|\u03ba\u03ac\u03c1\u03c4|\u0628\u0637\u0627\u0642|\u05db\u05e8\u05d8\u05d9\u05e1"
    "|\u0915\u093e\u0930\u094d\u0921|\u0e1a\u0e31\u0e15\u0e23",
    re.IGNORECASE,
)
_REACH: Final = 40
#: Digits one by one or in pairs are a column of figures more often than a card.
_SMALL_GROUP: Final = re.compile(r"(?<![0-9])[0-9]{1,2}[^0-9]{1,3}[0-9]{1,2}(?![0-9])")
#: What makes a number part of an id: a word before its hyphen, a group behind, or the hex digits that go on.
_ID_BEFORE: Final = re.compile(r"[A-Za-z][0-9A-Za-z]{0,40}[-_]$")
_ID_BEHIND: Final = re.compile(r"[-_][0-9A-Za-z]|[0-9a-f]+(?![0-9A-Za-z])")
#: IBAN length by country (registry of ISO 13616, release 100).
_IBANS: Final = (
    "AD:24 AE:23 AL:28 AT:20 AZ:28 BA:20 BE:16 BG:22 BH:22 BI:27 BR:29 BY:28 CH:21 CR:22 CY:28 CZ:24"
    " DE:22 DJ:27 DK:18 DO:28 EE:20 EG:29 ES:24 FI:18 FK:18 FO:18 FR:27 GB:22 GE:22 GI:23 GL:18 GR:27"
    " GT:28 HN:28 HR:21 HU:28 IE:22 IL:23 IQ:23 IS:26 IT:27 JO:30 KW:30 KZ:20 LB:28 LC:32 LI:21 LT:20"
    " LU:20 LV:21 LY:25 MC:27 MD:24 ME:22 MK:19 MN:20 MR:27 MT:31 MU:30 NI:28 NL:18 NO:15 OM:23 PK:24"
    " PL:28 PS:29 PT:25 QA:29 RO:24 RS:22 RU:33 SA:24 SC:31 SD:18 SE:24 SI:19 SK:24 SM:27 SO:23 ST:25"
    " SV:28 TL:23 TN:24 TR:26 UA:29 VA:22 VG:24 XK:20 YE:30"
)
_IBAN_LENGTHS: Final = {item[:2]: int(item[3:]) for item in _IBANS.split()}


def luhn(digits: str) -> bool:
    """Return whether ASCII decimal digits pass the Luhn check (ISO/IEC 7812-1 annex B)."""
    data = digits.encode()
    return (sum(data[-1::-2]) + sum(data[-2::-2].translate(_DOUBLED)) - 48 * len(data)) % 10 == 0


def issuer(digits: str) -> bool:
    """Return whether a card number starts with the range of an issuer and has that issuer's length."""
    n = len(digits)
    if digits[0] == "4":
        return n in (13, 16, 19)
    two, three, four, six = int(digits[:2]), int(digits[:3]), int(digits[:4]), int(digits[:6])
    if 51 <= two <= 55 or 2221 <= four <= 2720:
        return n == 16
    if two in (34, 37):
        return n == 15
    if 300 <= three <= 305 or two in (36, 38, 39) or four == 3095:
        return 14 <= n <= 19
    if two == 35:
        return 16 <= n <= 19
    if four in (1800, 2131) or (digits[0] == "1" and n == 15):
        return n == 15
    if four == 6011 or 622126 <= six <= 622925 or 644 <= three <= 649 or two in (62, 65, 81):
        return 16 <= n <= 19
    if two in (50, 56, 57, 58, 60, 63, 67, 68, 69):
        return 12 <= n <= 19
    return four in range(2200, 2205) and n in (16, 17, 18, 19)


def card(text: str, match: re.Match[str]) -> Span | None:
    """Accept a payment card number: issuer's range and length, Luhn, and a word before rare lengths and groups.

    A bare number that its name, or what it is joined to, makes an order's or an id is none.
    """
    span = span_of(match)
    raw = text[span.start : span.end]
    digits = raw if raw.isdigit() else _NOT_DIGITS.sub("", raw)
    if digits.count(digits[0]) == len(digits) or not issuer(digits) or not luhn(digits):
        return None
    plain = digits is raw
    usual = len(digits) in _CARD_LENGTHS and (plain or not _SMALL_GROUP.search(raw))
    if usual and not (plain and _is_other(text, span)):
        return span
    return span if _CARD_WORD.search(text, max(0, span.start - _REACH), span.start) else None


def _is_other(text: str, span: Span) -> bool:
    if _ID_BEHIND.match(text, span.end):
        return True
    before = text[max(0, span.start - _REACH) : span.start]
    joined = before[-1:] in ("-", "_") and _ID_BEFORE.search(before) is not None
    return joined or stands_for_other(text, span.start, span.end)


def iban(text: str, match: re.Match[str]) -> Span | None:
    """Accept an IBAN: its country's length and mod 97 (ISO 13616). Characters after that length are not part of it."""
    raw = match[0]
    wanted = _IBAN_LENGTHS.get(raw[:2].upper(), 0)
    code = _NOT_CODE.sub("", raw)[:wanted].upper()
    if not wanted or len(code) != wanted:
        return None
    end = match.start() + (wanted if raw[:wanted].isalnum() else _end_of(raw, wanted))
    behind = text[end : end + 1]
    if behind.isascii() and behind.isalnum():
        return None
    return Span(match.start(), end) if int((code[4:] + code[:4]).translate(_AS_NUMBERS)) % 97 == 1 else None


def _end_of(raw: str, wanted: int) -> int:
    """Return where the `wanted`th letter or digit ends."""
    places = [offset for offset, char in enumerate(raw, 1) if char.isalnum()]
    return places[wanted - 1]
