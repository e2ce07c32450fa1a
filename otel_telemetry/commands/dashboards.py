"""`otel-telemetry dashboards`: the Grafana dashboard and the Prometheus alert rules, as files."""

from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console
from rich.markup import escape

import otel_telemetry
from otel_telemetry.base.errors import ConfigurationError

_FILES: Final = (
    "grafana/provisioning/dashboards/otel-telemetry.json",
    "prometheus/rules/alerts.yml",
    "prometheus/tests/alerts_test.yml",
)
_out = Console()


def dashboards(
    *,
    out: Annotated[Path, typer.Option(help="Folder to write them to.", metavar="DIR")] = Path(),
    force: Annotated[bool, typer.Option("--force", help="Write over files that are others.")] = False,
) -> None:
    """Write the Grafana dashboard, the alert rules of Prometheus, and the examples that promtool tests them with.

    [bold]Try it:[/] otel-telemetry dashboards --out monitoring, then promtool check rules monitoring/alerts.yml
    """
    texts = dict(_texts(_source()))
    for name, text in texts.items():
        _refuse_another(out / name, text, force=force)
    try:
        out.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            (out / name).write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigurationError("--out", f"{error.filename}: {error.strerror}", "name another folder") from None
    for name in texts:
        _out.print(escape(str(out / name)), soft_wrap=True, highlight=False)


def _texts(source: Path) -> list[tuple[str, str]]:
    """Return the files' names and texts; here they stand in one folder."""
    texts = [(Path(name).name, (source / name).read_text(encoding="utf-8")) for name in _FILES]
    return [(name, text.replace("[../rules/alerts.yml]", "[alerts.yml]")) for name, text in texts]


def _source() -> Path:
    """Return the folder of the files: in a wheel inside the package, in a clone beside it."""
    package = Path(otel_telemetry.__file__).parent
    for folder in (package / "deploy", package.parent / "deploy"):
        if (folder / _FILES[0]).is_file():
            return folder
    raise ConfigurationError("dashboards", "the files are not part of this installation", "take them from a clone")


def _refuse_another(file: Path, text: str, *, force: bool) -> None:
    if not force and file.is_file() and file.read_text(encoding="utf-8", errors="replace") != text:
        raise ConfigurationError("--out", f"{file} is there and is another one", "--force writes over it")
