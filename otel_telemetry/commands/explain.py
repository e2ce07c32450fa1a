"""`otel-telemetry explain`: show what is found in a text, by which rule, and what becomes of it."""

import dataclasses
import json
import sys
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.text import Text

from otel_telemetry.commands.options import AsJson
from otel_telemetry.commands.verify import PolicyFile, redaction_settings
from otel_telemetry.processors.verify.explain import Explanation, NearMiss, Step
from otel_telemetry.processors.verify.explain import explain as explain_text


def explain(
    text: Annotated[str | None, typer.Argument(help="The text; none: stdin.", show_default=False)] = None,
    *,
    key: Annotated[
        str, typer.Option(help="Explain it as the value of this attribute.", metavar="NAME", show_default=False)
    ] = "",
    policy: PolicyFile = None,
    service: Annotated[
        str, typer.Option(help="Use the policy's overrides for this service.", metavar="NAME", show_default=False)
    ] = "",
    as_json: AsJson = False,
) -> None:
    """Show what is found in a text: which rule and validator, at which characters, and what becomes of it and why.

    Nothing is sent or stored. Your own text is printed back to you.

    [bold]Try it:[/] otel-telemetry explain 'mail jane@example.com, card 4111 1111 1111 1112' --key app.note
    """
    given = sys.stdin.read() if text is None else text
    explanation = explain_text(redaction_settings(policy).redaction, given, key, service)
    if as_json:
        sys.stdout.write(json.dumps(dataclasses.asdict(explanation), indent=1) + "\n")
    else:
        _show(explanation, Console())


def _show(explanation: Explanation, console: Console) -> None:
    coloured = Text(explanation.text)
    for step in explanation.steps:
        coloured.stylize("bold red" if step.action not in ("keep", "none") else "yellow", step.start, step.end)
    console.print(coloured, soft_wrap=True)
    if explanation.key:
        console.print(f"[dim]its name says:[/] {escape(explanation.key)}", soft_wrap=True)
    for step in explanation.steps:
        console.print(_step(step), soft_wrap=True)
    if not explanation.steps:
        console.print("[dim]no rule finds anything in it[/]")
    for miss in explanation.near_misses:
        console.print(_miss(miss), soft_wrap=True)
    came_out = "dropped" if explanation.result is None else explanation.result
    console.print(Text.assemble(("becomes: ", "dim"), (came_out, "green")), soft_wrap=True)
    names = f", names: {explanation.ner}" if explanation.ner else ""
    made_by = f"policy: {explanation.policy}, engine: {explanation.engine}{names}"
    console.print(f"[dim]{escape(made_by)}[/]", soft_wrap=True)


def _step(step: Step) -> Text:
    by = f"rule {step.rule}" + (f", validator {step.validator}" if step.validator else "")
    return Text.assemble(
        (f"{step.start}-{step.end} ", "dim"),
        (step.text, "bold"),
        f"\n  {step.type}, found by {by}" + (f" ({step.docs})" if step.docs else ""),
        f"\n  {step.action}, by {step.entry}: ",
        (step.became, "green"),
    )


def _miss(miss: NearMiss) -> Text:
    what = (
        f"{miss.start}-{miss.end} {miss.text!r}: rule {miss.rule} matched, but its validator {miss.validator} refused"
    )
    return Text(what, style="dim")
