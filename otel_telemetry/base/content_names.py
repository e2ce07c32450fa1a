"""Recognises names whose value is content: what people ask models, and what models answer.

Attributes and keys of JSON are read the same way: `prompt`, `userPrompt`, `gen_ai.input.messages` and `final-answer`
alike. The last word of a name decides (`prompt_tokens` is a count); if that word alone means little, the word before it
decides (`user_message`, `error_message`).
"""

import re
import unicodedata
from functools import lru_cache
from typing import Final, Literal

from otel_telemetry.base import conventions

#: - content: text, lists and maps under the name are content.
#: - answer: text is content; a list or map, such as `response`, has counts and ids beside it.
#: - doubtful: prose is content, a word such as `ok` is none.
#: - quoted: texts that a model is given, such as `documents`: prose is content, but not what they are called.
#: - mixed: prose is content; a list or map, such as `request`, is judged by the names in it.
#: - message: any program has some; a map of that name is one of a model.
#: - plain: a count, an id, a kind of content.
Meaning = Literal["content", "answer", "doubtful", "quoted", "mixed", "message", "plain", ""]
CONTENT: Final = "content"
ANSWER: Final = "answer"
DOUBTFUL: Final = "doubtful"
QUOTED: Final = "quoted"
MIXED: Final = "mixed"
MESSAGE: Final = "message"
PLAIN: Final = "plain"

_CAMEL: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_BREAKS: Final = re.compile(r"[^A-Za-z0-9]+")
_LONGEST: Final = 256


def words(text: str) -> frozenset[str]:
    """Return the words of a text."""
    return frozenset(text.split())


#: Words that mean content wherever they stand.
_SURE: Final = words(
    "prompt prompts question questions answer answers completion completions messages utterance utterances"
)
#: Words that mean content in data about model calls; elsewhere they may mean anything.
_CONTENT: Final = _SURE | words(
    "query queries content contents text texts input inputs output outputs transcript transcripts transcription"
    " instruction instructions reply replies delta deltas arguments variables backstory"
)
_ANSWER: Final = words(
    "response responses choice choices candidate candidates generation generations thought thoughts rationale parts"
    " translation essay poem"
)
_DOUBTFUL: Final = words(
    "result results reasoning thinking caption summary draft story prediction predictions explanation q"
)
_QUOTED: Final = words(
    "document documents doc docs passage passages chunk chunks snippet snippets excerpt excerpts sources topk hits"
    " memories embedding embeddings"
)
_MIXED: Final = words(
    "request requests context contexts history conversation conversations dialog dialogue dialogs chat chats turn turns"
    " system goal"
)
_ALL: Final = _CONTENT | _ANSWER | _DOUBTFUL | _QUOTED | _MIXED | words("message")
#: Last words that leave it content: the shape in which it comes.
_FORMS: Final = words(
    "text raw json string str value values content contents data body list array html markdown md template templates"
    " en de fr es it pt nl ja zh ko ru ar hi full original final clean cleaned redacted normalized normalised"
)
#: Last words of what is counted, told apart, measured or configured.
_MEASURES: Final = words(
    "id ids uuid guid key hash digest sha sha1 sha256 md5 checksum fingerprint token tokens count counts num number"
    " numbers total len length lengths chars characters bytes kb mb ms us ns sec secs seconds minutes duration latency"
    " time times timestamp ts at date ttft ttfb tps cost costs usd price rate limit max min avg mean p50 p90 p95 p99"
    " score scores confidence probability logprob logprobs index idx offset position page pages type types kind format"
    " lang language locale encoding mime charset schema version ver revision name names label labels category"
    " categories class status state code codes reason reasons model models provider engine route path cached cache hit"
    " enabled disabled flag mode role roles strategy method device truncated size sizes details window temperature"
    " level tier modality modalities ratio percent tool tools url uri error errors user session penalty effort"
    " similarity rank distance threshold"
)
#: Of these, what can hold words of an answer or lead to them; and names of one word that can.
_CHOSEN: Final = words("label labels category categories class url uri path error errors names route location")
_TEXT_ALONE: Final = words("name reason")
#: Lists of tokens are their text in numbers.
_TOKEN_LISTS: Final = words("input_ids output_ids token_ids prompt_token_ids completion_token_ids")
_TEXTS_OF_OTHERS: Final = words("error status exception reason alt help label button log warning title link")
_QUERIES_OF_OTHERS: Final = words("url http media dns db")
_SPEAKERS: Final = words(
    "user assistant system ai bot human chat model llm developer tool customer agent first last initial final input"
    " output prompt"
)
_SPOKEN: Final = words("message input query text content output reply response request")
_CALLS: Final = words("tool function call request mcp")
#: Words that mean content where nothing else stands in the name: the column of that name holds a question.
_ALONE: Final = words("normalized normalised")
#: Whole names that conventions have.
_KEYS: Final = conventions.CONTENT_KEYS | conventions.CONTENT_OF_REQUESTS
_OF_CALLS: Final = ("gen_ai.request.", "gen_ai.response.")
_MODEL_SIDE: Final = words("llm model chat ai gen genai completion")
#: What a name that says something of content holds, in any case of letters: pieces that make up all of these words.
STEMS: Final = frozenset(
    word
    for word in _ALL | _CALLS | _ALONE | words("args")
    if word != "q" and not any(other in word for other in _ALL | _CALLS if other not in (word, "q"))
)


