"""/openapi.json and /docs: what the HTTP port serves, for programs and for people.

The schemas are those that bodies are checked against. /docs is one page without scripts, so its content security policy
allows nothing but its own style.
"""

import base64
import hashlib
import html
import json
from collections.abc import Mapping
from functools import cache
from typing import Any, Final

from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from otel_telemetry.gateway.receive.auth import EVENT_PATHS, PUBLIC_PATHS
from otel_telemetry.gateway.receive.rest import models
from otel_telemetry.gateway.receive.status import JSON, PROTOBUF

_STYLE: Final = (
    "body{font:16px/1.5 sans-serif;max-width:60em;margin:2em auto;padding:0 1em;color:#222;background:#fff}"
    "pre{background:#f3f3f3;padding:.7em;overflow:auto}h2{margin-top:2em;border-top:1px solid #ccc;padding-top:.7em}"
    "code{font-family:monospace}"
)
_STYLE_HASH: Final = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
_HEADERS: Final = {
    "content-security-policy": f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; base-uri 'none';"
    " form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
}
_SPAN: Final = {"traceId": "5b8efff798038103d269b633813fc60c", "spanId": "eee19b7ec3c1b174", "name": "GET /"}
_LOG: Final = {"timeUnixNano": "1795230000000000000", "body": {"stringValue": "started"}}
_POINT: Final = {"timeUnixNano": "1795230000000000000", "asInt": "3"}
_OTLP: Final[dict[str, tuple[str, dict[str, Any]]]] = {
    "/v1/traces": ("resourceSpans", {"scopeSpans": [{"spans": [_SPAN]}]}),
    "/v1/logs": ("resourceLogs", {"scopeLogs": [{"logRecords": [_LOG]}]}),
    "/v1/metrics": (
        "resourceMetrics",
        {"scopeMetrics": [{"metrics": [{"name": "orders", "gauge": {"dataPoints": [_POINT]}}]}]},
    ),
}
_STATUS_SCHEMA: Final = {
    "type": "object",
    "description": "google.rpc.Status",
    "required": ["code", "message"],
    "properties": {"code": {"type": "integer"}, "message": {"type": "string"}, "details": {"type": "array"}},
}
_ERRORS: Final = {
    "400": "the body, or how it is sent, is wrong; the answer names the field",
    "401": "a key is needed",
    "403": "the key has not got the role, or a web page of another origin sent this",
    "411": "the request does not say how long its body is",
    "413": "the body is too large",
    "415": "another content type or encoding is needed",
    "421": "the Host is not one of this gateway's",
    "429": "too much at once: try again after Retry-After",
    "500": "redaction failed: nothing was kept",
    "503": "nothing can be stored right now: try again after Retry-After",
}
_STORED: Final = {
    "/api/summary": ("Figures of the requests of a time: counts, latency, tokens, cost", "figures; money is text"),
    "/api/requests": ("Stored requests, newest first, a page at a time", "a page, and the query of the `next` one"),
    "/api/requests/{id}": ("Stored requests by id, with calls and feedback", "those whose id begins like this"),
}
#: The most used of what docs/ui.md lists.
_ASKED: Final = {
    "range": "15m, 1h, 6h, 24h, 7d, 30d or 90d, until now",
    "since": "instead: from when on, ISO 8601",
    "until": "until when",
    "tz": "zone of both, like Europe/Oslo",
    "service": "of this service",
    "route": "of this route",
    "model": "answered by, or with a call of, this model",
    "user": "of this pseudonym",
    "outcome": "ok, failed, degraded, cached, limited or unpriced",
    "sort": "time, latency or cost",
    "after": "where the page before ended, as its `next` says",
}
_OF_READING: Final = {
    "404": "no request is of that id, or the page is switched off",
    "409": "the database was written by another version",
    "504": "the database took too long: ask for a shorter time",
}


