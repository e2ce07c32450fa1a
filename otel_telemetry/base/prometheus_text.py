"""Metrics as Prometheus reads them: of one process, or of several in one text, each with a label of its own."""

from collections.abc import Callable, Iterable, Mapping
from typing import Final

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric
from prometheus_client.openmetrics import exposition, parser

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS: Final = "application/openmetrics-text"
#: They have no annotations.
_write: Final[Callable[[CollectorRegistry], bytes]] = exposition.generate_latest
_read: Final[Callable[[str], Iterable[Metric]]] = parser.text_string_to_metric_families
OPENMETRICS_CONTENT_TYPE: Final = f"{OPENMETRICS}; version=1.0.0; charset=utf-8"
PROCESS: Final = "process"
_RATE: Final = "telemetry_cache_cache_hit_rate"
_LOOKUPS: Final = ("telemetry_cache_cache_hits", "telemetry_cache_cache_misses")
_CACHE: Final = "cache"


def merged(texts: Mapping[str, bytes]) -> Iterable[Metric]:
    """Return the metrics of several expositions in OpenMetrics as one, each sample with its process as a label."""
    families: dict[str, Metric] = {}
    for process, text in texts.items():
        for family in _read(text.decode()):
            into = families.setdefault(family.name, Metric(family.name, family.documentation, family.type))
            into.samples += [one._replace(labels={**one.labels, PROCESS: process}) for one in family.samples]
    _average(families)
    return families.values()


def _average(families: Mapping[str, Metric]) -> None:
    """Put the hit rate of each cache over all processes in place of theirs: rates of processes add up to nothing."""
    rate = families.get(_RATE)
    if rate is None:
        return
    found: dict[str, list[float]] = {}
    for index, name in enumerate(_LOOKUPS):
        for one in families[name].samples if name in families else ():
            found.setdefault(one.labels.get(_CACHE, ""), [0.0, 0.0])[index] += one.value
    shown = {one.labels.get(_CACHE, ""): one for one in rate.samples}
    rate.samples = [
        one._replace(
            labels={name: word for name, word in one.labels.items() if name != PROCESS}, value=hits / (hits + misses)
        )
        for cache, one in shown.items()
        for hits, misses in [found.get(cache, (0.0, 0.0))]
        if hits + misses
    ]


def text_of(families: Iterable[Metric], *, openmetrics: bool = False) -> bytes:
    """Return metrics that were already collected as Prometheus text, or as OpenMetrics, with exemplars."""
    gathered = _Gathered(families)
    return _write(gathered) if openmetrics else generate_latest(gathered)


def wants_openmetrics(accept: str) -> bool:
    """Return whether a caller's Accept header names OpenMetrics."""
    return OPENMETRICS in accept.lower()


class _Gathered(CollectorRegistry):
    """Metrics that were already collected, in the form that generate_latest reads."""

    def __init__(self, collected: Iterable[Metric]) -> None:
        super().__init__()
        self._collected = collected

    def collect(self) -> Iterable[Metric]:
        return self._collected
