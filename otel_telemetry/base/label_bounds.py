"""Limits on metric labels whose values come from outside: the first values are kept, the rest is `other`."""

from typing import Final

OTHER: Final = "other"
#: As many values of one label are told apart, and as many sets of values of one metric.
MOST_VALUES: Final = 100
MOST_SETS: Final = 500
_LONGEST: Final = 200  # characters of a value: each stays in memory, and in every answer to a scrape


class Label:
    """The values of one label: the first that come, and `other`. What is not known is empty."""

    def __init__(self) -> None:
        self._known: dict[str | None, str] = {None: ""}

    def word(self, value: str | None) -> str:
        """Return the value as a metric shows it."""
        value = value[:_LONGEST] if value else value
        found = self._known.get(value)
        if found is None:
            if len(self._known) > MOST_VALUES:
                return OTHER
            found = self._known[value] = value or ""
        return found