def meaning(name: str, *, sure: bool = False) -> Meaning:
    """Classify a value by its name. `sure`: use only words that always mean content."""
    return _meaning(name if len(name) <= _LONGEST else name[-_LONGEST:], sure)


@lru_cache(maxsize=8192)
def _meaning(name: str, sure: bool) -> Meaning:
    words = _split(name)
    if not words:
        return ""
    if sure:
        return _sure(words)
    if name in _KEYS or (len(words) == 1 and words[0] in _ALONE):
        return CONTENT
    if "_".join(words[-3:]) in _TOKEN_LISTS or "_".join(words[-2:]) in _TOKEN_LISTS:
        return CONTENT
    return _by_owner(words) or _by_last(words) or _of_call(name, words)


def _of_call(name: str, words: list[str]) -> Meaning:
    """Return DOUBTFUL for a model's request or response attributes that no convention knows: may be content."""
    unknown = name.startswith(_OF_CALLS) and name != conventions.REQUEST_STOP_SEQUENCES and words[-1] not in _MEASURES
    return DOUBTFUL if unknown else ""


def _split(name: str) -> list[str]:
    text = name[-_LONGEST:]
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text)
    words = (word.rstrip("0123456789") for word in _BREAKS.split(_CAMEL.sub("_", text).lower()))
    return [word for word in words if word]


def _sure(words: list[str]) -> Meaning:
    if words[-1] in _MEASURES:
        return PLAIN if not _ALL.isdisjoint(words) else ""
    own = words
    while len(own) > 1 and own[-1] in _FORMS:
        own = own[:-1]
    owner = words[-2] if len(words) > 1 else ""
    if own[-1] in _SURE or (words[-1] in _SPOKEN and owner in _SPEAKERS):
        return CONTENT
    return CONTENT if "chat" in own and own[-1] == "history" else ""


def _by_owner(words: list[str]) -> Meaning:
    """Classify names whose last word is ambiguous without the word before it."""
    last, owner = words[-1], words[-2] if len(words) > 1 else ""
    if last == "text" and owner in _TEXTS_OF_OTHERS:
        return PLAIN
    if last in ("query", "queries") and owner in _QUERIES_OF_OTHERS:
        return PLAIN
    if last == "message":
        return CONTENT if owner in _SPEAKERS else MESSAGE
    if last in ("args", "argument", "parameters", "params", "call", "calls") and owner in _CALLS:
        return CONTENT
    if last in ("request", "requests", "response", "responses") and owner in (_MODEL_SIDE | _CALLS):
        return CONTENT
    return CONTENT if (last == "history" and owner == "chat") or (last == "result" and owner in _CALLS) else ""


def _by_last(words: list[str]) -> Meaning:
    last = words[-1]
    if last in _CONTENT:
        return CONTENT
    if last in _ANSWER:
        return ANSWER
    if last in _DOUBTFUL:
        return DOUBTFUL
    if last in _QUOTED:
        return QUOTED
    if last in _MIXED:
        return MIXED
    before = _ALL.intersection(words[:-1])
    if last in _MEASURES:
        return PLAIN if before else ""
    if last in _FORMS and before:
        return _by_last(words[:-1])
    if before & _SURE:
        return CONTENT
    return DOUBTFUL if before - _QUOTED - _MIXED else ""


def is_measure(name: str) -> bool:
    """Return whether a name is that of a count, an id, a kind or a time: a model chooses no such value by itself."""
    words = _split(name)
    return bool(words) and words[-1] in _MEASURES - _CHOSEN and (len(words) > 1 or words[-1] not in _TEXT_ALONE)
