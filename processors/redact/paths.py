"""JSON paths of the policy: `$.messages[*].content`, `$.user.*`, `$..ssn` (a subset of RFC 9535).

A path is walked along with the value: `step` takes the places reached so far one key further.
"""

import re
from dataclasses import dataclass
from typing import Final

_STEP: Final = re.compile(
    r"\.\.(?P<deep>[\w-]+|\*)|\.(?P<name>[\w-]+|\*)|\[(?P<index>\d+|\*)\]|\['(?P<quoted>[^']+)'\]"
)
ANY: Final = "*"


@dataclass(frozen=True)
class JsonPath:
    """A parsed path: per step its name (`*`: any, digits: a place in a list) and whether it may lie any deeper."""

    text: str
    steps: tuple[tuple[str, bool], ...]

    @classmethod
    def parse(cls, text: str) -> "JsonPath":
        """Read a path, or raise ValueError saying what is wrong."""
        if not text.startswith("$"):
            raise ValueError("a path starts with $")
        at, steps = 1, []
        while at < len(text):
            match = _STEP.match(text, at)
            if match is None:
                raise ValueError(f"cannot read {text[at:]!r}")
            name = match["deep"] or match["name"] or match["index"] or match["quoted"]
            steps.append((name, match["deep"] is not None))
            at = match.end()
        if not steps:
            raise ValueError("a path names something inside the value")
        return cls(text, tuple(steps))

    def step(self, places: frozenset[int], key: str) -> frozenset[int]:
        """Return the places after going down one `key` (a member's name, or an index as text); start with {0}."""
        reached: set[int] = set()
        for place in places:
            if place >= len(self.steps):
                continue
            name, deep = self.steps[place]
            if name in (ANY, key):
                reached.add(place + 1)
            if deep:
                reached.add(place)
        return frozenset(reached)

    def ends(self, places: frozenset[int]) -> bool:
        """Return whether the path has arrived."""
        return len(self.steps) in places
