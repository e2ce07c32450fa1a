"""Secrets that a sentence states: `my password is sunflower`, `the api key is ...`, in several languages.

A word after `is` may be the value or describe it. It is a value between quotes, after a colon, with letters and digits
mixed, or if the sentence ends with it and it is not a word that describes passwords.
"""

import re
from typing import Final

from otel_telemetry.processors.detect.kinds.validators import Span
from otel_telemetry.processors.detect.names import keys, looks, places, remarks
from otel_telemetry.processors.detect.names.looks import Form

_SHORTEST_PASSWORD: Final = 6
_SHORTEST: Final = 4
_LONG: Final = 8
_OWNER: Final = re.compile(
    r"(?i)(?<![A-Za-z])(?:api|access|secret|private|auth|refresh|bearer|client|encryption|verification|security"
    r"|one[- ]time|sms|pin) $"
)
_LONGEST_OWNER: Final = 14
_NUMBER_BEFORE_SCRIPT: Final = re.compile(r"([0-9]{3,12})[.?!:]?[^\x00-\x7f]")
#: Letters of ASCII that another script, or its punctuation, goes on behind.
_BEFORE_SCRIPT: Final = re.compile(r"[!-~]{4,64}(?=[^\x00-\x7f\xc0-\u024f])")
#: How what a sentence says ends: by its marks, at the end, before another script, or before a word that goes on.
_ENDS: Final = re.compile(
    r"[\"'”]?[.,;!?)]{0,3}(?:$|[\r\n\"'\\]|\s{0,70}[^\x00-\x7f\xc0-\u024f]|\s{1,70}[\"'\\]|\s(?:and|but|for|on|so|in|please|und|y|et|e|[A-Z(|#-])(?![a-z]*:))"
)
_MIXED: Final = re.compile(r"[\d!@#$%^&*]")
#: Scripts without spaces: what stands in them goes on with the sentence.
_UNSPACED: Final = re.compile(r"[\u0e00-\u0e7f\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")
#: Before `password x`, who logs in with it.
_LOGIN_BEFORE: Final = re.compile(
    r"(?ai)(?:\b(?:with|using|via|old|new|current) (?:the |my |a |this )?"
    r"|\b(?:user|username|login|account) [\w.@-]{1,40}, (?:the )?)$"
)
#: Before `password to x`, who sets it.
_SET_BEFORE: Final = re.compile(
    r"(?ai)(?<![a-z])(?:set|sets|setting|chang(?:e|es|ed|ing)|reset|resetting|updat(?:e|es|ed|ing)|rotate|rotated|made)"
    r" (?:[\w.@'\u2019-]{1,20}+ ){0,4}$"
)
_LOGIN: Final = 60
_QUOTES: Final = {'"': '"', "'": "'", "`": "`", "“": "”"}


def mixed_password(text: str, match: re.Match[str]) -> Span | None:
    """Accept a word behind `password` in a sentence if it mixes letters and digits, or stands where a value does."""
    start, end = _word(text, *match.span("v"), ".?!")
    value = text[start:end]
    if looks.is_marked(value) or looks.is_reference(value) or "/" in value:
        return None
    if not value.isdigit() and any(map(str.isdigit, value)) and len(value) >= _SHORTEST_PASSWORD:
        return Span(start, end)
    return Span(start, end) if _is_stated(text, match, start, end) else None


def _is_stated(text: str, match: re.Match[str], start: int, end: int) -> bool:
    """Return whether a word of letters is stated as the password: `PASSWORD x`, `the password is x`."""
    value = text[start:end].rstrip(",")
    if looks.is_placeholder(value) or looks.is_sample(value) or looks.is_code(value) or len(value) < _SHORTEST:
        return False
    verb = match["verb"]
    if not verb and not (match["key"].isupper() and value != value.upper()):
        if match["key"].lower() == "pw":
            return False
        if places.is_directive(text, match.start(), end):
            return not remarks.something(value)
        if remarks.keeps_company(value) or not _LOGIN_BEFORE.search(
            text, max(0, match.start() - _LOGIN), match.start()
        ):
            return False
    if remarks.something(value) or remarks.ELSEWHERE.match(value):
        return False
    return _ENDS.match(text, end) is not None and value.isascii()


def set_password(text: str, match: re.Match[str]) -> Span | None:
    """Accept what a password was, is or should be set to: `change the password from x to y`, `set it to x`."""
    if _SET_BEFORE.search(text, max(0, match.start() - _LOGIN), match.start()) is None:
        return None
    found = [place for group in ("old", "v") if (place := _set_to(text, match, group))]
    return found[0]._replace(more=tuple(found[1:])) if found else None


def _set_to(text: str, match: re.Match[str], group: str) -> Span | None:
    start, end = match.span(group)
    if start < 0:
        return None
    start, end = _word(text, start, end, ".,?!")
    value = text[start:end]
    if looks.stands_in(value) or looks.is_marked(value) or looks.is_code(value) or len(value) < _SHORTEST:
        return None
    quoted = text[start - 1 : start] in _QUOTES
    ends = group == "old" or quoted or _ENDS.match(text, end) is not None
    return Span(start, end) if _MIXED.search(value) or (ends and not remarks.keeps_company(value)) else None


