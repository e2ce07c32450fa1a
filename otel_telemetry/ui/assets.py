"""Templates and static files: each file under a name with its hash, so that browsers may keep it for good."""

import hashlib
from functools import cache
from pathlib import Path
from typing import Any, Final

import jinja2
from starlette.responses import Response

from otel_telemetry.ui import words

_FOLDER: Final = Path(__file__).parent
_TYPES: Final = {"css": "text/css; charset=utf-8", "js": "text/javascript; charset=utf-8", "svg": "image/svg+xml"}
_HEX: Final = 12


@cache
def _files() -> dict[str, tuple[str, bytes]]:
    """Return the static files by the name that pages use."""
    found = {}
    for path in sorted((_FOLDER / "static").iterdir()):
        name, _, kind = path.name.rpartition(".")
        if kind in _TYPES:
            body = path.read_bytes()
            found[path.name] = (f"{name}.{hashlib.sha256(body).hexdigest()[:_HEX]}.{kind}", body)
    return found


def name_of(file: str) -> str:
    """Return the name of a static file with its hash."""
    return _files()[file][0]


def served(name: str) -> Response | None:
    """Return a static file by its name with hash; None where there is none of that name."""
    for hashed, body in _files().values():
        if hashed == name:
            keep = {"cache-control": "public, max-age=31536000, immutable"}
            return Response(body, media_type=_TYPES[name.rpartition(".")[2]], headers=keep)
    return None


@cache
def _environment() -> jinja2.Environment:
    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_FOLDER / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(words.FILTERS)
    return made


def page(template: str, **values: Any) -> str:
    """Return a page as HTML."""
    return _environment().get_template(template).render(asset=name_of, **values)
