"""Tests that take too long for `make test`: each names the target of the Makefile that runs it."""

import os
from collections.abc import Collection, Iterable
from typing import Any

import pytest


def only_in(target: str) -> pytest.MarkDecorator:
    """Return the mark of a test that `make TARGET` runs, which sets the variable TARGET."""
    return pytest.mark.skipif(target.upper() not in os.environ, reason=f"takes long: make {target}")


def fewer(values: Iterable[Any], always: Collection[Any], target: str) -> list[Any]:
    """Return a test's parameters: `make TARGET` runs all of them, `make test` only those in `always`."""
    return [value if value in always else pytest.param(value, marks=only_in(target)) for value in values]
