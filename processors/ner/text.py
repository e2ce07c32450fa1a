"""Finds natural language in values, and returns it without the names, places and dates in it.

It runs after the rules, outside the thread that made the record: in the gateway's workers, in the thread that exports,
in commands. Work is limited: of each field, as many characters are read as the settings say. JSON inside text is
parsed, each of its strings is processed, and it is serialised again if one of them changed.
"""

import json
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final

from otel_telemetry.base.errors import ConfigurationError
from otel_telemetry.base.records import AnyValue
from otel_telemetry.processors.config import NerSettings, RedactionSettings
from otel_telemetry.processors.detect.detector import UNSCANNED, Match
from otel_telemetry.processors.ner.allowance import Allowance
from otel_telemetry.processors.ner.names import NameRecogniser
from otel_telemetry.processors.ner.pipeline import SpacyRecogniser
from otel_telemetry.processors.ner.spans import Recogniser
from otel_telemetry.processors.redact import content_rules
from otel_telemetry.processors.redact.insight import policy_of, writer_of
from otel_telemetry.processors.redact.policy import Policy, glob, is_content, is_safe
from otel_telemetry.processors.redact.redactor import MAX_DEPTH, Finding, Redactor
from otel_telemetry.processors.redact.rewrite import is_marker, marker, same_or

LIMIT: Final = "ner.limit"
"""The rule that a finding names where a field was longer than what is looked at."""
_PIECE: Final = 2_000
_STRUCTURED: Final = ("{", "[")
_WORD: Final = re.compile(r"[^\W\d_]{2}")
#: One ASCII word that no sentence holds: an identifier, a URL, an encoded image.
_NO_WORD: Final = re.compile(r"[a-z0-9_.:/-]+|[!-~]{65,}")
#: Names in messages whose strings are fixed words and ids.
_FIXED: Final = frozenset(
    {
        *("role", "type", "id", "object", "model", "index", "status", "format", "encoding", "modality", "signature"),
        *("mime_type", "mimeType", "media_type", "finish_reason", "finishReason", "stop_reason", "cache_control"),
        *("tool_call_id", "toolCallId", "tool_use_id", "call_id"),
    }
)
#: What is done with one text of a field: as much of it as may be looked at, and the rest.
_AtText = Callable[[str, str], str]
Known = Mapping[str, Sequence[Match]]


class NerRedactor:
    """Removes names, places and dates from natural language, by the policy for their types. Thread-safe.

    Raises whatever the pipeline raises: the caller drops what was to be looked at.
    """

    def __init__(self, redactor: Redactor, recogniser: Recogniser, settings: NerSettings) -> None:
        self._redactor = redactor
        self._recogniser = recogniser
        self._settings = settings
        self._allowance = Allowance(settings.share) if settings.share else None
        self.bodies = settings.bodies
        self.model = recogniser.model

    def redactor_for(self, service: str) -> Redactor:
        """Return what knows the policy of a service: the argument of the other methods."""
        return self._redactor.for_service(service)

    def applies(self, key: str, redactor: Redactor) -> bool:
        """Return whether an attribute holds natural language that the policy does not keep as it is."""
        policy = policy_of(redactor)
        if is_safe(key) or (policy.keys and policy.of_key(key) == "keep"):
            return False
        if is_content(key) or _names_content(key):
            return self._settings.content and policy.content != "keep"
        return any(glob(pattern).fullmatch(key) for pattern in self._settings.keys)

    def known(self, values: Iterable[AnyValue]) -> Known:
        """Return what is found in every text of these fields, looked at in one batch.

        Past the share of time that the settings allow, nothing is looked at: a text that is missing here was not.
        """
        texts = list(dict.fromkeys(text for value in values for text in self._texts(value)))
        if not texts or (self._allowance and self._allowance.is_used_up()):
            return {}
        began = time.thread_time()
        found = dict(zip(texts, self._recogniser.find(texts), strict=True))
        if self._allowance:
            self._allowance.use(time.thread_time() - began)
        return found

    def value(
        self, value: AnyValue, redactor: Redactor, findings: list[Finding], known: Known | None = None
    ) -> AnyValue:
        """Return the value of one field without names; the same object where there are none."""
        looked = self.known([value]) if known is None else known
        too_long: list[str] = []

        def at_text(head: str, rest: str) -> str:
            if head and head not in looked:
                head, rest = "", head + rest
            clean = writer_of(redactor).text(head, looked[head], findings) if head else ""
            if not rest:
                return clean
            findings.append(Finding(UNSCANNED, LIMIT, len(rest)))
            if self._settings.beyond == "keep":
                return clean + rest
            too_long.append(rest[:1])
            return clean + marker(UNSCANNED)

        clean = _walk(value, _Budget(self._settings.max_length, at_text), "", 0)
        return marker(UNSCANNED) if too_long and self._settings.beyond == "drop" else clean

    def item(
        self, key: str, value: AnyValue, redactor: Redactor, findings: list[Finding], known: Known | None = None
    ) -> tuple[str, AnyValue] | None:
        """Return one attribute without names, or None where the policy drops it. Call it where `applies`."""
        before = len(findings)
        clean = self.value(value, redactor, findings, known)
        if self._drops(policy_of(redactor), findings[before:]):
            return None
        return key, clean

    def text(self, text: str, redactor: Redactor, findings: list[Finding]) -> str:
        """Return text of any length without names: JSON by its strings, prose in pieces of whole lines.

        For commands that read files: nothing of it is passed over or cut, however long it is.
        """
        unlimited = _Pieces()
        unlimited.walk(text)
        known = dict(zip(unlimited.texts, self._recogniser.find(unlimited.texts), strict=True))

        def at_text(head: str, rest: str) -> str:
            del rest
            return "".join(_piece(redactor, piece, known[piece], findings) for piece in _pieces(head))

        clean = _walk(text, _Budget(len(text), at_text), "", 0)
        return clean if isinstance(clean, str) else text

    def _texts(self, value: AnyValue) -> list[str]:
        texts: list[str] = []

        def at_text(head: str, rest: str) -> str:
            if head:
                texts.append(head)
            return head + rest

        _walk(value, _Budget(self._settings.max_length, at_text), "", 0)
        return texts

    def _drops(self, policy: Policy, findings: Sequence[Finding]) -> bool:
        if self._settings.beyond == "drop" and any(finding.rule == LIMIT for finding in findings):
            return True
        return any(policy.action(finding.type) == "drop" for finding in findings if finding.rule != LIMIT)


