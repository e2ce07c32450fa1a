"""Our detection rules as patterns of Go's `regexp`, for the Collector's redaction processor: each one, or why not.

Go runs RE2, which knows neither lookarounds nor back references nor possessive repeats, and no repeat beyond 1000. What
is taken away here makes each pattern match more than ours, never less, and never slower: possessive and atomic become
plain, lookarounds go (Go can then search for a literal that a pattern begins with), a repeat's high limit becomes none
(a limit multiplies RE2's program), and so does an optional run that a pattern begins with. Without its validators
(checksums, shapes, context) a rule may match what is not personal: one that would mask clean text is left out.
"""

import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

import re2

from otel_telemetry.processors.detect.ruleset import Rule

_MOST: Final = 64
"""A repeat's limit above which it has none in the translation."""
_TOKEN: Final = re.compile(
    r"""(?P<escape>\\u[0-9a-fA-F]{4}|\\.)
      | (?P<set>\[\^?\]?(?:\\.|[^\]\\])*\])
      | (?P<around>\(\?<?[=!])
      | (?P<atomic>\(\?>)
      | (?P<again>\(\?P=\w+\))
      | (?P<open>\((?:\?P<\w+>|\?[a-z-]*:)?)
      | (?P<flags>\(\?[a-z]+\))
      | (?P<close>\))
      | (?P<repeat>(?:\{\d*,?\d*\}|[*+?])[+?]?)
      | (?P<other>.)""",
    re.VERBOSE | re.DOTALL,
)
_LEADING: Final = re.compile(r"^((?:\(\?[a-z]+\))?)\[(?:\\.|[^\]\\])*\](?:\{0,\d*\}|\*)\??")
_NUMBERED: Final = re.compile(r"\\[1-9]")


class Untranslatable(Exception):
    """Why a pattern has no form in RE2."""


@dataclass(slots=True)
class Translation:
    """The patterns that the processor is given, how many of them were loosened, and the rules left out by reason."""

    patterns: dict[str, str] = field(default_factory=dict)
    loosened: int = 0
    dropped: dict[str, list[str]] = field(default_factory=dict)

    def summary(self) -> str:
        """Return it in one sentence."""
        reasons = "; ".join(f"{len(ids)} {reason}" for reason, ids in self.dropped.items())
        total = len(self.patterns) + sum(map(len, self.dropped.values()))
        return (
            f"{len(self.patterns)} of {total} rules are patterns that Go accepts, {self.loosened} of them after"
            f" lookarounds and possessive repeats were taken off. Left out: {reasons or 'none'}."
        )


def translated(rules: Iterable[Rule], clean: Collection[str]) -> Translation:
    """Return all rules for the processor; `clean` are texts that hold nothing personal, and must stay as they are."""
    found = Translation()
    for rule in rules:
        try:
            pattern = translate(rule.pattern)
            _accept(pattern, clean)
        except Untranslatable as reason:
            found.dropped.setdefault(str(reason), []).append(rule.id)
        else:
            found.loosened += pattern != rule.pattern
            found.patterns[rule.id] = pattern
    return found


def translate(pattern: str) -> str:
    """Return a pattern of Python's `re` as RE2 takes it, matching no less; raises Untranslatable."""
    return _LEADING.sub(r"\1", "".join(_parts(pattern)), count=1)


def _parts(pattern: str) -> Iterator[str]:
    depth, skipping = 0, 0  # skipping: the depth at which a lookaround began, 0 outside of one
    for token in _TOKEN.finditer(pattern):
        kind, text = str(token.lastgroup), token[0]
        depth += (kind in ("around", "atomic", "open")) - (kind == "close")
        if kind == "around" and not skipping:
            skipping = depth
        elif not skipping:
            yield _part(kind, text)
        elif kind == "close" and depth < skipping:
            skipping = 0


def _part(kind: str, text: str) -> str:
    if kind == "again" or (kind == "escape" and _NUMBERED.fullmatch(text)):
        raise Untranslatable("refer back to what they matched before")
    if kind == "escape" and text[1] == "u":
        return rf"\x{{{text[2:]}}}"
    if kind == "set":
        return re.sub(r"\\u([0-9a-fA-F]{4})", r"\\x{\1}", text)
    if kind == "atomic":
        return "(?:"
    return _repeat(text) if kind == "repeat" else {r"\Z": r"\z"}.get(text, text)


def _repeat(text: str) -> str:
    """Return a repeat that is not possessive, and without its limit where that is high."""
    if len(text) > 1 and text[-1] == "+":
        text = text[:-1]
    limits = re.fullmatch(r"\{(\d*),(\d+)\}(\??)", text)
    return f"{{{limits[1]},}}{limits[3]}" if limits and int(limits[2]) > _MOST else text


def _accept(pattern: str, clean: Iterable[str]) -> None:
    """Raise Untranslatable where RE2 does not compile a pattern, or finds it in clean text."""
    options = re2.Options()
    options.log_errors = False
    try:
        search = re2.compile(pattern, options).search
    except re2.error as error:
        raise Untranslatable(f"RE2 refuses ({error})") from None
    if any(search(text) for text in clean):
        raise Untranslatable("mask clean text without their validators")
