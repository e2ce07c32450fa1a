"""The function that makes the parts of a ResponseCache created without them.

Settings are combined in a layer above this package, so this package does not read them: the top layer registers the
function here (`otel_telemetry/__init__.py` does).
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from otel_telemetry.cache.parts import Parts

_make: "Callable[[Mapping[str, Any]], Parts] | None" = None


def use(make: "Callable[[Mapping[str, Any]], Parts]") -> None:
    """Make parts with this function from now on; its argument are settings of `cache` that go before all others."""
    global _make  # noqa: PLW0603 - one source a process
    _make = make


def parts(arguments: Mapping[str, Any]) -> "Parts":
    """Return the parts as the settings say. Raises ConfigurationError."""
    if _make is None:
        raise LookupError("import otel_telemetry first")
    return _make(arguments)
