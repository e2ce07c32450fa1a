"""A real spaCy pipeline for the tests, which needs no download: an entity ruler over a blank English one.

Its last component raises on the word of `FAILING`, and notes which threads it ran in.
"""

import threading
from pathlib import Path
from typing import Any

import pytest

spacy = pytest.importorskip("spacy", reason="the extra is not installed: pip install 'otel-telemetry[ner]'")
pytest.importorskip("presidio_analyzer", reason="the extra is not installed: pip install 'otel-telemetry[ner]'")

from spacy.language import Language  # noqa: E402  # where it is there
from spacy.tokens import Doc  # noqa: E402  # the same

FAILING = "kaboom"
THREADS: set[int] = set()
_PATTERNS: list[dict[str, Any]] = [
    {"label": "PERSON", "pattern": [{"LOWER": "jane"}, {"IS_TITLE": True}]},
    {"label": "PERSON", "pattern": [{"LOWER": "mr"}, {"IS_TITLE": True}]},
    {"label": "FAC", "pattern": "Baker Street"},
    {"label": "GPE", "pattern": "London"},
    {"label": "GPE", "pattern": "Bergen"},
    {"label": "ORG", "pattern": "Acme"},
    {"label": "DATE", "pattern": [{"SHAPE": "dd"}, {"LOWER": "may"}]},
]


@Language.component("otel_telemetry_test_end")
def watch(doc: Doc) -> Doc:
    THREADS.add(threading.get_ident())
    if any(token.lower_ == FAILING for token in doc):
        raise RuntimeError("the pipeline cannot read this")
    return doc


def make_pipeline(folder: Path, *, watched: bool = True) -> str:
    """Write the pipeline to a folder, and return that as the setting wants it."""
    nlp = spacy.blank("en")
    nlp.add_pipe("entity_ruler").add_patterns(_PATTERNS)
    if watched:
        nlp.add_pipe("otel_telemetry_test_end", last=True)
    nlp.to_disk(folder)
    return str(folder)
