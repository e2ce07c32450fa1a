"""Writes the small model anew, for fast arithmetic with whole numbers of eight bits.

The file of the model has weights of four bits and a node for each step of arithmetic. Here each layer becomes seven
nodes of ONNX Runtime: https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md. A text is read
alone, so there is nothing to mask: the only input is `input_ids`, one row of tokens.
"""

from collections.abc import Mapping
from typing import Any, Final

#: The largest weight. Two products of it and of a byte fit into 16 bits: processors without VNNI add them there.
_LARGEST: Final = 63
_CONTRIB: Final = "com.microsoft"
_OPSET: Final = 18
#: A version of the file format that ONNX Runtime 1.22 reads.
_IR: Final = 10


def fast(model: bytes, config: Mapping[str, Any]) -> bytes:
    """Return the model with few nodes and weights of eight bits. Raises KeyError where a part is missing."""
    import onnx  # noqa: PLC0415  # only where the cache has nothing

    source = _Source(onnx.load_from_string(model).graph)
    graph = _Graph(int(config["num_attention_heads"]), float(config["layer_norm_eps"]))
    hidden = graph.embeddings(source)
    for number in range(int(config["num_hidden_layers"])):
        hidden = graph.layer(source, f"bert.encoder.layer.{number}", hidden)
    graph.product(hidden, source.weights("classifier"), source.values("classifier.bias"), "logits")
    return graph.serialized(len(config["id2label"]))


