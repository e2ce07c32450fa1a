"""Forms that pages send."""

from http import HTTPStatus
from typing import Final
from urllib.parse import parse_qs

from starlette.requests import ClientDisconnect, Request

from otel_telemetry.ui.problems import Problem

_LONGEST: Final = 8_192
_MOST_FIELDS: Final = 64


class TooLong(Problem):
    """A form is longer than any that the page makes."""

    def __init__(self) -> None:
        super().__init__(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "the form is too long", "send it from the page")


async def read(request: Request, longest: int = _LONGEST) -> dict[str, str]:
    """Return the fields of a form, the first of each name."""
    body = b""
    try:
        async for part in request.stream():
            body += part
            if len(body) > longest:
                raise TooLong
    except ClientDisconnect:
        raise Problem(HTTPStatus.BAD_REQUEST, "the form was cut off", "send it again") from None
    try:
        fields = parse_qs(body.decode("ascii"), keep_blank_values=True, max_num_fields=_MOST_FIELDS)
    except ValueError:
        raise Problem(HTTPStatus.BAD_REQUEST, "the form cannot be read", "send it from the page") from None
    return {name: values[0] for name, values in fields.items()}
