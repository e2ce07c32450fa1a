"""Texts of somebody else's do nothing to a terminal, and JSON that is made harmless means the same."""

import json

import pytest

from otel_telemetry.base.foreign_text import plain, plain_json


@pytest.mark.parametrize("text", ["x\u202ey", "\x9b31m", "\x1b[2J", "\U000e0041", "\ufeff", "\u2028"])
def test_what_controls_a_terminal_is_shown_and_json_means_the_same(text: str) -> None:
    assert plain(text).isprintable()
    written = plain_json(json.dumps({"a": text}, ensure_ascii=False))
    assert written.isprintable()
    assert json.loads(written) == {"a": text}


def test_other_letters_stay_as_they_are() -> None:
    written = json.dumps({"name": "Zoë 山田"}, ensure_ascii=False)
    assert plain_json(written) == written
