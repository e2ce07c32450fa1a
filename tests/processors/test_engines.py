"""Both engines find the very same: over every rule's examples, over random text, and over the shared corpora."""

import gzip
import json
import os
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otel_telemetry.processors.detector import Detector
from otel_telemetry.processors.ruleset import builtin_rules, expand

pytest.importorskip("hyperscan")

RULES = builtin_rules()
FAST = Detector(RULES, "hyperscan")
PLAIN = Detector(RULES, "re")
CORPORA = Path(__file__).parents[3] / "shared" / "pii" / "corpora"
SAMPLE = 120
FRAGMENTS = [expand(example, rule.id) for rule in RULES for example in (*rule.match, *rule.no_match)]


def differences(texts):
    return [text for text in texts if FAST.candidates(text) != PLAIN.candidates(text)]


def test_both_engines_agree_on_every_example():
    assert differences(FRAGMENTS) == []
    joined = " | ".join(FRAGMENTS)
    assert FAST.find(joined) == PLAIN.find(joined)
    assert FAST.ends(joined.encode()) == PLAIN.ends(joined.encode())


@pytest.mark.skipif(not CORPORA.is_dir(), reason="the corpora are not beside the repository")
@pytest.mark.parametrize("corpus", sorted(p.name.split(".")[0] for p in CORPORA.glob("*.gz")) or ["none"])
def test_both_engines_agree_on_the_shared_corpora(corpus):
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
def test_both_engines_agree_on_any_mixture(text):
    assert FAST.candidates(text) == PLAIN.candidates(text)
    data = text.encode("utf-8", "surrogatepass")
    assert list(FAST.ends(data)) == list(PLAIN.ends(data))


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=300))
def test_both_engines_agree_on_any_bytes(data):
    assert list(FAST.ends(data)) == list(PLAIN.ends(data))


def test_threads_find_what_one_thread_finds():
    expected = [FAST.find(text) for text in FRAGMENTS]
    results = {}

    def work(number):
        results[number] = [FAST.find(text) for text in FRAGMENTS]

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
