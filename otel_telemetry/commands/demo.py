"""`otel-telemetry demo`: a chat app, a model server and the gateway, run end to end, and what came of it."""

import sys
from importlib import import_module, util
from pathlib import Path
from typing import Annotated, Final

import typer

from otel_telemetry.base.errors import ConfigurationError

#: Where the demo is: in a wheel, and in a clone.
_PACKAGES: Final = ("otel_telemetry.chat_app", "examples.chat_app")
_NEEDED: Final = ("fastapi", "httpx")


def demo(
    *,
    output: Annotated[Path, typer.Option(help="Folder for all that is written.", metavar="DIR")] = Path("demo-output"),
    seed: Annotated[int | None, typer.Option(help="Repeat a run's planted values.", show_default=False)] = None,
    keep: Annotated[
        bool, typer.Option("--keep", help="Then leave the gateway running with its page, until Ctrl-C.")
    ] = False,
) -> None:
    """Run a chat app against a model server of its own, and hold the rows that come of it against the truth.

    Personal data is planted in what it sends, and looked for in all that is written. Needs no network and no keys.
    Exits with 1 where a promise did not hold.

    [bold]Try it:[/] otel-telemetry demo --keep
    """
    missing = [name for name in _NEEDED if util.find_spec(name) is None]
    if missing:
        problem = f"{' and '.join(missing)} must be installed"
        raise ConfigurationError("demo", problem, "pip install 'otel-telemetry[demo]'")
    arguments = ["--output", str(output), *(["--seed", str(seed)] if seed is not None else [])]
    run = import_module(f"{_package()}.demo.__main__").main
    sys.exit(run([*arguments, *(["--keep"] if keep else [])]))


def _package() -> str:
    for name in _PACKAGES:
        try:
            if util.find_spec(f"{name}.demo"):
                return name
        except ModuleNotFoundError:
            continue
    raise ConfigurationError("demo", "it is not part of this installation", "run it from a clone, or from a wheel")
