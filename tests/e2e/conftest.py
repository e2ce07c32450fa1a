"""One stack for each way to run it, and what the four senders sent through it.

They run for minutes, with programs that have to be built: only `make e2e` runs them.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.backends import postgres
from tests.e2e import sending, stack
from tests.e2e.scenario import LANGUAGES, scenario
from tests.e2e.sending import Sent

HERE = Path(__file__).parent
ASKED = "E2E"
#: Who stands in front, what the rows are written to, and where Jaeger keeps traces.
WAYS = (
    ("collector-first", "sqlite", "memory"),
    ("collector-first", "postgresql", "disk"),
    ("gateway-first", "sqlite", "memory"),
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip everything in this folder unless asked for."""
    if os.environ.get(ASKED, "") in ("", "0"):
        skipped = pytest.mark.skip(reason=f"runs for minutes: make e2e (sets {ASKED}=1)")
        for item in items:
            if item.path.is_relative_to(HERE):
                item.add_marker(skipped)


class Run:
    """A stack, what was sent through it, and the folder where the senders left what they sent."""

    def __init__(
        self, running: stack.Stack, storage: str, sent: dict[str, Sent], alerts: Path, pg_dump: Path | None
    ) -> None:
        self.stack = running
        self.storage = storage
        self.sent = sent
        self.alerts = alerts
        self.pg_dump = pg_dump

    @property
    def planted(self) -> list[str]:
        """Return all values that must be nowhere."""
        return [value for sent in self.sent.values() for value in sent.scenario.planted.values()]

    def dump(self) -> bytes:
        """Return the whole database as text."""
        return self.stack.dump(self.pg_dump)


@pytest.fixture(scope="module", params=WAYS, ids=["-".join(way[:2]) for way in WAYS])
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """A stack through which all four senders have sent."""
    shape, database, storage = request.param
    folder, alerts = tmp_path_factory.mktemp("stack"), tmp_path_factory.mktemp("alerts")
    with ExitStack() as within:
        url, pg_dump = f"sqlite:///{folder / 'gateway' / 'rows.db'}", None
        if database == "postgresql":
            server = within.enter_context(postgres.running())
            url, pg_dump = server.database(), server.bin / "pg_dump"
        running: Any = within.enter_context(stack.running(shape, folder, url, storage))
        sent = {
            language: sending.send(scenario(language), alerts, running.endpoints, running.sender_key)
            for language in LANGUAGES
        }
        yield Run(running, storage, sent, alerts, pg_dump)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(params=LANGUAGES)
def sent(request: pytest.FixtureRequest, run: Run) -> Sent:
    """What one of the senders sent."""
    return run.sent[request.param]
