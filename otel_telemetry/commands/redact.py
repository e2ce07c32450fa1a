"""`otel-telemetry redact`: clean text of any kind, from stdin or files, with the rules and the policy in force."""

import os
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from otel_telemetry.base.errors import ConfigurationError
from otel_telemetry.commands.verify import PolicyFile, redaction_settings
from otel_telemetry.processors.ner.text import ner_of
from otel_telemetry.processors.redact.redactor import Redactor
from otel_telemetry.processors.streams import Tally, redact_stream

_CHUNK = 1 << 18
_err = Console(stderr=True)
Advance = Callable[[int], None]


def redact(
    files: Annotated[
        list[Path] | None, typer.Argument(help="Files to read; none: stdin.", metavar="FILES", show_default=False)
    ] = None,
    *,
    output: Annotated[
        Path | None,
        typer.Option(help="Write each file under its name into this folder.", metavar="DIR", show_default=False),
    ] = None,
    in_place: Annotated[
        bool, typer.Option("--in-place", help="Replace the files; clean ones are not touched.")
    ] = False,
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; exit with 1 where something is found.")
    ] = False,
    summary: Annotated[
        bool, typer.Option("--summary", help="Print on stderr what was found, by type and rule.")
    ] = False,
    policy: PolicyFile = None,
    service: Annotated[
        str | None,
        typer.Option(help="Use the policy's overrides for this service.", metavar="NAME", show_default=False),
    ] = None,
) -> None:
    """Take personal data and secrets out of text: logs, dumps, JSON lines.

    Reads stdin or files of any size, line ends and encodings as they are, and writes to stdout, --output or --in-place.
    Lines of JSON stay JSON. What was redacted before is left alone.

    [bold]Try it:[/] echo 'jane@example.com paid with 4111 1111 1111 1111' | otel-telemetry redact --summary
    """
    paths = _checked(files or [], output, in_place=in_place)
    redaction = redaction_settings(policy).redaction
    redactor = Redactor(redaction).for_service(service or "")
    ner = ner_of(redaction, redactor)
    tally = Tally()
    with _progress(paths, show=bool(output or in_place or check)) as advance:
        for path in paths or (None,):
            pieces = redact_stream(redactor, _read(path, advance), tally, ner)
            _write(pieces, path, output, in_place=in_place, check=check)
    if summary or check:
        _show(tally)
    raise typer.Exit(1 if check and tally.found else 0)


def _checked(paths: list[Path], output: Path | None, *, in_place: bool) -> list[Path]:
    """Refuse what cannot be done before anything is done."""
    if (output or in_place) and not paths:
        hint = "name files, or leave out --output and --in-place"
        raise ConfigurationError("redact", "there are no files to write", hint)
    if output and in_place:
        raise ConfigurationError("redact", "--output and --in-place exclude each other", "use one of them")
    for path in paths:
        if not path.is_file():
            hint = "name files; `find DIR -type f` lists those of a folder"
            raise ConfigurationError(str(path), "is no file that can be read", hint)
    twice = [name for name, number in Counter(path.name for path in paths).items() if number > 1]
    if output and twice:
        raise ConfigurationError("--output", f"several files are called {twice[0]}", "redact them one folder at a time")
    return paths


def _read(path: Path | None, advance: Advance) -> Iterator[bytes]:
    with nullcontext(sys.stdin.buffer) if path is None else path.open("rb") as source:
        while block := source.read(_CHUNK):
            yield block
            advance(len(block))


def _write(pieces: Iterable[bytes], path: Path | None, output: Path | None, *, in_place: bool, check: bool) -> None:
    if check:
        for _ in pieces:
            pass
    elif path is not None and (output or in_place):
        _replace(pieces, path, path if output is None else output / path.name)
    else:
        for piece in pieces:
            sys.stdout.buffer.write(piece)
        sys.stdout.buffer.flush()


def _replace(pieces: Iterable[bytes], source: Path, target: Path) -> None:
    """Write beside the target and move it there when it is whole: no reader ever sees half a file."""
    target.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with os.fdopen(descriptor, "wb") as beside:
            beside.writelines(pieces)
        Path(name).chmod(source.stat().st_mode & 0o7777)
        if target != source or not _same(Path(name), source):
            Path(name).replace(target)
    finally:
        Path(name).unlink(missing_ok=True)


def _same(one: Path, other: Path) -> bool:
    if one.stat().st_size != other.stat().st_size:
        return False
    with one.open("rb") as left, other.open("rb") as right:
        return all(a == right.read(_CHUNK) for a in iter(lambda: left.read(_CHUNK), b""))


def _progress(paths: list[Path], *, show: bool) -> AbstractContextManager[Advance]:
    """Show how far it is, on a terminal that the redacted text does not go to."""
    if not _err.is_terminal or (sys.stdout.isatty() and not show):
        return nullcontext(lambda _: None)
    return _Bar(sum(path.stat().st_size for path in paths) if paths else None)


class _Bar(AbstractContextManager[Advance]):
    """A progress bar on stderr; without a known size it only counts."""

    def __init__(self, total: int | None) -> None:
        columns: list[Any] = [TextColumn("redacting"), BarColumn(), DownloadColumn(), TimeRemainingColumn()]
        self._bar = Progress(*columns, console=_err, transient=True)
        self._total = total

    def __enter__(self) -> Advance:
        self._bar.start()
        task = self._bar.add_task("", total=self._total)
        return lambda number: self._bar.advance(task, number)

    def __exit__(self, *_: object) -> None:
        self._bar.stop()


def _show(tally: Tally) -> None:
    """Print the findings by type and rule on stderr, most frequent first. Never what was found."""
    table = Table("type", "rule", "found", "characters", row_styles=["", "dim"])
    for (type_, rule), found in tally.found.most_common():
        table.add_row(type_, rule, str(found), str(tally.characters[type_, rule]))
    _err.print(table if tally.found else "nothing found")
