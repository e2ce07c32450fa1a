"""Which popular packages can be installed beside the wheel at their newest versions: `make matrix` prints the table.

Each neighbour is asked for at its newest version or above. Without that, the resolver does not fail where versions
exclude each other: it silently takes a version of the neighbour that is years old.
"""

import re
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from tests.company import environments

DOCS = environments.ROOT / "docs" / "neighbours.md"
BEGIN, END = "<!-- made by: make matrix -->\n", "<!-- end of what make matrix made -->"

#: The name that is looked up, and what is asked for beside it: extras, or packages of the same family.
NEIGHBOURS = """
opentelemetry-distro
opentelemetry-instrumentation-flask
opentelemetry-instrumentation-django
opentelemetry-instrumentation-celery
opentelemetry-instrumentation-aiohttp-client
opentelemetry-instrumentation-genai-openai
azure-monitor-opentelemetry
ddtrace
sentry-sdk
logfire
langfuse
traceloop-sdk
openlit
openinference-instrumentation-openai
openinference-instrumentation-langchain
arize-phoenix
mlflow
langchain
langgraph
llama-index
crewai
instructor
autogen-agentchat
autogen-core
google-adk
strands-agents
semantic-kernel
haystack-ai
dspy
pydantic-ai
openai-agents
smolagents
litellm[proxy]
ray
vllm
dagster
prefect
apache-airflow
""".split()  # noqa: SIM905  # one a line reads best


class Outcome(NamedTuple):
    """A neighbour, its newest version, and why it cannot be installed beside us ("" where it can)."""

    name: str
    version: str
    why: str


def judge(name: str, wheel: Path) -> Outcome:
    """Resolve the wheel beside the newest version of one neighbour."""
    newest = _pins(environments.resolve([name], "--no-deps").stdout).get(_base(name), "")
    print(f"{name}: {newest}", file=sys.stderr, flush=True)  # noqa: T201
    asked = f"{name}>={newest}"
    together = environments.resolve([f"otel-telemetry @ {wheel.as_uri()}", asked])
    if together.returncode == 0:
        return Outcome(name, newest, "")
    alone = environments.resolve([asked])
    if alone.returncode:
        return Outcome(name, newest, f"not even alone: {_reason(alone.stderr)}")
    return Outcome(name, newest, _reason(together.stderr))


def _base(name: str) -> str:
    return name.partition("[")[0]


def _pins(resolved: str) -> dict[str, str]:
    return dict(re.findall(r"^([\w.-]+)==(\S+)", resolved, re.MULTILINE))


def _reason(explanation: str) -> str:
    """Return the resolver's explanation in one line."""
    text = " ".join(re.sub(r"[^\x00-\x7f]", " ", explanation).split())
    text = re.sub(r"otel-telemetry @ \S+", "otel-telemetry", text)
    because = text.partition("Because ")[2] or text
    return because[:300].rstrip(" ,.")


def table(outcomes: list[Outcome]) -> str:
    """Return the outcomes as Markdown."""
    lines = ["| neighbour | newest version | beside otel-telemetry |", "|---|---|---|"]
    lines += [f"| {each.name} | {each.version or '-'} | {each.why or 'yes'} |" for each in outcomes]
    return "\n".join(lines)


def main() -> int:
    """Print the table, put it into the docs, and name each neighbour that cannot be installed beside us."""
    wheel = environments.wheel()
    with ThreadPoolExecutor(2) as pool:
        outcomes = list(pool.map(lambda name: judge(name, wheel), NEIGHBOURS))
    made = table(outcomes)
    before, _, rest = DOCS.read_text(encoding="utf-8").partition(BEGIN)
    DOCS.write_text(f"{before}{BEGIN}{made}\n{END}{rest.partition(END)[2]}", encoding="utf-8")
    refused = [each for each in outcomes if each.why]
    print(made)  # noqa: T201
    print(f"\n{len(outcomes) - len(refused)} of {len(outcomes)} can be installed beside us")  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())
