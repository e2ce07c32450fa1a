"""Fixtures of the fault tests."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.faults.gateway_process import GatewayProcess


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Callable[..., GatewayProcess]]:
    """Return `gateway(*options, ...)`, which starts one in this test's folder."""
    with ExitStack() as stack:
        yield lambda *options, **settings: stack.enter_context(_make(tmp_path, *options, **settings))


def _make(folder: Path, *options: str, **settings: Any) -> GatewayProcess:
    return GatewayProcess(settings.pop("folder", folder), *options, **settings)
