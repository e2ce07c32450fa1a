"""The long description: the README with links that lead somewhere from an index. All else is in pyproject.toml."""

import re
from pathlib import Path

from setuptools import setup

REPOSITORY = "https://github.com/otel-telemetry/otel-telemetry/blob/main/"


def long_description(readme: str) -> str:
    """Return the README with absolute links."""
    return re.sub(r"\]\((?!https?:|#|mailto:)(?:\./)?([^)\s]+)\)", rf"]({REPOSITORY}\1)", readme)


setup(
    long_description=long_description((Path(__file__).parent / "README.md").read_text(encoding="utf-8")),
    long_description_content_type="text/markdown",
)
