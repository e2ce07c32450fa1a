"""E-mail addresses: where they begin and end in text of any script, and what only looks like one."""

import base64
import re
from typing import Final

from otel_telemetry.processors.detect.kinds.validators import Span, span_of

_ENCODED_AT: Final = re.compile(r"%40|\\u0040|&#64;|&#x40;")
#: Percent-encoded delimiters of URLs, which end a name although a percent sign may stand in one.
_DELIMITER: Final = re.compile(r"%(?:2[0236789CcFf]|3[A-Fa-f]|5[BbDdEe]|7[BbCcDd]|0[0-9A-Fa-f])")
_PLAIN_EMAIL: Final = re.compile(rb"[A-Za-z0-9._%+-]@[A-Za-z0-9-]{1,63}\.[A-Za-z]{2}")
_URL_BREAK: Final = re.compile(r"[\s/?#\"'<>,;]")
_IMAGE_TLDS: Final = frozenset(
    {"png", "jpg", "jpeg", "gif", "svg", "webp", "js", "css", "py", "ts", "html", "json", "so"}
)
#: Latin letters with marks, and the marks themselves, belong to a name in Latin letters; other scripts are its border.
_LATIN: Final = "\xaa\xba\xc0-\xd6\xd8-\xf6\xf8-\u024f\u0300-\u036f\u1e00-\u1eff"
_LATIN_TAIL: Final = re.compile(rf"[!-~{_LATIN}]*$")
_LATIN_LABEL: Final = re.compile(rf"[A-Za-z]{{2,63}}(?=[^!-~{_LATIN}])")
_FIRST_LETTERS: Final = re.compile(r"[A-Za-z]{2,63}(?=[^!-~])")
_STARTS: Final = "'.%+-"
#: A login before a host: `ssh jane@host`, with options between.
_LOGIN: Final = re.compile(r"(?:^|[\s;&|`(\"'])(?:auto)?ssh(?:\s+-[A-Za-z46]+(?:\s?[\w./=:\-]+)?){0,6}\s+$")
_COPY: Final = re.compile(r"(?:^|[\s;&|`(\"'])(?:scp|sftp|rsync)\s[^|;&\n]{0,120}$")
_REACH: Final = 130


def email(text: str, match: re.Match[str]) -> Span | None:
    """Accept an address whose domain ends in letters: no file name (icon@2x.png), no login in a URL, for git or ssh."""
    start, end = match.span("v")
    at, behind = _sign(text, start, end)
    start = _name_start(text, start, at)
    end = _domain_end(text, behind, end)
    domain = text[behind:end]
    top = domain.rsplit(".", 1)[-1]
    if "." not in domain or domain[0] in "-_." or not ((top.isalpha() and len(top) > 1) or top.startswith("xn--")):
        return None
    if start >= at or top.lower() in _IMAGE_TLDS or _in_url(text, start) or _is_login(text, start, end):
        return None
    return Span(start, end)


def _sign(text: str, start: int, end: int) -> tuple[int, int]:
    """Return where the last sign between name and domain begins and ends."""
    at = text.rfind("@", start, end)
    return (at, at + 1) if at >= 0 else list(_ENCODED_AT.finditer(text, start, end))[-1].span()


def _name_start(text: str, start: int, sign: int) -> int:
    """Return where a name begins: behind letters of another script, and behind the delimiters of a URL."""
    name = text[start:sign]
    if "%" in name:
        for delimiter in _DELIMITER.finditer(name):
            start = sign - len(name) + delimiter.end()
    if name.isascii() or name[0] == '"':
        return start
    tail = _LATIN_TAIL.search(text, start, sign)
    if tail is not None and tail.start() < sign:
        start = tail.start()
    while start < sign and text[start] in _STARTS:
        start += 1
    return start


def _domain_end(text: str, start: int, end: int) -> int:
    """Return where a domain ends: before letters of another script that follow those of a top-level domain."""
    domain = text[start:end]
    if not domain.isascii():
        label = domain.find(".") + 1
        while label:
            last = "." not in domain[label:]
            found = (_FIRST_LETTERS if last else _LATIN_LABEL).match(domain, label)
            if found:
                end = start + found.end()
                break
            label = domain.find(".", label) + 1
    while end > start and text[end - 1] in "-_.":
        end -= 1
    return end


def _is_login(text: str, start: int, end: int) -> bool:
    """Return whether an address is a login on a host: for git, ssh and those that copy over it."""
    behind = text[end : end + 1]
    if text[start : start + 4] == "git@" and behind == ":":
        return True
    before = text[max(0, start - _REACH) : start]
    logs_in = "ssh" in before and _LOGIN.search(before) is not None
    return logs_in or (behind == ":" and _COPY.search(before) is not None)


def _in_url(text: str, start: int) -> bool:
    """Return whether an address stands where a URL has its login: `ssh://deploy@host`."""
    slashes = text.rfind("://", max(0, start - _REACH), start)
    return slashes >= 0 and not _URL_BREAK.search(text, slashes + 3, start)


def email_in_base64(text: str, match: re.Match[str]) -> Span | None:
    """Accept base64 whose text holds an e-mail address and nothing that is not text."""
    del text
    value = match[0].rstrip("=")
    try:
        plain = base64.b64decode(value + "=" * (-len(value) % 4), b"-_" if "-" in value or "_" in value else None)
    except ValueError:
        return None
    return span_of(match) if _PLAIN_EMAIL.search(plain) and plain.isascii() and b"\0" not in plain else None
