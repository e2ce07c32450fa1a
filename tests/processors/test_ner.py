"""Names, places and dates in natural language, found by a real spaCy pipeline through Presidio."""

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from otel_telemetry.base.errors import ConfigurationError, RuleError
from otel_telemetry.processors.config import NerSettings, PseudonymSettings, RedactionSettings
from otel_telemetry.processors.ner.allowance import Allowance
from otel_telemetry.processors.ner.pipeline import SpacyRecogniser
from otel_telemetry.processors.ner.text import NerRedactor, ner_of
from otel_telemetry.processors.redact.redactor import Finding, Redactor
from otel_telemetry.processors.streams import Tally, redact_stream
from otel_telemetry.processors.verify.explain import explain
from tests.processors.ner_pipeline import FAILING, make_pipeline, spacy

TEXT = "Jane Roe lives in Bergen since 12 May and works for Acme"
CLEAN = "[REDACTED_PERSON] lives in [REDACTED_LOCATION] since [REDACTED_DATE_TIME] and works for Acme"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return make_pipeline(tmp_path_factory.mktemp("ner") / "pipeline")


@pytest.fixture(scope="module")
def recogniser(model: str) -> SpacyRecogniser:
    return SpacyRecogniser(model)


def make(recogniser: SpacyRecogniser, tmp_path: Path | None = None, policy: str = "", **settings: Any) -> NerRedactor:
    path = None
    if tmp_path is not None:
        path = tmp_path / "policy.yaml"
        path.write_text(policy)
    own = NerSettings(enabled=True, **settings)
    secret = PseudonymSettings(secret="0123456789abcdef0123")
    return NerRedactor(Redactor(RedactionSettings(policy=path, ner=own, pseudonyms=secret)), recogniser, own)


def clean(ner: NerRedactor, value: Any, service: str = "") -> Any:
    return ner.value(value, ner.redactor_for(service), [])


def item(ner: NerRedactor, key: str, value: Any) -> Any:
    return ner.item(key, value, ner.redactor_for(""), [])


# --- what is found ---------------------------------------------------------------------------------------------------


def test_names_places_and_dates_are_found_and_organisations_are_not(recogniser: SpacyRecogniser) -> None:
    (found,) = recogniser.find([TEXT])
    assert [(TEXT[m.start : m.end], m.type, m.rule) for m in found] == [
        ("Jane Roe", "PERSON", "ner.person"),
        ("Bergen", "LOCATION", "ner.location"),
        ("12 May", "DATE_TIME", "ner.date_time"),
    ]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("to 221b Baker Street, London NW1 6XE, please", [("221b Baker Street, London NW1 6XE", "ADDRESS")]),
        ("at Baker Street 12, Bergen", [("Baker Street 12, Bergen", "ADDRESS")]),
        ("12-14 Baker Street", [("12-14 Baker Street", "ADDRESS")]),
        ("in London, Bergen and so on", [("London, Bergen", "LOCATION")]),
        ("in 2024 Bergen had 3 rainy days", [("Bergen", "LOCATION")]),
        ("Bergen 5003", [("Bergen 5003", "ADDRESS")]),
        ("from Bergen 15 people came", [("Bergen", "LOCATION")]),
    ],
)
def test_a_place_with_the_numbers_beside_it_is_one_address(recogniser: SpacyRecogniser, text: str, found: Any) -> None:
    assert [(text[m.start : m.end], m.type) for m in recogniser.find([text])[0]] == found


def test_nothing_is_found_within_what_redaction_wrote(recogniser: SpacyRecogniser) -> None:
    text = "Mr [REDACTED_EMAIL] Jane Roe k1_0123456789ab ****1234"
    assert [text[m.start : m.end] for m in recogniser.find([text])[0]] == ["Jane Roe"]


def test_a_second_pass_changes_nothing(recogniser: SpacyRecogniser) -> None:
    ner = make(recogniser)
    once = clean(ner, TEXT)
    assert once == CLEAN
    assert clean(ner, once) is once


@pytest.mark.parametrize("text", ["\ud800 Jane Roe \udfff", "\x00Jane Roe\x00", "é😀 Jane Roe", ""])
def test_odd_characters_move_nothing(recogniser: SpacyRecogniser, text: str) -> None:
    assert clean(make(recogniser), text) == text.replace("Jane Roe", "[REDACTED_PERSON]")


def test_the_vocabulary_forgets_what_it_has_read(recogniser: SpacyRecogniser) -> None:
    word = "Quxelwyth"
    recogniser.find([f"Jane {word} was here"])
    assert word not in recogniser._nlp.vocab.strings


def test_threads_take_turns_and_find_the_same(recogniser: SpacyRecogniser) -> None:
    texts = [f"Jane Roe{number} and Mr Poe{number} in Bergen" for number in range(64)]
    one_by_one = [recogniser.find([text])[0] for text in texts]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda text: recogniser.find([text])[0], texts)) == one_by_one


