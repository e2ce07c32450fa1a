"""`otel-telemetry settings`: every setting with its default, its variable and what it does."""

import sys
from typing import Annotated, Any

import typer
from pydantic_core import PydanticUndefined
from rich.console import Console
from rich.markup import escape
from rich.padding import Padding

from otel_telemetry import settings as settings_module
from otel_telemetry.commands import tables
from otel_telemetry.commands.options import AsJson

_out = Console()


def show_settings(
    *,
    as_json: AsJson = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print docs/settings.md.")] = False,
) -> None:
    """List every setting with its default, its variable and what it does."""
    if markdown:
        sys.stdout.write(settings_markdown())
        return
    if as_json:
        tables.as_json([_as_row(name, info) for name, info in settings_module.describe()])
        return
    for name, info in settings_module.describe():
        _out.print(f"[bold]{name}[/] = {escape(_default(info))}", soft_wrap=True)
        _out.print(f"  [dim]{settings_module.variable(name)}[/]", soft_wrap=True)
        _out.print(Padding(escape(info.description), (0, 0, 1, 2)))


def settings_markdown() -> str:
    """Return docs/settings.md; a test holds the file against this."""
    lines = [
        "# Settings",
        "",
        "Argument over environment over file (`otel-telemetry.toml`, or the one that `OTEL_TELEMETRY_FILE` names)",
        "over default. Unknown keys stop start-up. Made by `otel-telemetry settings --markdown`.",
        "",
        "| setting | variable | default | what it does |",
        "|---|---|---|---|",
    ]
    for name, info in settings_module.describe():
        lines.append(f"| `{name}` | `{settings_module.variable(name)}` | `{_default(info)}` | {info.description} |")
    return "\n".join(lines) + "\n"


def _as_row(name: str, info: Any) -> dict[str, Any]:
    variable = settings_module.variable(name)
    return {"setting": name, "variable": variable, "default": _default(info), "description": info.description}


def _default(info: Any) -> str:
    if info.default is None or info.default is PydanticUndefined:
        return "none"
    return "none" if info.default == () else str(info.default)
