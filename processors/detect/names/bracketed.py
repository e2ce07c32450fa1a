"""Values in brackets or braces, as logs and ODBC write them: `password=[x]`, `PWD={x};`."""

import re
from typing import Final

from otel_telemetry.processors.detect.kinds.validators import Span
from otel_telemetry.processors.detect.names import looks, places
from otel_telemetry.processors.detect.text.letters import is_drawn

#: Of what stands in braces, only what no template has counts.
_VALUE: Final = re.compile(
    r"\[(?P<list>[^\s\[\]{},\"'\\]{3,400})\](?=[\s,;.)]|$)"
    r"|\{(?P<braces>[^\r\n{}\"']{3,400})\}(?=;|$)"
)
_MIXED: Final = re.compile(r"(?=\w*?\d\w*?\d)(?=\w*?[A-Z])(?=\w*?[a-z]\w*?[a-z])\w{8,}$")


def value(text: str, at: int, key: str, kind: str, name: int) -> Span | None:
    """Return the value that opens here, of the name `key` of this kind, which begins at `name`."""
    found = _VALUE.match(text, at)
    if found is None:
        return None
    group = found.lastgroup or "list"
    inside = found[group]
    template = group == "braces" and looks.is_identifier(inside) and not _is_mixed(inside)
    wrong = (
        template
        or looks.stands_in(inside)
        or looks.is_code(inside)
        or looks.is_named_as(key, inside)
        or looks.is_marked(inside)
    )
    if wrong or places.in_call(text, name) or not looks.strong(kind, inside):
        return None
    return Span(*found.span(group), kind)


def _is_mixed(value: str) -> bool:
    """Return whether letters and digits are no name of a variable: drawn at random, or mixed."""
    return is_drawn(value) or (_MIXED.match(value) is not None and not looks.is_snake_case(value))
