"""What stands behind a name and is no value of it, seen with one look: most names in JSON and in URLs are such.

The general way (assignments.py) comes to the same result in many more steps.
"""

import re
from typing import Final

from otel_telemetry.processors.detect.names import keys, looks

#: Behind a weak name in quotes, what cannot be its value: a map, and a text shorter than any that its look would
#: give away. JSON Schema is full of them.
TOO_LITTLE: Final = {
    kind: re.compile(rf"(?P<m>\\{{0,3}})\" ?: ?(?:\{{|(?P=m)\"[^\"\\]{{0,{most}}}(?P=m)\")")
    for kind, most in ((keys.LIKELY, 5), (keys.WEAK, 15), (keys.VENDOR, 15))
}
#: Behind a name in quotes, what goes on with the next item of a list or with the next member.
_NEXT: Final = ('",', '"],', '"),')
#: With what a pair opens, of which the name is the first: `("password", "x")`.
PAIR: Final = re.compile(r"[(\[{]\s{0,3}[bru]?\\{0,15}[\"']$")
_PAIR_REACH: Final = 24
#: A value of one or two characters behind an equals sign, and one that is no e-mail address.
_TOO_SHORT: Final = re.compile(r"=[^\s\"'`<>&;,)}\]\\|=(\[{]{1,2}(?=[\s&;,]|$)")
_NO_ADDRESS: Final = re.compile(r"=[^\s\"'`<>&;,)}\]\\|=(\[{@]{1,320}+(?=[\s&;,]|$)")
#: Behind a name in quotes, a text as tests have them: `"api_key":"testkey"`.
_TEXT: Final = re.compile(r'" ?: ?"([A-Za-z _-]{3,48}\d?)"(?! ->)')
#: What ends otherwise: values that have parts, and those of a query, by what stands before their names.
_PARTED: Final = frozenset({keys.SSN, keys.CREDIT_CARD, keys.COOKIE, keys.AUTHORIZATION})
_QUERY: Final = ("?", "&")


def follow(text: str, key: str, kind: str, name: tuple[int, int]) -> bool:
    """Return whether no value of the name `key` of this kind, at these characters, can stand behind it."""
    start, end = name
    if text.startswith(_NEXT, end):
        return key[0] != "-" and PAIR.search(text, max(0, start - _PAIR_REACH), start) is None
    if kind in looks.MADE and (member := _TEXT.match(text, end)):
        return looks.is_trial(member[1])
    if kind == keys.EMAIL:
        return _NO_ADDRESS.match(text, end) is not None
    return _TOO_SHORT.match(text, end) is not None and kind not in _PARTED and text[max(0, start - 1)] not in _QUERY
