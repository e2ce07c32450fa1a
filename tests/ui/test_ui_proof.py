"""The coverage table on the page of privacy: what `otel-telemetry verify` prints, when, and of which policy."""

import subprocess
import sys
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from otel_telemetry.commands import coverage_table
from otel_telemetry.processors.config import RedactionSettings
from otel_telemetry.processors.verify.coverage import COVERED, LEAKED, CoverageReport, Outcome
from otel_telemetry.processors.verify.planting_otlp import Slot
from otel_telemetry.ui import proof
from otel_telemetry.ui.app import make_app
from otel_telemetry.ui.reading import Reading
from tests.waiting import eventually

SAME = {"sec-fetch-site": "same-origin"}
SPAN_NAME = Slot("traces", "resource_spans.scope_spans.spans.name", "value", "")
TEXT = Slot("feedback", "feedback", "named", "answer")


def prints(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, report: CoverageReport) -> None:
    """Let a run print at once what the command prints of this report."""
    printed = tmp_path / "printed.json"
    printed.write_text(coverage_table.to_json(report))
    monkeypatch.setattr(proof, "COMMAND", [sys.executable, "-c", f"print(open({str(printed)!r}).read())"])


def proved(client: TestClient) -> str:
    """Ask for a run, and return the page once it is over."""
    answer = client.post("/ui/privacy/verify", headers=SAME)
    assert (answer.status_code, answer.headers["location"]) == (303, "/ui/privacy#proof")
    return str(eventually(lambda: "Planting since" not in (page := client.get("/ui/privacy").text) and page))


def test_what_a_run_starts_is_the_command():
    helped = subprocess.run([*proof.COMMAND, "--help"], check=True, capture_output=True, text=True, timeout=120)
    assert "Plant values of every type" in helped.stdout


def test_the_table_is_shown_with_its_time_and_whether_the_policy_is_another_now(url, tmp_path, monkeypatch):
    outcomes = [Outcome(SPAN_NAME, "EMAIL", "email", COVERED), Outcome(SPAN_NAME, "PHONE", "phone", LEAKED)]
    prints(monkeypatch, tmp_path, CoverageReport(2, "re", outcomes, [Outcome(TEXT, "CONTENT", "", COVERED)]))
    policy = tmp_path / "policy.yaml"
    policy.write_text("types: {}\n")
    application = make_app(Reading(url), RedactionSettings(policy=policy))
    with TestClient(application, base_url="http://127.0.0.1", follow_redirects=False) as client:
        assert "Prove it now" in client.get("/ui/privacy").text
        page = proved(client)
        for text in (
            "2 canaries of 2 types in 1 fields: 1 covered, 1 LEAKED.",
            "leaked: PHONE (rule phone) in OTLP traces",
            '<th scope="row">spans.name</th>',
            "OTLP traces: 1 covered, 0 kept by policy, 1 leaked",
            "Made at 20",
            "engine re",
            "Prove it again",
        ):
            assert text in page
        assert "has changed since" not in page
        policy.write_text("types: {EMAIL: keep}\n")
        assert "The policy has changed since then" in client.get("/ui/privacy").text


def test_a_run_that_fails_is_said_in_words(url, monkeypatch):
    fails = "import sys; sys.exit('redaction.policy: there is no <such> file')"
    monkeypatch.setattr(proof, "COMMAND", [sys.executable, "-c", fails])
    with TestClient(make_app(Reading(url), RedactionSettings()), base_url="http://127.0.0.1") as client:
        client.follow_redirects = False
        page = proved(client)
    assert "The last run failed: redaction.policy: there is no &lt;such&gt; file" in page
    assert "Prove it now" in page


def test_other_sites_cannot_start_a_run(url):
    with TestClient(make_app(Reading(url), RedactionSettings()), base_url="http://127.0.0.1") as client:
        assert client.post("/ui/privacy/verify", headers={"sec-fetch-site": "cross-site"}).status_code == 403
        assert "Planting since" not in client.get("/ui/privacy").text
