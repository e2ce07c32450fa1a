"""What each part of the package brings along: `make parts` measures it and writes docs/installing.md.

Sizes are of the files in fresh environments made from the wheel with the versions of constraints.txt. Times are CPU
time of a new process less that of one that imports nothing, the median of several in turns, with compiled files there.
"""

import resource
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Final, NamedTuple

from tests.company import environments, pins

DOCS: Final = environments.ROOT / "docs" / "installing.md"
BEGIN, END = "<!-- made by: make parts -->\n", "<!-- end of what make parts made -->"
EXTRAS: Final = ("config", "demo", "redis", "postgres", "kafka", "audit", "ids", "re2", "parquet", "names", "ner")
#: What an app or a command imports, and what else is worth knowing beside it.
IMPORTS: Final = {
    "`opentelemetry.sdk.trace`, for comparison": "import opentelemetry.sdk.trace",
    "`import otel_telemetry`": "import otel_telemetry",
    "redaction alone: `RedactionSpanProcessor()`, ready": (
        "from otel_telemetry.processors.span import RedactionSpanProcessor; RedactionSpanProcessor()"
    ),
    "`otel_telemetry.configure(exporter='request_log')`": (
        "import otel_telemetry; otel_telemetry.configure(exporter='request_log', request_log={'url': 'sqlite://'})"
    ),
    "`otel-telemetry --version`": "from otel_telemetry import cli",
}
_ROUNDS: Final = 5


class Part(NamedTuple):
    """An environment: the number of its packages, and their size in MB."""

    packages: dict[str, float]

    @property
    def size(self) -> float:
        """All of it, in MB."""
        return sum(self.packages.values())


def installed(wheel: Path, extra: str) -> tuple[Part, Path]:
    """Install the wheel with an extra ("" for none); return what came along, and the Python."""
    wanted = f"otel-telemetry{f'[{extra}]' if extra else ''} @ {wheel.as_uri()}"
    python = environments.environment(f"part-{extra or 'base'}", "--constraint", str(pins.CONSTRAINTS), wanted)
    program = (
        "from importlib.metadata import distributions\n"
        "for d in distributions(): print(d.name, sum((p.size or 0) for p in d.files or ()), sep='\\t')"
    )
    printed = subprocess.run([python, "-I", "-c", program], check=True, capture_output=True, text=True).stdout
    found = dict(line.split("\t") for line in printed.splitlines())
    return Part({name: int(size) / 1e6 for name, size in found.items()}), python


def cpu_ms(python: Path, program: str) -> float:
    """Return the CPU time of a process that runs a program, in ms."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([python, "-I", "-c", program], check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime) * 1e3


def imports(python: Path) -> dict[str, float]:
    """Return how long each import takes, in ms of CPU."""
    programs = {"": "pass", **IMPORTS}
    for program in programs.values():  # compiles what is not compiled yet
        cpu_ms(python, program)
    taken = [{name: cpu_ms(python, program) for name, program in programs.items()} for _ in range(_ROUNDS)]
    median = {name: statistics.median(one[name] for one in taken) for name in programs}
    return {name: median[name] - median[""] for name in IMPORTS}


def table() -> str:
    """Measure everything; return it as Markdown."""
    wheel = environments.wheel()
    base, python = installed(wheel, "")
    largest = sorted(base.packages.items(), key=lambda one: -one[1])[:8]
    lines = [f"`pip install otel-telemetry` brings {len(base.packages)} packages, {base.size:.0f} MB (CPython "]
    lines[0] += (
        f"{environments.PYTHON}, Linux). The largest: {', '.join(f'{name} {size:.0f}' for name, size in largest)}."
    )
    lines += ["", "| extra | packages more | MB more |", "|---|---|---|"]
    for extra in EXTRAS:
        part, _ = installed(wheel, extra)
        lines.append(f"| `{extra}` | {len(part.packages) - len(base.packages)} | {part.size - base.size:.0f} |")
    taken = imports(python)
    first = next(iter(taken.values()))
    lines += ["", "| what is imported | ms of CPU | beside the SDK alone |", "|---|---|---|"]
    lines += [f"| {name} | {ms:.0f} | {ms / first:.1f} x |" for name, ms in taken.items()]
    return "\n".join(lines)


def main() -> int:
    """Write the tables into the page."""
    before, _, rest = DOCS.read_text(encoding="utf-8").partition(BEGIN)
    DOCS.write_text(f"{before}{BEGIN}{table()}\n{END}{rest.partition(END)[2]}", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
