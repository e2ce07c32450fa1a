"""Names of people, places and dates in natural language, found by a spaCy pipeline through Microsoft Presidio.

Only named entities are asked for: Presidio's pattern recognisers stay out, because the rules find more. The package and
the pipeline are imported and loaded when a `SpacyRecogniser` is made, and never downloaded.
"""

import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from otel_telemetry.base.errors import ConfigurationError
from otel_telemetry.processors.config import NER_TYPES
from otel_telemetry.processors.detect.detector import Match
from otel_telemetry.processors.ner.spans import ADDRESS, DATE_TIME, LOCATION, PERSON, matches, readable

DOCS: Final = "https://microsoft.github.io/presidio/analyzer/nlp_engines/spacy_stanza/"

#: Labels of spaCy's pipelines (OntoNotes 5, WikiNER) and of clinical ones, and what they are here.
_LABELS: Final = {
    **dict.fromkeys(("PERSON", "PER", "PATIENT", "STAFF", "HCW"), PERSON),
    **dict.fromkeys(("LOCATION", "LOC", "GPE", "FAC"), LOCATION),
    "ADDRESS": ADDRESS,
    **dict.fromkeys(("DATE_TIME", "DATE", "TIME"), DATE_TIME),
}
#: Components of spaCy's pipelines that the recogniser of names does not build upon.
_NEEDLESS: Final = ("tagger", "parser", "senter", "morphologizer", "attribute_ruler", "lemmatizer", "textcat")
_BATCH: Final = 32
#: One thread at a time: a spaCy vocabulary has one memory zone. A process is forked between two texts, not within one.
_LOCK: Final = threading.Lock()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_LOCK.acquire, after_in_parent=_LOCK.release, after_in_child=_LOCK.release)


class SpacyRecogniser:
    """Finds names, places and dates. Thread-safe; raises ConfigurationError at construction, naming the setting.

    What it has read is not kept: spaCy's vocabulary forgets each batch of texts.
    """

    def __init__(self, model: str) -> None:
        engine_type, recogniser_type, configuration = _presidio()
        _refuse_missing(model)
        self.model = model
        self._language = _language(model)
        ignored: list[str] = []
        labels = configuration(model_to_presidio_entity_mapping=dict(_LABELS), labels_to_ignore=ignored)
        models = [{"lang_code": self._language, "model_name": model}]
        self._engine: Any = engine_type(models=models, ner_model_configuration=labels)
        self._nlp = _loaded(self._engine, model, self._language)
        known = {label for name in self._nlp.pipe_names for label in self._nlp.pipe_labels.get(name, ())}
        if not known & set(_LABELS):
            hint = f"name a pipeline that finds {', '.join(sorted(_LABELS))}"
            raise ConfigurationError("redaction.ner.model", f"the pipeline {model!r} finds no names or places", hint)
        labels.labels_to_ignore = sorted(known - set(_LABELS))
        self._recogniser: Any = recogniser_type(supported_language=self._language, supported_entities=sorted(NER_TYPES))

    def find(self, texts: Sequence[str]) -> list[list[Match]]:
        """Return what each text holds: in order, without overlaps, and never within what redaction wrote."""
        valid = [readable(text) for text in texts]
        with _LOCK, self._nlp.memory_zone():
            batch = self._engine.process_batch(valid, self._language, batch_size=_BATCH)
            found = [self._spans(text, artifacts) for text, artifacts in batch]
        return [matches(text, spans) for text, spans in zip(texts, found, strict=True)]

    def _spans(self, text: str, artifacts: Any) -> list[tuple[int, int, str]]:
        """Return plain numbers and names: nothing of the pipeline's own may outlive its memory zone."""
        results = self._recogniser.analyze(text, sorted(NER_TYPES), artifacts)
        return sorted((int(each.start), int(each.end), str(each.entity_type)) for each in results)


def _presidio() -> tuple[Any, Any, Any]:
    try:
        from presidio_analyzer.nlp_engine import NerModelConfiguration, SpacyNlpEngine  # noqa: PLC0415  # only if on
        from presidio_analyzer.predefined_recognizers import SpacyRecognizer  # noqa: PLC0415  # the same
    except ImportError as error:
        problem = f"needs packages that are not installed ({error})"
        raise ConfigurationError(
            "redaction.ner.enabled", problem, "pip install 'otel-telemetry[ner]', or switch it off"
        ) from None
    return SpacyNlpEngine, SpacyRecognizer, NerModelConfiguration


def _refuse_missing(model: str) -> None:
    """Refuse a pipeline that is not there: Presidio would try to download it."""
    from spacy.util import is_package  # noqa: PLC0415  # as above

    if not is_package(model) and not Path(model).is_dir():
        hint = f"python -m spacy download {model}  (or set it to the name or folder of a pipeline that is installed)"
        raise ConfigurationError("redaction.ner.model", f"there is no spaCy pipeline {model!r} here", hint)


def _language(model: str) -> str:
    from spacy.util import get_package_path, is_package, load_meta  # noqa: PLC0415  # as above

    try:
        if is_package(model):
            folder = get_package_path(model)
            return str(load_meta(next(folder.rglob("meta.json"), folder / "meta.json"))["lang"])
        return str(load_meta(Path(model) / "meta.json")["lang"])
    except (OSError, KeyError, ValueError) as error:
        raise _unusable(model, error) from None


def _loaded(engine: Any, model: str, language: str) -> Any:
    try:
        engine.load()
    except Exception as error:  # noqa: BLE001  # whatever a broken or newer pipeline raises: it cannot be used
        raise _unusable(model, error) from None
    nlp = engine.get_nlp(language)
    nlp.select_pipes(disable=[name for name in nlp.pipe_names if name in _NEEDLESS])
    return nlp


def _unusable(model: str, error: Exception) -> ConfigurationError:
    problem = f"the spaCy pipeline {model!r} cannot be loaded: {' '.join(str(error).split())[:200]}"
    return ConfigurationError("redaction.ner.model", problem, "install it anew for the spaCy that is installed")