def ner_of(settings: RedactionSettings, redactor: Redactor) -> NerRedactor | None:
    """Return what takes names out behind a redactor, or None where the settings leave it off.

    Raises ConfigurationError where a model is not installed or cannot be loaded, naming the setting.
    """
    if settings.names and settings.ner.enabled:
        hint = "switch one of them off: redaction.names is the small model, redaction.ner a pipeline of your own"
        raise ConfigurationError("redaction.names", "is on together with redaction.ner.enabled", hint)
    if settings.names:
        return NerRedactor(redactor, NameRecogniser(), settings.ner)
    return NerRedactor(redactor, SpacyRecogniser(settings.ner.model), settings.ner) if settings.ner.enabled else None


@lru_cache(4_096)
def _names_content(key: str) -> bool:
    """Return whether the name of an attribute says that it is content: `app.prompt`, `shop.user_query`."""
    return content_rules.names(key)


class _Budget:
    """How much of a field is still looked at, and what is done with its texts."""

    __slots__ = ("_at_text", "_left")

    def __init__(self, characters: int, at_text: _AtText) -> None:
        self._left = characters
        self._at_text = at_text

    def spend(self, text: str) -> str:
        head = text
        if len(text) > self._left:
            head = text[: max(text.rfind(" ", 0, self._left + 1), 0)]
        self._left = self._left - len(text) if head is text else 0
        return self._at_text(head, text[len(head) :])


class _Pieces:
    """Gathers the pieces of all texts, each once."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def walk(self, value: str) -> None:
        def at_text(head: str, rest: str) -> str:
            self.texts.extend(_pieces(head))
            return head + rest

        _walk(value, _Budget(len(value), at_text), "", 0)
        self.texts = list(dict.fromkeys(self.texts))


def _pieces(text: str) -> Iterator[str]:
    """Yield a text in pieces that a pipeline reads at once: whole lines, and words of lines that are too long."""
    at = 0
    while len(text) - at > _PIECE:
        cut = text.rfind("\n", at, at + _PIECE) + 1 or text.rfind(" ", at, at + _PIECE) + 1
        cut = cut or at + _PIECE
        yield text[at:cut]
        at = cut
    if at < len(text):
        yield text[at:]


def _piece(redactor: Redactor, piece: str, matches: Sequence[Match], findings: list[Finding]) -> str:
    """Redact a piece. Where the policy drops what is found, the lines that it stands in go, and no others."""
    policy, writer = policy_of(redactor), writer_of(redactor)
    if not any(policy.action(match.type) == "drop" for match in matches):
        return writer.text(piece, matches, findings)
    out: list[str] = []
    at = 0
    for line in piece.split("\n"):
        end = at + len(line)
        inside = [m for m in matches if m.start < end and m.end > at]
        own = [m._replace(start=max(m.start, at) - at, end=min(m.end, end) - at) for m in inside]
        out.append(writer.text(line, own, findings))
        at = end + 1
    return "\n".join(out)


def _walk(value: AnyValue, budget: _Budget, key: str, depth: int) -> AnyValue:
    """Return a value with each of its natural texts replaced; what is nested deeper than the rules look is kept."""
    if isinstance(value, str):
        return _text(value, budget, key, depth)
    if isinstance(value, bytes):
        try:
            text = value.decode()
        except UnicodeDecodeError:
            return value
        clean = _text(text, budget, key, depth)
        return value if clean is text else clean.encode()
    if value is None or isinstance(value, bool | int | float) or depth >= MAX_DEPTH:
        return value
    if isinstance(value, Mapping):
        out = {name: _walk(inner, budget, str(name), depth + 1) for name, inner in value.items()}
        return value if all(out[name] is inner for name, inner in value.items()) else out
    return same_or([_walk(inner, budget, key, depth + 1) for inner in value], value)


def _text(text: str, budget: _Budget, key: str, depth: int) -> str:
    parsed = _parsed(text) if text.lstrip()[:1] in _STRUCTURED and depth < MAX_DEPTH else None
    if isinstance(parsed, dict | list):
        clean = _walk(parsed, budget, key, depth + 1)
        return text if clean is parsed else json.dumps(clean, ensure_ascii=False)
    if key in _FIXED or is_marker(text) or not _WORD.search(text) or _NO_WORD.fullmatch(text):
        return text
    new = budget.spend(text)
    return text if new == text else new


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
