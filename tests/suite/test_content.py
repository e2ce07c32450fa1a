"""Free data loses what people asked and models answered, at any depth and in any spelling, and nothing else."""

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest

from otel_telemetry.base.content import GONE, without, without_words
from otel_telemetry.base.content_names import meaning

WORDS = "Ought I to sell the boat"

Wrap = Callable[[Any], Any]
WRAPPINGS: dict[str, Wrap] = {
    "itself": lambda value: value,
    "in a map": lambda value: {"detail": {"n": 1, "inner": value}},
    "in a list": lambda value: [1, [value]],
    "twelve deep": lambda value: nested(value, 12),
    "in JSON text": lambda value: {"body": json.dumps({"inner": value})},
    "in JSON in JSON": lambda value: {"body": json.dumps([json.dumps({"inner": value})])},
    "in JSON text written as a string": lambda value: {"body": json.dumps(json.dumps(value))},
    "in Python's spelling": lambda value: {"body": repr({"inner": value, "none": None})},
    "in bytes": lambda value: {"body": json.dumps(value).encode()},
    "behind other text": lambda value: {"note": "sent: " + json.dumps(value)},
    "in JSON that was cut": lambda value: {"body": json.dumps({"inner": value, "rest": "x" * 50})[:-20]},
}


def nested(value: Any, depth: int) -> Any:
    for number in range(depth):
        value = {"level": value} if number % 2 else [value]
    return value


CONTENT: dict[str, Any] = {
    **{name: {name: WORDS} for name in ("prompt", "query", "question", "answer", "completion", "text", "content")},
    **{name: {name: WORDS} for name in ("userPrompt", "user-prompt", "PROMPT_TEXT", "finalAnswer", "system_prompt")},
    **{
        name: {name: WORDS}
        for name in (
            "input",
            "outputs",
            "response",
            "reply",
            "input_text",
            "request.prompt",
            "\N{FULLWIDTH LATIN SMALL LETTER P}rompt",
        )
    },
    **{name: {name: WORDS} for name in ("gen_ai.input.messages", "ai.prompt.messages", "prompt_1", "answer_en")},
    "a list of texts": {"messages": [WORDS, "and so on"]},
    "a map of the content": {"prompt": {"parts": {"first": WORDS}}},
    "messages": {"messages": [{"role": "user", "content": WORDS}]},
    "a message of other names": {"turn": {"role": "user", "said": WORDS, "at": {"once": WORDS}}},
    "choices": {"choices": [{"index": 0, "message": {"content": WORDS}, "delta": {"content": WORDS}}]},
    "a response of any name": {"response": {"whatever": WORDS, "deeper": {"still": [WORDS]}}},
    "prose in a result": {"result": {"note": WORDS}},
    "tool call": {"tool_calls": [{"function": {"name": "sell", "arguments": json.dumps({"what": WORDS})}}]},
    "an argument list": {"argv": ["ask", "--prompt", WORDS, "-v"]},
    "an option": {"argv": ["ask", f"--prompt={WORDS}"]},
    "a pair": {"pair": ["prompt", WORDS]},
    "a named value": {"fields": [{"name": "prompt", "value": WORDS}]},
    "a passage": {"documents": [WORDS]},
    "a passage with its title": {"sources": [{"title": "Boats", "text": WORDS}]},
    "a query string": {"url": f"https://shop.example/ask?n=1&query={WORDS.replace(' ', '+')}"},
    "a form": {"form": f"prompt={WORDS}&n=1"},
    "a labelled line": {"note": f"Asked today.\nPrompt: {WORDS}"},
}


def words_in(value: Any) -> bool:
    text = "" if value is GONE else repr(value)
    return "sell the boat" in text.replace("+", " ") or "boat" in text


@pytest.mark.parametrize("how", WRAPPINGS)
@pytest.mark.parametrize("what", CONTENT)
def test_no_words_stay_at_any_depth(what: str, how: str) -> None:
    given = WRAPPINGS[how](CONTENT[what])
    before = copy.deepcopy(given)
    assert words_in(given)
    left = without(given)
    assert not words_in(left), left
    assert given == before, "what was given is not changed"
    assert left is GONE or without(left) is left or without(left) == left


PLAIN: list[Any] = [
    {"prompt_tokens": 12, "completion_tokens": 5, "usage": {"prompt": 12, "completion": 5, "input": 3, "output": 2}},
    {"prompt_id": "greeting, second version", "prompt_version": "7", "answer_model": "gpt-4o-mini"},
    {"content_type": "text/plain; charset=utf-8", "content-length": "12", "query_ms": 3.5, "input_cost": "0.01"},
    {"message": "the disk is full", "error": "connection refused by peer", "error_message": "no such table"},
    {"model": "gpt-4o", "finish_reason": "stop", "tool": "search the web", "temperature": 0.7, "stream": True},
    {"response": {"tokens": 150, "latency_ms": 250, "finish_reason": "stop", "model": "llama2", "id": "r-1"}},
    {"response": {"error": {"message": "rate limit reached, try again", "code": 429}}},
    {"result": "ok", "results": [1, 2], "status": "needs approval", "state": {"step": "waiting for review"}},
    {"documents": ["doc-17", "https://shop.example/terms"], "sources": [{"title": "Opening hours", "score": 0.4}]},
    {"url": "https://shop.example/list?page=2&sort=asc", "command": ["run", "--verbose", "all of it"], "n": None},
    {"request": "GET /health HTTP/1.1", "system": "linux", "history": [1, 2], "latency": [0.1, 0.2], "empty": {}},
    {"body": '{"order": 17, "items": ["two boats"]}', "reasoning": "high", "text_length": 4, "chat_id": "c-1"},
    "just a sentence that says nothing of models",
    ["a", "b", 3],
]


@pytest.mark.parametrize("given", PLAIN, ids=lambda value: str(value)[:50])
def test_what_is_no_content_comes_back_as_the_very_object(given: Any) -> None:
    assert without(given) is given


def test_what_stands_beside_content_stays() -> None:
    given = {
        "args": {"model": "llama2", "prompt": WORDS, "temperature": 0.7},
        "response": {"text": WORDS, "tokens": 150, "choices": [{"message": {"content": WORDS}, "index": 0}]},
        "messages": [{"role": "user", "content": WORDS}],
        "body": json.dumps({"question": WORDS, "n": 7}),
    }
    assert without(given) == {
        "args": {"model": "llama2", "temperature": 0.7},
        "response": {"tokens": 150, "choices": [{"index": 0}]},
        "body": '{"n":7}',
    }


def test_nesting_without_end_goes_rather_than_stays() -> None:
    assert not words_in(without(nested({"prompt": WORDS}, 500)))
    assert not words_in(without(nested(WORDS, 500)))


def test_of_a_message_only_what_describes_it_stays() -> None:
    given = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": WORDS}, "extra": WORDS}
    assert without_words(given) == {"index": 0, "finish_reason": "stop", "message": {"role": "assistant"}}
    assert without_words(WORDS) is GONE


@pytest.mark.parametrize("name", ["db.query.text", "query", "input.value", "text", "app.output", "response"])
def test_names_that_may_mean_anything_are_not_sure(name: str) -> None:
    assert meaning(name, sure=True) != "content"
    assert without({name: "value of it"}, sure=True) == {name: "value of it"}


@pytest.mark.parametrize("name", ["prompt", "app.userPrompt", "shop.chat_history", "messages", "bot.final_answer"])
def test_names_that_mean_content_anywhere_are_sure(name: str) -> None:
    assert meaning(name, sure=True) == "content"
    assert without({name: WORDS}, sure=True) is GONE
