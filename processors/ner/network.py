"""Asks the model what each token of a text is."""

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from otel_telemetry.processors.ner.spans import ADDRESS, LOCATION, PERSON
from otel_telemetry.processors.ner.weights import Network

#: The model's labels, and what they are here. Its labels of numbers and ids are left out: the rules know them better.
_KINDS: Final = {
    **dict.fromkeys(("GIVEN_NAME", "SURNAME"), PERSON),
    **dict.fromkeys(("BUILDING_NUMBER", "STREET_NAME", "SECONDARY_ADDRESS"), ADDRESS),
    **dict.fromkeys(("CITY", "STATE", "ZIP_CODE"), LOCATION),
}
_TYPES: Final = (PERSON, ADDRESS, LOCATION)


class Token(NamedTuple):
    """Characters `start` to `end` (exclusive) of a text, the likeliest type, and how likely it has one (0 to 1)."""

    start: int
    end: int
    type: str
    score: float


class Labeller:
    """Finds the tokens of texts that belong to names and addresses. Thread-safe, as the libraries are."""

    def __init__(self, network: Network, least: float) -> None:
        """`least`: lowest likelihood, 0 to 1, at which a token counts as part of a name or an address."""
        self._tokenizer = network.tokenizer
        self._session = network.session
        self._columns = [_columns(network.labels, kind) for kind in _TYPES]
        self._ends = [self._tokenizer.token_to_id(name) for name in ("[CLS]", "[SEP]")]
        self._window = network.window - len(self._ends)
        self._least = least

    def label(self, text: str) -> list[Token]:
        """Return the tokens of a text that belong to a name or an address, in order."""
        encoding = self._tokenizer.encode(text, add_special_tokens=False)
        ids, offsets = encoding.ids, encoding.offsets
        found: list[Token] = []
        for at in range(0, len(ids), self._window):
            scores = self._scores(ids[at : at + self._window])
            found.extend(self._tokens(scores, offsets[at : at + self._window]))
        return found

    def _scores(self, ids: Sequence[int]) -> Any:
        """Return how likely each token is of each type: tokens by types."""
        import numpy as np  # noqa: PLC0415  # only where names are looked for

        begin, end = self._ends
        tokens = np.array([[begin, *ids, end]], dtype=np.int64)
        logits = self._session.run(None, {"input_ids": tokens})[0][0][1:-1]
        powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
        shares = powers / powers.sum(axis=-1, keepdims=True)
        return np.stack([shares[:, columns].sum(axis=-1) for columns in self._columns], axis=-1)

    def _tokens(self, scores: Any, offsets: Sequence[tuple[int, int]]) -> list[Token]:
        likeliest, together = scores.argmax(axis=-1), scores.sum(axis=-1)
        chosen = (together >= self._least).nonzero()[0]
        return [
            Token(offsets[number][0], offsets[number][1], _TYPES[likeliest[number]], float(together[number]))
            for number in chosen
            if offsets[number][1] > offsets[number][0]
        ]


def _columns(labels: Sequence[str], kind: str) -> list[int]:
    return [number for number, label in enumerate(labels) if _KINDS.get(label[2:]) == kind]
