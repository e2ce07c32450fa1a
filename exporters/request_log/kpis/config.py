"""Settings of the figures that users define, and what is wrong with a definition."""

import difflib
import math
import re
from collections.abc import Mapping
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator

from otel_telemetry.base.errors import ConfigurationError

Source = Literal["requests", "calls", "events", "feedback", "browser", "spans", "logs"]
Kind = Literal["counter", "gauge", "histogram"]
KpiName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]*[a-z0-9]$", max_length=60)]
LabelName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]*$", max_length=40)]

#: The tables behind sources that are rows.
TABLES: Final[Mapping[str, str]] = {
    "requests": "request_log",
    "calls": "llm_call",
    "events": "workflow_event",
    "feedback": "feedback",
    "browser": "browser_event",
}
#: What people typed and read: in no label.
_TEXTS: Final = frozenset(
    {"query_text", "answer_text", "normalized", "chat_request", "chat_response", "query", "answer", "note"}
)
_RESERVED: Final = (
    *("otel_telemetry", "telemetry_cache", "telemetry", "gen_ai", "http", "rpc", "db", "redis", "process", "python"),
    *("otelcol", "otel", "target", "scrape", "prometheus", "alerts", "up"),
)
_ENDINGS: Final = re.compile(r"_(total|bucket|sum|count|created|info|seconds|milliseconds|bytes|ratio|percent)$")
_ENDS_TAKEN: Final = frozenset({"total", "bucket", "sum", "count", "created", "info"})
_LABELS_TAKEN: Final = frozenset({"le", "quantile", "job", "instance", "process", "unit"})
_MOST: Final = 500


class LabelSettings(BaseModel):
    """One label of a figure: what it shows, and how many values it may have."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    path: str = Field(description="Column, attribute or JSON path whose value the label shows.", min_length=1)
    most: int | None = Field(
        None,
        ge=1,
        le=_MOST,
        description="Number of values that the label distinguishes, the first ones; all others are `other`.",
    )
    values: tuple[str, ...] | None = Field(
        None, min_length=1, max_length=_MOST, description="Values that the label distinguishes; all others are `other`."
    )


class KpiSettings(BaseModel):
    """A figure of one's own: what it is made of, and how it is shown."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    source: Source = Field(
        description="Source of the values: rows (requests, calls, events, feedback, browser), spans, or logs."
    )
    kind: Kind = Field(description="counter (sum), gauge (the last value) or histogram (distribution).")
    value: str | None = Field(
        None,
        min_length=1,
        description="Column, attribute or JSON path of the number, for example `meta.answer.words` or `items[0].price`."
        " A counter without one counts rows, spans or records.",
    )
    where: dict[str, str | bool | int | float] = Field(
        {}, description="Use only rows, spans or records with these values, by column, attribute or JSON path."
    )
    labels: dict[LabelName, LabelSettings] = {}
    buckets: tuple[float, ...] | None = Field(
        None, min_length=1, max_length=50, description="Upper bounds of a histogram's buckets, rising."
    )
    unit: str = Field(
        "", pattern=r"^[A-Za-z0-9 _/%$.{}-]{0,30}$", description="Unit of the number, for example words or s."
    )
    description: str = Field("", max_length=300, description="Description of the metric.")

    @field_validator("buckets")
    @classmethod
    def _rising(cls, given: tuple[float, ...] | None) -> tuple[float, ...] | None:
        if given is not None and (list(given) != sorted(set(given)) or not all(map(math.isfinite, given))):
            raise ValueError("are not finite numbers that rise")
        return given


def check(given: Mapping[str, KpiSettings]) -> None:
    """Raise ConfigurationError for the first definition that cannot be used."""
    for name, one in given.items():
        _check_name(name, given)
        _check_shape(f"kpi.{name}", one)
        _check_labels(f"kpi.{name}.labels", one)
        for key, path in _paths(f"kpi.{name}", one):
            _check_path(key, path, one.source)


def _check_name(name: str, given: Mapping[str, KpiSettings]) -> None:
    key = f"kpi.{name}"
    for reserved in _RESERVED:
        if name == reserved or name.startswith(f"{reserved}_"):
            raise ConfigurationError(key, f"the name is taken: {reserved}_* is what others measure", "choose another")
    ending = _ENDINGS.search(name)
    if ending is None:
        return
    if ending[1] in _ENDS_TAKEN:
        hint = f"call it {name.removesuffix(ending[0])}"
        raise ConfigurationError(key, f"Prometheus adds {ending[0]} by itself where it belongs", hint)
    if name.removesuffix(ending[0]) in given:
        other = name.removesuffix(ending[0])
        raise ConfigurationError(
            key, f"the name is taken: with its unit kpi.{other} may be called so", "choose another"
        )


def _check_shape(key: str, one: KpiSettings) -> None:
    if one.kind != "counter" and one.value is None:
        raise ConfigurationError(
            f"{key}.value", f"is missing: a {one.kind} needs a number", "name a column or attribute"
        )
    if one.kind == "histogram" and one.buckets is None:
        raise ConfigurationError(f"{key}.buckets", "is missing", "give the upper bounds, like [0.1, 0.5, 1, 5]")
    if one.kind != "histogram" and one.buckets is not None:
        raise ConfigurationError(f"{key}.buckets", f"a {one.kind} has none", 'remove them, or set kind = "histogram"')


def _check_labels(key: str, one: KpiSettings) -> None:
    for name, label in one.labels.items():
        if name in _LABELS_TAKEN:
            raise ConfigurationError(f"{key}.{name}", "is a label of Prometheus", "choose another name")
        if (label.most is None) == (label.values is None):
            problem = "has no bound" if label.most is None else "has two bounds"
            raise ConfigurationError(f"{key}.{name}", problem, 'give either most = 50 or values = ["a", "b"]')
        if first_of(label.path) in _TEXTS:
            raise ConfigurationError(f"{key}.{name}.path", "texts are in no label", "name another column")


def _paths(key: str, one: KpiSettings) -> list[tuple[str, str]]:
    value = [] if one.value is None else [(f"{key}.value", one.value)]
    labels = [(f"{key}.labels.{name}.path", label.path) for name, label in one.labels.items()]
    return [*value, *((f"{key}.where", path) for path in one.where), *labels]


def _check_path(key: str, path: str, source: Source) -> None:
    if not _PATH.fullmatch(path):
        raise ConfigurationError(key, f"{path!r} is no path", "write it like meta.answer.words or items[0].price")
    if source not in TABLES:
        return
    from otel_telemetry.exporters.request_log.db import schema  # noqa: PLC0415  # loads SQLAlchemy: for who has any

    table = schema.metadata.tables[TABLES[source]]
    if first_of(path) in table.c:
        return
    near = difflib.get_close_matches(first_of(path), table.c.keys(), n=1)
    hint = f"did you mean {near[0]}?" if near else f"docs/tables.md has the columns of {table.name}"
    raise ConfigurationError(key, f"{source} have no column {first_of(path)!r}", hint)


def first_of(path: str) -> str:
    """Return the column that a path of rows begins with."""
    return re.split(r"[.\[]", path, maxsplit=1)[0]


_PATH: Final = re.compile(r"[^.\[\]\x00-\x1f]+(\[\d{1,4}\]|\.[^.\[\]\x00-\x1f]+)*")
