"""`otel-telemetry scan`: look through stored rows with the rules and the policy of today, and clean them."""

import re
from collections.abc import Collection, Sequence
from typing import Annotated, Any, Final

import typer
from rich.console import Console

from otel_telemetry.commands import tables
from otel_telemetry.commands.options import AsJson, Database, load, progress
from otel_telemetry.commands.verify import PolicyFile
from otel_telemetry.exporters.request_log.operate.scan import Scan
from otel_telemetry.processors.detect.names.client_names import is_client
from otel_telemetry.processors.ner.text import NerRedactor, ner_of
from otel_telemetry.processors.redact.policy import HASHED_KEYS
from otel_telemetry.processors.redact.redactor import Finding, Redactor

_COLUMNS: Final[tuple[tables.Column, ...]] = (
    ("table", "table", None),
    ("column", "column", None),
    ("type", "type", None),
    ("found", "found", 0),
)
#: Pseudonyms of any key and length, which a key of today need not know.
_PSEUDONYM: Final = re.compile(r"[a-z0-9]{1,16}_[0-9a-f]{12,64}")
_IP_PSEUDONYM: Final = re.compile(r"[0-9a-f]{12,64}")
#: The type of what the policy drops by its name alone.
_UNWANTED: Final = "POLICY"


def scan(
    *,
    fix: Annotated[bool, typer.Option("--fix", help="Rewrite the rows in which something is found.")] = False,
    policy: PolicyFile = None,
    db: Database = None,
    as_json: AsJson = False,
) -> None:
    """Check every text of every table, also inside JSON, with the current rules and policy.

    [bold]Try it:[/] otel-telemetry scan, then otel-telemetry scan --fix

    It lists findings by table, column and type, and never the values. Nothing is changed without --fix, which rewrites
    rows a page at a time beside running writers; you may stop it and start it again. Exit code 0: no findings (left),
    1: findings.

    Afterwards the file is rebuilt, on SQLite, so that no old contents of rows are left in free pages.
    """
    resolved = load(db)
    redaction = resolved.redaction if policy is None else resolved.redaction.model_copy(update={"policy": policy})
    redactor = Redactor(redaction)
    cleaner = RowCleaner(redactor, ner_of(redaction, redactor))
    with Scan(resolved.request_log.url, cleaner, fix=fix) as scanned, progress() as bar:
        task = bar.add_task("scanning", total=scanned.size())
        for table, count in scanned.steps():
            bar.update(task, description=f"scanning {table}", advance=count)
        bar.update(task, description="rebuilding the database" if fix else "scanning", total=None)
        scanned.reclaim()
    rows = [
        {"table": table, "column": column, "type": kind, "found": count}
        for (table, column, kind), count in sorted(scanned.found.items())
    ]
    if as_json:
        tables.as_json(rows)
    else:
        title = f"{'rewritten' if fix else 'found'} in {sum(scanned.rows.values()):,} texts"
        tables.show(tables.table(title, _COLUMNS, rows, tables.window()) if rows else "nothing found")
    _show(scanned, fix=fix)
    raise typer.Exit(1 if scanned.left or (rows and not fix) else 0)


def _show(scanned: Scan, *, fix: bool) -> None:
    console = Console(stderr=True)
    if scanned.found and not fix:
        console.print("[dim]next:[/] otel-telemetry scan --fix")
    if scanned.left:
        console.print(f"{scanned.left:,} keys of rows cannot be rewritten. [dim]next:[/] delete those rows")


class RowCleaner:
    """The redactor as a scan needs it. What looks like a pseudonym in its place is one, under whatever key.

    `ner` looks for names too: in what holds natural language, whatever the rules see in it.
    """

    def __init__(self, redactor: Redactor, ner: NerRedactor | None = None) -> None:
        self._redactor = redactor
        self._ner = ner

    def suspects(self, texts: Sequence[str]) -> Collection[int]:
        """Return the indexes of texts that may change."""
        return range(len(texts)) if self._ner else self._redactor.dirty(texts)

    def clean(self, service: str, name: str, value: Any) -> tuple[str, Any, list[str]]:
        """Return an attribute redacted, and the types of what was found in it."""
        if _is_pseudonym(name, value):
            return name, value, []
        redactor = self._redactor.for_service(service)
        findings: list[Finding] = []
        if not name:
            clean = redactor.value(value, "", findings)
            return name, clean, [finding.type for finding in findings]
        item = redactor.item(name, value, findings)
        # What a call was asked is kept under the names of the conventions without their first part.
        if (
            item is not None
            and self._ner is not None
            and any(self._ner.applies(key, redactor) for key in (name, f"gen_ai.{name}"))
        ):
            item = self._ner.item(item[0], item[1], redactor, findings)
        types = [finding.type for finding in findings]
        return (name, None, types or [_UNWANTED]) if item is None else (*item, types)


def _is_pseudonym(name: str, value: Any) -> bool:
    if not isinstance(value, str):
        return False
    if is_client(name):
        return _IP_PSEUDONYM.fullmatch(value) is not None
    return name in HASHED_KEYS and _PSEUDONYM.fullmatch(value) is not None
