"""The workflows: everything pinned, no right that is not needed, nothing of the outside in a shell's text."""

import re
import subprocess
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

ROOT: Final = Path(__file__).parents[2]
FILES: Final = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
RELEASE: Final[dict[str, Any]] = yaml.safe_load((ROOT / ".github/workflows/release.yml").read_text())
each_file = pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)


def steps(file: Path) -> list[dict[str, Any]]:
    jobs: dict[str, Any] = yaml.safe_load(file.read_text())["jobs"]
    return [step for job in jobs.values() for step in job["steps"]]


@each_file
def test_each_action_is_pinned_by_its_commit_with_its_version_beside_it(file: Path) -> None:
    lines = re.findall(r"uses: (.+)$", file.read_text(), re.MULTILINE)
    assert lines
    assert [line for line in lines if not re.fullmatch(r"[\w/-]+@[0-9a-f]{40} # v[\d.]+", line)] == []


@each_file
def test_no_shell_text_holds_an_expression_and_no_clone_keeps_credentials(file: Path) -> None:
    for step in steps(file):
        assert "${{" not in step.get("run", ""), step
        if step.get("uses", "").startswith("actions/checkout@"):
            assert step["with"]["persist-credentials"] is False


@each_file
def test_rights_are_given_job_by_job(file: Path) -> None:
    workflow = yaml.safe_load(file.read_text())
    assert workflow["permissions"] in ({}, {"contents": "read"})


def test_nothing_is_published_before_a_maintainer_switches_it_on() -> None:
    jobs = RELEASE["jobs"]
    assert jobs["build"]["if"] == "vars.RELEASE == 'on'"
    assert all("build" in job["needs"] or "image" in job["needs"] for name, job in jobs.items() if name != "build")


def test_the_base_image_is_the_dockerfile_s() -> None:
    assert f"ARG PYTHON_IMAGE={RELEASE['env']['PYTHON_IMAGE']}\n" in (ROOT / "Dockerfile").read_text()


def test_the_notes_are_the_version_s_part_of_the_changelog(tmp_path: Path) -> None:
    (script,) = [step["run"] for step in RELEASE["jobs"]["notes"]["steps"] if "notes.md" in step.get("run", "")]
    (line,) = [line for line in script.splitlines() if line.startswith("awk")]
    (tmp_path / "CHANGELOG.md").write_text("# C\n## [Unreleased]\n- no\n## [1.2.0] - 2026\n- yes\n## [1.1.0]\n- old\n")
    done = ["bash", "-ec", f"{line}\ncat notes.md"]
    environment = {"PATH": "/usr/bin:/bin", "GITHUB_REF_NAME": "v1.2.0"}
    notes = subprocess.run(done, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True).stdout
    assert notes == "## [1.2.0] - 2026\n- yes\n"


def test_the_chart_is_given_the_image_by_digest() -> None:
    (script,) = [step["run"] for step in RELEASE["jobs"]["image"]["steps"] if "helm package" in step.get("run", "")]
    values = (ROOT / "deploy/helm/otel-telemetry/values.yaml").read_text()
    assert len(re.findall(r"^image: .*$", values, re.MULTILINE)) == 1
    assert 's#^image: .*#image: {repository: \\"$IMAGE\\", tag:' in script
