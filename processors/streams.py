"""Redacts text of any length in bounded memory: blocks of bytes in, blocks of bytes out.

A window of text is cut where no finding crosses the cut, at the end of a line if there is one, so that keys of many
lines are seen whole. Lines of JSON are redacted one by one and stay JSON. Bytes that are not UTF-8 come out unchanged;
UTF-16 is read if a byte order mark announces it.
"""

import codecs
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import groupby
from typing import Final

from otel_telemetry.processors.detect.names.tables import head_of
from otel_telemetry.processors.ner.text import NerRedactor
from otel_telemetry.processors.redact.insight import detector_of, policy_of
from otel_telemetry.processors.redact.redactor import Finding, Redactor

BLOCK: Final = 1 << 18
"""Characters that are gathered before some of them are written."""
LONGEST_LINE: Final = 16 << 20
"""Characters of the longest line that is kept whole."""
_MARGIN: Final = 72 * 1024
"""Characters before and behind a cut that are searched: more than the longest thing that the rules find."""
_TRIES: Final = 64
_STEP: Final = 24
"""Characters that the next try is to the left of what the last one cut through."""
_BOMS: Final = {codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"}
_JSON: Final = {"{": "}", "[": "]"}
#: How a list in JSON goes on: the head of a section in an INI file does not.
_LIST: Final = re.compile(r"\[\s*(?:[\[{\"\]-]|\d|true\b|false\b|null\b)")


@dataclass
class Tally:
    """How often each (type, rule) was found, and how many characters it was in all."""

    found: Counter[tuple[str, str]] = field(default_factory=Counter)
    characters: Counter[tuple[str, str]] = field(default_factory=Counter)

    def add(self, findings: Iterable[Finding]) -> None:
        """Count findings."""
        for finding in findings:
            self.found[finding.type, finding.rule] += 1
            self.characters[finding.type, finding.rule] += finding.length


def redact_stream(
    redactor: Redactor, blocks: Iterable[bytes], tally: Tally, ner: NerRedactor | None = None
) -> Iterator[bytes]:
    """Yield the redacted bytes of a stream; `tally` grows with what was found. `ner` looks for names too."""
    codec, window = "", ""
    head: str | None = None
    decoder: codecs.IncrementalDecoder | None = None
    for block in blocks:
        if decoder is None:
            codec = _BOMS.get(block[:2], "utf-8")
            decoder = codecs.getincrementaldecoder(codec)(_errors(codec))
        window += decoder.decode(block)
        while at := _cut(redactor, window):
            yield _encode(_below(head, redactor, window[:at], tally, ner), codec)
            head = head_of(window) if head is None else head
            window = window[at:]
    if decoder is not None:
        window += decoder.decode(b"", final=True)
        yield _encode(_below(head, redactor, window, tally, ner), codec)


def _below(head: str | None, redactor: Redactor, text: str, tally: Tally, ner: NerRedactor | None) -> str:
    """Redact a stretch of text below the head of its table, if the text began with one."""
    if not head:
        return _redact(redactor, text, tally, ner)
    clean = _redact(redactor, head + text, tally, ner)
    return clean[len(head) :] if clean.startswith(head) else _redact(redactor, text, tally, ner)


def _cut(redactor: Redactor, window: str) -> int:
    """Return where the window can be cut without hiding anything from the rules; 0 where more of it is needed."""
    last = len(window) - _MARGIN
    if last < BLOCK:
        return 0
    full = len(window) >= LONGEST_LINE
    at = window.rfind("\n", 0, last) + 1 or (last if full else 0)
    for _ in range(_TRIES if at else 0):
        back = _hidden_by(redactor, window, at)
        if back is None:
            return at
        at = window.rfind("\n", 0, back) + 1 or (back if full else 0)
        if not at:
            break
    return (at or last) if full else 0


def _hidden_by(redactor: Redactor, window: str, at: int) -> int | None:
    """Return where to try next if a cut changes what is found on either side of it, or None where it does not."""
    find = detector_of(redactor).find
    low, high = max(0, at - _MARGIN), at + _MARGIN
    whole = [(low + match.start, low + match.end) for match in find(window[low:high])]
    split = [
        (start + match.start, start + match.end)
        for start, end in ((low, at), (at, high))
        for match in find(window[start:end])
    ]
    if whole == split:
        return None
    return max(0, min((start for start, end in whole if start < at < end), default=at) - _STEP)


def _redact(redactor: Redactor, text: str, tally: Tally, ner: NerRedactor | None) -> str:
    """Redact a stretch of text: each line of JSON on its own, what stands between them as a whole."""
    findings: list[Finding] = []
    lines = _with_ends(text)
    if any(map(_is_json_line, lines)):
        clean = "".join(_lines(redactor, lines, findings))
    else:
        clean = _prose(redactor, text, findings)
    if ner is not None:
        clean = _without_names(ner, redactor, clean, findings)
    tally.add(findings)
    return clean


def _without_names(ner: NerRedactor, redactor: Redactor, text: str, findings: list[Finding]) -> str:
    """Take names out: of lines of JSON by their strings, of the others as the prose that they are together."""
    out: list[str] = []
    for is_json, lines in groupby(_with_ends(text), key=_is_json_line):
        for piece in lines if is_json else ("".join(lines),):
            body = piece.rstrip("\r\n")
            out += (ner.text(body, redactor, findings), piece[len(body) :])
    return "".join(out)


def _lines(redactor: Redactor, lines: list[str], findings: list[Finding]) -> Iterator[str]:
    dirty = frozenset(redactor.dirty(lines))
    prose: list[str] = []
    for number, line in enumerate(lines):
        if _is_json_line(line):
            yield _prose(redactor, "".join(prose), findings)
            prose.clear()
            yield _piece(redactor, line, findings) if number in dirty else line
        else:
            prose.append(line)
    yield _prose(redactor, "".join(prose), findings)


def _prose(redactor: Redactor, text: str, findings: list[Finding]) -> str:
    """Redact text of many lines. Where the policy drops a finding, the lines that it stands in go, and no others."""
    policy = policy_of(redactor)
    if policy.default != "drop" and "drop" not in policy.types.values():
        return redactor.string(text, findings=findings)
    out: list[str] = []
    at = 0
    for match in detector_of(redactor).find(text):
        if match.start >= at and policy.of(match.type, text[match.start : match.end]) == "drop":
            start = max(at, text.rfind("\n", 0, match.start) + 1)
            end = text.find("\n", match.end) + 1 or len(text)
            out += (redactor.string(text[at:start], findings=findings), _piece(redactor, text[start:end], findings))
            at = end
    return "".join((*out, redactor.string(text[at:], findings=findings)))


def _piece(redactor: Redactor, text: str, findings: list[Finding]) -> str:
    """Redact lines that may go as a whole; the line end stays."""
    body = text.rstrip("\r\n")
    return redactor.string(body, findings=findings) + text[len(body) :]


def _with_ends(text: str) -> list[str]:
    *whole, rest = text.split("\n")
    return [*(line + "\n" for line in whole), rest]


def _is_json_line(line: str) -> bool:
    bare = line.strip()
    return len(bare) > 1 and _JSON.get(bare[0]) == bare[-1] and (bare[0] == "{" or _LIST.match(bare) is not None)


def _errors(codec: str) -> str:
    return "surrogateescape" if codec == "utf-8" else "surrogatepass"


def _encode(text: str, codec: str) -> bytes:
    try:
        return text.encode(codec, _errors(codec))
    except UnicodeEncodeError:  # JSON that held half of a surrogate pair, written anew
        readable = (c if c < "\ud800" or c > "\udfff" or "\udc80" <= c <= "\udcff" else "\ufffd" for c in text)
        return "".join(readable).encode(codec, _errors(codec))
