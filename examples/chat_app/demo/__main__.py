"""`python -m examples.chat_app.demo`: run the demo, print what came of it, and exit 0 only if every promise held."""

import argparse
import os
import random
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Final

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from . import checks, show, traffic
from .checks import Check
from .found import Found
from .planted import Garden
from .processes import DemoError
from .run import Run, own_folder

_BROKEN: Final = 1
_COULD_NOT_RUN: Final = 2
_INTERRUPTED: Final = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo and return its exit code."""
    parser = argparse.ArgumentParser(prog="otel-telemetry demo", description="A real run, end to end.")
    parser.add_argument("--output", type=Path, default=Path("demo-output"), help="folder for all that is written")
    parser.add_argument("--seed", type=int, default=random.randrange(10**6), help="repeat a run's planted values")  # noqa: S311
    parser.add_argument("--names", action="store_true", help="plant names and addresses too, and look for them")
    parser.add_argument(
        "--keep", action="store_true", help="then leave the gateway running with its page, until Ctrl-C"
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a setting of the gateway, like request_log.url=postgresql://...",
    )
    given = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, _interrupt)
    os.environ.update(NO_PROXY="127.0.0.1", no_proxy="127.0.0.1")  # everything is on loopback, whatever the shell says
    out = show.console()
    began = time.monotonic()
    garden = Garden(given.seed)
    settings = dict(each.split("=", 1) for each in given.set)
    cases = traffic.cases(garden, names=given.names)
    run = Run(given.output.resolve(), garden, cases, names=given.names, settings=settings)
    try:
        with own_folder(run.folder):
            found = _go(run, out)
            code = _report(run, found, out, time.monotonic() - began)
            return _keep_running(run, out) or code if given.keep else code
    except DemoError as error:
        out.print(f"[bold red]the demo could not run[/]: {escape(str(error))}", soft_wrap=True)
        if error.hint:
            out.print(f"[dim]next:[/] {escape(error.hint)}", soft_wrap=True)
        return _COULD_NOT_RUN
    except KeyboardInterrupt:
        out.print("stopped; nothing is left running")
        return _INTERRUPTED


def _keep_running(run: Run, out: Console) -> int:
    """Run the gateway again, with its page, until it is stopped; return its exit code."""
    with run.again() as (gateway, address):
        out.print(f"\nthe page is at [bold]{address}[/] (Ctrl-C stops it)", soft_wrap=True, highlight=False)
        try:
            return gateway.process.wait()
        except KeyboardInterrupt:
            return 0


def _interrupt(number: int, frame: FrameType | None) -> None:
    del number, frame
    raise KeyboardInterrupt


def _go(run: Run, out: Console) -> Found:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=out, transient=True) as progress:
        task = progress.add_task("", total=len(run.wanted))
        return run.go(lambda text: progress.update(task, description=text), lambda: progress.advance(task))


def _report(run: Run, found: Found, out: Console, seconds: float) -> int:
    for table in (
        show.request_table(found.requests, out.width),
        show.route_table(run.store.read, out.width),
        show.redaction_table(found),
    ):
        out.print(table)
        out.print()
    done = [
        *checks.answers(run.sent),
        *checks.rows(run.sent, found),
        *checks.calls(run.sent, found),
        *checks.times(found),
        *checks.costs(found),
        *checks.people(run.sent, found, run.secret),
        *checks.others(found),
        *checks.privacy(found, run.garden.planted, run.folder),
        *checks.losses(found, run.health),
    ]
    show.print_checks(out, done)
    show.print_next(out, run.store)
    return _verdict(done, run, out, seconds)


def _verdict(done: list[Check], run: Run, out: Console, seconds: float) -> int:
    broken = sum(not check.held for check in done)
    if broken:
        out.print(f"\n[bold red]{broken} of {len(done)} promises did not hold[/]")
        return _BROKEN
    out.print(f"\n[bold green]all {len(done)} promises held[/], {len(run.sent)} requests, {seconds:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
