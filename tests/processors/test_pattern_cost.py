"""The bound on backtracking: never below what Python's engine really does, and 1 where there is no choice."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otel_telemetry.processors.detect.engines.pattern_cost import MOST, ways


@pytest.mark.parametrize(
    "pattern",
    [
        "acme_[a-z0-9]{20,40}",
        "[a-z]{1,64}@[a-z]{1,64}[.][a-z]{2,10}",
        r'(?i)key\s{0,20}=\s{0,20}"[^"]{0,2000}"\s{0,20},',
        "(?:secret|session|token)=[0-9]{1,9};",
        "(?:[a-z]{1,10}_){4}9",
        "(?>a{1,50}b?)c",
        "[a-z]{0,40}+[a-z]",
    ],
)
def test_a_pattern_without_a_choice_has_few_ways(pattern):
    assert ways(pattern) <= 50


@pytest.mark.parametrize(
    "pattern",
    [
        "(?:a|a){0,40}b",
        "(?:a|aa){0,40}b",
        "(?:a?a){0,40}b",
        "a?" * 25 + "a{25}b",
        "(?:[a-z]{1,9} ?){1,20}!",
        "(?i:Aa|aA){0,40}b",
        ".{0,500}.{0,500}.{0,500}x",
        "(?:foo|bar|foobar){0,20}z",
        "(?=(?:a|a){0,40}b)a",
        r"(?:\w1|[0-9]1){0,40}-",
        "(?:(a{0,9}){0,9}){0,9}b",
    ],
)
def test_what_is_known_to_blow_up_has_too_many(pattern):
    assert 10**6 < ways(pattern) <= MOST


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(["a", "b", "ab", "bc"]), st.integers(0, 2), st.integers(2, 4)), max_size=5),
    st.text("abc", max_size=8),
)
def test_the_bound_is_never_below_the_ways_that_there_are(items, text):
    pattern = "".join(f"[{chars}]{{{low},{high}}}" for chars, low, high in items)
    assert ways(pattern + "x") >= _exactly(items, text)


def _exactly(items, text):
    """Return in how many ways the items can take one text, the whole of it."""
    spans = [range(low, high + 1) for _, low, high in items]
    found = 0
    for lengths in itertools.product(*spans):
        at, fits = 0, True
        for (chars, _, _), length in zip(items, lengths, strict=True):
            fits = fits and len(text) >= at + length and all(char in chars for char in text[at : at + length])
            at += length
        found += fits and at == len(text)
    return found