def test_a_process_forked_while_another_thread_looks_goes_on_looking(tmp_path: Path) -> None:
    model = make_pipeline(tmp_path / "pipeline", watched=False)
    code = f"""
import os, threading
from otel_telemetry.processors.ner.pipeline import SpacyRecogniser
recogniser = SpacyRecogniser({model!r})
done = threading.Event()
def busy():
    while not done.is_set():
        recogniser.find(["Jane Roe " * 500])
thread = threading.Thread(target=busy); thread.start()
for _ in range(5):
    child = os.fork()
    if not child:
        os._exit(0 if len(recogniser.find(["Jane Roe"])[0]) == 1 else 3)
    assert os.waitpid(child, 0)[1] == 0
done.set(); thread.join()
"""
    done = subprocess.run([sys.executable, "-c", code], check=False, timeout=60, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()


# --- what is natural language ----------------------------------------------------------------------------------------


def test_json_stays_json_and_its_fixed_words_stay(recogniser: SpacyRecogniser) -> None:
    ner = make(recogniser)
    messages = [{"role": "Jane Roe", "parts": [{"type": "text", "content": TEXT}, {"n": 7, "id": "Jane Roe"}]}]
    result = json.loads(clean(ner, json.dumps(messages)))
    messages[0]["parts"][0]["content"] = CLEAN  # type: ignore[index]  # as written above
    assert result == messages
    nested = json.dumps({"arguments": json.dumps({"q": "where is Jane Roe"})})
    assert json.loads(json.loads(clean(ner, nested))["arguments"]) == {"q": "where is [REDACTED_PERSON]"}


def test_json_without_a_name_is_the_same_object(recogniser: SpacyRecogniser) -> None:
    text = '{"role": "user",   "content": "caf\\u00e9 for two"}'
    assert clean(make(recogniser), text) is text


def test_values_of_every_shape_are_looked_at(recogniser: SpacyRecogniser) -> None:
    ner = make(recogniser)
    assert clean(ner, ("Jane Roe", 3, None, b"Mr Poe")) == ("[REDACTED_PERSON]", 3, None, b"[REDACTED_PERSON]")
    assert clean(ner, {"a": {"b": ["in Bergen"]}}) == {"a": {"b": ["in [REDACTED_LOCATION]"]}}
    untouched = {"a": [1, b"\xff", "quite plain"]}
    assert clean(ner, untouched) is untouched


def test_only_natural_language_is_looked_at(recogniser: SpacyRecogniser) -> None:
    ner = make(recogniser, keys=("app.*.note",))
    redactor = ner.redactor_for("")
    for key in ("gen_ai.input.messages", "gen_ai.prompt.0.content", "input.value", "app.crm.note", "shop.user_query"):
        assert ner.applies(key, redactor)
    for key in (
        "http.route",
        "exception.message",
        "request_log.route",
        "app.note.id",
        "gen_ai.request.model",
        "gen_ai.usage.input_tokens",
    ):
        assert not ner.applies(key, redactor)
    assert not make(recogniser, content=False).applies("gen_ai.input.messages", redactor)


# --- policy ----------------------------------------------------------------------------------------------------------


def test_the_policy_decides_for_each_type(recogniser: SpacyRecogniser, tmp_path: Path) -> None:
    ner = make(recogniser, tmp_path, "types: {PERSON: hash, DATE_TIME: keep, LOCATION: mask}")
    result = clean(ner, TEXT)
    assert result.startswith("k1_")
    assert result.endswith(" lives in **** since 12 May and works for Acme")
    assert clean(ner, result) is result


def test_a_type_that_is_dropped_takes_its_attribute_with_it(recogniser: SpacyRecogniser, tmp_path: Path) -> None:
    ner = make(recogniser, tmp_path, "types: {PERSON: drop}")
    assert item(ner, "gen_ai.prompt", TEXT) is None
    assert item(ner, "gen_ai.prompt", "in Bergen") == ("gen_ai.prompt", "in [REDACTED_LOCATION]")


def test_services_have_their_own_policy_and_kept_keys_are_left_alone(
    recogniser: SpacyRecogniser, tmp_path: Path
) -> None:
    policy = "keys: {'gen_ai.prompt': keep}\nservices: {open: {content: keep, types: {PERSON: keep}}}"
    ner = make(recogniser, tmp_path, policy)
    assert not ner.applies("gen_ai.prompt", ner.redactor_for(""))
    assert ner.applies("input.value", ner.redactor_for(""))
    assert not ner.applies("input.value", ner.redactor_for("open"))
    assert clean(ner, "Jane Roe in Bergen", "open") == "Jane Roe in [REDACTED_LOCATION]"


def test_findings_name_type_rule_and_length_and_never_the_text(recogniser: SpacyRecogniser) -> None:
    ner = make(recogniser)
    findings: list[Finding] = []
    ner.value("Jane Roe in Bergen", ner.redactor_for(""), findings)
    assert findings == [Finding("PERSON", "ner.person", 8), Finding("LOCATION", "ner.location", 6)]


@pytest.mark.parametrize(("beyond", "left"), [("cut", "[REDACTED_UNSCANNED]"), ("keep", " Jane Roe and more")])
def test_a_field_is_looked_at_as_far_as_the_setting_says(recogniser: SpacyRecogniser, beyond: str, left: str) -> None:
    ner = make(recogniser, max_length=100, beyond=beyond)
    text = "Jane Roe " + "x" * 90
    assert clean(ner, text + " Jane Roe and more") == text.replace("Jane Roe", "[REDACTED_PERSON]") + left


def test_a_field_that_is_too_long_is_dropped_where_the_setting_says_so(recogniser: SpacyRecogniser) -> None:
    ner = make(recogniser, max_length=100, beyond="drop")
    assert item(ner, "gen_ai.prompt", "word " * 30) is None
    assert clean(ner, "word " * 30) == "[REDACTED_UNSCANNED]"
    assert item(ner, "gen_ai.prompt", "word " * 10) == ("gen_ai.prompt", "word " * 10)


def test_the_strings_of_one_field_share_its_length(recogniser: SpacyRecogniser) -> None:
    ner = make(recogniser, max_length=100)
    result = clean(ner, ["Jane Roe " + "y" * 60, "zz " * 20, "Jane Roe"])
    assert result[0].startswith("[REDACTED_PERSON] ")
    assert result[2] == "[REDACTED_UNSCANNED]"
    assert sum(len(text.replace("[REDACTED_UNSCANNED]", "")) for text in result) < 120


def test_what_the_pipeline_raises_is_raised(recogniser: SpacyRecogniser) -> None:
    with pytest.raises(RuntimeError, match="cannot read"):
        clean(make(recogniser), f"Jane Roe {FAILING}")


# --- settings --------------------------------------------------------------------------------------------------------


def test_off_nothing_of_it_is_imported() -> None:
    code = (
        "import sys; from otel_telemetry import assemble; from otel_telemetry.processors.ner.text import ner_of; "
        "from otel_telemetry.processors.config import RedactionSettings; "
        "from otel_telemetry.processors.redact.redactor import Redactor; s = RedactionSettings(); "
        "ner_of(s, Redactor(s)); "
        "sys.exit(any(name in sys.modules for name in ('spacy', 'presidio_analyzer', 'numpy')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0


def test_a_missing_pipeline_stops_start_up_with_the_setting_and_the_command_that_gets_it() -> None:
    with pytest.raises(ConfigurationError) as caught:
        SpacyRecogniser("en_core_web_nowhere")
    assert caught.value.key == "redaction.ner.model"
    assert "python -m spacy download en_core_web_nowhere" in caught.value.hint


def test_a_missing_extra_stops_start_up_with_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "presidio_analyzer.nlp_engine", None)
    with pytest.raises(ConfigurationError, match=r"redaction\.ner\.enabled") as caught:
        SpacyRecogniser("en_core_web_lg")
    assert "pip install 'otel-telemetry[ner]'" in caught.value.hint


def test_a_pipeline_that_finds_no_names_is_refused(tmp_path: Path) -> None:
    spacy.blank("en").to_disk(tmp_path / "blank")
    with pytest.raises(ConfigurationError, match="finds no names or places"):
        SpacyRecogniser(str(tmp_path / "blank"))


def test_a_folder_that_is_no_pipeline_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot be loaded"):
        SpacyRecogniser(str(tmp_path))
    make_pipeline(tmp_path / "broken")
    (tmp_path / "broken" / "config.cfg").write_text("[nlp]\nlang = 'xx'\n[[[")
    with pytest.raises(ConfigurationError, match="cannot be loaded"):
        SpacyRecogniser(str(tmp_path / "broken"))


def test_a_mistyped_setting_is_refused() -> None:
    with pytest.raises(ValidationError, match="modell"):
        NerSettings.model_validate({"modell": "x"})


def test_a_policy_may_name_the_types_only_while_names_are_looked_for(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text("types:\n  LOCATION: hash\n")
    with pytest.raises(RuleError, match="line 2") as caught:
        Redactor(RedactionSettings(policy=path))
    assert "redaction.names" in str(caught.value)
    Redactor(RedactionSettings(policy=path, ner=NerSettings(enabled=True)))


# --- commands --------------------------------------------------------------------------------------------------------


def test_a_stream_is_looked_at_whole_however_long_its_lines_are(recogniser: SpacyRecogniser) -> None:
    ner = make(recogniser, max_length=100)
    lines = [
        "Jane Roe " * 2000,
        '{"a": "in Bergen", "role": "Jane Roe"}',
        "Mr Poe, jane@example.com\r",
        "\udcff Mr Poe",
        "",
    ]
    given = "\n".join(lines).encode("utf-8", "surrogateescape")
    tally = Tally()
    out = b"".join(redact_stream(Redactor(RedactionSettings()), [given], tally, ner))
    expected = [
        "[REDACTED_PERSON] " * 2000,
        '{"a": "in [REDACTED_LOCATION]", "role": "Jane Roe"}',
        "[REDACTED_PERSON], [REDACTED_EMAIL]\r",
        "\udcff [REDACTED_PERSON]",
        "",
    ]
    assert out.decode("utf-8", "surrogateescape").split("\n") == expected
    assert tally.found[("PERSON", "ner.person")] == 2002


def test_in_a_stream_a_dropped_name_takes_its_line_and_no_other(recogniser: SpacyRecogniser, tmp_path: Path) -> None:
    ner = make(recogniser, tmp_path, "types: {PERSON: drop}")
    out = ner.text("one\nask Jane Roe\nthree", ner.redactor_for(""), [])
    assert out == "one\n[REDACTED_PERSON]\nthree"


def test_explain_names_the_pipeline_and_what_became_of_each_name(model: str) -> None:
    settings = RedactionSettings(ner=NerSettings(enabled=True, model=model))
    explained = explain(settings, "mail jane@example.com, or ask Jane Roe in Bergen")
    assert explained.result == "mail [REDACTED_EMAIL], or ask [REDACTED_PERSON] in [REDACTED_LOCATION]"
    assert [(step.start, step.text, step.rule) for step in explained.steps] == [
        (5, "jane@example.com", "email"),
        (30, "Jane Roe", "ner.person"),
        (42, "Bergen", "ner.location"),
    ]
    assert explained.ner == model
    assert "presidio" in explained.steps[1].docs
    assert explain(settings, "ask Jane Roe", key="app.title").result == "ask Jane Roe"
    assert explain(settings, "ask Jane Roe", key="gen_ai.prompt").result == "ask [REDACTED_PERSON]"


def run(*arguments: str, given: str = "", **variables: str) -> subprocess.CompletedProcess[bytes]:
    plain = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_TELEMETRY_")}
    return subprocess.run(
        [sys.executable, "-m", "otel_telemetry.cli", *arguments],
        input=given.encode(),
        capture_output=True,
        check=False,
        timeout=100,
        env=plain | {"COLUMNS": "200"} | variables,
    )


def test_the_commands_look_for_names_where_the_settings_say_so(tmp_path: Path) -> None:
    on = {
        "OTEL_TELEMETRY_REDACTION__NER__ENABLED": "true",
        "OTEL_TELEMETRY_REDACTION__NER__MODEL": make_pipeline(tmp_path / "pipeline", watched=False),
    }
    done = run("redact", given="Jane Roe in Bergen\n", **on)
    assert (done.stdout, done.stderr) == (b"[REDACTED_PERSON] in [REDACTED_LOCATION]\n", b"")
    printed = run("explain", "ask Jane Roe", **on).stdout.decode()
    assert "PERSON, found by rule ner.person" in printed
    assert "names: " in printed
    refused = run("redact", given="x", **(on | {"OTEL_TELEMETRY_REDACTION__NER__MODEL": "en_core_web_nowhere"}))
    assert refused.returncode != 0
    assert b"redaction.ner.model" in refused.stderr
    assert b"python -m spacy download en_core_web_nowhere" in refused.stderr


def test_without_the_setting_there_is_nothing_that_looks_for_names() -> None:
    assert ner_of(RedactionSettings(), Redactor(RedactionSettings())) is None


@pytest.mark.parametrize(("beyond", "left"), [("cut", "[REDACTED_UNSCANNED]"), ("keep", TEXT)])
def test_past_its_share_of_time_a_text_is_not_looked_at_and_that_is_counted(
    recogniser: SpacyRecogniser, beyond: str, left: str
) -> None:
    ner = make(recogniser, share=0.001, beyond=beyond)
    assert clean(ner, TEXT) == CLEAN
    assert ner._allowance is not None
    ner._allowance.use(1)
    findings: list[Finding] = []
    assert ner.value(TEXT, ner.redactor_for(""), findings) == left
    assert [(each.type, each.rule) for each in findings] == [("UNSCANNED", "ner.limit")]


def test_time_that_was_used_comes_back() -> None:
    now = [0.0]
    allowance = Allowance(0.5, lambda: now[0])
    allowance.use(6)
    assert allowance.is_used_up()
    now[0] = 2.5
    assert not allowance.is_used_up()
