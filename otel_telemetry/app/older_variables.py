"""Environment variables of older systems: their new names, and the variables that are still used.

They have the lowest priority, after argument, variable and file under the new name. Each one that is set and has an
effect is logged once per process, by its name; never its value, which may contain a password. docs/switching.md lists
them.
"""

import logging
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import util
from typing import Any, Final

_TRUE: Final = frozenset({"1", "true", "t", "yes", "y", "on"})
_FALSE: Final = frozenset({"0", "false", "f", "no", "n", "off"})
_REDIS: Final = ("redis://", "rediss://", "unix://")
_API_OF_LOKI: Final = re.compile(r"(?<!/)/(loki(/api.*)?|api/prom.*)?/?$")
PROMETHEUS_PORT: Final = "PROMETHEUS_PORT"
#: What the SDK's own exporter for Prometheus reads.
EXPORTER_PORT: Final = "OTEL_EXPORTER_PROMETHEUS_PORT"

_log = logging.getLogger(__name__)
_logged: set[str] = set()


@dataclass(slots=True, frozen=True)
class OldVariable:
    """One variable. `setting` is its name here; `read` converts its value to that setting's, or None.

    Without `read` it is not used, and `why` says what to do.
    """

    name: str
    setting: str
    read: Callable[[str], Any] | None = None
    why: str = ""


def _switch(value: str) -> bool | None:
    spelt = value.strip().lower()
    return True if spelt in _TRUE else False if spelt in _FALSE else None


def _redis(value: str) -> str | None:
    return value if value.startswith(_REDIS) and util.find_spec("redis") else None


def _loki(value: str) -> str | None:
    return _API_OF_LOKI.sub("", value) if value.startswith(("http://", "https://")) else None


VARIABLES: Final = (
    OldVariable(
        "TPR_DB",
        "request_log.url",
        why="its file is that of the SQLite telemetry module, to which nothing is written: "
        '`otel-telemetry import "sqlite:///$TPR_DB" --into URL` brings its rows over',
    ),
    OldVariable("TELEMETRY_ENABLED", "enabled", _switch, "write true or false"),
    OldVariable(
        "REDIS_URL",
        "cache.url",
        _redis,
        "write redis://, rediss:// or unix://, and pip install 'otel-telemetry[redis]'",
    ),
    OldVariable("LOKI_URL", "loki.endpoint", _loki, "write http:// or https://"),
    OldVariable(
        PROMETHEUS_PORT,
        "gateway.http_port",
        why=f"a gateway shows its metrics at /metrics of that port; an app's own, where OTEL_METRICS_EXPORTER is "
        f"prometheus, are at {EXPORTER_PORT}",
    ),
)


def as_settings() -> dict[str, Any]:
    """Return the settings from older variables, as nested mappings."""
    found: dict[str, Any] = {}
    for each in VARIABLES:
        value = _value(each)
        if value is not None:
            section, _, key = each.setting.rpartition(".")
            (found.setdefault(section, {}) if section else found)[key] = value
    return found


def _value(each: OldVariable) -> Any:
    given = os.environ.get(each.name, "")
    return each.read(given) if given and each.read else None


def log_used(variable: Callable[[str], str], given: Mapping[str, Any]) -> None:
    """Warn of each older variable that is set, and of which nothing is `given` by its name here; once a process."""
    for each in VARIABLES:
        if not os.environ.get(each.name) or each.name in _logged or _is_given(each.setting, given):
            continue
        _logged.add(each.name)
        used = "it is used as that" if _value(each) is not None else f"it is not used: {each.why}"
        _log.warning("%s is set, which is called %s here; %s", each.name, variable(each.setting), used)


def _is_given(setting: str, given: Any) -> bool:
    for part in setting.split("."):
        if not isinstance(given, Mapping) or part not in given:
            return False
        given = given[part]
    return True


def for_the_sdk() -> None:
    """Let the SDK's exporter for Prometheus have the older port, where nobody has set its own."""
    port = os.environ.get(PROMETHEUS_PORT, "")
    if port.isascii() and port.isdecimal():
        os.environ.setdefault(EXPORTER_PORT, port)
