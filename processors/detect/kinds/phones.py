"""Telephone numbers: international ones by the numbering plans of `phonenumbers`, national ones by shape and context.

Only the text around it distinguishes a number without a country code from an order number. So national shapes other
than the North American ones need a word such as phone, call or fax near them.
"""

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final

from otel_telemetry.processors.detect.kinds.validators import Span

#: Words of telephony, each with its forms, and what directories print beside a number.
_CONTEXT: Final = frozenset(
    "call calls called caller callers calling callback dial dials dialed dialled dialing ring rings rang ringing answer"
    " answers answered answering message messages messaged messaging text texts texted texting sms mms whatsapp signal"
    " telegram viber reach reached voicemail hotline helpline landline extension switchboard pager contact contacts"
    " tel cell cellular mob mobile fax msisdn telefon telefono telefone telefonnummer handy portable office desk home"
    " work ph mobil movil movel celular cellulare rufnummer telefoon mobiel gsm telefonnr telefonu telefone fone"
    " telemovel telefax festnetz durchwahl mobilnummer handynummer tlf puh puhelin matkapuhelin cep telefonum kom"
    " komorka komorkowy telepon telp hp wa nomor portabel fijo fisso telefoni fixe telefonszam sim registered"
    " appelez appelle llamame llamar llame ligue ligar numeroni puhelinnumeroni puhelimeni contactnumber".split()
)
_WORDS: Final = re.compile(r"[a-z]+")
_NUMBER: Final = re.compile(
    r"\b(?:(?:my|your|his|her|our|their)(?: \w{2,12})? number|(?:mijn|mein|meine|min|mit|mio|mi|meu|mon|moj|moje|nomor)"
    r" (?:nummer|numero|numer|cislo|nomor))",
    re.ASCII,
)
#: What every one of these holds.
_NUMBERS: Final = re.compile(" (?:num|cislo|nomor)")
_AFTER: Final = re.compile(
    r"(?:[\s,;:(\[/|\-]{0,4}(?:(?:my|his|her|our|their|the|mein|meine|mon|mi|mio|cell|direct)[ ]){0,2}"
    r"(?:office|fax|mobile|mobil|cell(?:phone|ular)?|(?:tele)?phone|telefon[eo]?|handy|home|work|desk|tel|landline)\b"
    r"|,? is (?:my|his|her|your|our|their|the) (?:\w{2,12} ){0,2}(?:number|phone|mobile|cell|fax|tel|line)\b"
    r"|[\s(]{0,2}(?:\u624b\u673a|\u624b\u6a5f|\u7535\u8bdd|\u96fb\u8a71|\u643a\u5e2f|\u4f20\u771f|\uc804\ud654|\ud734\ub300\ud3f0"
    r"|\u0442\u0435\u043b|\u043c\u043e\u0431|\u0444\u0430\u043a\u0441|\u0647\u0627\u062a\u0641|\u062c\u0648\u0627\u0644|\u092b\u094b\u0928|\u092e\u094b\u092c\u093e\u0907\u0932))",
    re.IGNORECASE | re.ASCII,
)
#: What may stand before such a word, and with what it begins; most that stands behind numbers begins otherwise.
_GAP: Final = " \t\r\n\f\v,;:([/|-"
_FIRST: Final = frozenset("cdfhilmoptwCDFHILMOPTW")
#: Whose numbers are no telephone numbers; a word such as `no` and some marks may stand behind them.
_OTHERS: Final = tuple(
    "account order invoice ticket tracking serial version port page line row issue case reference model build part"
    " license policy flight room card id code pid block size bytes error status count timeout duration".split()
)
_NUMBER_WORDS: Final = tuple(gap + word for gap in " _" for word in ("number", "no", "nr", "id", "num"))
_MARKS: Final = " \t\n\r\f\v.:#=\"'\\"
_MOST_MARKS: Final = 5
_DATE: Final = re.compile(r"(?:19|20)\d\d[-./ ](?:0?\d|1[0-2])[-./ ][0-3]?\d|[0-3]?\d[-./ ][01]?\d[-./ ](?:19|20)\d\d")
_WINDOW: Final = 48
_NOT_DIGITS: Final = re.compile("[^0-9]+")
_FEWEST_DIGITS: Final = 7
_MOST_DIGITS: Final = 15
_SHORTEST_RAW: Final = 7
_EXTENSION: Final = re.compile(r",? ?(?:x|ext\.?) ?[0-9]{1,5}$", re.IGNORECASE)
#: A word of telephony right before a number, with at most marks between.
_GLUED: Final = re.compile(
    r"(?:phone|tele?|tel[eé]fono?e?|fax|mobile?|cell|call|ph|mob|handy|gsm|whatsapp|number|msisdn|viber|sms)"
    r"[\s.:=#\"'\\(]{0,5}$",
    re.IGNORECASE,
)
#: Letters between a word of telephony and its number, repeated letters as one.
_MOST_BETWEEN: Final = 18
_RUN: Final = re.compile(r"(.)\1+")
_FEW_BETWEEN: Final = 6
_ONLY_MARKS: Final = re.compile(r"[\s.:\uff1a=#\"'\\/(\-]*")
_ACCENTS: Final = str.maketrans("áàâãäåçčéèêëěíìîïñóòôõöøúùûü", "aaaaaacceeeeeiiiinoooooouuuu")


