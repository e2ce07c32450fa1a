"""verify, redact and explain, run as commands."""

import json
import os
import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest

MAIL = "jane.roe@example.com"
COMMAND = [sys.executable, "-m", "otel_telemetry.cli"]


def run(*arguments: str, given: str | bytes = b"", cwd: Path | None = None) -> subprocess.CompletedProcess[bytes]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_TELEMETRY_")}
    data = given.encode() if isinstance(given, str) else given
    return subprocess.run(
        [*COMMAND, *arguments],
        input=data,
        capture_output=True,
        check=False,
        timeout=280,
        cwd=cwd,
        env=environment | {"COLUMNS": "200"},
    )


def test_redact_reads_stdin_and_writes_stdout_and_nothing_else() -> None:
    done = run("redact", given=f"to {MAIL}\nline two\n")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"to [REDACTED_EMAIL]\nline two\n", b"")


def test_the_example_in_the_help_of_redact_does_what_it_says() -> None:
    assert b"jane@example.com paid with 4111 1111 1111 1111" in run("redact", "--help").stdout
    done = run("redact", "--summary", given="jane@example.com paid with 4111 1111 1111 1111\n")
    assert done.stdout == b"[REDACTED_EMAIL] paid with [REDACTED_CREDIT_CARD]\n"
    table = done.stderr.decode()
    assert re.search(r"EMAIL\W+email\W+1\W+16\b", table)
    assert re.search(r"CREDIT_CARD\W+payment-card\W+1\W+19\b", table)
    assert "jane" not in table


def test_a_summary_of_clean_text_says_so() -> None:
    assert run("redact", "--summary", given="hello\n").stderr == b"nothing found\n"


def test_files_go_one_after_the_other_to_stdout(tmp_path: Path) -> None:
    (tmp_path / "a").write_text(f"a {MAIL}\n")
    (tmp_path / "b").write_text("b\n")
    assert run("redact", "a", "b", cwd=tmp_path).stdout == b"a [REDACTED_EMAIL]\nb\n"
    assert (tmp_path / "a").read_text() == f"a {MAIL}\n"


def test_output_writes_each_file_under_its_name_into_a_folder_that_it_makes(tmp_path: Path) -> None:
    (tmp_path / "a.log").write_text(f"a {MAIL}\n")
    done = run("redact", "a.log", "--output", "clean/here", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, b"")
    assert (tmp_path / "clean/here/a.log").read_text() == "a [REDACTED_EMAIL]\n"
    assert (tmp_path / "a.log").read_text() == f"a {MAIL}\n"


