"""Wait for what another thread or process does, as long as a slow machine needs for it."""

import time
from collections.abc import Callable
from typing import Any


def eventually(check: Callable[[], Any], what: str = "what was waited for", seconds: float = 60.0) -> Any:
    """Return the first true result of `check`; raise AssertionError if there is none within `seconds`."""
    end = time.monotonic() + seconds
    while not (found := check()):
        assert time.monotonic() < end, f"it never came true: {what}"
        time.sleep(0.01)
    return found
