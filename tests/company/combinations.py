"""Our layer for model calls beside every other instrumentation of them: exactly one row a call.

Each neighbour gets an environment of its own with all libraries; `one_call.py` runs there, makes calls to a model
server of its own, and prints what was served and what the rows say.
"""

import json
import os
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from tests.company import environments

DOCS = environments.ROOT / "docs" / "dialects.md"
BEGIN, END = "<!-- made by: make matrix -->\n", "<!-- end of what make matrix made -->"
PROGRAM = Path(__file__).parent / "one_call.py"

LIBRARIES = ("openai", "anthropic", "langchain", "llama_index")
_COMMON = ("openai", "anthropic", "langchain", "langchain-openai", "llama-index-core", "llama-index-llms-openai")
_OPENINFERENCE = tuple(
    f"openinference-instrumentation-{name}" for name in ("openai", "anthropic", "langchain", "llama-index")
)
#: Each neighbour, the packages that it is made of, and the libraries that it sees.
NEIGHBOURS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "nobody": ((), LIBRARIES),
    "openinference": (_OPENINFERENCE, LIBRARIES),
    "openllmetry": (
        tuple(f"opentelemetry-instrumentation-{name}" for name in ("openai", "anthropic", "langchain", "llamaindex")),
        LIBRARIES,
    ),
    "traceloop": (("traceloop-sdk",), LIBRARIES),
    "openlit": (("openlit",), LIBRARIES),
    "langfuse": (("langfuse",), ("openai", "langchain")),
    "langsmith": (("langsmith[otel]",), ("openai", "langchain")),
    "logfire": (("logfire",), ("openai", "anthropic")),
    "mlflow": (("mlflow",), LIBRARIES),
    "phoenix": (("arize-phoenix-otel", *_OPENINFERENCE), LIBRARIES),
    "genai": (
        ("opentelemetry-instrumentation-genai-openai", "opentelemetry-instrumentation-genai-anthropic"),
        ("openai", "anthropic"),
    ),
}


class Outcome(NamedTuple):
    """What one combination gave: calls that were served, rows, the versions of what was used, or why it did not run.

    `flushed` is False where the rows were not all written within the time that the app gave for it.
    """

    served: int
    rows: int
    requests: int
    tokens: bool
    versions: dict[str, str]
    failed: str = ""
    flushed: bool = True

    @property
    def is_right(self) -> bool:
        """Tell that each call has one row with the counts that were served, and all are of one request."""
        return not self.failed and self.served == self.rows > 0 and self.requests == 1 and self.tokens


def environment(neighbour: str) -> Path:
    """Return the Python of a neighbour's environment."""
    packages, _ = NEIGHBOURS[neighbour]
    given = (*_COMMON, *packages, "--prerelease", "if-necessary-or-explicit", "--editable", str(environments.ROOT))
    return environments.environment(f"beside-{neighbour}", *given)


def run(neighbour: str, library: str, order: str, folder: Path) -> Outcome:
    """Run one combination in a folder of its own."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "PYTHONPATH"))}
    command = [str(environment(neighbour)), str(PROGRAM), neighbour, library, order]
    done = subprocess.run(command, cwd=folder, env=inherited, capture_output=True, text=True, timeout=240, check=False)
    answers = [line for line in done.stdout.splitlines() if line.startswith('{"served"')]
    if not answers:
        return Outcome(0, 0, 0, False, {}, (done.stderr or done.stdout)[-1500:])
    return Outcome(**json.loads(answers[-1]))


def table(found: dict[tuple[str, str], Outcome]) -> str:
    """Return the combinations as Markdown: rows for calls that were served."""
    day = f"{datetime.now(UTC):%Y-%m-%d}"
    lines = [f"Rows for calls served, on {day}:", "", f"| beside | versions | {' | '.join(LIBRARIES)} |"]
    lines.append(f"|---|---|{'---|' * len(LIBRARIES)}")
    for neighbour in NEIGHBOURS:
        cells = [_cell(found.get((neighbour, library))) for library in LIBRARIES]
        versions: dict[str, str] = {}
        for library in LIBRARIES:
            if outcome := found.get((neighbour, library)):
                versions.update(outcome.versions)
        shown = ", ".join(f"{name} {version}" for name, version in sorted(versions.items()))
        lines.append(f"| {neighbour} | {shown} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(outcome: Outcome | None) -> str:
    if outcome is None:
        return "-"
    return "did not run" if outcome.failed else f"{outcome.rows} of {outcome.served}"


def write(found: dict[tuple[str, str], Any]) -> None:
    """Put the table into the docs."""
    before, _, rest = DOCS.read_text(encoding="utf-8").partition(BEGIN)
    DOCS.write_text(f"{before}{BEGIN}{table(found)}\n{END}{rest.partition(END)[2]}", encoding="utf-8")


def asked(neighbours: Sequence[str] = tuple(NEIGHBOURS)) -> list[tuple[str, str]]:
    """Return the combinations."""
    return [(neighbour, library) for neighbour in neighbours for library in NEIGHBOURS[neighbour][1]]