class _Source:
    """The parts of the model's file by their name in BERT."""

    def __init__(self, graph: Any) -> None:
        self._constants = {constant.name: constant for constant in graph.initializer}
        self._products = {
            node.name.removesuffix("/MatMul_Q4").strip("/").replace("/", "."): node
            for node in graph.node
            if node.op_type == "MatMulNBits"
        }

    def values(self, name: str) -> Any:
        from onnx import numpy_helper  # noqa: PLC0415  # as above

        return numpy_helper.to_array(self._constants[name])

    def embedding(self, name: str) -> Any:
        """Return a table of embeddings as floats."""
        table = f"bert.embeddings.{name}.weight"
        whole = self.values(f"{table}_quantized").astype("float32") - self.values(f"{table}_zero_point")
        return whole.astype("float32") * self.values(f"{table}_scale")

    def weights(self, name: str) -> Any:
        """Return the weights of a product as floats, rows by columns.

        Two weights are in a byte, the lower half first; a block of them has one scale and one zero point, which is 8
        where none is given.
        """
        import numpy as np  # noqa: PLC0415  # as above

        node = self._products[name]
        sizes = {attribute.name: attribute.i for attribute in node.attribute}
        rows, columns, block = sizes["K"], sizes["N"], sizes["block_size"]
        blocks = -(-rows // block)
        scales = self.values(node.input[2]).reshape(columns, blocks, 1)
        has_zeros = len(node.input) > 3 and bool(node.input[3])  # noqa: PLR2004  # the fourth input
        zeros = self._halves(node.input[3], (columns, -1))[:, :blocks, None] if has_zeros else np.float32(8)
        whole = (self._halves(node.input[1], (columns, blocks, block)) - zeros) * scales
        return np.ascontiguousarray(whole.reshape(columns, blocks * block)[:, :rows].T)

    def _halves(self, name: str, shape: tuple[int, ...]) -> Any:
        import numpy as np  # noqa: PLC0415  # as above

        packed = self.values(name)
        return np.stack([packed & 15, packed >> 4], -1).reshape(shape).astype(np.float32)


class _Graph:
    """The new model, part by part: each method adds nodes, and returns the name of what they yield."""

    def __init__(self, heads: int, epsilon: float) -> None:
        self._heads = heads
        self._epsilon = epsilon
        self._nodes: list[Any] = []
        self._constants: list[Any] = []

    def embeddings(self, source: _Source) -> str:
        """Add what each token and its position mean, for a text that is the only segment."""
        import numpy as np  # noqa: PLC0415  # as above

        table = "bert.embeddings.word_embeddings.weight"
        words, scale, zero = (
            self._constant(source.values(f"{table}_{part}")) for part in ("quantized", "scale", "zero_point")
        )
        places = source.embedding("position_embeddings") + source.embedding("token_type_embeddings")[0]
        first, axis = self._constant(np.array([0], np.int64)), self._constant(np.array([1], np.int64))
        rows = self._node("Gather", [words, "input_ids"], domain="")
        meaning = self._node("DequantizeLinear", [rows, scale, zero], domain="")
        length = self._node("Shape", ["input_ids"], domain="", start=1, end=2)
        place = self._node("Slice", [self._constant(places[None]), first, length, axis], domain="")
        both = self._node("Add", [meaning, place], domain="")
        norm = self._norm(source, "bert.embeddings")
        return self._node("LayerNormalization", [both, *norm], domain="", axis=-1, epsilon=self._epsilon)

    def layer(self, source: _Source, name: str, hidden: str) -> str:
        """Add a layer: what the tokens have to do with each other, then what each of them is."""
        import numpy as np  # noqa: PLC0415  # as above

        parts = [f"{name}.attention.self.{part}" for part in ("query", "key", "value")]
        weights = np.concatenate([source.weights(part) for part in parts], 1)
        bias = np.concatenate([source.values(f"{part}.bias") for part in parts])
        dense = f"{name}.attention.output.dense"
        together = self.product(self._attention(hidden, weights, bias), source.weights(dense))
        hidden = self._added(source, f"{name}.attention.output", together, hidden)
        inner = self.product(hidden, source.weights(f"{name}.intermediate.dense"))
        active = self._node("FastGelu", [inner, self._constant(source.values(f"{name}.intermediate.dense.bias"))])
        outer = self.product(active, source.weights(f"{name}.output.dense"))
        return self._added(source, f"{name}.output", outer, hidden)

    def product(self, hidden: str, weights: Any, bias: Any = None, result: str = "") -> str:
        """Add a product with weights, and with a bias where one is given."""
        last = [] if bias is None else ["", self._constant(bias)]
        return self._node("DynamicQuantizeMatMul", [hidden, *self._whole(weights), *last], result)

    def serialized(self, labels: int) -> bytes:
        from onnx import TensorProto, helper  # noqa: PLC0415  # as above

        ids = helper.make_tensor_value_info("input_ids", TensorProto.INT64, [1, "tokens"])
        logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, "tokens", labels])
        graph = helper.make_graph(self._nodes, "names", [ids], [logits], self._constants)
        opsets = [helper.make_opsetid("", _OPSET), helper.make_opsetid(_CONTRIB, 1)]
        return bytes(helper.make_model(graph, opset_imports=opsets, ir_version=_IR).SerializeToString())

    def _attention(self, hidden: str, weights: Any, bias: Any) -> str:
        from onnx import helper  # noqa: PLC0415  # as above

        values, scales = self._whole(weights)
        whole, scale, zero = (f"{hidden}_{part}" for part in ("whole", "scale", "zero"))
        self._nodes.append(helper.make_node("DynamicQuantizeLinear", [hidden], [whole, scale, zero]))
        inputs = [whole, values, self._constant(bias), scale, scales, "", zero]
        return self._node("QAttention", inputs, num_heads=self._heads)

    def _added(self, source: _Source, name: str, change: str, hidden: str) -> str:
        """Add the sum of a layer's result and what it was made from, normalised."""
        bias = self._constant(source.values(f"{name}.dense.bias"))
        inputs = [change, hidden, *self._norm(source, name), bias]
        return self._node("SkipLayerNormalization", inputs, epsilon=self._epsilon)

    def _norm(self, source: _Source, name: str) -> list[str]:
        return [self._constant(source.values(f"{name}.LayerNorm.{part}")) for part in ("weight", "bias")]

    def _whole(self, weights: Any) -> tuple[str, str]:
        """Add weights as whole numbers with a scale for each column."""
        import numpy as np  # noqa: PLC0415  # as above

        scales = np.maximum(np.abs(weights).max(0) / _LARGEST, np.finfo(np.float32).tiny).astype(np.float32)
        return self._constant(np.round(weights / scales).astype(np.int8)), self._constant(scales)

    def _constant(self, values: Any) -> str:
        import numpy as np  # noqa: PLC0415  # as above
        from onnx import numpy_helper  # noqa: PLC0415  # as above

        name = f"constant_{len(self._constants)}"
        self._constants.append(numpy_helper.from_array(np.ascontiguousarray(values).reshape(np.shape(values)), name))
        return name

    def _node(self, kind: str, inputs: list[str], result: str = "", domain: str = _CONTRIB, **attributes: Any) -> str:
        from onnx import helper  # noqa: PLC0415  # as above

        result = result or f"{kind}_{len(self._nodes)}"
        self._nodes.append(helper.make_node(kind, inputs, [result], domain=domain, **attributes))
        return result
