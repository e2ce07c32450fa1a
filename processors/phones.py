"""Telephone numbers: international ones by the numbering plans of `phonenumbers`, national ones by shape and context.

A number without its country is told from an order number only by what stands around it, so national shapes other than
the North American ones need a word such as phone, call or fax near them.
"""

import re
from functools import lru_cache
from typing import Final

from otel_telemetry.processors.validators import Span

#: Words of telephony, each with its forms, and what directories print beside a number.
_CONTEXT: Final = frozenset(
    "call calls called caller callers calling callback dial dials dialed dialled dialing ring rings rang ringing answer"
    " answers answered answering message messages messaged messaging text texts texted texting sms mms whatsapp signal"
    " telegram viber reach reached voicemail hotline helpline landline extension switchboard pager contact contacts"
    " tel cell cellular mob mobile fax msisdn telefon telefono telefone telefonnummer handy portable office desk home"
    " work ph mobil movil movel celular cellulare rufnummer telefoon mobiel gsm telefonnr".split()
)
_WORDS: Final = re.compile(r"[a-z]+")
_NUMBER: Final = re.compile(r"\b(?:my|your|his|her|our|their)(?: \w{2,12})? number")
_AFTER: Final = re.compile(r"[\s,(-]{0,3}(?:office|fax|mobile|cell|phone|home|work|desk|tel)\b", re.IGNORECASE)
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
_ACCENTS: Final = str.maketrans("áàâãäåçéèêëíìîïñóòôõöøúùûü", "aaaaaaceeeeiiiinoooooouuuu")


def international(text: str, match: re.Match[str]) -> Span | None:
    """Accept +CC numbers that are possible in their country's plan; trailing text is left off."""
    end = _trim(text, match.start(), match.end())
    raw = text[match.start() : end]
    digits = "".join(filter(str.isdigit, raw))
    if not 8 <= len(digits) <= 15:
        return None
    if raw[0] != "+":
        if not _has_context(text, match.start(), end):
            return None
        digits = digits.removeprefix("00")
    while not _possible(digits):
        # A following number may have been taken in: give up its last group and look again.
        cut = max(raw.rfind(sep) for sep in " -.(")
        if cut < 8:
            return None
        end = _trim(text, match.start(), match.start() + cut)
        raw = text[match.start() : end]
        digits = "".join(filter(str.isdigit, raw)).removeprefix("00")
    return Span(match.start(), end)


@lru_cache(maxsize=4096)
def _possible(digits: str) -> bool:
    import phonenumbers  # noqa: PLC0415  # its metadata costs start-up time, and most processes never meet a number

    try:
        number = phonenumbers.parse("+" + digits, None)
    except phonenumbers.NumberParseException:
        return False
    return phonenumbers.is_possible_number(number)


def national(text: str, match: re.Match[str]) -> Span | None:
    """Accept 7 to 15 digits in groups where a word beside them says that they are a telephone number."""
    start = match.start("v")
    end = _trim(text, start, match.end("v"))
    raw = text[start:end]
    digits = sum(map(str.isdigit, raw))
    if not 7 <= digits <= 15 or _DATE.match(raw) or (raw.count(".") == 3 and digits > 10):
        return None
    if not _has_context(text, start, end):
        return None
    return Span(start, end)


def _has_context(text: str, start: int, end: int) -> bool:
    before = text[max(0, start - _WINDOW) : start].lower()
    if not before.isascii():
        before = before.translate(_ACCENTS)
    if (
        "phone" not in before
        and _CONTEXT.isdisjoint(_WORDS.findall(before))
        and not (" number" in before and _NUMBER.search(before))
    ):
        return _AFTER.match(text, end) is not None
    return not _is_other(before)


def _is_other(before: str) -> bool:
    """Tell whether what stands before a number says that it is the number of something else."""
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
