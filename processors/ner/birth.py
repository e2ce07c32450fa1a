"""Dates of birth in natural language: a date after words about a birth."""

import re
from collections.abc import Iterator
from typing import Final

from otel_telemetry.processors.ner.spans import DATE_TIME, Span

_MONTH: Final = (
    r"(?:jan(?:uary|uar|vier)?|feb(?:ruary|ruar)?|février|mar(?:ch|s)?|märz|apr(?:il)?|avril|may|mai|mayo|june?|juni?|juin"
    r"|july?|juli?|juillet|aug(?:ust)?|août|sep(?:t(?:ember|embre)?)?|oct(?:ober|obre)?|okt(?:ober)?|nov(?:ember|embre)?"
    r"|dec(?:ember)?|dez(?:ember)?|décembre|enero|febrero|marzo|abril|junio|julio|agosto|septiembre|octubre|noviembre"
    r"|diciembre)\.?"
)
_DATE: Final = (
    rf"(?:\d{{1,2}}(?:st|nd|rd|th)?\.?(?: of| de)? {_MONTH},?(?: de)? (?:19|20)?\d{{2}}"
    rf"|{_MONTH} \d{{1,2}}(?:st|nd|rd|th)?,? (?:19|20)?\d{{2}}"
    r"|(?:19|20)\d{2}[-/.]\d{1,2}[-/.]\d{1,2}|\d{1,2}[-/.]\d{1,2}[-/.](?:(?:19|20)\d{2}|\d{2}))(?!\d)"
)
_BIRTH: Final = re.compile(
    r"(?i)\b(?:born|birth ?day|date of birth|d\.?o\.?b\.?|geboren|geburts(?:tag|datum)|née? le|date de naissance"
    r"|nac[ií](?:do|da)?"
    rf"|fecha de nacimiento|nat[oa] il|data di nascita|nascid[oa]|data de nascimento)\b[^\n\d]{{0,30}}?({_DATE})"
)


def dates_of_birth(text: str) -> Iterator[Span]:
    """Yield the dates of birth in a text."""
    for found in _BIRTH.finditer(text):
        yield *found.span(1), DATE_TIME