def international(text: str, match: re.Match[str]) -> Span | None:
    """Accept +CC numbers that are possible in their country's plan; trailing text is left off."""
    start = match.start()
    before = text[start - 1 : start]
    if before.isascii() and before.isalnum() and not _GLUED.search(text, max(0, start - _WINDOW), start):
        return None
    end = _plan_end(text, start, match.end(), _possible)
    return Span(start, end) if end else None


def exit_code(text: str, match: re.Match[str]) -> Span | None:
    """Accept 00 CC and 011 CC: numbers of the plan by themselves, possible ones beside a word of telephony."""
    start = match.start()
    raw = match[0]
    prefix = 3 if raw.startswith("011") else 2
    spoken = _has_context(text, start, match.end())
    end = _plan_end(text, start, match.end(), _possible if spoken else _valid, prefix)
    return Span(start, end) if end else None


def _plan_end(text: str, start: int, stop: int, accepts: Callable[[str], bool], prefix: int = 0) -> int:
    """Return where a number ends that the plans accept, or 0. A following number may have been taken in: groups go."""
    end = _trim(text, start, stop)
    while end - start >= _SHORTEST_RAW:
        raw = text[start:end]
        digits = _NOT_DIGITS.sub("", raw)[prefix:]
        if len(digits) < _FEWEST_DIGITS:
            return 0
        if len(digits) <= _MOST_DIGITS and accepts(digits):
            return end
        extension = _EXTENSION.search(raw)
        cut = extension.start() if extension else max(raw.rfind(sep) for sep in " -.(/")
        if cut < _SHORTEST_RAW:
            return 0
        end = _trim(text, start, start + cut)
    return 0


@lru_cache(maxsize=4096)
def _possible(digits: str) -> bool:
    number = _parsed(digits)
    return number is not None and phonenumbers().is_possible_number(number)


@lru_cache(maxsize=4096)
def _valid(digits: str) -> bool:
    number = _parsed(digits)
    return number is not None and phonenumbers().is_valid_number(number)


def _parsed(digits: str) -> Any:
    library = phonenumbers()
    try:
        return library.parse("+" + digits, None)
    except library.NumberParseException:
        return None


def phonenumbers() -> Any:
    """Return the library, imported when first needed: its metadata costs start-up time."""
    import phonenumbers as library  # noqa: PLC0415  # see above

    return library


def national(text: str, match: re.Match[str]) -> Span | None:
    """Accept 7 to 15 digits in groups beside a word that makes them a telephone number; 6 right behind it."""
    start = match.start("v")
    end = _trim(text, start, match.end("v"))
    raw = text[start:end]
    digits = len(_NOT_DIGITS.sub("", raw))
    if digits > _MOST_DIGITS or _DATE.match(raw) or (raw.count(".") == 3 and digits > 10):
        return None
    if digits < _FEWEST_DIGITS and not (digits == _FEWEST_DIGITS - 1 and _beside_word(text, start, end)):
        return None
    return Span(start, end) if _has_context(text, start, end) else None


def _beside_word(text: str, start: int, end: int) -> bool:
    """Return whether a word of telephony stands right before a number, or behind it."""
    return _GLUED.search(text, max(0, start - _WINDOW), start) is not None or _named_behind(text, end)


def named(text: str, match: re.Match[str]) -> Span | None:
    """Accept 6 to 15 digits close behind a word of telephony in another script."""
    gap = _RUN.sub(r"\1", match["gap"])
    start = match.start("v")
    end = _trim(text, start, match.end("v"))
    digits = len(_NOT_DIGITS.sub("", text[start:end]))
    if len(gap) > _MOST_BETWEEN or not _FEWEST_DIGITS - 1 <= digits <= _MOST_DIGITS or _DATE.match(text, start, end):
        return None
    if (digits == _FEWEST_DIGITS and len(gap) > _FEW_BETWEEN) or (
        digits < _FEWEST_DIGITS and not _ONLY_MARKS.fullmatch(gap)
    ):
        return None
    return Span(start, end)


def _has_context(text: str, start: int, end: int) -> bool:
    before = text[max(0, start - _WINDOW) : start].lower()
    if not before.isascii():
        before = before.translate(_ACCENTS)
    if (
        "phone" not in before
        and _CONTEXT.isdisjoint(_WORDS.findall(before))
        and not (_NUMBERS.search(before) and _NUMBER.search(before))
    ):
        return _named_behind(text, end)
    return not _is_other(before)


def _named_behind(text: str, end: int) -> bool:
    """Return whether a word of telephony stands behind a number."""
    first = text[end : end + 5].lstrip(_GAP)[:1]
    return (first in _FIRST or not first.isascii()) and _AFTER.match(text, end) is not None


def _is_other(before: str) -> bool:
    """Return whether what stands before a number says that it is the number of something else."""
    words = before.rstrip(_MARKS)
    if len(before) - len(words) > _MOST_MARKS:
        return False
    if words.endswith(_OTHERS):
        return True
    return words.endswith(_NUMBER_WORDS) and words[: max(words.rfind(" "), words.rfind("_"))].endswith(_OTHERS)


def _trim(text: str, start: int, end: int) -> int:
    while end > start and not text[end - 1].isdigit():
        end -= 1
    return end
