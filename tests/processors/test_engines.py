"""All engines find the very same: over every rule's examples, over random text, and over the shared corpora."""

import gzip
import json
import os
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otel_telemetry.base.errors import ConfigurationError
from otel_telemetry.processors.detect.detector import Detector
from otel_telemetry.processors.detect.engines.locator import make_locator
from otel_telemetry.processors.detect.ruleset import builtin_rules, expand

pytest.importorskip("hyperscan")
pytest.importorskip("re2")

RULES = builtin_rules()
FAST = Detector(RULES, "hyperscan")
PLAIN = Detector(RULES, "re")
SECOND = Detector(RULES, "re2")
CORPORA = Path(__file__).parents[3] / "shared" / "pii" / "corpora"
SAMPLE = 120
FRAGMENTS = [expand(example, rule.id) for rule in RULES for example in (*rule.match, *rule.no_match)]


def differences(texts):
    return [text for text in texts if not FAST.candidates(text) == SECOND.candidates(text) == PLAIN.candidates(text)]


def positions(detector, data):
    """Return every position of every trigger, as the engine reports them."""
    return detector._locator.scan(data, 100_000)


def test_each_engine_is_the_one_that_was_asked_for():
    assert [detector.engine for detector in (FAST, SECOND, PLAIN)] == ["hyperscan", "re2", "re"]


def test_all_engines_agree_on_every_example():
    assert differences(FRAGMENTS) == []
    joined = " | ".join(FRAGMENTS)
    assert FAST.find(joined) == SECOND.find(joined) == PLAIN.find(joined)
    data = joined.encode()
    assert positions(FAST, data) == positions(SECOND, data) == positions(PLAIN, data)
    assert FAST.located(data)[0] == SECOND.located(data)[0] == PLAIN.located(data)[0]


@pytest.mark.skipif(not CORPORA.is_dir(), reason="the corpora are not beside the repository")
@pytest.mark.parametrize("corpus", sorted(p.name.split(".")[0] for p in CORPORA.glob("*.gz")) or ["none"])
def test_all_engines_agree_on_the_shared_corpora(corpus):
    with gzip.open(CORPORA / f"{corpus}.jsonl.gz", "rt", encoding="utf-8") as lines:
        texts = [json.loads(line)["text"][:4000] for line in lines]
    step = 1 if os.environ.get("FULL_CORPORA") else max(1, len(texts) // SAMPLE)
    assert differences(texts[::step]) == []


pieces = st.one_of(
    st.sampled_from(FRAGMENTS),
    st.text(max_size=12),
    st.sampled_from([" ", "\n", '"', "=", ":", "@", ".", "\u200b", "\uff05"]),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(pieces, max_size=8).map("".join))
def test_all_engines_agree_on_any_mixture(text):
    assert differences([text]) == []
    data = text.encode("utf-8", "surrogatepass")
    assert positions(FAST, data) == positions(SECOND, data) == positions(PLAIN, data)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=300))
def test_all_engines_agree_on_any_bytes(data):
    assert positions(FAST, data) == positions(SECOND, data) == positions(PLAIN, data)


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.sampled_from([b"-u ", b"\x0b", b" -p", b"user", b"id", b"=", b"4" * 30, b"\xd0\xa0", b"\xe9", b"a@"]))
)
def test_all_engines_agree_on_overlapping_places_and_on_what_a_space_is(parts):
    data = b"".join(parts)
    assert positions(FAST, data) == positions(SECOND, data) == positions(PLAIN, data)


@pytest.mark.parametrize("engine", [FAST, SECOND, PLAIN], ids=lambda detector: detector.engine)
def test_each_engine_says_when_there_were_too_many_places(engine):
    assert len(engine._locator.scan(b"password=" * 200, 50)) == 51


@pytest.mark.parametrize(("trigger", "hit"), [("a\\sb", True), ("a[^\\s-]b", False), ("(?i)A[\\sx]B", True)])
def test_a_vertical_tab_is_a_space_to_every_engine(trigger, hit):
    for name in ("hyperscan", "re2", "re"):
        assert bool(make_locator(name, (trigger,)).scan(b"a\x0bb", 10)) is hit


def test_the_best_engine_that_can_be_imported_is_taken_and_one_asked_for_must_be_there(monkeypatch):
    triggers = ("some trigger", "of this test")
    make_locator.cache_clear()
    assert make_locator("auto", triggers).name == "hyperscan"
    for missing, next_best in (("hyperscan", "re2"), ("re2", "re")):
        monkeypatch.setitem(sys.modules, f"otel_telemetry.processors.detect.engines.{missing}", None)
        make_locator.cache_clear()
        assert make_locator("auto", triggers).name == next_best
    for name in ("hyperscan", "re2"):
        with pytest.raises(ConfigurationError, match="cannot be imported"):
            make_locator(name, triggers)
    make_locator.cache_clear()


def test_threads_find_what_one_thread_finds():
    expected = [FAST.find(text) for text in FRAGMENTS]
    results = {}

    def work(number):
        results[number] = [(FAST, SECOND)[number % 2].find(text) for text in FRAGMENTS]

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(results[number] == expected for number in range(4))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_finds_what_its_parent_finds():
    read, write = os.pipe()
    FAST.find(FRAGMENTS[0])
    child = os.fork()
    if child == 0:
        os.write(write, b"1" if FAST.find(FRAGMENTS[0]) else b"0")
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(read, 1) == b"1"
    os.close(read)
    os.close(write)