def test_in_place_replaces_what_is_dirty_keeps_its_mode_and_leaves_clean_files_untouched(tmp_path: Path) -> None:
    dirty, clean = tmp_path / "dirty", tmp_path / "clean"
    dirty.write_text(f"a {MAIL}\n")
    dirty.chmod(0o640)
    clean.write_text("nothing\n")
    before = clean.stat()
    assert run("redact", "--in-place", "dirty", "clean", cwd=tmp_path).returncode == 0
    assert dirty.read_text() == "a [REDACTED_EMAIL]\n"
    assert stat.S_IMODE(dirty.stat().st_mode) == 0o640
    assert (clean.stat().st_ino, clean.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clean", "dirty"]


def test_check_writes_nothing_and_tells_by_its_exit_code(tmp_path: Path) -> None:
    (tmp_path / "dirty").write_text(f"a {MAIL}\n")
    found = run("redact", "--check", "--in-place", "dirty", cwd=tmp_path)
    assert (found.returncode, found.stdout) == (1, b"")
    assert b"EMAIL" in found.stderr
    assert (tmp_path / "dirty").read_text() == f"a {MAIL}\n"
    assert run("redact", "--check", given="clean\n").returncode == 0


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("redact", "nowhere"), "is no file that can be read"),
        (("redact", "--in-place"), "there are no files to write"),
        (("redact", "a/x", "--in-place", "--output", "out"), "exclude each other"),
        (("redact", "a/x", "b/x", "--output", "out"), "several files are called x"),
        (("redact", "a/x", "--policy", "typo.yaml"), "unknown name 'type'"),
    ],
)
def test_what_cannot_be_done_is_refused_before_anything_is_done(
    arguments: tuple[str, ...], problem: str, tmp_path: Path
) -> None:
    for name in ("a/x", "b/x"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text(MAIL)
    (tmp_path / "typo.yaml").write_text("type: {EMAIL: keep}\n")
    done = run(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert problem in done.stderr.decode()
    assert (tmp_path / "a/x").read_text() == MAIL
    assert not (tmp_path / "out").exists()


def test_redact_follows_the_policy_and_its_overrides_for_a_service(tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text("types: {EMAIL: mask}\nservices: {billing: {types: {EMAIL: keep}}}\n")
    assert run("redact", "--policy", "p.yaml", given=MAIL, cwd=tmp_path).stdout == b"****ecom"
    assert run("redact", "--policy", "p.yaml", "--service", "billing", given=MAIL, cwd=tmp_path).stdout == MAIL.encode()


def test_explain_tells_rule_validator_place_policy_entry_and_result() -> None:
    done = run("explain", "mail jane@example.com, card 4111 1111 1111 1112", "--key", "app.note", "--json")
    explained = json.loads(done.stdout)
    step = explained["steps"][0]
    assert (step["start"], step["end"], step["text"]) == (5, 21, "jane@example.com")
    assert (step["type"], step["rule"], step["validator"]) == ("EMAIL", "email", "email")
    assert (step["action"], step["entry"], step["became"]) == ("replace", "default", "[REDACTED_EMAIL]")
    assert step["docs"].startswith("https://")
    assert explained["result"] == "mail [REDACTED_EMAIL], card 4111 1111 1111 1112"
    assert "payment-card" in {miss["rule"] for miss in explained["near_misses"] if miss["validator"] == "card"}
    assert explained["key"] == "nothing: the text is searched"


def test_explain_names_the_entry_of_a_policy_file(tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text("types: {EMAIL: mask}\nkeys: {app.*: keep, db.*: drop}\n")
    explained = json.loads(run("explain", MAIL, "--policy", "p.yaml", "--json", cwd=tmp_path).stdout)
    assert (explained["steps"][0]["action"], explained["steps"][0]["entry"]) == ("mask", "types.EMAIL")
    assert (explained["policy"], explained["result"]) == ("p.yaml", "****ecom")
    shown = run("explain", MAIL, "--policy", "p.yaml", "--key", "app.x", cwd=tmp_path).stdout.decode()
    assert "keep, by keys.app.*" in shown
    assert f"becomes: {MAIL}" in shown
    assert (
        "becomes: dropped" in run("explain", MAIL, "--policy", "p.yaml", "--key", "db.x", cwd=tmp_path).stdout.decode()
    )


@pytest.mark.parametrize(
    ("key", "verdict"),
    [
        ("http.route", "keep, as a safe name of the built-in policy, but for what cannot be an id"),
        ("user.id", "hash, as a USER_ID of the built-in policy"),
        ("client.address", "hash, as the address of a client"),
        ("db.password", "replace, because the name says PASSWORD"),
    ],
)
def test_explain_says_what_a_name_decides(key: str, verdict: str) -> None:
    assert json.loads(run("explain", "text", "--key", key, "--json").stdout)["key"] == verdict


def test_explain_reads_stdin_and_leaves_alone_what_is_redacted_already() -> None:
    explained = json.loads(run("explain", "--json", given="user [REDACTED_EMAIL] and k1_0123456789ab\n").stdout)
    assert explained["result"] == explained["text"]
    assert explained["steps"] == []


def test_explain_prints_for_people_without_colour_codes_where_there_is_no_terminal() -> None:
    shown = run("explain", "[bold]x[/] jane@example.com").stdout.decode()
    assert "\x1b" not in shown
    assert shown.startswith("[bold]x[/] jane@example.com\n")
    assert "11-27 jane@example.com\n  EMAIL, found by rule email, validator email" in shown


def test_verify_prints_a_table_and_exits_with_0_where_nothing_leaks() -> None:
    done = run("verify")
    shown = done.stdout.decode()
    assert done.returncode == 0, shown[-2000:]
    assert "spans.events.attributes" in shown
    assert re.search(r"\d+ canaries of \d+ types in \d+ fields: \d+ covered, \d+ kept by policy\.", shown)
    assert re.search(r"\d+ prompts and answers in \d+ places: \d+ covered\.", shown)
    assert "with content: drop" in shown
    assert "with request_log.store_text off" in shown


def test_verify_as_json_names_every_place_and_what_was_planted_there(tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text("types: {EMAIL: keep}\n")
    report = json.loads(run("verify", "--policy", "p.yaml", "--json", cwd=tmp_path).stdout)
    assert report["proved"] is True
    assert report["leaked"] == report["unproved"] == 0
    one = next(c for c in report["canaries"] if c["type"] == "EMAIL" and c["field"].endswith("status.message"))
    assert (one["surface"], one["planted_as"], one["verdict"]) == ("traces", "text", "kept")
    assert one["rule"].startswith("email")
    assert len(report["canaries"]) == report["covered"] + report["kept"]
    content = report["content"]
    assert (content["proved"], content["leaked"], content["unproved"]) == (True, 0, 0)
    assert len(content["planted"]) == content["covered"]