@cache
def document() -> dict[str, Any]:
    """Return the OpenAPI description of the HTTP port."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "otel-telemetry gateway",
            "version": "1",
            "description": "OTLP/HTTP and plain JSON. An answer of success comes once what was sent is redacted and"
            " on disk.",
        },
        "paths": _otlp() | _json_endpoints() | _cache_endpoints() | _operations() | _stored(),
        "components": {
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "header": {"type": "apiKey", "in": "header", "name": "x-api-key"},
                "query": {
                    "type": "apiKey",
                    "in": "query",
                    "name": "api_key",
                    "description": "A key of the role `public` only.",
                },
            },
            "schemas": {"Status": _STATUS_SCHEMA},
        },
    }


def _otlp() -> dict[str, Any]:
    found = {}
    for path, (name, example) in _OTLP.items():
        schema = {"type": "object", "properties": {name: {"type": "array", "items": {"type": "object"}}}}
        binary = {"type": "string", "format": "binary", "description": f"Export{path[4:].title()}ServiceRequest"}
        content = {JSON: {"schema": schema, "example": {name: [example]}}, PROTOBUF: {"schema": binary}}
        success = {
            "description": "accepted; with partialSuccess where some items were not",
            "content": {JSON: {"schema": {"type": "object"}}, PROTOBUF: {"schema": {"type": "string"}}},
        }
        found[path] = {"post": _operation(path, f"OTLP {path[4:]}", {"200": success}, content)}
    return found


def _json_endpoints() -> dict[str, Any]:
    event = {"type": "approval", "run_id": "run-1", "data": {"by": "anna"}}
    events = {
        "oneOf": [
            _schema(models.WorkflowEvent),
            {"type": "array", "items": {}},
            {"type": "object", "required": ["events"], "properties": {"events": {"type": "array", "items": {}}}},
        ]
    }
    log = {"event": "tool_execution", "payload": {"service": "shop", "message": "Hello world"}}
    feedback = {"verdict": "up", "request_id": "r-1"}
    seen = {"type": "page_view", "sid": "s-1", "data": {"path": "/docs"}}
    found = {
        "/log": _post("/log", "A log entry of a service", _schema(models.LogEntry), log),
        "/feedback": _post("/feedback", "What somebody thinks of an answer", _schema(models.Feedback), feedback),
        "/telemetry": _post("/telemetry", "Something that a browser tells", _schema(models.BrowserEvent), seen),
    }
    summary = "Runs, steps and events of workflows; the answer has an outcome for each"
    content = {JSON: {"schema": events, "example": event}}
    outcomes = {"type": "object", "required": ["accepted", "rejected", "outcomes"]}
    status = {"$ref": "#/components/schemas/Status"}
    answers = {
        "202": {"description": "redacted, and on disk", "content": {JSON: {"schema": outcomes}}},
        "400": {"description": "no event was good", "content": {JSON: {"schema": {"anyOf": [outcomes, status]}}}},
    }
    return found | {path: {"post": _operation(path, summary, answers, content)} for path in EVENT_PATHS}


def _cache_endpoints() -> dict[str, Any]:
    key = {"name": "key", "in": "query", "required": True, "schema": {"type": "string", "minLength": 1}}
    item = {"key": "tool:search:q:tent", "data": {"results": ["a"]}, "ttl": 3600}
    answers = {"200": _json_answer("what is kept, or hit: false")}
    deleted = {"200": _json_answer("whether it was there")}
    return {
        "/cache/get": {"get": _operation("/cache/get", "Look a value up", answers) | {"parameters": [key]}},
        "/cache/set": _post("/cache/set", "Keep a value", _schema(models.CacheItem), item),
        "/cache": {"delete": _operation("/cache", "Forget a value", deleted) | {"parameters": [key]}},
    }


def _operations() -> dict[str, Any]:
    health = {"200": _json_answer("requests are taken"), "503": _json_answer("requests are not taken")}
    text = {"200": {"description": "Prometheus text", "content": {"text/plain": {"schema": {"type": "string"}}}}}
    return {
        "/health": {"get": _operation("/health", "How the gateway is: its parts for keys of the role read", health)},
        "/metrics": {"get": _operation("/metrics", "Its metrics", text)},
    }


def _stored() -> dict[str, Any]:
    """Return the section about stored requests, if the gateway serves its page (ui.enabled)."""
    found = {}
    for path, (summary, answer) in _STORED.items():
        named = [{"name": "id", "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}]
        asked = [
            {"name": name, "in": "query", "description": description, "schema": {"type": "string"}}
            for name, description in _ASKED.items()
        ]
        answers = {"200": {"description": answer, "content": {JSON: {"schema": {"type": ["object", "array"]}}}}}
        answers |= {code: _refused(why) for code, why in _OF_READING.items()}
        operation = _operation(path, summary, answers) | {"parameters": named if "{id}" in path else asked}
        found[path] = {"get": operation}
    return found


def _refused(why: str) -> dict[str, Any]:
    return {"description": why, "content": {JSON: {"schema": {"$ref": "#/components/schemas/Status"}}}}


def _post(path: str, summary: str, schema: Mapping[str, Any], example: Any) -> dict[str, Any]:
    content = {JSON: {"schema": schema, "example": example}}
    return {"post": _operation(path, summary, {"200": _json_answer("redacted, and on disk")}, content)}


def _operation(
    path: str, summary: str, answers: Mapping[str, Any], content: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    errors = {code: _refused(why) for code, why in _ERRORS.items()}
    if PROTOBUF in (content or {}):
        for answer in errors.values():
            answer["content"] |= {PROTOBUF: {"schema": {"type": "string"}}}
    security: list[dict[str, list[str]]] = [{}, {"bearer": []}, {"header": []}]
    found: dict[str, Any] = {
        "summary": summary,
        "security": security + ([{"query": []}] if path in PUBLIC_PATHS else []),
        "responses": {**errors, **answers},
    }
    return found | ({"requestBody": {"required": True, "content": content}} if content else {})


def _json_answer(description: str) -> dict[str, Any]:
    return {"description": description, "content": {JSON: {"schema": {"type": "object"}}}}


def _schema(model: type[BaseModel]) -> dict[str, Any]:
    """Return a model's schema without references, which would point out of it."""
    schema = model.model_json_schema()
    definitions = schema.pop("$defs", {})

    def resolved(part: Any) -> Any:
        if isinstance(part, dict):
            name = part.get("$ref", "").rpartition("/")[2]
            return resolved(definitions[name]) if name else {key: resolved(value) for key, value in part.items()}
        return [resolved(one) for one in part] if isinstance(part, list) else part

    found: dict[str, Any] = resolved(schema)
    return found


