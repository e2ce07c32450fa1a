"""Spans that no table accepts: what is stored of them, so that an operator can find the reason and send them again."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from otel_telemetry.base import conventions, records
from otel_telemetry.exporters.request_log.db import coerce, free_json
from otel_telemetry.exporters.request_log.derive import requests
from otel_telemetry.exporters.request_log.derive.calls import row_id
from otel_telemetry.exporters.request_log.dialects import shapes

_REASON_LIMIT: Final = 500


def letter(span: records.Span, reason: str, now: datetime, *, store_text: bool) -> dict[str, Any]:
    """Return the row of dead_letter for a span. Attributes that cannot even be read are left out; so are addresses."""
    notes = coerce.Notes()
    return {
        "id": coerce.clean(row_id(span.trace_id, span.span_id))[: coerce.ID_LIMIT],
        "ts": now,
        "signal": "traces",
        "reason": coerce.clean(reason)[:_REASON_LIMIT],
        "trace_id": coerce.clean(span.trace_id)[: coerce.ID_LIMIT],
        "span_id": coerce.clean(span.span_id)[: coerce.ID_LIMIT],
        "service": coerce.text(span.resource.get(conventions.SERVICE_NAME), conventions.SERVICE_NAME, notes),
        "name": coerce.text(span.name, "name", notes),
        "item": _item(span.attributes, notes, store_text=store_text),
    }


def _item(attributes: Mapping[str, Any], notes: coerce.Notes, *, store_text: bool) -> dict[str, Any] | None:
    item: dict[str, Any] = {}
    try:
        for key, value in free_json.members(attributes, store_text=store_text).items():
            if not _is_private(str(key), store_text=store_text):
                coerce.keep(item, str(key), value, notes)
    except Exception:  # noqa: BLE001  # being unreadable may be the very reason why it is here
        return None
    return item


def _is_private(key: str, *, store_text: bool) -> bool:
    is_text = shapes.is_content(key) or key in requests.TEXT_ATTRIBUTES
    return key in requests.ADDRESS_ATTRIBUTES or (is_text and not store_text)
