"""Keys: readable as the contract says, the same for the same call, and different for any two different calls."""

import datetime as dt
import enum
import math
import os
import re
import subprocess
import sys
from collections import Counter
from decimal import Decimal
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otel_telemetry.cache.keys import Unkeyable, cache_key

DIGEST = r"[0-9a-f]{40}"


@pytest.mark.parametrize(
    ("tool", "arguments", "readable"),
    [
        ("search", {"query": "Hello, World!", "k": 5}, "tool:search:k:5:query:hello__world_"),
        ("chat", {"temperature": 0.7, "b": 1.005, "a": -2.5}, "tool:chat:a:-2.50:b:1.00:temperature:0.70"),
        ("t", {"prompt": "x" * 80}, "tool:t:prompt:" + "x" * 50),
        ("t", {"flag": True, "none": None}, "tool:t:flag:true:none:none"),
        ("Web Search", {}, "tool:web_search"),
        ("t", {"list": ["a", 1]}, "tool:t:list:__a___1_"),
        ("t", {"q": "Grüße"}, "tool:t:q:gr__e"),
    ],
)
def test_the_readable_form_is_the_contracts(tool, arguments, readable):
    assert re.fullmatch(re.escape(readable) + ":" + DIGEST, cache_key(tool, arguments))


def test_names_are_sorted_and_order_does_not_matter():
    assert cache_key("t", {"b": 1, "a": {"y": 1, "x": 2}}) == cache_key("t", {"a": {"x": 2, "y": 1}, "b": 1})


def test_a_key_is_the_same_in_every_process():
    code = "from otel_telemetry.cache.keys import cache_key; print(cache_key('t', {'x': {'a', 'b', 'c', ('d', 1)}}))"
    keys = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(keys) == 1


def test_a_key_is_never_longer_than_its_bound():
    key = cache_key("t" * 1000, {f"name{n}": "value" * 100 for n in range(100)})
    assert len(key) <= 500 + 1 + 40
    assert cache_key("t", {"n": 10**5000}).startswith("tool:t:n:int:")
    assert cache_key("t", {"n": [10**5000]}).startswith("tool:t:n:_")


def test_the_secret_keys_the_digest():
    one, other, none = (cache_key("t", {"ssn": "x"}, secret=secret) for secret in (b"one", b"other", None))
    assert len({one, other, none}) == 3


def test_the_readable_form_is_made_of_redacted_arguments_and_the_digest_of_all():
    redact = lambda arguments: dict.fromkeys(arguments, "[GONE]")  # noqa: E731
    one, other = (cache_key("t", {"mail": mail}, redact=redact) for mail in ("jane@example.com", "joe@example.com"))
    assert one.startswith("tool:t:mail:_gone_:")
    assert one != other


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


class Other(enum.Enum):
    RED = 1


PAIRS = [
    (1, 1.0),
    (1, True),
    (1, "1"),
    (0, False),
    (None, "None"),
    (0.0, -0.0),
    (0.1 + 0.2, 0.3),
    ("a", b"a"),
    ([1], (1,)),
    ([1, 2], [[1, 2]]),
    (["a", "b"], ["ab"]),
    (["ab", "c"], ["a", "bc"]),
    ({1: "a"}, {"1": "a"}),
    ({"a": None}, {}),
    ([], {}),
    (set(), frozenset()),
    ({1, 2}, [1, 2]),
    ("\ud83d\ude00", "\U0001f600"),
    ("é", "e\u0301"),
    ("A", "a"),
    ("x" * 60, "x" * 61),
    ("a:b", "a_b"),
    (Decimal(1), Decimal("1.0")),
    (UUID(int=1), UUID(int=2)),
    (Colour.RED, Colour.BLUE),
    (Colour.RED, Other.RED),
    (dt.date(2026, 1, 1), dt.datetime(2026, 1, 1)),  # noqa: DTZ001
    (dt.datetime(2026, 1, 1, 12, tzinfo=dt.UTC), dt.datetime(2026, 1, 1, 12)),  # noqa: DTZ001
    (dt.datetime(2026, 10, 25, 2, 30, fold=0), dt.datetime(2026, 10, 25, 2, 30, fold=1)),  # noqa: DTZ001
    (dt.timedelta(days=1), dt.timedelta(hours=23)),
    (float("inf"), float("-inf")),
    (2**64, 2**64 + 1),
]


@pytest.mark.parametrize(("one", "other"), PAIRS, ids=repr)
def test_values_that_differ_do_not_share_a_key(one, other):
    assert cache_key("t", {"x": one}) != cache_key("t", {"x": other})
    assert cache_key("t", {"x": one}) == cache_key("t", {"x": one})


def test_calls_that_read_the_same_do_not_share_a_key():
    assert cache_key("t", {"a": "1:b:2"}) != cache_key("t", {"a": "1", "b": "2"})
    assert cache_key("a b", {}) != cache_key("a_b", {})
    assert cache_key("a", {"b": 1}) != cache_key("a:b:1", {})


class Text(str):
    __slots__ = ()


class Zone(dt.tzinfo):
    def utcoffset(self, moment: object) -> None: ...

    def tzname(self, moment: object) -> None: ...

    def dst(self, moment: object) -> None: ...


DEEP: list[object] = []
for _ in range(100):
    DEEP = [DEEP]


@pytest.mark.parametrize(
    "value",
    [object(), Text("x"), lambda: 1, [object()], {"a": {1: object()}}, DEEP, dt.datetime(2026, 1, 1, tzinfo=Zone())],
    ids=lambda value: type(value).__name__,
)
def test_what_cannot_be_told_apart_has_no_key(value):
    with pytest.raises(Unkeyable):
        cache_key("t", {"x": value})


atoms = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary()
    | st.decimals(allow_nan=False)
    | st.dates()
    | st.datetimes()
)
values = st.recursive(
    atoms,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text(max_size=3) | st.integers(), inner, max_size=3)
    ),
    max_leaves=8,
)
arguments = st.dictionaries(st.text(max_size=4), values, max_size=3)


def typed(value: object) -> object:
    """Return what tells two values apart, types and signs of zero included, whatever the order of their keys."""
    kind = type(value).__name__
    if isinstance(value, dict):
        return kind, frozenset(Counter((typed(k), typed(v)) for k, v in value.items()).items())
    if isinstance(value, list | tuple):
        return kind, tuple(typed(item) for item in value)
    if isinstance(value, float):
        return kind, value, math.copysign(1, value)
    return (kind, str(value)) if isinstance(value, Decimal) else (kind, value)


@given(st.text(max_size=5), arguments, st.text(max_size=5), arguments)
@settings(max_examples=400, deadline=None)
def test_two_calls_share_a_key_if_and_only_if_they_are_the_same_call(tool, args, other_tool, other_args):
    same = (tool, typed(args)) == (other_tool, typed(other_args))
    assert (cache_key(tool, args) == cache_key(other_tool, other_args)) is same


near = st.lists(st.sampled_from([0, 0.0, -0.0, False, None, "", "0", "a", b"", b"a", (), (0,), "a:a"]), max_size=3)


@given(near, near)
@settings(max_examples=400, deadline=None)
def test_calls_that_are_nearly_the_same_do_not_share_a_key(one, other):
    same = typed(one) == typed(other)
    assert (cache_key("t", {"x": one}) == cache_key("t", {"x": other})) is same
    named = {str(n): item for n, item in enumerate(one)}, {str(n): item for n, item in enumerate(other)}
    assert (cache_key("t", named[0]) == cache_key("t", named[1])) is same
