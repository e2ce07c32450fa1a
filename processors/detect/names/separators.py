"""What stands between a name and its value: signs of assignments, calls around a value, schemes of credentials."""

import re
from typing import Final

from otel_telemetry.processors.detect.names import quotes

#: The type of a name, before the sign of its assignment.
_TYPE: Final = (
    r"(?:&?(?:'\w{1,12} )?(?:static )?str|(?:std::)?w?string(?:_view)?|String[!?]?|Option<String>"
    r"|const char \*|char ?\*|NSString ?\*|Text|text|SecretStr|Final(?:\[str\])?"
    r"|(?:N?VAR|n?var|N|n)?(?:CHAR|char)2?\(\w{1,6}\)"
    r"|ClassVar\[str\]|Optional\[str\]|str \| None|Any|object|any|dynamic)"
)
#: A colour of a terminal, which loggers put around names; what is left of its escape in JSON is spaces.
_COLOUR: Final = r"(?:(?=[\x1b \\])(?:\x1b|[ ]{5,6}|\\{1,15}(?:x1b|033|e))\[[0-9;]{0,10}m)?"
#: Blanks before a sign of assignment, also of values in one column; and those behind it.
_BLANKS: Final = r"[ \t]{0,80}"
_ALIGNED: Final = r"[ \t]{9,80}(?=\S)"
#: Between a name and its value: the name's own closing quote, and the separator of some syntax.
ASSIGNED: Final = re.compile(
    rf"(?P<kq>{quotes.MARK})?"
    rf"(?:%(?:25)?5[Dd]|[\])]{{0,2}}){_COLOUR}(?P<sep>{_BLANKS}(?:"
    rf"(?::|[ ](?:[Aa]s[ ])?)[ ]?(?=[&'swSOcNTtFCAaodVvn]){_TYPE}[ ]?:?="
    r"|;s:\d{1,6}:(?=\\{0,15}\")|::(?=[ ][A-Za-z0-9+/]{4,4096}={0,2}(?:[\r\n]|$))|(?<=\t)(?=[^\s=:])"
    r"|[ ](?:(?:NOT|not)[ ])?(?:I?LIKE|like|IN|in)[ ]\(?(?=')"
    r"|[ ]\.[ ](?=\\{0,15}\")|\.=|=>|->|<-|→|\|\|(?!=)|\?\?(?!=)|:=|:{1,3}=|[?|]{1,2}=|={1,3}|!==?|:(?!:)|,)"
    rf"(?:{_ALIGNED}|\s{{0,8}})"
    rf"(?:\[\s{{0,8}}(?=\\{{0,15}}[\"']))?){_COLOUR}"
)
#: What makes a secret of a text between quotes in source code: `String::from("x")`, `SecretStr("x")`, `@"x"`.
_WRAPPED: Final = re.compile(
    r"(?:string\(\d{1,6}\) |\(string\) \(len=\d{1,6}\) |\[\]\w{1,12}\{|(?:new )?[\w.:]{0,24}"
    r"(?:(?i:string|secret|str|bytes|quote|sensitive|some|md5|sha1|sha2|sha256|sha512|crypt)|Password)(?:::\w{1,12})?\(|[@L])"
    r"(?=\\{0,15}[\"'])"
)
_VISIBILITY: Final = 110
#: Characters that such a call takes, at most.
_WRAPPING: Final = 64
#: A tag or an anchor of YAML before a value.
_TAGGED: Final = re.compile(r"(?:!!?\w{1,12}|&\w{1,24})[ ]+(?=\S)")
_SCHEME: Final = re.compile(r"(?:bearer|basic|token|digest|negotiate|apikey)[ ]+(?=\S)", re.IGNORECASE)
#: A scheme that is no common one, with one token behind it: `SSWS x`, `GenieKey x`, `DeepL-Auth-Key x`.
_OTHER_SCHEME: Final = re.compile(
    r"(?:[A-Z]{3,12}|[A-Za-z]{1,20}(?:-[A-Za-z]{1,20}){0,3}-?(?:Key|Token))[ ]"
    r"(?=[^\s=,;\"']{6,4096}[ \t]*(?:$|[\r\n\"'\\,;}]))"
)


def behind_wrapping(text: str, at: int, separator: str) -> int:
    """Return where a value begins that stands behind a tag of YAML or in a call that makes a secret of it."""
    first = text[at : at + 1]
    if first in ("!", "&") and separator == ":" and (tagged := _TAGGED.match(text, at)):
        return tagged.end()
    if first in ("@", "L", "[") or text.find("(", at, at + _WRAPPING) >= 0:
        wrapped = _WRAPPED.match(text, at)
        return wrapped.end() if wrapped else at
    return at


def behind_visibility(text: str, at: int) -> int:
    """Return where a name ends with what PHP prints behind it: `[password:protected] =>`, `["x":"App":private]=>`."""
    closed = text.find("]", at, at + _VISIBILITY)
    return closed if closed >= 0 and text.endswith((":protected", ":private"), at, closed) else at


def scheme(text: str, at: int, *, any_scheme: bool) -> re.Match[str] | None:
    """Return the scheme of credentials that stands here; `any_scheme`: also one that is seldom used."""
    return _SCHEME.match(text, at) or (_OTHER_SCHEME.match(text, at) if any_scheme else None)
