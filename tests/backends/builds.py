"""Builds what no package has, once: the Collector, Jaeger and VictoriaLogs from Go modules, Kafka from Maven's.

Each recipe is a folder of manifests and the commands to run in a copy of it. What comes out stays outside the
repository, in $XDG_CACHE_HOME/otel-telemetry/built/NAME-DIGEST, for as long as neither manifests nor commands change.
`python -m tests.backends.builds` builds all of them, or those that it is given by name, with progress; tests only look,
and skip what is not there.
"""

import fcntl
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.backends import programs

GO = Path(__file__).parent / "go"
#: The Collector's builder, of the version of the parts that it puts together.
OCB = "go.opentelemetry.io/collector/cmd/builder@v0.165.0"
#: For go/collector: the version whose image docker-compose.yml runs.
IMAGE_OCB = "go.opentelemetry.io/collector/cmd/builder@v0.161.0"
#: For go/loki_collector.
OLDER_OCB = "go.opentelemetry.io/collector/cmd/builder@v0.111.0"
_LOG_EVERY = 15.0
_LAST_LINES = 25


class BuildFailed(Exception):
    """A thing that could not be built, and what is to be done."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """How one thing is built: `commands` in a copy of the folder `source` leave `product` there."""

    name: str
    source: Path
    commands: tuple[tuple[str, ...], ...]
    product: str
    needs: str
    #: Folders that are copied beside the source's files, each under its own name.
    beside: tuple[Path, ...] = ()

    def files(self) -> dict[Path, Path]:
        """Return what is copied: each file, by its path in the work folder."""
        found = {file.relative_to(self.source): file for file in _files(self.source)}
        return found | {file.relative_to(one.parent): file for one in self.beside for file in _files(one)}

    def digest(self) -> str:
        """Return what names this version of it: the manifests, the commands, the machine."""
        hashed = hashlib.sha256(repr((self.commands, sys.platform, platform.machine())).encode())
        for path, file in self.files().items():
            hashed.update(f"{path}\0".encode() + file.read_bytes() + b"\0")
        return hashed.hexdigest()[:16]

    def folder(self) -> Path:
        """Return where it is, or would be."""
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        return Path(base) / "otel-telemetry" / "built" / f"{self.name}-{self.digest()}"


def _program(name: str, package: str, needs: str) -> Recipe:
    """Return how a program is built of one Go package, which the module in the folder of its name pins."""
    return Recipe(name, GO / name, (("go", "build", "-v", "-trimpath", "-o", name, package),), name, needs)


COLLECTOR = Recipe(
    "otelcol", GO / "collector", (("go", "run", IMAGE_OCB, "--config=builder.yaml"),), "built/otelcol", "Go 1.25"
)
_COMMANDS = (("go", "run", OCB, "--config=builder.yaml"),)
#: With Kafka's receiver and exporter, for tests of topics.
KAFKA_COLLECTOR = Recipe("otelcol-kafka", GO / "kafka_collector", _COMMANDS, "built/otelcol-kafka", "Go 1.25")
#: With ClickHouse's exporter, for the file of deploy/collector/ that has it.
CLICKHOUSE_COLLECTOR = Recipe(
    "otelcol-clickhouse", GO / "clickhouse_collector", _COMMANDS, "built/otelcol-clickhouse", "Go 1.25"
)
#: With the Loki receiver of contrib, for tests of the push API.
LOKI_COLLECTOR = Recipe(
    "otelcol-loki",
    GO / "loki_collector",
    (("go", "run", OLDER_OCB, "--config=builder.yaml"),),
    "built/otelcol-loki",
    "Go 1.26, and a Go proxy that serves lokireceiver v0.111.0",
)
#: The processor, exporter and check of collector/, as a user builds them.
COMPONENTS = Path(__file__).parents[2] / "collector"
REDACTING_COLLECTOR = Recipe("otelcol-redact", COMPONENTS, _COMMANDS, "built/otelcol-redact", "Go 1.26")
#: Measured by benchmarks/collector.py, and built by nothing else.
BENCH_COLLECTOR = Recipe(
    "otelcol-bench",
    GO / "bench_collector",
    _COMMANDS,
    "built/otelcol-bench",
    "Go 1.26",
    beside=(COMPONENTS,),
)
JAEGER = _program("jaeger", "github.com/jaegertracing/jaeger/cmd/jaeger", "Go 1.25")
VICTORIALOGS = Recipe(
    "victoria-logs",
    GO / "victorialogs",
    (
        (
            "go", "build", "-v", "-trimpath", "-o", "victoria-logs",
            "github.com/VictoriaMetrics/VictoriaLogs/app/victoria-logs",
        ),
    ),
    "victoria-logs",
    "Go 1.26.5",
)  # fmt: skip
#: For tests of deploy/helm.
HELM = _program("helm", "helm.sh/helm/v4/cmd/helm", "Go 1.26")
#: For tests of the gRPC listener.
H2SPEC = _program("h2spec", "github.com/summerwind/h2spec/cmd/h2spec", "Go 1.26")
#: Asks registries for digests: tests/company/digests.py.
CRANE = _program("crane", "github.com/google/go-containerregistry/cmd/crane", "Go 1.26")
#: Checks .github/workflows.
ACTIONLINT = _program("actionlint", "github.com/rhysd/actionlint/cmd/actionlint", "Go 1.26")
#: Apache Kafka, which is run by Java 17 or newer (kafka_broker.py): what Maven fetches of it.
KAFKA = Recipe(
    "kafka",
    Path(__file__).parent / "maven" / "kafka",
    (("mvn", "-B", "-ntp", "dependency:copy-dependencies", "-DoutputDirectory=libs"),),
    "libs",
    "Maven and Java 17 (Debian: apt-get install default-jre-headless maven)",
)
BACKENDS = (
    COLLECTOR, REDACTING_COLLECTOR, JAEGER, VICTORIALOGS, HELM, H2SPEC, CRANE, ACTIONLINT,
    CLICKHOUSE_COLLECTOR, KAFKA, KAFKA_COLLECTOR, LOKI_COLLECTOR,
)  # fmt: skip


def built(recipe: Recipe, how: str = "python -m tests.backends.builds") -> Path:
    """Return what the recipe built; skip the test that asks if it is not there."""
    product = recipe.folder() / recipe.product
    if not product.exists():
        programs.absent(f"{recipe.name} is not built ({how})", programs.REQUIRE_BUILT)
    return product


def build(recipe: Recipe) -> Path:
    """Return what the recipe builds, after building it if it was not there; or raise BuildFailed."""
    folder = recipe.folder()
    with _alone(folder):
        if not (folder / recipe.product).exists():
            _say(f"{recipe.name}: building (log: {folder}.log)")
            started = time.monotonic()
            _build(recipe, folder)
            _say(f"{recipe.name}: built in {time.monotonic() - started:.0f} s")
    return folder / recipe.product


def _build(recipe: Recipe, folder: Path) -> None:
    missing = sorted({command[0] for command in recipe.commands if shutil.which(command[0]) is None})
    if missing:
        raise BuildFailed(f"{recipe.name} needs {recipe.needs}: {', '.join(missing)} is not on PATH. Install it first.")
    work = Path(tempfile.mkdtemp(prefix=f"{recipe.name}-", dir=folder.parent))
    try:
        for path, file in recipe.files().items():
            target = work / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(file.read_bytes())
        for command in recipe.commands:
            _run(recipe, command, work, Path(f"{folder}.log"))
        if not (work / recipe.product).exists():
            raise BuildFailed(f"{recipe.name}: the build said nothing of an error, but left no {recipe.product}")
        work.chmod(0o755)
        work.rename(folder)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _run(recipe: Recipe, command: Sequence[str], work: Path, log: Path) -> None:
    """Run one command, say now and then how far it is."""
    with log.open("wb") as out:
        process = subprocess.Popen(command, cwd=work, stdout=out, stderr=out, stdin=subprocess.DEVNULL)
    started = time.monotonic()
    logged = started
    while process.poll() is None:
        time.sleep(0.2)
        if time.monotonic() - logged > _LOG_EVERY:
            logged = time.monotonic()
            lines = log.read_text(errors="replace").splitlines()
            _say(
                f"{recipe.name}: {logged - started:.0f} s, {len(lines)} steps, now {lines[-1][:70] if lines else '...'}"
            )
    if process.returncode != 0:
        tail = "\n  ".join(log.read_text(errors="replace").splitlines()[-_LAST_LINES:])
        raise BuildFailed(f"{recipe.name} could not be built (needs {recipe.needs}): {' '.join(command)}\n  {tail}")


def _files(folder: Path) -> list[Path]:
    """Return the sources: nothing that tools leave beside them, and nothing that no build reads."""
    left_out = {"node_modules", "target", "built"}
    return sorted(p for p in folder.rglob("*") if p.is_file() and not left_out & set(p.parts) and not _is_aside(p))


def _is_aside(file: Path) -> bool:
    return file.suffix == ".md" or file.name == ".gitignore" or file.name.endswith("_test.go")


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Let one process at a time build a thing."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with Path(f"{folder}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def build_all(recipes: Iterable[Recipe]) -> int:
    """Build all that can be built; say of the others why not; return an exit code."""
    failures = []
    for recipe in recipes:
        try:
            build(recipe)
        except BuildFailed as error:
            failures.append(str(error))
    for failure in failures:
        _say(f"\nNot built: {failure}")
    return 1 if failures else 0


if __name__ == "__main__":
    wanted = sys.argv[1:]
    sys.exit(build_all(one for one in BACKENDS if not wanted or one.name in wanted))
