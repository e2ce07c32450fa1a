"""For mkdocs: links that lead out of docs/ lead to the repository, where those files are shown."""

import re
from pathlib import Path
from typing import Any, Final

REPOSITORY: Final = "https://github.com/otel-telemetry/otel-telemetry/blob/main/"
_OUTSIDE: Final = re.compile(r"\]\(\.\./(?!\.\.)([^)\s#]+)(#[^)\s]*)?\)")
_ROOT: Final = Path(__file__).parent.parent


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Return a page with its links to files beside docs/ made absolute; one that is not there is an error."""
    return _OUTSIDE.sub(_absolute, markdown)


def _absolute(link: re.Match[str]) -> str:
    if not (_ROOT / link[1]).exists():
        raise FileNotFoundError(f"a page links to ../{link[1]}, which is not there")
    return f"]({REPOSITORY}{link[1]}{link[2] or ''})"
