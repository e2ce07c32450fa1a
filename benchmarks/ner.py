"""What looking for names costs beside the rules, per 2 kB of prose: `python benchmarks/ner.py`.

No pipeline can be assumed to be installed, so two are made: an entity ruler, which is what Presidio and spaCy's
tokenizer cost by themselves, and an untrained network with the layers of en_core_web_sm's recogniser of entities, whose
arithmetic is that of the trained one. CPU time of one core.
"""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import spacy

from otel_telemetry.processors.config import NerSettings, RedactionSettings
from otel_telemetry.processors.ner.pipeline import SpacyRecogniser
from otel_telemetry.processors.ner.text import NerRedactor
from otel_telemetry.processors.redact.redactor import Redactor

_SENTENCE: Final = (
    "Yesterday a customer, Jane Roe of Bergen, asked how to wax a tent before the long walk over the glacier; the "
    "answer named two products and a shop, and she thanked us on 12 May. "
)
_TEXT: Final = (_SENTENCE * 13)[:2048]
#: https://github.com/explosion/spacy-models, en_core_web_sm 3.8: config.cfg, [components.ner] and its tok2vec.
_NETWORK: Final[dict[str, Any]] = {
    "@architectures": "spacy.TransitionBasedParser.v2",
    "state_type": "ner",
    "extra_state_tokens": False,
    "hidden_width": 64,
    "maxout_pieces": 2,
    "use_upper": True,
    "tok2vec": {
        "@architectures": "spacy.Tok2Vec.v2",
        "embed": {
            "@architectures": "spacy.MultiHashEmbed.v2",
            "width": 96,
            "attrs": ["NORM", "PREFIX", "SUFFIX", "SHAPE", "SPACY", "IS_SPACE"],
            "rows": [5000, 1000, 2500, 2500, 50, 50],
            "include_static_vectors": False,
        },
        "encode": {
            "@architectures": "spacy.MaxoutWindowEncoder.v2",
            "width": 96,
            "depth": 4,
            "window_size": 1,
            "maxout_pieces": 3,
        },
    },
}


def ruler(folder: Path) -> str:
    """Write a pipeline that knows a few names."""
    nlp = spacy.blank("en")
    nlp.add_pipe("entity_ruler").add_patterns(  # type: ignore[attr-defined]  # of the entity ruler
        [{"label": "PERSON", "pattern": "Jane Roe"}, {"label": "GPE", "pattern": "Bergen"}]
    )
    nlp.to_disk(folder)
    return str(folder)


def network(folder: Path) -> str:
    """Write an untrained pipeline of the size of en_core_web_sm."""
    nlp = spacy.blank("en")
    ner: Any = nlp.add_pipe("ner", config={"model": _NETWORK})
    for label in ("PERSON", "GPE", "LOC", "FAC", "DATE", "TIME", "ORG", "NORP", "MONEY", "CARDINAL"):
        ner.add_label(label)
    nlp.initialize()
    nlp.to_disk(folder)
    return str(folder)


def microseconds(work: Callable[[], object]) -> float:
    """Return the least CPU time of one call, over five rounds."""
    rounds = []
    for _ in range(5):
        began, calls = time.process_time(), 0
        while time.process_time() - began < 0.4:
            work()
            calls += 1
        rounds.append((time.process_time() - began) / calls * 1e6)
    return min(rounds)


def main() -> None:
    """Print the table."""
    redactor = Redactor(RedactionSettings())
    rules = microseconds(lambda: redactor.string(_TEXT))
    print(f"{'what looks at 2 kB of prose':44}{'us':>10}{'x the rules':>14}")
    print(f"{'the rules (' + redactor.engine + ')':44}{rules:10.1f}{1.0:14.1f}")
    with tempfile.TemporaryDirectory() as folder:
        for name, make in (("entity ruler", ruler), ("network of en_core_web_sm's size", network)):
            recogniser = SpacyRecogniser(make(Path(folder) / make.__name__))
            ner = NerRedactor(redactor, recogniser, NerSettings(enabled=True))
            for texts, label in ((1, "one text"), (32, "32 at once")):
                many = [_TEXT + str(number) for number in range(texts)]
                taken = microseconds(lambda many=many, ner=ner: ner.known(many)) / texts  # type: ignore[misc]  # bound now
                print(f"{name + ', ' + label:44}{taken:10.1f}{taken / rules:14.1f}")


if __name__ == "__main__":
    main()
