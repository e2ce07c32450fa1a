"""Filters what our exporters are given, whichever code calls them.

Exporters ask here; redaction, if it is on, answers: data that is not marked as cleaned is cleaned, or left out and
counted. A foreign processor may call an exporter itself, with spans that passed no processor of ours, and a reader may
get metrics from other code.
"""

from collections.abc import Callable, Iterable
from typing import Any

Admits = Callable[[Any], Any]
"""Takes a span, a log record or metrics as an exporter is given them; returns them clean, or None where they must go no
further."""


class _Admission:
    spans: Admits | None = None
    logs: Admits | None = None
    metrics: Admits | None = None


_admission = _Admission()


def keep(spans: Admits | None, logs: Admits | None, metrics: Admits | None) -> None:
    """Set the function that admits spans, log records and metrics from now on; None: all are admitted."""
    _admission.spans, _admission.logs, _admission.metrics = spans, logs, metrics


def spans(batch: Iterable[Any]) -> list[Any]:
    """Return the spans of a batch that may go out, clean."""
    return _admitted(_admission.spans, batch)


def logs(batch: Iterable[Any]) -> list[Any]:
    """Return the log records of a batch that may go out, clean."""
    return _admitted(_admission.logs, batch)


def metrics(collected: Any) -> Any:
    """Return what a reader has collected as it may go out, or None."""
    admits = _admission.metrics
    return collected if admits is None or collected is None else admits(collected)


def _admitted(admits: Admits | None, batch: Iterable[Any]) -> list[Any]:
    if admits is None:
        return list(batch)
    return [clean for item in batch if (clean := admits(item)) is not None]
