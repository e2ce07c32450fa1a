"""Sums over the model calls of one request, in a form that may be added in any order, and taken back.

`sums` are whole numbers: counts, tokens, nanoseconds, pico-dollars (floats would depend on the order of addition).
`#name` counts how many parts knew `name`, so that "nobody knew" and "it was 0" stay apart.
`last` keeps, for each stage and for the request as a whole (""), what the call that ended last said:
`[end_ns, span_id, payload]`; the span id decides between calls that ended in the same nanosecond.
`told` keeps in the same way what calls say of their request, by column: who asked, in which session and conversation.
"""

from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class Rollup:
    """A sum, or one part of it."""

    sums: dict[str, int] = field(default_factory=dict)
    last: dict[str, list[Any]] = field(default_factory=dict)
    told: dict[str, list[Any]] = field(default_factory=dict)

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
        _keep_latest(self.last, slot, [end_ns, span_id, payload])

    def tell(self, column: str, end_ns: int, span_id: str, value: str) -> None:
        """Keep what the call that ended last says of a column of its request."""
        _keep_latest(self.told, column, [end_ns, span_id, value])

    def merge(self, part: "Rollup") -> None:
        """Add a part."""
        sums = self.sums
        for name, amount in part.sums.items():  # `add`, written out: this is what a batch does most
            total = sums.get(name, 0) + amount
            if total:
                sums[name] = total
            else:
                sums.pop(name, None)
        for held, added in ((self.last, part.last), (self.told, part.told)):
            for slot, said in added.items():
                _keep_latest(held, slot, said)

    def take_back(self, part: "Rollup") -> bool:
        """Remove a part that was added. False: it was the last of a slot, so that only a fresh sum knows the next."""
        for name, amount in part.sums.items():
            self.add(name, -amount)
        pairs = ((self.last, part.last), (self.told, part.told))
        return all(held.get(slot, said)[:2] != said[:2] for held, taken in pairs for slot, said in taken.items())

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

    def completed(self, other: "Rollup") -> "Rollup":
        """Return the part of a call with what only another part of the same call knows: its usage and its names."""
        whole = Rollup(dict(self.sums), dict(self.last), dict(self.told))
        if not self.has_usage and other.has_usage:
            whole.sums = {name: amount for name, amount in self.sums.items() if not name.startswith("source:")}
            for name, amount in other.sums.items():
                if name.startswith(("#", "source:")) or f"#{name}" in other.sums:
                    whole.add(name, amount)
        said = other.latest("")
        for slot, (end_ns, span_id, payload) in whole.last.items() if said else ():
            filled = [mine if mine is not None else theirs for mine, theirs in zip(payload, said or (), strict=True)]
            whole.last[slot] = [end_ns, span_id, filled]
        return whole

    @property
    def has_usage(self) -> bool:
        """Tell whether tokens or a cost are known."""
        return any(self.known(name) is not None for name in ("prompt_tokens", "completion_tokens", "cost_usd"))

    def as_stage(self) -> "Rollup | None":
        """Return what is left of a call that turned out to wrap another one: the time of its stage, and who asked."""
        left = Rollup({f"span_ns:{stage}": ns for stage, ns in self.named("call_ns:").items()}, told=dict(self.told))
        return left or None

    def dump(self) -> dict[str, Any]:
        """Return plain data for a JSON column."""
        return {"sums": self.sums, "last": self.last, "told": self.told}

    @classmethod
    def load(cls, data: dict[str, Any] | None) -> "Rollup":
        """Return the rollup of a JSON column."""
        return cls(dict(data["sums"]), dict(data["last"]), dict(data.get("told") or {})) if data else cls()

    def __bool__(self) -> bool:
        return bool(self.sums or self.last or self.told)


def _keep_latest(held: dict[str, list[Any]], slot: str, said: list[Any]) -> None:
    before = held.get(slot)
    if before is None or (said[0], said[1]) > (before[0], before[1]):
        held[slot] = said