def used_password(text: str, match: re.Match[str]) -> Span | None:
    """Accept `use x as my password`, where x is none of the words that are used so: `use it as a password`."""
    del text
    value = match["v"].strip("\\\"'`“”\u2018\u2019«»„")
    start = match.start("v") + match["v"].find(value)
    if looks.stands_in(value) or looks.is_marked(value) or looks.is_code(value) or len(value) < _SHORTEST:
        return None
    if looks.is_snake_case(value):
        return None
    if _MIXED.search(value):
        return Span(start, start + len(value))
    return None if remarks.keeps_company(value) or remarks.ELSEWHERE.match(value) else Span(start, start + len(value))


def _word(text: str, start: int, end: int, closing: str) -> tuple[int, int]:
    """Return where a word begins and ends, without marks behind it and without another script that goes on at once."""
    if glued := _BEFORE_SCRIPT.match(text, start, min(end + 1, len(text))):
        end = glued.end()
    while text[end - 1] in closing and end - start > _SHORTEST:
        end -= 1
    return start, end


def told_password(text: str, match: re.Match[str]) -> Span | None:
    """Accept what stands behind `the password is:`, or between quotes behind `password is`."""
    start, end = match.span("v")
    closing = _QUOTES.get(text[start - 1 : start], "")
    if closing:
        found = text.find(closing, start, start + 200)
        end = found if found > 0 and "\n" not in text[start:found] else end
    else:
        while text[end - 1] in ".,;?!" and end - start > _SHORTEST:
            end -= 1
    value = text[start:end]
    if looks.stands_in(value) or looks.is_marked(value) or looks.is_code(value) or len(value) < _SHORTEST:
        return None
    mixed = _MIXED.search(value) is not None
    stated = closing or _ENDS.match(text, end) is not None
    return Span(start, end) if mixed or (stated and not remarks.something(value)) else None


def foreign_password(text: str, match: re.Match[str]) -> Span | None:
    """Accept what stands behind a word for password of another language."""
    start, end = _word(text, *match.span("v"), ".?!。")
    value = text[start:end].rstrip("」』”»")
    end = start + len(value)
    if looks.stands_in(value) or looks.is_marked(value) or looks.is_code(value) or len(value) < _SHORTEST:
        return None
    if _MIXED.search(value):
        return None if _UNSPACED.search(value) else Span(start, end)
    if remarks.ELSEWHERE.match(value) or remarks.something(value) or match["key"].lower() == _ALSO_WORDS:
        return None
    if text[start - 1 : start] in _OPENING:
        return Span(start, end)
    named = match.groupdict()
    mine = match["key"].lower().endswith(_MINE)
    bare = named["bare"] is not None and not mine and (match["key"].isascii() or not value.isascii())
    if bare or (named["to"] is not None and not _SETS.search(text, max(0, match.start() - _LOGIN), match.start())):
        return None
    return Span(start, end) if _ENDS.match(text, end) else None


#: A password in Latvian, and words or lyrics in Italian and French.
_ALSO_WORDS: Final = "parole"
#: Names for one's own password, behind which no verb stands.
_MINE: Final = ("parolam", "ifrem", "jelszavam", "kata sandi saya", "kata laluan saya")
#: Words of other languages that set a password, before the word for it.
_SETS: Final = re.compile(
    r"(?i)(?<![a-z])(?:set|ändere|änder|cambi|chang|met[st]|mett|altere|alter|mud|impost|ustaw|zmie[nń]|zet|wijzig|defin|pon|pus|configur|passe|modifi"
    r"|nastav|byt|sätt|skift|ändra|endre|vaihda|schimb|promijeni|postavi|смен|измен|постав|установ|задай|ganti|ubah|đổi|đặt)"
)
_OPENING: Final = ('"', "'", "「", "『", "“", "«", "„")


def stated(text: str, match: re.Match[str]) -> Span | None:
    """Accept `the api key is VALUE` where the value is no word of a sentence."""
    owner = _OWNER.search(text, max(0, match.start() - _LONGEST_OWNER), match.start())
    key = f"{owner[0] if owner else ''}{match['key']}".replace(" ", "_")
    kind = keys.classify(key)
    start, end = match.span("v")
    while end > start and text[end - 1] in ".?!:":
        end -= 1
    if number := _NUMBER_BEFORE_SCRIPT.match(text, start, end):  # scripts without spaces go on at once
        end = number.end(1)
    value = text[start:end]
    form = Form(quoted=match["q"] != "", spaced=True, separator="is")
    if not kind or looks.stands_in(value) or looks.is_marked(value) or looks.is_code(value):
        return None
    if kind in (keys.PASSWORD, keys.CREDIT_CARD):
        return Span(start, end, kind) if value.isdigit() else None
    likely = looks.weak(kind if kind in keys.WEAK_KINDS else keys.LIKELY, value, form)
    if not likely and kind not in keys.WEAK_KINDS:
        stated = (
            form.quoted or text[match.end("key") :].startswith(" is:") or (owner is not None and len(value) >= _LONG)
        )
        likely = stated and not remarks.something(value) and _ENDS.match(text, end + len(match["q"])) is not None
    return Span(start, end, keys.found_as(key)) if likely else None
