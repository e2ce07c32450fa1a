"""The alerts for Prometheus: each has examples that promtool runs, and tells what to know."""

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.backends import observability, programs

ROOT = Path(__file__).parents[2]
RULES = ROOT / "deploy" / "prometheus" / "rules" / "alerts.yml"
EXAMPLES = ROOT / "deploy" / "prometheus" / "tests" / "alerts_test.yml"


def rules() -> list[dict[str, Any]]:
    """Return the alerts; what is recorded on the way to them is in `recorded`."""
    return [rule for rule in all_rules() if "alert" in rule]


def recorded() -> list[dict[str, Any]]:
    return [rule for rule in all_rules() if "record" in rule]


def all_rules() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


def promtool(*arguments: Any) -> subprocess.CompletedProcess[str]:
    program = programs.program("promtool", "prometheus")
    return subprocess.run([program, *arguments], capture_output=True, text=True, timeout=240, check=False)


def test_each_alert_fires_where_its_examples_say_and_nowhere_else():
    done = promtool("test", "rules", EXAMPLES)
    assert done.returncode == 0, done.stdout + done.stderr


def test_each_alert_has_an_example_of_when_it_fires_and_of_when_it_does_not():
    fires: set[str] = set()
    silent: set[str] = set()
    for test in yaml.safe_load(EXAMPLES.read_text())["tests"]:
        for case in test["alert_rule_test"]:
            (fires if case.get("exp_alerts") else silent).add(case["alertname"])
    names = {rule["alert"] for rule in rules()}
    assert names == fires == silent


def test_each_alert_says_how_bad_it_is_and_what_to_know():
    for rule in rules():
        assert rule["labels"]["severity"] in {"warning", "critical"}, rule["alert"]
        assert rule["for"], rule["alert"]
        assert set(rule["annotations"]) == {"summary", "description"}, rule["alert"]


def test_prometheus_takes_the_file_that_says_what_to_scrape(tmp_path):
    targets = {"gateway:4318": "127.0.0.1:1", "collector:8889": "127.0.0.1:2", "collector:8888": "127.0.0.1:3"}
    secret = tmp_path / "key"
    secret.write_text("k")
    (tmp_path / "rules").symlink_to(RULES.parent)
    (tmp_path / "prometheus.yml").write_text(observability.native_prometheus(targets, secret))
    done = promtool("check", "config", tmp_path / "prometheus.yml")
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_file_that_says_what_to_scrape_is_the_one_that_is_checked():
    with pytest.raises(AssertionError, match="nobody:1"):
        observability.native_prometheus({"nobody:1": ""}, Path("key"))