@cache
def _page() -> bytes:
    parts = ["<!doctype html><html lang=en><meta charset=utf-8><title>otel-telemetry gateway</title>"]
    parts.append(f"<style>{_STYLE}</style><h1>otel-telemetry gateway</h1>")
    parts.append(f"<p>{html.escape(document()['info']['description'])} For programs: <code>/openapi.json</code>.</p>")
    for path, methods in document()["paths"].items():
        for method, operation in methods.items():
            parts.append(_section(path, method, operation))
    return "".join(parts).encode()


def _section(path: str, method: str, operation: Mapping[str, Any]) -> str:
    lines = [f"<h2><code>{method.upper()} {html.escape(path)}</code></h2><p>{html.escape(operation['summary'])}</p>"]
    for kind, media in operation.get("requestBody", {}).get("content", {}).items():
        shown = media.get("example", media["schema"])
        lines.append(f"<p>{kind}</p><pre>{html.escape(json.dumps(shown, indent=2))}</pre>")
    codes = ", ".join(f"{code} ({html.escape(one['description'])})" for code, one in operation["responses"].items())
    return f"{''.join(lines)}<p>Answers: {codes}.</p>"


@cache
def _written() -> bytes:
    """Return the description as JSON: anybody may ask for it, at any rate."""
    return json.dumps(document()).encode()


def routes() -> list[Route]:
    """Return the two routes; neither asks for a key, as nothing in them is of this gateway alone."""

    async def openapi(request: Request) -> Response:
        del request
        return Response(_written(), headers=_HEADERS, media_type=JSON)

    async def docs(request: Request) -> Response:
        del request
        return Response(_page(), headers=_HEADERS, media_type="text/html")

    return [Route("/openapi.json", openapi), Route("/docs", docs)]
