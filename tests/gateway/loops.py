"""The event loops of tests: a gateway's own (conftest.py), and where a test is marked so, Python's too."""

import pytest

both_loops = pytest.mark.asyncio(loop_factories=["asyncio", "uvloop"])
