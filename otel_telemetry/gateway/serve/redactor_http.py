"""POST /v1/redact/{signal}: takes an OTLP request in protobuf, and returns the same request without personal data.

The headers of the answer contain the number of items in it and of items left out, so that the client can tell a
complete answer from a partial one. The status of an error says whether a retry can help: after 429 and 503 it can,
after all others never.
"""

from typing import Final
from urllib.parse import quote

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from otel_telemetry.base.destinations import Signal
from otel_telemetry.base.errors import TelemetryError
from otel_telemetry.base.otlp_json import Decoded
from otel_telemetry.gateway.receive import bodies, status
from otel_telemetry.gateway.receive.auth import Keys
from otel_telemetry.gateway.receive.origins import Origins
from otel_telemetry.gateway.receive.redaction import Redacted, Redaction
from otel_telemetry.gateway.receive.status import PROTOBUF, RefusedError
from otel_telemetry.gateway.serve import answers
from otel_telemetry.gateway.serve.answers import Endpoint, Reports
from otel_telemetry.gateway.serve.prometheus import Exposition

PATHS: Final[dict[str, Signal]] = {
    "/v1/redact/traces": "traces",
    "/v1/redact/logs": "logs",
    "/v1/redact/metrics": "metrics",
}
ITEMS: Final = "x-otel-telemetry-items"
REJECTED: Final = "x-otel-telemetry-rejected"
PROBLEM: Final = "x-otel-telemetry-problem"
_MOST_OF_PROBLEM: Final = 512
_PLAIN: Final = " :/[](),;'\""  # what may stand in a header as it is
_ENDPOINTS: Final = f"POST {', '.join(PATHS)} (OTLP, protobuf); GET /health, /metrics"


def make_app(
    redaction: Redaction, keys: Keys, health: Reports, exposition: Exposition, *, limit: int, origins: Origins
) -> Starlette:
    """Return the ASGI application; `limit` bounds bodies, also after decompression."""
    routes = [Route(path, _redact(signal, redaction, keys, limit), methods=["POST"]) for path, signal in PATHS.items()]
    return answers.make_app([*routes, *answers.pages(health, exposition, keys)], _ENDPOINTS, keys, origins)


def _redact(signal: Signal, redaction: Redaction, keys: Keys, limit: int) -> Endpoint:
    async def redact(request: Request) -> Response:
        try:
            _check_type(request)
            keys.require_http(request, "ingest")
            gzipped = bodies.is_gzipped(request)
            with redaction.room() as room:
                body = await bodies.read(request, limit, room)
                unpack = (lambda packed: Decoded(bodies.gunzip(packed, limit, room.grow), 0, "")) if gzipped else None
                return _answer(await redaction.answer(signal, body, room, unpack))
        except TelemetryError as error:
            return answers.answer(redaction.refuse(signal, error), PROTOBUF)
        except ClientDisconnect:
            return Response(status_code=bodies.CLIENT_GONE)

    return redact


def _check_type(request: Request) -> None:
    given = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if given != PROTOBUF:
        raise RefusedError(status.unsupported(f"the content type must be {PROTOBUF}"))


def _answer(redacted: Redacted) -> Response:
    headers = {ITEMS: str(redacted.items), REJECTED: str(redacted.rejected)}
    if redacted.problem:
        headers[PROBLEM] = quote(redacted.problem[:_MOST_OF_PROBLEM], safe=_PLAIN)
    return Response(redacted.body, headers=headers, media_type=PROTOBUF)
