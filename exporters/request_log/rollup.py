"""Sums over the model calls of one request, in a form that may be added in any order, and taken back.

`sums` are whole numbers: counts, tokens, nanoseconds, pico-dollars (floats would depend on the order of addition).
`#name` counts how many parts knew `name`, so that "nobody knew" and "it was 0" stay apart.
`last` keeps, for each stage and for the request as a whole (""), what the call that ended last said:
`[end_ns, span_id, payload]`; the span id decides between calls that ended in the same nanosecond.
"""

from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class Rollup:
    """A sum, or one part of it."""

    sums: dict[str, int] = field(default_factory=dict)
    last: dict[str, list[Any]] = field(default_factory=dict)

    def add(self, name: str, amount: int) -> None:
        """Add to a sum; what is 0 is not kept, so that equal sums are equal data."""
        total = self.sums.get(name, 0) + amount
        if total:
            self.sums[name] = total
        else:
            self.sums.pop(name, None)

    def measure(self, name: str, amount: int | None) -> None:
        """Add a value that may be unknown."""
        if amount is not None:
            self.add(name, amount)
            self.add(f"#{name}", 1)

    def saw(self, slot: str, end_ns: int, span_id: str, payload: list[Any]) -> None:
        """Keep the payload of whatever ended last."""
        held = self.last.get(slot)
        if held is None or (end_ns, span_id) > (held[0], held[1]):
            self.last[slot] = [end_ns, span_id, payload]

    def merge(self, part: "Rollup") -> None:
        """Add a part."""
        for name, amount in part.sums.items():
            self.add(name, amount)
        for slot, (end_ns, span_id, payload) in part.last.items():
            self.saw(slot, end_ns, span_id, payload)

    def take_back(self, part: "Rollup") -> bool:
        """Remove a part that was added. False: it was the last of a slot, so that only a fresh sum knows the next."""
        for name, amount in part.sums.items():
            self.add(name, -amount)
        return all(self.last.get(slot, held)[:2] != held[:2] for slot, held in part.last.items())

    def known(self, name: str) -> int | None:
        """Return a measured sum, or None where no part knew it."""
        return self.sums.get(name, 0) if f"#{name}" in self.sums else None

    def named(self, prefix: str) -> dict[str, int]:
        """Return the sums whose name starts so, without the prefix."""
        return {name[len(prefix) :]: amount for name, amount in self.sums.items() if name.startswith(prefix)}

    def latest(self, slot: str) -> list[Any] | None:
        """Return the payload of what ended last."""
        held = self.last.get(slot)
        return None if held is None else held[2]

    def as_stage(self) -> "Rollup | None":
        """Return what is left of a call that turned out to wrap another one: the time of its stage."""
        left = Rollup({f"span_ns:{stage}": ns for stage, ns in self.named("call_ns:").items()})
        return left if left.sums else None

    def dump(self) -> dict[str, Any]:
        """Return plain data for a JSON column."""
        return {"sums": self.sums, "last": self.last}

    @classmethod
    def load(cls, data: dict[str, Any] | None) -> "Rollup":
        """Return the rollup of a JSON column."""
        return cls(dict(data["sums"]), dict(data["last"])) if data else cls()

    def __bool__(self) -> bool:
        return bool(self.sums or self.last)
